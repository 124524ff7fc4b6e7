//! What an S3 destination is configured with, and what is known of providers. Plain values: parsed and checked by the
//! configuration, used by the client.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use formats::object::ObjectKind;
use zeroize::Zeroizing;

use crate::destination::bandwidth::Bandwidth;
use crate::role::Role;

/// Where a bucket is and how it is used.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The service's address, `https://…`; Amazon's for the region when there is none.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// What every key begins with: empty, or ending in a slash.
    pub prefix: String,
    /// How the bucket is named in a request.
    pub addressing: Addressing,
    /// Whether names are created by conditional writes.
    pub conditional_writes: ConditionalPolicy,
    /// What is sent along so that the service can check what it received.
    pub checksums: Checksums,
    /// How long nobody may remove what is stored.
    pub lock: Option<ObjectLock>,
    /// Storage classes, where they are not the bucket's own.
    pub storage_classes: StorageClasses,
    /// Who asks.
    pub credentials: RoleCredentials,
    /// A PEM file with the only authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The most that objects take per second, both ways together.
    pub bandwidth: Option<Bandwidth>,
}

/// How a bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    Virtual,
}

/// What is asked of conditional writes (`conditional_writes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalPolicy {
    /// Used when real puts show that they are enforced.
    Auto,
    /// Nothing is stored without them.
    Require,
    /// Not used and not tried: an object's size is asked for before it is put.
    Off,
}

/// What a put carries for the service to check (`checksums`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// `x-amz-checksum-sha256`.
    Sha256,
    /// Nothing, for services that refuse what they do not know.
    Off,
}

/// An object lock set in the very put that creates an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLock {
    /// From the put on.
    pub retain: Duration,
    /// Past which no lock is prolonged, from when an object was stored (`lock_max`).
    pub longest: Duration,
    /// Who may lift it.
    pub mode: LockMode,
    /// A hold without an end besides, which only a person lifts.
    pub legal_hold: bool,
}

impl ObjectLock {
    /// Whether a kind of object is locked: whatever a restore needs, and not the users' key bundles, which are made
    /// anew when a password changes.
    pub fn covers(&self, kind: ObjectKind) -> bool {
        kind != ObjectKind::Keys
    }
}

/// Who may lift a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the right to bypass it.
    Governance,
    /// Nobody.
    Compliance,
}

/// Storage classes by kind of object, as the provider spells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageClasses(Vec<(ObjectKind, String)>);

impl StorageClasses {
    /// Objects of this kind are put in this class.
    pub fn set(&mut self, kind: ObjectKind, class: String) {
        self.0.retain(|(other, _)| *other != kind);
        self.0.push((kind, class));
    }

    /// The class of one kind of object; nothing for the bucket's own.
    pub fn of(&self, kind: ObjectKind) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| *other == kind);
        found.map(|(_, class)| class.as_str())
    }
}

/// A key pair of the service, or where it comes from.
#[derive(Clone)]
pub enum S3Credentials {
    /// As configured.
    Static {
        /// Who.
        access_key_id: String,
        /// The proof.
        secret_key: Zeroizing<String>,
    },
    /// The SDK's own chain: environment, profile files, web identity, container and instance roles.
    Chain,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { access_key_id, .. } => f
                .debug_struct("Static")
                .field("access_key_id", access_key_id)
                .finish_non_exhaustive(),
            Self::Chain => f.write_str("Chain"),
        }
    }
}

/// Credentials by what they are for, so that each can be given no more rights than that.
#[derive(Debug, Clone)]
pub struct RoleCredentials {
    /// Puts objects.
    pub ingest: S3Credentials,
    /// Reads and lists.
    pub restore: S3Credentials,
    /// Extends locks, and looks at the bucket's settings.
    pub maintain: S3Credentials,
    /// Removes.
    pub prune: S3Credentials,
}

impl RoleCredentials {
    /// One role's.
    pub fn of(&self, role: Role) -> &S3Credentials {
        match role {
            Role::Ingest => &self.ingest,
            Role::Restore => &self.restore,
            Role::Maintain => &self.maintain,
            Role::Prune => &self.prune,
        }
    }

    /// The same for everything.
    pub fn one(credentials: S3Credentials) -> Self {
        Self {
            ingest: credentials.clone(),
            restore: credentials.clone(),
            maintain: credentials.clone(),
            prune: credentials,
        }
    }
}

/// What is known of a provider, so that `provider = "…"` fills what is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Its word in the configuration.
    pub name: &'static str,
    /// Its address; `{region}` and `{account}` are filled in. Empty when it has to be given.
    pub endpoint: &'static str,
    /// Its region where there is one only.
    pub region: Option<&'static str>,
    /// How it likes buckets named.
    pub addressing: Addressing,
    /// Whether it takes SHA-256 checksums.
    pub checksums: Checksums,
}

/// Every provider with a preset. Addresses are the providers' own documentation's.
pub const PROVIDERS: &[Provider] = &[
    provider(
        "aws",
        "https://s3.{region}.amazonaws.com",
        None,
        Addressing::Virtual,
        Checksums::Sha256,
    ),
    provider(
        "b2",
        "https://s3.{region}.backblazeb2.com",
        None,
        Addressing::Virtual,
        Checksums::Off,
    ),
    provider(
        "r2",
        "https://{account}.r2.cloudflarestorage.com",
        Some("auto"),
        Addressing::Path,
        Checksums::Sha256,
    ),
    provider(
        "exoscale",
        "https://sos-{region}.exo.io",
        None,
        Addressing::Virtual,
        Checksums::Off,
    ),
    provider(
        "scaleway",
        "https://s3.{region}.scw.cloud",
        None,
        Addressing::Virtual,
        Checksums::Sha256,
    ),
    provider(
        "minio",
        "",
        Some("us-east-1"),
        Addressing::Path,
        Checksums::Sha256,
    ),
    provider(
        "ceph",
        "",
        Some("us-east-1"),
        Addressing::Path,
        Checksums::Sha256,
    ),
    provider(
        "garage",
        "",
        Some("garage"),
        Addressing::Path,
        Checksums::Sha256,
    ),
];

const fn provider(
    name: &'static str,
    endpoint: &'static str,
    region: Option<&'static str>,
    addressing: Addressing,
    checksums: Checksums,
) -> Provider {
    Provider {
        name,
        endpoint,
        region,
        addressing,
        checksums,
    }
}
