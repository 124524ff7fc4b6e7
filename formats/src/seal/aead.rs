//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random 192-bit nonce in front. Never reuses a
//! nonce by construction: the caller cannot choose one.
//!
//! As the draft defines it: HChaCha20 makes a key of its own from the key and the nonce's first 16 bytes, and
//! ChaCha20-Poly1305 (RFC 8439) seals with that and the rest. The second step is ring's, which is twice as fast
//! as the plain Rust one; a test holds both to the same bytes. ring does not wipe the derived key, which opens
//! this one object and nothing else.

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroize as _;

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

/// The key and the nonce of RFC 8439 that XChaCha20 derives.
fn derive(key: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> (LessSafeKey, Nonce) {
    let (input, rest) = nonce.split_at(16);
    let mut block = [0; 16];
    block.copy_from_slice(input);
    let mut derived = hchacha::<R20>(key.into(), &block.into());
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, derived.as_slice())
        .expect("HChaCha20 gives the 32 bytes that ChaCha20 takes");
    derived.as_mut_slice().zeroize();
    let mut short = [0; 12];
    short[4..].copy_from_slice(rest);
    let nonce = Nonce::assume_unique_for_key(short);
    (LessSafeKey::new(unbound), nonce)
}

/// Appends nonce, ciphertext and tag of `plain` to `out`; `associated` is bound, not stored.
pub fn seal(
    key: &[u8; 32],
    associated: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), RandomError> {
    let nonce = random()?;
    out.reserve(plain.len() + OVERHEAD);
    let start = out.len();
    out.extend_from_slice(&[0; NONCE_BYTES]);
    out.extend_from_slice(plain);
    seal_with(nonce, key, associated, start, out);
    Ok(())
}

/// Seals what lies in `out` from `start` on: room for a nonce ([`NONCE_BYTES`]), then the plaintext.
pub fn seal_in_place(
    key: &[u8; 32],
    associated: &[u8],
    start: usize,
    out: &mut Vec<u8>,
) -> Result<(), RandomError> {
    seal_with(random()?, key, associated, start, out);
    Ok(())
}

fn seal_with(
    nonce: [u8; NONCE_BYTES],
    key: &[u8; 32],
    associated: &[u8],
    start: usize,
    out: &mut Vec<u8>,
) {
    let (room, body) = out
        .get_mut(start..)
        .and_then(|rest| rest.split_first_chunk_mut::<NONCE_BYTES>())
        .expect("the caller has left room for the nonce");
    *room = nonce;
    let (key, nonce) = derive(key, room);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(associated), body)
        .expect("the cipher takes every length below 256 GiB, and limits are far below");
    out.extend_from_slice(tag.as_ref());
}

/// Replaces `out` by the plaintext of `sealed`; on failure `out` is empty.
pub fn open(
    key: &[u8; 32],
    associated: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), OpenError> {
    out.clear();
    out.extend_from_slice(sealed);
    match open_in_place(key, associated, out).map(|plain| plain.len()) {
        Ok(bytes) => {
            out.copy_within(NONCE_BYTES..NONCE_BYTES + bytes, 0);
            out.truncate(bytes);
            Ok(())
        }
        Err(error) => {
            out.clear();
            Err(error)
        }
    }
}

/// Opens where it lies; gives the plaintext, which is a part of `sealed`. On failure nothing in `sealed` means
/// anything any more.
pub fn open_in_place<'a>(
    key: &[u8; 32],
    associated: &[u8],
    sealed: &'a mut [u8],
) -> Result<&'a mut [u8], OpenError> {
    let (nonce, rest) = sealed
        .split_first_chunk_mut::<NONCE_BYTES>()
        .ok_or(OpenError)?;
    let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(OpenError)?;
    let (key, nonce) = derive(key, nonce);
    let associated = Aad::from(associated);
    key.open_in_place_separate_tag(nonce, associated, Tag::from(*tag), body, 0..)
        .map_err(|_| OpenError)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead as _, Payload};
    use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

    use super::{NONCE_BYTES, OVERHEAD, open, seal};

    #[test]
    fn another_implementation_gives_and_opens_the_same_bytes() {
        for length in [0, 1, 63, 64, 65, 4_096, 100_003] {
            let plain: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
            let key = [length as u8; 32];
            let mut sealed = Vec::new();
            seal(&key, b"purpose", &plain, &mut sealed).expect("sealing works");
            let (nonce, rest) = sealed.split_at(NONCE_BYTES);
            let nonce = XNonce::try_from(nonce).expect("24 bytes");
            let other = XChaCha20Poly1305::new(&key.into());
            let (msg, aad) = (plain.as_slice(), b"purpose".as_slice());
            let theirs = other.encrypt(&nonce, Payload { msg, aad });
            assert_eq!(theirs.expect("sealing works"), rest);
            let mut ours = Vec::new();
            open(&key, b"purpose", &sealed, &mut ours).expect("it opens");
            assert_eq!(ours, plain);
        }
    }

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
