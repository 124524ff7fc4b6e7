//! What of a key bundle is not sealed: whose it is, its role, what unlocks it, and the certificate behind a reader's.

use crate::codec::{DecodeError, Put as _, Reader, read_magic_and_version};
use crate::keys::bundle::stretch::read_cost;
use crate::keys::bundle::{
    MAGIC, PROTECTION_FILE, PROTECTION_PASSWORD, PasswordCost, Role, VERSION,
};
use crate::keys::certificate::{CERTIFICATE_BYTES, Certificate};
use crate::limits::{KEY_BUNDLE_BYTES_MAX, USER_NAME_BYTES_MAX};
use crate::object::UserName;

/// The sealed part of a bundle of role read: nonce, four roots and the certifier's key, tag.
const READ_SEALED_BYTES: usize = 24 + 5 * 32 + 16;

/// Whose a bundle says it is, and its role. Believed of one's own file alone: nothing was opened.
pub fn owner(bytes: &[u8]) -> Result<(UserName, Role), DecodeError> {
    let header = Header::read(bytes)?;
    Ok((header.user, header.role))
}

/// The certificate behind a bundle of role read as it stands in a repository.
pub fn certificate(bytes: &[u8]) -> Result<Option<Certificate>, DecodeError> {
    Ok(Header::read(bytes)?.certificate)
}

/// A bundle of role read with this certificate behind it, or with none; one of another role as it is, for it needs none.
pub fn with_certificate(
    bytes: &[u8],
    certificate: Option<&Certificate>,
) -> Result<Vec<u8>, DecodeError> {
    let header = Header::read(bytes)?;
    let mut out = [header.associated, header.sealed].concat();
    if let (Role::Read, Some(certificate)) = (header.role, certificate) {
        out.put(&certificate.0);
    }
    Ok(out)
}

pub(super) struct Header<'a> {
    pub(super) user: UserName,
    pub(super) role: Role,
    pub(super) cost: Option<PasswordCost>,
    pub(super) salt: [u8; 16],
    pub(super) associated: &'a [u8],
    pub(super) sealed: &'a [u8],
    certificate: Option<Certificate>,
}

impl<'a> Header<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() as u64 > KEY_BUNDLE_BYTES_MAX {
            return Err(DecodeError::AboveLimit {
                what: "key bundle",
                found: bytes.len() as u64,
                limit: KEY_BUNDLE_BYTES_MAX,
            });
        }
        let mut reader = Reader::new(bytes);
        let version = read_magic_and_version(&mut reader, "key bundle", MAGIC, 1..=VERSION)?;
        let user = reader
            .text("user", USER_NAME_BYTES_MAX)?
            .parse()
            .map_err(|_| DecodeError::Invalid {
                what: "user",
                rule: "must be a user name",
            })?;
        let role = Role::from_tag(reader.u8("role")?)?;
        if role.version() != version {
            return Err(DecodeError::NotCanonical {
                what: "key bundle's version",
            });
        }
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
        let (associated, rest) = bytes.split_at(bytes.len() - reader.remaining());
        let (sealed, certificate) = match role {
            Role::Read => split_certificate(rest)?,
            _ => (rest, None),
        };
        Ok(Self {
            user,
            role,
            cost,
            salt,
            associated,
            sealed,
            certificate,
        })
    }
}

/// The sealed part of a reader's bundle, and what stands behind it.
fn split_certificate(rest: &[u8]) -> Result<(&[u8], Option<Certificate>), DecodeError> {
    let (sealed, behind) = rest
        .split_at_checked(READ_SEALED_BYTES)
        .ok_or(DecodeError::Truncated { what: "key bundle" })?;
    let mut reader = Reader::new(behind);
    let certificate = match behind.is_empty() {
        true => None,
        false => {
            let bytes: [u8; CERTIFICATE_BYTES] = reader.array("certificate")?;
            Some(Certificate(bytes))
        }
    };
    reader.finish("key bundle")?;
    Ok((sealed, certificate))
}
