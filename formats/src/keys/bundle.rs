//! Key bundles: the roots of one role, sealed under a password (Argon2id, RFC 9106) or a key file.
//! Parameters read from a bundle are bounded before any memory is taken.

pub mod header;
mod stretch;

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::codec::{DecodeError, Put, Reader};
use crate::keys::bundle::header::Header;
use crate::keys::bundle::stretch::{check_cost, file_bundle_key, stretch};
use crate::keys::certificate::CertifierKey;
use crate::keys::derive::{Use, root};
use crate::keys::secret::{FileKey, MasterKey, RandomError, RootKey, random};
use crate::object::UserName;
use crate::seal::aead;

const MAGIC: &[u8; 8] = b"CAPSKEYS";
/// Version 1 has every role but `read`, version 2 that one alone.
const VERSION: u16 = 2;
const PROTECTION_PASSWORD: u8 = 1;
const PROTECTION_FILE: u8 = 2;

/// What a bundle's holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Everything, the master key included: makes repositories and users.
    Admin,
    /// Backs up, verifies and restores.
    Data,
    /// Adds snapshots; reads nothing back.
    Write,
    /// Lists snapshots only.
    Log,
    /// Reads everything back, and verifies it; can sign nothing, so it adds no snapshot.
    Read,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Admin, Self::Data, Self::Write, Self::Log, Self::Read];

    /// Whether it holds the key that signs the log, without which nothing is added to a repository.
    pub fn signs(self) -> bool {
        self.uses().contains(&Use::Signing)
    }

    /// Whether it opens what is stored in a repository.
    pub fn opens(self) -> bool {
        [Use::Data, Use::Meta]
            .iter()
            .all(|use_| self.uses().contains(use_))
    }

    fn tag(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Data => 2,
            Self::Write => 3,
            Self::Log => 4,
            Self::Read => 5,
        }
    }

    fn from_tag(tag: u8) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|role| role.tag() == tag)
            .ok_or(DecodeError::UnknownTag {
                what: "role",
                tag: tag.into(),
            })
    }

    fn version(self) -> u16 {
        match self {
            Self::Admin | Self::Data | Self::Write | Self::Log => 1,
            Self::Read => VERSION,
        }
    }

    fn uses(self) -> &'static [Use] {
        match self {
            Self::Admin | Self::Data => &Use::ALL,
            Self::Write => &[Use::Id, Use::Chunking, Use::Signing],
            Self::Log => &[Use::Log],
            Self::Read => &[Use::Data, Use::Meta, Use::Log, Use::Id],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Data => "data",
            Self::Write => "write",
            Self::Log => "log",
            Self::Read => "read",
        })
    }
}

impl FromStr for Role {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or(DecodeError::Invalid {
                what: "role",
                rule: "must be admin, data, write, log or read",
            })
    }
}

/// The keys of one role.
#[derive(Debug, Clone)]
pub struct KeyBundle {
    role: Role,
    master: Option<MasterKey>,
    roots: Vec<(Use, RootKey)>,
    certifier: Option<CertifierKey>,
}

/// Argon2id's cost: memory in KiB, passes, lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl PasswordCost {
    /// 1 GiB, three passes, four lanes.
    pub const DEFAULT: Self = Self {
        memory_kib: 1 << 20,
        passes: 3,
        lanes: 4,
    };
    /// For machines without a free GiB: 64 MiB, three passes, four lanes (RFC 9106, second choice).
    pub const SMALL: Self = Self {
        memory_kib: 64 << 10,
        passes: 3,
        lanes: 4,
    };
}

/// What unlocks a bundle.
#[derive(Debug)]
pub enum Unlock<'a> {
    /// A person's password.
    Password(&'a [u8]),
    /// A key file's content.
    File(&'a FileKey),
}

/// What a new bundle is locked with.
#[derive(Debug)]
pub enum Lock<'a> {
    /// A person's password, at this cost.
    Password(&'a [u8], PasswordCost),
    /// A key file's content.
    File(&'a FileKey),
}

/// Why a bundle could not be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Its bytes are no bundle.
    #[error("the key bundle is damaged or not one")]
    Decode(#[from] DecodeError),
    /// The password or key file is another one, or the bundle was altered.
    #[error("wrong password or key file for user {user:?}, or the key bundle was altered")]
    Wrong {
        /// The bundle's user.
        user: String,
    },
    /// It wants the other kind of secret.
    #[error("the key bundle of user {user:?} is unlocked by a {wanted}")]
    OtherProtection {
        /// The bundle's user.
        user: String,
        /// What unlocks it.
        wanted: &'static str,
    },
    /// Argon2id could not run, or the cost is outside the limits of `formats::limits`.
    #[error(
        "the password could not be stretched with {memory_kib} KiB of memory: free some, or take the small cost"
    )]
    Stretch {
        /// The memory it asked for.
        memory_kib: u32,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyBundle {
    /// The bundle of `role` under a master key.
    pub fn new(master: &MasterKey, role: Role) -> Self {
        Self {
            role,
            master: (role == Role::Admin).then(|| master.clone()),
            roots: role
                .uses()
                .iter()
                .map(|use_| (*use_, root(master, *use_)))
                .collect(),
            certifier: (role == Role::Read).then(|| CertifierKey::of(&root(master, Use::Signing))),
        }
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The master key, in the admin's bundle alone.
    pub fn master(&self) -> Option<&MasterKey> {
        self.master.as_ref()
    }

    /// The root of one use, where the role holds it.
    pub fn root(&self, use_: Use) -> Option<RootKey> {
        self.roots
            .iter()
            .find(|(held, _)| *held == use_)
            .map(|(_, root)| root.clone())
    }

    /// What checks certificates, in a reader's bundle alone.
    pub fn certifier(&self) -> Option<CertifierKey> {
        self.certifier
    }

    /// Seals it for `user`.
    pub fn seal(&self, user: &UserName, lock: &Lock<'_>) -> Result<Vec<u8>, BundleError> {
        let salt: [u8; 16] = random()?;
        let mut bytes = Vec::new();
        bytes.put(MAGIC);
        bytes.put_u16(self.role.version());
        bytes.put_prefixed(user.as_str().as_bytes());
        bytes.put_u8(self.role.tag());
        let key = match lock {
            Lock::Password(password, cost) => {
                // A bundle that no reader opens must not be made.
                check_cost(cost).map_err(|_| BundleError::Stretch {
                    memory_kib: cost.memory_kib,
                })?;
                bytes.put_u8(PROTECTION_PASSWORD);
                bytes.put_u32(cost.memory_kib);
                bytes.put_u32(cost.passes);
                bytes.put_u32(cost.lanes);
                stretch(password, &salt, *cost)?
            }
            Lock::File(file) => {
                bytes.put_u8(PROTECTION_FILE);
                file_bundle_key(file, &salt)
            }
        };
        bytes.put(&salt);
        let header = bytes.clone();
        aead::seal(&key, &header, &self.plaintext(), &mut bytes)?;
        Ok(bytes)
    }

    fn plaintext(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(32 * 7));
        match &self.master {
            Some(master) => plain.put(master.expose()),
            None => {
                for (_, root) in &self.roots {
                    plain.put(root.expose());
                }
                if let Some(certifier) = &self.certifier {
                    plain.put(&certifier.0);
                }
            }
        }
        plain
    }

    /// Opens a bundle; says whose it is.
    pub fn open(bytes: &[u8], unlock: &Unlock<'_>) -> Result<(UserName, Self), BundleError> {
        let header = Header::read(bytes)?;
        let user = header.user.to_string();
        let key = match (unlock, header.cost) {
            (Unlock::Password(password), Some(cost)) => stretch(password, &header.salt, cost)?,
            (Unlock::File(file), None) => file_bundle_key(file, &header.salt),
            (_, Some(_)) => {
                return Err(BundleError::OtherProtection {
                    user,
                    wanted: "password",
                });
            }
            (_, None) => {
                return Err(BundleError::OtherProtection {
                    user,
                    wanted: "key file",
                });
            }
        };
        let mut plain = Zeroizing::new(Vec::new());
        aead::open(&key, header.associated, header.sealed, &mut plain)
            .map_err(|_| BundleError::Wrong { user })?;
        let mut reader = Reader::new(&plain);
        let bundle = Self::read(header.role, &mut reader)?;
        reader.finish("key bundle")?;
        Ok((header.user, bundle))
    }

    fn read(role: Role, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if role == Role::Admin {
            let master = MasterKey::from_bytes(reader.array("master key")?);
            return Ok(Self::new(&master, role));
        }
        let mut roots = Vec::new();
        for use_ in role.uses() {
            roots.push((*use_, RootKey::from_bytes(reader.array("root key")?)));
        }
        let certifier = match role {
            Role::Read => Some(CertifierKey(reader.array("certifier's key")?)),
            _ => None,
        };
        Ok(Self {
            role,
            master: None,
            roots,
            certifier,
        })
    }
}

#[cfg(test)]
mod tests;
