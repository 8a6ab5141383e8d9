#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rust_lb_fuzz::h1::requests(input));
