//! Writes SSH keys of the demo as OpenSSH has them. Only ever into the demo's own directory.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;

use crate::demo::error::DemoError;

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
