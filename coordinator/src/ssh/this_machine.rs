//! A connection to the machine that the coordinator itself is on, as its own user: over a stream in memory to a server in this
//! program, with a host key and a password that are made for it. So a run there is one like any other. Listens nowhere.

use append_server::ssh::connect::{SshConnection, connect_over};
use append_server::ssh::error::SshError;
use append_server::ssh::host_key::Fingerprint;
use append_server::ssh::target::SshTarget;
use formats::ids::to_hex;
use zeroize::Zeroizing;

use crate::ssh::embedded_sshd::{WayIn, serve_stream};
use crate::ssh::fresh_key::fresh_key;

/// Bytes on their way each way.
const STREAM_BYTES: usize = 1 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ThisMachineError {
    /// No random numbers.
    #[error("the system gives no random numbers for a key")]
    Random(#[from] getrandom::Error),
    /// SSH.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

/// Connects; of the target, name and deadlines count.
pub async fn connect_here(target: SshTarget) -> Result<SshConnection, ThisMachineError> {
    let host_key = fresh_key()?;
    let mut secret = Zeroizing::new([0u8; 32]);
    getrandom::fill(secret.as_mut_slice())?;
    let password = Zeroizing::new(to_hex(secret.as_slice()));
    let target = SshTarget {
        password: Some(password.clone()),
        host_keys: vec![Fingerprint::of(host_key.public_key())],
        identity_file: None,
        certificate_file: None,
        agent_socket: None,
        jump: None,
        ..target
    };
    let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
    serve_stream(theirs, host_key, WayIn::Password(password));
    Ok(connect_over(&target, ours).await?)
}
