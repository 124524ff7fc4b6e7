//! A password or a key file to a bundle's key. Parameters are bounded before any memory is taken.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::codec::{DecodeError, Reader};
use crate::keys::bundle::{BundleError, PasswordCost};
use crate::keys::derive::context;
use crate::keys::secret::FileKey;
use crate::limits::{
    ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_MEMORY_KIB_MIN, ARGON2_PASSES_MAX,
};

pub(super) fn read_cost(reader: &mut Reader<'_>) -> Result<PasswordCost, DecodeError> {
    let cost = PasswordCost {
        memory_kib: reader.u32("Argon2id memory")?,
        passes: reader.u32("Argon2id passes")?,
        lanes: reader.u32("Argon2id lanes")?,
    };
    check_cost(&cost)?;
    Ok(cost)
}

pub(super) fn check_cost(cost: &PasswordCost) -> Result<(), DecodeError> {
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

pub(super) fn stretch(
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

pub(super) fn file_bundle_key(file: &FileKey, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(context::FILE_KEY);
    hasher.update(file.expose());
    hasher.update(salt);
    Zeroizing::new(hasher.finalize().into())
}
