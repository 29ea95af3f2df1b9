#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| waystation_fuzz::query::run(input));
