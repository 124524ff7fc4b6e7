//! Sealing: the AEAD, the key encapsulation, run headers and frames. Specified in `formats/docs/sealing.md`.

pub mod aead;
pub mod frame;
pub mod kem;
pub mod run_header;
