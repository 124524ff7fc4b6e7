//! Reads the keys and certificates that a host is configured with.
//! Never reads a private key that others can read, and never asks for a passphrase.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Algorithm, Certificate, PrivateKey, ssh_key};
use zeroize::Zeroizing;

use crate::credential_file;
use crate::ssh::target::SshTarget;

/// No key or certificate file is larger.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a key, a certificate or the SSH agent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Nothing is configured to log in with.
    #[error("set identity_file in hosts.toml, or start an SSH agent and export SSH_AUTH_SOCK")]
    None,
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read the private key.
    #[error("{path} is readable by group or others (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is too large for what it should be.
    #[error("{path} is no key: it has {bytes} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The private key needs a passphrase.
    #[error(
        "{path} is encrypted with a passphrase: load it into an SSH agent with `ssh-add {path}`, or \
         use a key without one that only the coordinator's user can read"
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The private key's kind is not built in.
    #[error(
        "{path} is of kind {kind}, which is not supported: create an Ed25519 key with `ssh-keygen -t \
         ed25519`, or load this one into an SSH agent"
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
    },
    /// The file holds no private key.
    #[error("{path} holds no private key that can be read")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: russh::keys::Error,
    },
    /// The file holds no certificate.
    #[error("{path} holds no OpenSSH certificate")]
    NotACertificate {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: ssh_key::Error,
    },
    /// Key and certificate do not belong together.
    #[error("certificate {certificate} was not issued for key {identity}")]
    CertificateOfOtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        identity: PathBuf,
    },
    /// The SSH agent does not answer as one.
    #[error("cannot use the SSH agent at {socket}")]
    Agent {
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        source: russh::keys::Error,
    },
    /// The SSH agent signs with none of its keys.
    #[error(
        "the SSH agent at {socket} does not sign with {keys}: is it locked, or does it ask for \
         confirmation?"
    )]
    AgentSilent {
        /// Its socket.
        socket: PathBuf,
        /// What was tried.
        keys: String,
    },
    /// The SSH agent has nothing to offer.
    #[error("the SSH agent at {socket} holds no key: run `ssh-add`")]
    AgentEmpty {
        /// Its socket.
        socket: PathBuf,
    },
}

/// What the target is configured with, checked before any of it is tried.
pub(super) struct Credentials {
    pub(super) identity: Option<(PathBuf, Arc<PrivateKey>)>,
    pub(super) certificate: Option<(PathBuf, Certificate)>,
}

pub(super) fn load(target: &SshTarget) -> Result<Credentials, CredentialError> {
    let identity = match &target.identity_file {
        Some(path) => Some((path.clone(), Arc::new(load_key(path)?))),
        None => None,
    };
    let certificate = match &target.certificate_file {
        Some(path) => Some((path.clone(), load_certificate(path)?)),
        None => None,
    };
    if let (Some((identity, key)), Some((certificate, issued))) = (&identity, &certificate)
        && key.public_key().key_data() != issued.public_key()
    {
        return Err(CredentialError::CertificateOfOtherKey {
            certificate: certificate.clone(),
            identity: identity.clone(),
        });
    }
    if identity.is_none() && target.agent_socket.is_none() && target.password.is_none() {
        return Err(CredentialError::None);
    }
    Ok(Credentials {
        identity,
        certificate,
    })
}

/// Reads a private key that nobody but its owner can read.
fn load_key(path: &Path) -> Result<PrivateKey, CredentialError> {
    let text = read_small(path, true)?;
    let key = decode_key(path, &text)?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        other => Err(CredentialError::Unsupported {
            path: path.into(),
            kind: other.as_str().to_owned(),
        }),
    }
}

fn decode_key(path: &Path, text: &str) -> Result<PrivateKey, CredentialError> {
    russh::keys::decode_secret_key(text, None).map_err(|source| match source {
        russh::keys::Error::KeyIsEncrypted => CredentialError::Encrypted { path: path.into() },
        russh::keys::Error::UnsupportedKeyType {
            key_type_string, ..
        } => CredentialError::Unsupported {
            path: path.into(),
            kind: key_type_string,
        },
        source if text.contains("ENCRYPTED") => {
            tracing::debug!(error = %source, "the key file says that it is encrypted");
            CredentialError::Encrypted { path: path.into() }
        }
        source => CredentialError::NotAKey {
            path: path.into(),
            source,
        },
    })
}

fn load_certificate(path: &Path) -> Result<Certificate, CredentialError> {
    let text = read_small(path, false)?;
    Certificate::from_openssh(text.trim()).map_err(|source| CredentialError::NotACertificate {
        path: path.into(),
        source,
    })
}

fn read_small(path: &Path, private: bool) -> Result<Zeroizing<String>, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable {
        path: path.into(),
        source,
    };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if private && mode & credential_file::exposing_bits(path) != 0 {
        return Err(CredentialError::Exposed {
            path: path.into(),
            mode,
        });
    }
    if meta.len() > KEY_FILE_BYTES_MAX || !meta.is_file() {
        return Err(CredentialError::TooLarge {
            path: path.into(),
            bytes: meta.len(),
        });
    }
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(unreadable)
}
