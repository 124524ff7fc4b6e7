//! What may stand in a `[[destination]]` table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::destination::bandwidth::Bandwidth;
use crate::places::PlaceError;
use crate::places::keep::KeepTable;
use crate::places::secret::SecretKeys;
use crate::places::storage_class::StorageClassKey;
use crate::quantity::Span;
use crate::removals::RemovalRule;

/// One `[[destination]]`. Which keys it may have depends on its URL.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationTable {
    /// Its name.
    pub name: Spanned<String>,
    /// Where it is.
    pub url: Spanned<String>,
    /// Whether nothing is acknowledged without it.
    pub required: Option<bool>,
    /// Whether prune removes anything there.
    pub allow_delete: Option<bool>,
    /// How much longer than the grace what is condemned stays there, such as `30d`.
    pub delete_after: Option<String>,
    /// Which snapshots it keeps, where those are others than the hosts' own rules keep; for the coordinator.
    pub keep: Option<KeepTable>,
    /// S3 and SFTP: the most it takes per second, such as `10MiB/s`.
    pub bandwidth: Option<String>,

    /// S3: whose preset fills what is left out.
    pub provider: Option<String>,
    /// S3: the service's address.
    pub endpoint: Option<String>,
    /// S3: the region that requests are signed for.
    pub region: Option<String>,
    /// S3: the account that some providers have in their address.
    pub account: Option<String>,
    /// S3: `path` or `virtual`.
    pub addressing: Option<String>,
    /// S3: `auto`, `require` or `off`.
    pub conditional_writes: Option<String>,
    /// S3: `sha256` or `off`.
    pub checksums: Option<String>,
    /// S3: how long nobody may remove what is stored, such as `30d`.
    pub retain: Option<String>,
    /// S3: how long after an object was stored its lock may last at most, however often it is prolonged.
    pub lock_max: Option<String>,
    /// S3: `governance` or `compliance`.
    pub retain_mode: Option<String>,
    /// S3: a hold besides, without an end.
    pub legal_hold: Option<bool>,
    /// S3: the storage class of data packs, or of each kind of object.
    pub storage_class: Option<StorageClassKey>,
    /// S3: the storage class of everything but data packs.
    pub storage_class_meta: Option<String>,
    /// S3: a PEM file with the only authorities that are trusted.
    pub ca_file: Option<String>,
    /// S3: `chain` takes credentials from the environment, profiles and roles.
    pub credentials: Option<String>,
    /// S3: who asks.
    pub access_key_id: Option<String>,
    /// S3: the proof of it; or see the next four.
    pub secret_key: Option<String>,
    /// S3: a file with it.
    pub secret_key_file: Option<String>,
    /// S3: a command that prints it.
    pub secret_key_command: Option<Vec<String>>,
    /// S3: an environment variable with it.
    pub secret_key_env: Option<String>,
    /// S3: a systemd credential with it.
    pub secret_key_credential: Option<String>,
    /// S3: other credentials by what they are for: `ingest`, `restore`, `maintain`, `prune`.
    #[serde(default)]
    pub role: BTreeMap<String, RoleTable>,

    /// SFTP: the server's pinned keys, `SHA256:…`.
    pub host_key: Option<Vec<String>>,
    /// SFTP: the private key to log in with.
    pub identity_file: Option<String>,
    /// SFTP: the password to log in with; or see the next four.
    pub password: Option<String>,
    /// SFTP: a file with it.
    pub password_file: Option<String>,
    /// SFTP: a command that prints it.
    pub password_command: Option<Vec<String>>,
    /// SFTP: an environment variable with it.
    pub password_env: Option<String>,
    /// SFTP: a systemd credential with it.
    pub password_credential: Option<String>,
}

impl fmt::Debug for DestinationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestinationTable")
            .field("name", self.name.get_ref())
            .field("url", self.url.get_ref())
            .finish_non_exhaustive()
    }
}

/// Credentials of one role.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleTable {
    /// Who asks.
    pub access_key_id: String,
    /// The proof of it; or see the next four.
    pub secret_key: Option<String>,
    /// A file with it.
    pub secret_key_file: Option<String>,
    /// A command that prints it.
    pub secret_key_command: Option<Vec<String>>,
    /// An environment variable with it.
    pub secret_key_env: Option<String>,
    /// A systemd credential with it.
    pub secret_key_credential: Option<String>,
}

impl DestinationTable {
    /// Where the secret key comes from.
    pub(super) fn secret_key(&self) -> SecretKeys<'_> {
        SecretKeys {
            key: "secret_key",
            literal: self.secret_key.as_deref(),
            file: self.secret_key_file.as_deref(),
            command: self.secret_key_command.as_deref(),
            variable: self.secret_key_env.as_deref(),
            credential: self.secret_key_credential.as_deref(),
        }
    }

    /// Where the password comes from.
    pub(super) fn password(&self) -> SecretKeys<'_> {
        SecretKeys {
            key: "password",
            literal: self.password.as_deref(),
            file: self.password_file.as_deref(),
            command: self.password_command.as_deref(),
            variable: self.password_env.as_deref(),
            credential: self.password_credential.as_deref(),
        }
    }

    /// What of it may be removed, and when.
    pub fn removal(&self) -> Result<RemovalRule, KeyError> {
        let after = self.delete_after.as_deref().map(str::parse::<Span>);
        let after = after.transpose().map_err(|error| KeyError {
            key: "delete_after",
            problem: error.to_string(),
        })?;
        Ok(RemovalRule {
            allow_delete: self.allow_delete.unwrap_or(true),
            delete_after: after.map_or(Duration::ZERO, Span::duration),
        })
    }

    /// The limit of what it takes per second.
    pub(super) fn bandwidth(&self) -> Result<Option<Bandwidth>, KeyError> {
        let parsed = self.bandwidth.as_deref().map(str::parse::<Bandwidth>);
        parsed.transpose().map_err(|error| KeyError {
            key: "bandwidth",
            problem: error.to_string(),
        })
    }

    /// Refuses keys that belong to other kinds of destination.
    pub(super) fn refuse_keys(&self, kind: &'static str) -> Result<(), PlaceError> {
        let s3 = [
            ("provider", self.provider.is_some()),
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("account", self.account.is_some()),
            ("addressing", self.addressing.is_some()),
            ("conditional_writes", self.conditional_writes.is_some()),
            ("checksums", self.checksums.is_some()),
            ("retain", self.retain.is_some()),
            ("lock_max", self.lock_max.is_some()),
            ("retain_mode", self.retain_mode.is_some()),
            ("legal_hold", self.legal_hold.is_some()),
            ("storage_class", self.storage_class.is_some()),
            ("storage_class_meta", self.storage_class_meta.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("credentials", self.credentials.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_key", self.secret_key().is_given()),
            ("role", !self.role.is_empty()),
        ];
        let sftp = [
            ("host_key", self.host_key.is_some()),
            ("identity_file", self.identity_file.is_some()),
            ("password", self.password().is_given()),
        ];
        // A disk of this machine is as fast as it is.
        let far = [("bandwidth", self.bandwidth.is_some())];
        let foreign = s3
            .iter()
            .filter(|_| kind != "s3")
            .chain(sftp.iter().filter(|_| kind != "sftp"))
            .chain(far.iter().filter(|_| kind == "file"))
            .find(|(_, given)| *given);
        match foreign {
            Some((key, _)) => Err(PlaceError::ForeignKey { key, kind }),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RoleTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleTable")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl RoleTable {
    /// Where the secret key comes from.
    pub(super) fn secret_key(&self) -> SecretKeys<'_> {
        SecretKeys {
            key: "secret_key",
            literal: self.secret_key.as_deref(),
            file: self.secret_key_file.as_deref(),
            command: self.secret_key_command.as_deref(),
            variable: self.secret_key_env.as_deref(),
            credential: self.secret_key_credential.as_deref(),
        }
    }
}

/// A key whose value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct KeyError {
    /// The key.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}
