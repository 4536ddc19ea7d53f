#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bigpeer_fuzz::run("answer", bytes));
