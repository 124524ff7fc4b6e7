//! SSH keys made here, so that nothing but this program is needed. Never written anywhere from here.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use zeroize::Zeroizing;

/// A fresh Ed25519 key.
pub fn fresh_key() -> Result<PrivateKey, getrandom::Error> {
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice())?;
    Ok(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
}
