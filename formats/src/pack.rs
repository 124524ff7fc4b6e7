//! Packs: sealed frames one after another with no plaintext framing, then a sealed table, then the run
//! headers and a footer. Specified in `formats/docs/repository.md`. A pack is read from its end; without any
//! index its content can still be found, opened and checked.

pub mod assemble;
pub mod index;
pub mod open;
pub mod table;
pub mod trailer;
