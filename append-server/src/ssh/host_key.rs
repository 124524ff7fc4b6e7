//! Host key fingerprints, and the scan that shows a host's keys so that a person can pin them.
//! Never stores a key and never authenticates: trusting a key is the operator's decision.

use std::fmt;
use std::str::FromStr;

use russh::keys::ssh_key::{self, HashAlg};
use russh::keys::{Algorithm, PublicKey};

use crate::ssh::algorithms;
use crate::ssh::connect;
use crate::ssh::error::SshError;
use crate::ssh::target::SshTarget;

/// Every host key that the server can present, best first, for `host trust`. The jump host, if
/// there is one, must already be trusted.
pub async fn scan_host_key(target: &SshTarget) -> Result<Vec<ScannedKey>, SshError> {
    let mut found = Vec::new();
    for algorithm in algorithms::HOST_KEYS {
        match connect::read_host_key(target, algorithm.clone()).await {
            Ok(key) => found.push(key),
            Err(SshError::NoCommonAlgorithm {
                kind: "host key", ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        return Err(SshError::NoUsableHostKey {
            host: target.name.clone(),
        });
    }
    Ok(found)
}

/// A host key as the key exchange presented and proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedKey {
    /// The kind of key, such as `ssh-ed25519`.
    pub algorithm: String,
    /// What goes into `host_key` of `hosts.toml`.
    pub fingerprint: Fingerprint,
}

impl ScannedKey {
    pub(super) fn of(key: &PublicKey) -> Self {
        Self {
            algorithm: algorithm_name(&key.algorithm()),
            fingerprint: Fingerprint::of(key),
        }
    }
}

/// The SHA-256 of a public key, written `SHA256:…` as OpenSSH does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A key's fingerprint.
    pub fn of(key: &PublicKey) -> Self {
        match key.fingerprint(HashAlg::Sha256) {
            ssh_key::Fingerprint::Sha256(digest) => Self(digest),
            // Cannot be reached while SHA-256 is asked for; all zeros match no key.
            _ => Self([0; 32]),
        }
    }
}

/// Why a fingerprint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is no host key fingerprint; write SHA256: and 43 base64 characters, as `ssh-keygen -lf` prints them"
)]
pub struct FingerprintError {
    /// What was written.
    pub text: String,
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        match ssh_key::Fingerprint::from_str(text.trim_end_matches('=')) {
            Ok(ssh_key::Fingerprint::Sha256(digest)) => Ok(Self(digest)),
            _ => Err(FingerprintError { text: text.into() }),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ssh_key::Fingerprint::Sha256(self.0).fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) fn algorithm_name(algorithm: &Algorithm) -> String {
    algorithm.as_str().to_owned()
}
