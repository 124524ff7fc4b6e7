//! Fuzzes `object_name` of the shared bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| formats_fuzz::object_name(data));
