//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random 192-bit nonce in front. Never reuses a
//! nonce by construction: the caller cannot choose one.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, Tag, XChaCha20Poly1305, XNonce};

use crate::keys::secret::{RandomError, random};

/// Bytes of the nonce in front.
pub const NONCE_BYTES: usize = 24;
/// Bytes of the tag behind.
pub const TAG_BYTES: usize = 16;
/// Bytes that sealing adds.
pub const OVERHEAD: usize = NONCE_BYTES + TAG_BYTES;

/// The bytes were not sealed with this key for this purpose, or were altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not open: another key, another purpose, or altered bytes")]
pub struct OpenError;

/// Appends nonce, ciphertext and tag of `plain` to `out`; `associated` is bound, not stored.
pub fn seal(
    key: &[u8; 32],
    associated: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RandomError> {
    let nonce: [u8; NONCE_BYTES] = random()?;
    out.reserve(plain.len() + OVERHEAD);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let (_, body) = out.split_at_mut(start);
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&XNonce::from(nonce), associated, body.into())
        .expect("the cipher takes every length below 256 GiB, and limits are far below");
    out.extend_from_slice(&tag);
    Ok(())
}

/// Replaces `out` by the plaintext of `sealed`; on failure `out` is empty.
pub fn open(
    key: &[u8; 32],
    associated: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), OpenError> {
    out.clear();
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
    let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
    out.extend_from_slice(body);
    let opened = XChaCha20Poly1305::new(key.into()).decrypt_inout_detached(
        &XNonce::from(*nonce),
        associated,
        out.as_mut_slice().into(),
        &Tag::from(*tag),
    );
    if opened.is_err() {
        out.clear();
        return Err(OpenError);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{OVERHEAD, open, seal};

    #[test]
    fn opens_only_what_was_sealed_with_the_same_key_and_purpose() {
        let mut sealed = Vec::new();
        seal(&[1; 32], b"for this", b"plain", &mut sealed).expect("sealing works");
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        let mut out = Vec::new();
        assert!(open(&[1; 32], b"for this", &sealed, &mut out).is_ok());
        assert_eq!(out, b"plain");
        assert!(open(&[2; 32], b"for this", &sealed, &mut out).is_err());
        assert!(out.is_empty());
        assert!(open(&[1; 32], b"for that", &sealed, &mut out).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&[1; 32], b"for this", &flipped, &mut out).is_err());
        }
        for length in 0..sealed.len() {
            assert!(open(&[1; 32], b"for this", &sealed[..length], &mut out).is_err());
        }
    }

    #[test]
    fn no_two_nonces_are_equal() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let mut sealed = Vec::new();
            seal(&[1; 32], b"", b"", &mut sealed).expect("sealing works");
            assert!(seen.insert(sealed[..24].to_vec()));
        }
    }
}
