//! Key encapsulation: HPKE (RFC 9180) base mode, export only, with X-Wing (X25519 and ML-KEM-768; KEM id
//! 0x647a) and HKDF-SHA256. What is stored today stays sealed while either of the two holds.

use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem as _, XWing};
use hpke::{
    Deserializable as _, OpModeR, OpModeS, Serializable as _, setup_receiver, setup_sender,
};
use zeroize::Zeroizing;

use crate::keys::secret::KemSeed;

/// Bytes of an X-Wing public key.
pub const PUBLIC_BYTES: usize = 1_216;
/// Bytes of an encapsulation.
pub const ENCAPSULATED_BYTES: usize = 1_120;

const EXPORT_CONTEXT: &[u8] = b"capstan 2026-11 encapsulated key";

/// An X-Wing public key.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublic(pub Box<[u8; PUBLIC_BYTES]>);

impl std::fmt::Debug for KemPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.0.first_chunk::<4>().copied().unwrap_or_default();
        write!(f, "KemPublic({}…)", crate::ids::to_hex(&head))
    }
}

/// A key encapsulated to a public key.
#[derive(Clone, PartialEq, Eq)]
pub struct Encapsulated(pub Box<[u8; ENCAPSULATED_BYTES]>);

impl std::fmt::Debug for Encapsulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encapsulated(..)")
    }
}

/// An encapsulation or a public key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key encapsulation failed: the public key or the encapsulated key is not valid")]
pub struct KemError;

/// The public key of a seed.
pub fn public(seed: &KemSeed) -> KemPublic {
    let private = private(seed);
    let mut bytes = Box::new([0u8; PUBLIC_BYTES]);
    XWing::sk_to_pk(&private).write_exact(bytes.as_mut());
    KemPublic(bytes)
}

fn private(seed: &KemSeed) -> <XWing as hpke::Kem>::PrivateKey {
    <XWing as hpke::Kem>::PrivateKey::from_bytes(seed.expose())
        .expect("an X-Wing private key is any 32 bytes")
}

/// A fresh 32-byte key, and its encapsulation to `public`, bound to `info`.
pub fn encapsulate(
    public: &KemPublic,
    info: &[u8],
) -> Result<(Encapsulated, Zeroizing<[u8; 32]>), KemError> {
    let public =
        <XWing as hpke::Kem>::PublicKey::from_bytes(public.0.as_ref()).map_err(|_| KemError)?;
    let (encapsulated, context) =
        setup_sender::<ExportOnlyAead, HkdfSha256, XWing>(&OpModeS::Base, &public, info)
            .map_err(|_| KemError)?;
    let mut key = Zeroizing::new([0u8; 32]);
    context
        .export(EXPORT_CONTEXT, key.as_mut())
        .map_err(|_| KemError)?;
    let mut bytes = Box::new([0u8; ENCAPSULATED_BYTES]);
    encapsulated.write_exact(bytes.as_mut());
    Ok((Encapsulated(bytes), key))
}

/// The key that was encapsulated to this seed's public key under the same `info`; another seed or info
/// gives another key, never an error, so the caller compares a commitment.
pub fn decapsulate(
    seed: &KemSeed,
    encapsulated: &Encapsulated,
    info: &[u8],
) -> Result<Zeroizing<[u8; 32]>, KemError> {
    let encapsulated = <XWing as hpke::Kem>::EncappedKey::from_bytes(encapsulated.0.as_ref())
        .map_err(|_| KemError)?;
    let context = setup_receiver::<ExportOnlyAead, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private(seed),
        &encapsulated,
        info,
    )
    .map_err(|_| KemError)?;
    let mut key = Zeroizing::new([0u8; 32]);
    context
        .export(EXPORT_CONTEXT, key.as_mut())
        .map_err(|_| KemError)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::{decapsulate, encapsulate, public};
    use crate::keys::secret::KemSeed;

    #[test]
    fn only_the_same_seed_and_info_give_the_key() {
        let (mine, other) = (KemSeed::from_bytes([3; 32]), KemSeed::from_bytes([4; 32]));
        let (encapsulated, key) = encapsulate(&public(&mine), b"info").expect("encapsulates");
        let again = decapsulate(&mine, &encapsulated, b"info").expect("decapsulates");
        assert_eq!(again, key);
        for wrong in [
            decapsulate(&other, &encapsulated, b"info"),
            decapsulate(&mine, &encapsulated, b"other"),
        ] {
            assert_ne!(wrong.ok(), Some(key.clone()));
        }
    }
}
