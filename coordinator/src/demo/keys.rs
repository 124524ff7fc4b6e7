//! SSH keys for the demo, made here so that nothing but this program is needed. Only ever written into the
//! demo's own directory.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use zeroize::Zeroizing;

use crate::demo::error::DemoError;

/// A fresh Ed25519 key.
pub fn generate() -> Result<PrivateKey, DemoError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(DemoError::Random)?;
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}

/// Writes a private key as OpenSSH has it, readable by its owner alone.
pub fn write_private(key: &PrivateKey, path: &Path) -> Result<(), DemoError> {
    let text = key.to_openssh(LineEnding::LF).map_err(DemoError::Key)?;
    write_new(path, text.as_bytes())
}

/// Writes the public half as a line of an authorized_keys file.
pub fn write_public(key: &PrivateKey, path: &Path) -> Result<(), DemoError> {
    let mut line = key.public_key().to_openssh().map_err(DemoError::Key)?;
    line.push('\n');
    write_new(path, line.as_bytes())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DemoError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)
    };
    write().map_err(DemoError::file("write", path))
}
