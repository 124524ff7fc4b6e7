//! One type per secret, wiped when dropped, whose `Debug` prints nothing of it.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The kernel's random number generator did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct RandomError;

/// `N` random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Takes the secret's bytes.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// A fresh random one.
            pub fn random() -> Result<Self, RandomError> {
                random().map(Self)
            }

            /// The secret's bytes, for the cipher, the hash or the bundle that needs them.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret! {
    /// The one secret everything derives from; exported once, as the recovery kit.
    MasterKey
}
secret! {
    /// One root: derives one use's key for every repository.
    RootKey
}
secret! {
    /// The seed of an X-Wing key pair (data, meta or log).
    KemSeed
}
secret! {
    /// The seed of the Ed25519 key that signs the log and the config.
    SigningSeed
}
secret! {
    /// The key of every chunk's id in one repository and epoch.
    IdKey
}
secret! {
    /// The key of the chunker's gear table and of page cuts.
    ChunkingKey
}
secret! {
    /// One run's key for frames.
    DataKey
}
secret! {
    /// One run's key for pack tables.
    TableKey
}
secret! {
    /// One run's right to upload: proved in a challenge, never sent.
    RunToken
}
secret! {
    /// What a key file holds: unlocks a key bundle without a password.
    FileKey
}
