//! Fuzzes `index_piece` of the shared bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| formats_fuzz::index_piece(data));
