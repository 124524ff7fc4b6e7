//! Key derivation: BLAKE3 `derive_key` with one context string per use. The table in
//! `formats/docs/sealing.md` lists every string; a test compares the two.

use crate::ids::RepositoryId;
use crate::keys::secret::{MasterKey, RootKey};

/// One generation of a repository's keys.
pub type Epoch = u32;

/// One use of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// X-Wing pair that run data keys are encapsulated to.
    Data,
    /// X-Wing pair that table keys and meta run keys are encapsulated to.
    Meta,
    /// X-Wing pair that log records are sealed to.
    Log,
    /// Chunk ids.
    Id,
    /// Chunk and page boundaries.
    Chunking,
    /// Ed25519 signatures of the log and the config.
    Signing,
}

impl Use {
    /// Every use, in the order of a bundle.
    pub const ALL: [Self; 6] = [
        Self::Data,
        Self::Meta,
        Self::Log,
        Self::Id,
        Self::Chunking,
        Self::Signing,
    ];

    /// Its bit in a key bundle.
    pub fn bit(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Meta => 2,
            Self::Log => 4,
            Self::Id => 8,
            Self::Chunking => 16,
            Self::Signing => 32,
        }
    }

    fn root_context(self) -> &'static str {
        match self {
            Self::Data => context::ROOT_DATA,
            Self::Meta => context::ROOT_META,
            Self::Log => context::ROOT_LOG,
            Self::Id => context::ROOT_ID,
            Self::Chunking => context::ROOT_CHUNKING,
            Self::Signing => context::ROOT_SIGNING,
        }
    }

    fn repository_context(self) -> &'static str {
        match self {
            Self::Data => context::REPOSITORY_DATA,
            Self::Meta => context::REPOSITORY_META,
            Self::Log => context::REPOSITORY_LOG,
            Self::Id => context::REPOSITORY_ID,
            Self::Chunking => context::REPOSITORY_CHUNKING,
            Self::Signing => context::REPOSITORY_SIGNING,
        }
    }
}

/// The context strings. One each, never reused, dated; a changed meaning is a new string.
pub mod context {
    /// Master key to data root.
    pub const ROOT_DATA: &str = "capstan 2026-11 root data";
    /// Master key to meta root.
    pub const ROOT_META: &str = "capstan 2026-11 root meta";
    /// Master key to log root.
    pub const ROOT_LOG: &str = "capstan 2026-11 root log";
    /// Master key to id root.
    pub const ROOT_ID: &str = "capstan 2026-11 root id";
    /// Master key to chunking root.
    pub const ROOT_CHUNKING: &str = "capstan 2026-11 root chunking";
    /// Master key to signing root.
    pub const ROOT_SIGNING: &str = "capstan 2026-11 root signing";
    /// Data root, repository and epoch to a KEM seed.
    pub const REPOSITORY_DATA: &str = "capstan 2026-11 repository data";
    /// Meta root, repository and epoch to a KEM seed.
    pub const REPOSITORY_META: &str = "capstan 2026-11 repository meta";
    /// Log root, repository and epoch to a KEM seed.
    pub const REPOSITORY_LOG: &str = "capstan 2026-11 repository log";
    /// Id root, repository and epoch to the id key.
    pub const REPOSITORY_ID: &str = "capstan 2026-11 repository id";
    /// Chunking root, repository and epoch to the chunking key.
    pub const REPOSITORY_CHUNKING: &str = "capstan 2026-11 repository chunking";
    /// Signing root, repository and epoch to the Ed25519 seed.
    pub const REPOSITORY_SIGNING: &str = "capstan 2026-11 repository signing";
    /// Signing root to the Ed25519 seed of the certifier.
    pub const CERTIFIER: &str = "capstan 2026-11 certifier";
    /// Chunking key to the gear table.
    pub const GEAR_TABLE: &str = "capstan 2026-11 gear table";
    /// Chunking key to the key of page and list cuts.
    pub const PAGE_CUT: &str = "capstan 2026-11 page cut";
    /// A symmetric key to its public commitment.
    pub const COMMITMENT: &str = "capstan 2026-11 key commitment";
    /// A key file's bytes and the bundle's salt to the bundle's key.
    pub const FILE_KEY: &str = "capstan 2026-11 key file";
    /// The check words of a recovery kit.
    pub const KIT_CHECK: &str = "capstan 2026-11 recovery kit check";
    /// Id key to the key of what a coordinator that opens nothing remembers of paths.
    pub const REMEMBERED_PATHS: &str = "capstan 2026-11 remembered paths";
    /// A run token to the key of the server's proof.
    pub const PROOF_SERVER: &str = "capstan 2026-11 tunnel proof server";
    /// A run token to the key of the agent's proof.
    pub const PROOF_AGENT: &str = "capstan 2026-11 tunnel proof agent";

    /// All of them, for the test that they differ and are documented.
    pub const ALL: [&str; 21] = [
        ROOT_DATA,
        ROOT_META,
        ROOT_LOG,
        ROOT_ID,
        ROOT_CHUNKING,
        ROOT_SIGNING,
        REPOSITORY_DATA,
        REPOSITORY_META,
        REPOSITORY_LOG,
        REPOSITORY_ID,
        REPOSITORY_CHUNKING,
        REPOSITORY_SIGNING,
        CERTIFIER,
        GEAR_TABLE,
        PAGE_CUT,
        COMMITMENT,
        FILE_KEY,
        KIT_CHECK,
        REMEMBERED_PATHS,
        PROOF_SERVER,
        PROOF_AGENT,
    ];
}

/// The root of one use under a master key.
pub fn root(master: &MasterKey, use_: Use) -> RootKey {
    RootKey::from_bytes(blake3::derive_key(use_.root_context(), master.expose()))
}

/// One use's 32 bytes for a repository and epoch.
pub fn repository_bytes(
    root: &RootKey,
    use_: Use,
    repository: RepositoryId,
    epoch: Epoch,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(use_.repository_context());
    hasher.update(root.expose());
    hasher.update(repository.as_bytes());
    hasher.update(&epoch.to_le_bytes());
    hasher.finalize().into()
}

/// The public commitment to a symmetric key: a key that opens something else does not match it.
pub fn commitment(key: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(context::COMMITMENT, key)
}
