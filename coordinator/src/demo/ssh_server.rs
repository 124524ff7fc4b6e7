//! The demo's SSH server: the system's own sshd if it works, else the embedded one. Listens on loopback
//! alone, lets in one key that is made for it, and ends with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use append_server::ssh::connect::connect;
use append_server::ssh::host_key::{Fingerprint, scan_host_key};
use append_server::ssh::target::{SshTarget, Timeouts};

use crate::demo::error::DemoError;
use crate::demo::keys;
use crate::demo::system_sshd::SystemSshd;
use crate::ssh::embedded_sshd::EmbeddedSshd;
use crate::ssh::exec::{self, Command};
use crate::ssh::fresh_key::fresh_key;

/// How long the first login may take.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A server that runs.
#[derive(Debug)]
pub struct SshServer {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The private key to log in with.
    pub identity_file: PathBuf,
    /// Which server it is.
    pub kind: &'static str,
    _running: Running,
}

/// Held for what its end does.
#[derive(Debug)]
enum Running {
    System { _sshd: Box<SystemSshd> },
    Embedded { _sshd: EmbeddedSshd },
}

/// Starts a server whose keys are in `directory`.
pub async fn start(directory: &Path, embedded_only: bool) -> Result<SshServer, DemoError> {
    fs::create_dir_all(directory).map_err(DemoError::file("create the directory", directory))?;
    let host_key = fresh_key().map_err(DemoError::Random)?;
    let client_key = fresh_key().map_err(DemoError::Random)?;
    let identity_file = directory.join("client_key");
    keys::write_private(&client_key, &identity_file)?;
    keys::write_private(&host_key, &directory.join("host_key"))?;
    keys::write_public(&client_key, &directory.join("authorized_keys"))?;
    let user = user_name();
    if !embedded_only && let Some(sshd) = SystemSshd::start(directory).await {
        let server = SshServer {
            port: sshd.port,
            user: user.clone(),
            identity_file: identity_file.clone(),
            kind: "the system's sshd",
            _running: Running::System {
                _sshd: Box::new(sshd),
            },
        };
        // It may still let nobody in: a locked account, a shell that does nothing.
        match server.try_login().await {
            Ok(()) => return Ok(server),
            Err(reason) => tracing::info!(reason, "the system's sshd cannot be used"),
        }
    }
    let sshd = EmbeddedSshd::start(host_key, client_key.public_key().clone())
        .await
        .map_err(DemoError::Server)?;
    Ok(SshServer {
        port: sshd.port,
        user,
        identity_file,
        kind: "the embedded SSH server",
        _running: Running::Embedded { _sshd: sshd },
    })
}

impl SshServer {
    /// How to connect, with these host keys.
    pub fn target(&self, host_keys: Vec<Fingerprint>) -> Option<SshTarget> {
        Some(SshTarget {
            name: "demo".to_owned(),
            address: format!("127.0.0.1:{}", self.port).parse().ok()?,
            user: self.user.clone(),
            identity_file: Some(self.identity_file.clone()),
            certificate_file: None,
            agent_socket: None,
            password: None,
            host_keys,
            jump: None,
            timeouts: Timeouts {
                handshake: PROBE_LIMIT,
                auth: PROBE_LIMIT,
                ..Timeouts::default()
            },
        })
    }

    async fn try_login(&self) -> Result<(), String> {
        let unpinned = self.target(Vec::new()).ok_or("no address")?;
        let shown = scan_host_key(&unpinned)
            .await
            .map_err(|error| error.to_string())?;
        let keys = shown.iter().map(|key| key.fingerprint).collect();
        let target = self.target(keys).ok_or("no address")?;
        let connection = connect(&target).await.map_err(|error| error.to_string())?;
        let command = Command {
            line: "exit 7",
            stdin: b"",
            stdout_bytes_max: 4096,
            deadline: PROBE_LIMIT,
        };
        let output = exec::run(&connection, command).await;
        connection.disconnect().await;
        match output {
            Ok(output) if output.status == append_server::ssh::stream::ExitStatus::Code(7) => {
                Ok(())
            }
            Ok(output) => Err(format!("the login shell ended with {:?}", output.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The name of the user this runs as: the only one that an unprivileged sshd can log in.
fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut named = users.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let from_environment = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    named
        .next()
        .or_else(from_environment)
        .unwrap_or_else(|| "demo".to_owned())
}
