//! Fuzzes `content_page` of the shared bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| formats_fuzz::content_page(data));
