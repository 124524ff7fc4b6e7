//! Fuzzes `frame_body` of the shared bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| formats_fuzz::frame_body(data));
