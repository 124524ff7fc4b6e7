//! What opens a key bundle: a key file or a password, from a file or typed. Never keeps either longer than
//! the opening takes, never prints them.

use std::path::{Path, PathBuf};

use append_server::places::secret::SecretSource;
use formats::ids::{parse_hex, to_hex};
use formats::keys::secret::FileKey;
use zeroize::Zeroizing;

use crate::keyring::KeyringError;
use crate::keyring::private_file::{Kind, create_private, read_private};

/// The environment's way to give a password file.
pub const PASSWORD_FILE_VARIABLE: &str = "COORDINATOR_PASSWORD_FILE";

const KEY_FILE: Kind = Kind {
    what: "key file",
    remedy: "put it back from a copy, or name the right one in [keys] of coordinator.toml",
};
const PASSWORD_FILE: Kind = Kind {
    what: "password file",
    remedy: "write the password into it (mode 0600), or name the right file",
};

/// Where the secret that opens a bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnlockFrom {
    /// 32 bytes as hexadecimal, and a line end.
    KeyFile(PathBuf),
    /// The text of a key file, had in another way.
    Key(SecretSource),
    /// A password; one line end is not part of it.
    PasswordFile(PathBuf),
    /// A password, had in another way.
    Password(SecretSource),
    /// A person at the terminal.
    Prompt,
}

impl UnlockFrom {
    /// For a password without a configured file: the file that the environment names, or a person.
    pub fn environment_or_prompt() -> Self {
        match std::env::var_os(PASSWORD_FILE_VARIABLE) {
            Some(path) => Self::PasswordFile(path.into()),
            None => Self::Prompt,
        }
    }
}

/// The secret itself.
pub(super) enum Secret {
    Key(FileKey),
    Password(Zeroizing<Vec<u8>>),
}

pub(super) fn read_secret(from: &UnlockFrom) -> Result<Secret, KeyringError> {
    match from {
        UnlockFrom::KeyFile(path) => read_key_file(path).map(Secret::Key),
        UnlockFrom::Key(source) => {
            let text = source.fetch()?;
            match parse_hex(&text) {
                Ok(key) => Ok(Secret::Key(FileKey::from_bytes(key))),
                // The parser's error shows the secret.
                Err(_) => Err(KeyringError::BadKey),
            }
        }
        UnlockFrom::PasswordFile(path) => read_password_file(path).map(Secret::Password),
        UnlockFrom::Password(source) => {
            let text = source.fetch()?;
            Ok(Secret::Password(Zeroizing::new(text.as_bytes().to_vec())))
        }
        UnlockFrom::Prompt => {
            let typed = rpassword::prompt_password("Password: ").map_err(KeyringError::Prompt)?;
            let password = Zeroizing::new(typed.into_bytes());
            Ok(Secret::Password(password))
        }
    }
}

/// Reads a password file; it must not be empty.
pub fn read_password_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let mut bytes = read_private(path, PASSWORD_FILE)?;
    let end = line_end(&bytes);
    bytes.truncate(end);
    if bytes.is_empty() {
        return Err(KeyringError::EmptyPassword {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Reads a key file.
pub fn read_key_file(path: &Path) -> Result<FileKey, KeyringError> {
    let bytes = read_private(path, KEY_FILE)?;
    let text = std::str::from_utf8(&bytes[..line_end(&bytes)]).unwrap_or_default();
    match parse_hex(text) {
        Ok(key) => Ok(FileKey::from_bytes(key)),
        // The parser's error shows the text it could not parse: a secret, so it is not passed on.
        Err(_) => Err(KeyringError::BadKeyFile {
            path: path.to_owned(),
        }),
    }
}

/// Writes a new key file.
pub fn create_key_file(path: &Path, key: &FileKey) -> Result<(), KeyringError> {
    let mut text = Zeroizing::new(to_hex(key.expose()));
    text.push('\n');
    Ok(create_private(path, KEY_FILE.what, text.as_bytes())?)
}

/// Where the text ends before the one line end that editors add.
fn line_end(bytes: &[u8]) -> usize {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line).len()
}
