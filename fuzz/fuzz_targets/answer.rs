//! Any bytes that STS could answer are credentials, an error, or nothing we know.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imds_mock::role::fuzzed_answer(bytes));
