//! Key bundles: the roots of one role, sealed under a password (Argon2id, RFC 9106) or a key file.
//! Parameters read from a bundle are bounded before any memory is taken.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Put, Reader, read_magic};
use crate::keys::derive::{Use, context, root};
use crate::keys::secret::{FileKey, MasterKey, RandomError, RootKey, random};
use crate::limits::{
    ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_MEMORY_KIB_MIN, ARGON2_PASSES_MAX,
    KEY_BUNDLE_BYTES_MAX,
};
use crate::object::UserName;
use crate::seal::aead;

const MAGIC: &[u8; 8] = b"CAPSKEYS";
const VERSION: u16 = 1;
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
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Data, Self::Write, Self::Log];

    fn tag(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Data => 2,
            Self::Write => 3,
            Self::Log => 4,
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

    fn uses(self) -> &'static [Use] {
        match self {
            Self::Admin | Self::Data => &Use::ALL,
            Self::Write => &[Use::Id, Use::Chunking, Use::Signing],
            Self::Log => &[Use::Log],
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
                rule: "must be admin, data, write or log",
            })
    }
}

/// The keys of one role.
#[derive(Debug, Clone)]
pub struct KeyBundle {
    role: Role,
    master: Option<MasterKey>,
    roots: Vec<(Use, RootKey)>,
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

    /// Seals it for `user`.
    pub fn seal(&self, user: &UserName, lock: &Lock<'_>) -> Result<Vec<u8>, BundleError> {
        let salt: [u8; 16] = random()?;
        let mut bytes = Vec::new();
        bytes.put(MAGIC);
        bytes.put_u16(VERSION);
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
        Ok(Self {
            role,
            master: None,
            roots,
        })
    }
}

struct Header<'a> {
    user: UserName,
    role: Role,
    cost: Option<PasswordCost>,
    salt: [u8; 16],
    associated: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() as u64 > KEY_BUNDLE_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "key bundle",
                found: bytes.len() as u64,
                limit: KEY_BUNDLE_BYTES_MAX,
            });
        }
        let mut reader = Reader::new(bytes);
        read_magic(&mut reader, "key bundle", MAGIC, VERSION)?;
        let user = reader
            .text("user", crate::limits::USER_NAME_BYTES_MAX)?
            .parse()
            .map_err(|_| DecodeError::Invalid {
                what: "user",
                rule: "must be a user name",
            })?;
        let role = Role::from_tag(reader.u8("role")?)?;
        let cost = match reader.u8("protection")? {
            PROTECTION_PASSWORD => Some(read_cost(&mut reader)?),
            PROTECTION_FILE => None,
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "protection",
                    tag: tag.into(),
                });
            }
        };
        let salt = reader.array("salt")?;
        let (associated, sealed) = bytes.split_at(bytes.len() - reader.remaining());
        Ok(Self {
            user,
            role,
            cost,
            salt,
            associated,
            sealed,
        })
    }
}

fn read_cost(reader: &mut Reader<'_>) -> Result<PasswordCost, DecodeError> {
    let cost = PasswordCost {
        memory_kib: reader.u32("Argon2id memory")?,
        passes: reader.u32("Argon2id passes")?,
        lanes: reader.u32("Argon2id lanes")?,
    };
    check_cost(&cost)?;
    Ok(cost)
}

fn check_cost(cost: &PasswordCost) -> Result<(), DecodeError> {
    let ranges = [
        (
            "Argon2id memory",
            cost.memory_kib,
            ARGON2_MEMORY_KIB_MIN..=ARGON2_MEMORY_KIB_MAX,
        ),
        ("Argon2id passes", cost.passes, 1..=ARGON2_PASSES_MAX),
        ("Argon2id lanes", cost.lanes, 1..=ARGON2_LANES_MAX),
    ];
    for (what, found, range) in ranges {
        if found > *range.end() {
            return Err(DecodeError::AboveLimit {
                what,
                found: found.into(),
                limit: (*range.end()).into(),
            });
        }
        if found < *range.start() {
            return Err(DecodeError::Invalid {
                what,
                rule: "is below the least that is accepted",
            });
        }
    }
    Ok(())
}

fn stretch(
    password: &[u8],
    salt: &[u8; 16],
    cost: PasswordCost,
) -> Result<Zeroizing<[u8; 32]>, BundleError> {
    let fail = |_| BundleError::Stretch {
        memory_kib: cost.memory_kib,
    };
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(fail)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, key.as_mut())
        .map_err(fail)?;
    Ok(key)
}

fn file_bundle_key(file: &FileKey, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context::FILE_KEY);
    hasher.update(file.expose());
    hasher.update(salt);
    Zeroizing::new(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::{BundleError, KeyBundle, Lock, PasswordCost, Role, Unlock};
    use crate::keys::derive::Use;
    use crate::keys::secret::{FileKey, MasterKey};

    #[test]
    fn each_role_holds_its_keys_and_no_other() {
        let master = MasterKey::from_bytes([7; 32]);
        let file = FileKey::from_bytes([9; 32]);
        let user = "someone".parse().expect("a good name");
        for role in Role::ALL {
            let sealed = KeyBundle::new(&master, role)
                .seal(&user, &Lock::File(&file))
                .expect("sealing works");
            let (opened_user, bundle) =
                KeyBundle::open(&sealed, &Unlock::File(&file)).expect("opening works");
            assert_eq!((opened_user, bundle.role()), (user.clone(), role));
            assert_eq!(bundle.master().is_some(), role == Role::Admin);
            for use_ in Use::ALL {
                assert_eq!(
                    bundle.root(use_).is_some(),
                    role.uses().contains(&use_),
                    "{role} {use_:?}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_secret_and_hostile_parameters_are_refused() {
        let bundle = KeyBundle::new(&MasterKey::from_bytes([7; 32]), Role::Data);
        let user = "u".parse().expect("a good name");
        let mut sealed = bundle
            .seal(&user, &Lock::Password(b"right", PasswordCost::SMALL))
            .expect("sealing works");
        assert!(KeyBundle::open(&sealed, &Unlock::Password(b"right")).is_ok());
        assert!(matches!(
            KeyBundle::open(&sealed, &Unlock::Password(b"wrong")),
            Err(BundleError::Wrong { .. })
        ));
        let file = FileKey::from_bytes([1; 32]);
        assert!(matches!(
            KeyBundle::open(&sealed, &Unlock::File(&file)),
            Err(BundleError::OtherProtection { .. })
        ));
        // Memory stands after magic, version, name length, name, role and protection.
        let memory = 8 + 2 + 2 + 1 + 1;
        sealed[memory..memory + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            KeyBundle::open(&sealed, &Unlock::Password(b"right")),
            Err(BundleError::Decode(_))
        ));
    }

    #[test]
    fn a_bundle_that_no_reader_would_open_is_not_made() {
        let bundle = KeyBundle::new(&MasterKey::from_bytes([7; 32]), Role::Log);
        let user = "u".parse().expect("a good name");
        for (memory_kib, passes, lanes) in [(1 << 10, 3, 4), (64 << 10, 17, 4), (64 << 10, 1, 17)] {
            let cost = PasswordCost {
                memory_kib,
                passes,
                lanes,
            };
            let sealed = bundle.seal(&user, &Lock::Password(b"right", cost));
            assert!(matches!(sealed, Err(BundleError::Stretch { .. })));
        }
    }
}
