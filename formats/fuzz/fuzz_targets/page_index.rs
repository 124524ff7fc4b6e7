//! Fuzzes `page_index` of the shared bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| formats_fuzz::page_index(data));
