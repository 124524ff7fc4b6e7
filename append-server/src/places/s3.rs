//! The S3 keys of a `[[destination]]` table.

use std::path::PathBuf;

use crate::destination::bandwidth::Bandwidth;
use crate::destination::s3::options::{
    Addressing, Checksums, ConditionalPolicy, ObjectLock, PROVIDERS, Provider, RoleCredentials,
    S3Credentials, S3Options, StorageClasses,
};
use crate::places::object_lock::lock;
use crate::places::secret::{SecretError, SecretSource};
use crate::places::storage_class::storage_classes;
use crate::places::table::{DestinationTable, KeyError, RoleTable};
use crate::places::{FileFacts, PlaceError};
use crate::role::Role;

/// A bucket as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    provider: Option<&'static str>,
    endpoint: String,
    region: String,
    bucket: String,
    prefix: String,
    addressing: Addressing,
    conditional_writes: ConditionalPolicy,
    checksums: Checksums,
    pub(super) lock: Option<ObjectLock>,
    storage_classes: StorageClasses,
    ca_file: Option<PathBuf>,
    bandwidth: Option<Bandwidth>,
    credentials: CredentialSource,
    roles: Vec<(Role, CredentialSource)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CredentialSource {
    Pair {
        access_key_id: String,
        secret_key: SecretSource,
    },
    Chain,
}

impl S3Place {
    pub(super) fn read(table: &DestinationTable, file: FileFacts<'_>) -> Result<Self, PlaceError> {
        let (bucket, prefix) = bucket_and_prefix(table.url.get_ref())?;
        let provider = provider(table)?;
        let region = region(table, provider)?;
        Ok(Self {
            provider: provider.map(|provider| provider.name),
            endpoint: endpoint(table, provider, &region)?,
            region,
            bucket,
            prefix,
            addressing: choose(
                "addressing",
                table.addressing.as_deref(),
                provider.map_or(Addressing::Path, |provider| provider.addressing),
                &[("path", Addressing::Path), ("virtual", Addressing::Virtual)],
            )?,
            conditional_writes: choose(
                "conditional_writes",
                table.conditional_writes.as_deref(),
                ConditionalPolicy::Auto,
                &[
                    ("auto", ConditionalPolicy::Auto),
                    ("require", ConditionalPolicy::Require),
                    ("off", ConditionalPolicy::Off),
                ],
            )?,
            checksums: choose(
                "checksums",
                table.checksums.as_deref(),
                provider.map_or(Checksums::Sha256, |provider| provider.checksums),
                &[("sha256", Checksums::Sha256), ("off", Checksums::Off)],
            )?,
            lock: lock(table)?,
            storage_classes: storage_classes(table, provider)?,
            ca_file: table.ca_file.as_ref().map(|path| file.directory.join(path)),
            bandwidth: table.bandwidth()?,
            credentials: credentials(table, file)?,
            roles: table
                .role
                .iter()
                .map(|(name, role)| role_credentials(name, role, file))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
            .trim_end_matches('/')
            .to_owned()
    }

    /// Whose preset it has, if it has one.
    pub fn provider(&self) -> Option<&'static str> {
        self.provider
    }

    /// The service's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region that requests are signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What every key begins with: empty, or ending in a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is asked of conditional writes.
    pub fn conditional_writes(&self) -> ConditionalPolicy {
        self.conditional_writes
    }

    /// Whether a policy there can refuse a put that would replace something: Amazon's know a condition for it.
    pub fn refuses_overwriting(&self) -> bool {
        let conditional = self.conditional_writes != ConditionalPolicy::Off;
        matches!(self.provider, None | Some("aws")) && conditional
    }

    /// Whether both are one place, whoever asks.
    pub(super) fn is_where(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
            && self.bucket == other.bucket
            && self.prefix == other.prefix
    }

    /// The most it takes per second.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        self.bandwidth
    }

    /// The lock that objects are put with.
    pub fn lock(&self) -> Option<ObjectLock> {
        self.lock
    }

    /// Fetches the secrets.
    pub(super) fn options(&self) -> Result<S3Options, SecretError> {
        let role = |wanted: Role| {
            let own = self.roles.iter().find(|(role, _)| *role == wanted);
            own.map_or(&self.credentials, |(_, source)| source).fetch()
        };
        Ok(S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            addressing: self.addressing,
            conditional_writes: self.conditional_writes,
            checksums: self.checksums,
            lock: self.lock,
            storage_classes: self.storage_classes.clone(),
            credentials: RoleCredentials {
                ingest: role(Role::Ingest)?,
                restore: role(Role::Restore)?,
                maintain: role(Role::Maintain)?,
                prune: role(Role::Prune)?,
            },
            ca_file: self.ca_file.clone(),
            bandwidth: self.bandwidth,
        })
    }
}

impl CredentialSource {
    fn fetch(&self) -> Result<S3Credentials, SecretError> {
        Ok(match self {
            Self::Pair {
                access_key_id,
                secret_key,
            } => S3Credentials::Static {
                access_key_id: access_key_id.clone(),
                secret_key: secret_key.fetch()?,
            },
            Self::Chain => S3Credentials::Chain,
        })
    }
}

/// `s3://bucket/prefix`, with the rules that every provider has for a bucket's name.
fn bucket_and_prefix(url: &str) -> Result<(String, String), PlaceError> {
    let wrong = || PlaceError::Url {
        url: url.to_owned(),
    };
    let rest = url.strip_prefix("s3://").ok_or_else(wrong)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if !(3..=63).contains(&bucket.len())
        || !bucket.bytes().all(allowed)
        || bucket.starts_with(['.', '-'])
        || bucket.ends_with(['.', '-'])
    {
        return Err(wrong());
    }
    let prefix = prefix.trim_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if prefix.is_empty() {
        return Ok((bucket.to_owned(), String::new()));
    }
    if !prefix.split('/').all(plain) || prefix.chars().any(char::is_control) || prefix.len() > 512 {
        return Err(wrong());
    }
    Ok((bucket.to_owned(), format!("{prefix}/")))
}

fn provider(table: &DestinationTable) -> Result<Option<&'static Provider>, KeyError> {
    let Some(name) = &table.provider else {
        return Ok(None);
    };
    let known = PROVIDERS.iter().find(|provider| provider.name == name);
    known.map(Some).ok_or_else(|| {
        let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name).collect();
        KeyError {
            key: "provider",
            problem: format!(
                "is {name:?}: known are {}; leave it out and set endpoint for another",
                names.join(", ")
            ),
        }
    })
}

fn region(table: &DestinationTable, provider: Option<&Provider>) -> Result<String, KeyError> {
    let preset = match provider {
        None => Some("us-east-1"),
        Some(provider) => provider.region,
    };
    let region = table.region.as_deref().or(preset).ok_or(KeyError {
        key: "region",
        problem: "is missing: this provider has several".to_owned(),
    })?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if region.is_empty() || !region.bytes().all(plain) {
        return Err(KeyError {
            key: "region",
            problem: format!("is {region:?}: use letters, digits and \"-\""),
        });
    }
    Ok(region.to_owned())
}

fn endpoint(
    table: &DestinationTable,
    provider: Option<&Provider>,
    region: &str,
) -> Result<String, KeyError> {
    let wrong = |problem: &str| KeyError {
        key: "endpoint",
        problem: problem.to_owned(),
    };
    if let Some(endpoint) = &table.endpoint {
        let rest = endpoint
            .strip_prefix("https://")
            .or_else(|| endpoint.strip_prefix("http://"))
            .ok_or_else(|| {
                wrong("must begin with https:// (or http://, in a network of your own)")
            })?;
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
            return Err(wrong(
                "must be a scheme, a host and a port, as in \"https://s3.example.org:9000\"",
            ));
        }
        return Ok(endpoint.trim_end_matches('/').to_owned());
    }
    let preset = provider.map_or("", |provider| provider.endpoint);
    if preset.is_empty() {
        return Err(wrong("is missing: set it, or a provider that has one"));
    }
    let account = table.account.as_deref();
    if preset.contains("{account}") && account.is_none() {
        return Err(KeyError {
            key: "account",
            problem: "is missing: this provider has it in its address".to_owned(),
        });
    }
    Ok(preset
        .replace("{region}", region)
        .replace("{account}", account.unwrap_or_default()))
}

fn credentials(
    table: &DestinationTable,
    file: FileFacts<'_>,
) -> Result<CredentialSource, KeyError> {
    let secret = table.secret_key().source(file)?;
    let chain = choose(
        "credentials",
        table.credentials.as_deref(),
        false,
        &[("chain", true), ("static", false)],
    )?;
    match (chain, &table.access_key_id, secret) {
        (true, None, None) => Ok(CredentialSource::Chain),
        (true, _, _) => Err(KeyError {
            key: "credentials",
            problem: "is \"chain\", which goes without access_key_id and secret_key".to_owned(),
        }),
        (false, Some(access_key_id), Some(secret_key)) => Ok(CredentialSource::Pair {
            access_key_id: access_key_id.clone(),
            secret_key,
        }),
        (false, None, _) => Err(KeyError {
            key: "access_key_id",
            problem: "is missing: set it and secret_key_file, or credentials = \"chain\""
                .to_owned(),
        }),
        (false, _, None) => Err(KeyError {
            key: "secret_key",
            problem: "is missing: set secret_key_file, or another way to have it".to_owned(),
        }),
    }
}

fn role_credentials(
    name: &str,
    role: &RoleTable,
    file: FileFacts<'_>,
) -> Result<(Role, CredentialSource), KeyError> {
    let known = Role::ALL.into_iter().find(|role| role.word() == name);
    let known = known.ok_or_else(|| KeyError {
        key: "role",
        problem: format!(
            "{name:?} is unknown: use {}",
            Role::ALL.map(Role::word).join(", ")
        ),
    })?;
    let secret_key = role.secret_key().source(file)?.ok_or(KeyError {
        key: "role",
        problem: format!(
            "{name} has no secret_key: set secret_key_file, or another way to have it"
        ),
    })?;
    Ok((
        known,
        CredentialSource::Pair {
            access_key_id: role.access_key_id.clone(),
            secret_key,
        },
    ))
}

pub(super) fn choose<T: Copy>(
    key: &'static str,
    text: Option<&str>,
    default: T,
    choices: &[(&str, T)],
) -> Result<T, KeyError> {
    let Some(text) = text else { return Ok(default) };
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices
            .iter()
            .map(|(word, _)| format!("{word:?}"))
            .collect();
        KeyError {
            key,
            problem: format!("is {text:?}: use {}", words.join(" or ")),
        }
    })
}
