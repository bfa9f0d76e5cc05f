//! Any bytes are a request head, or are refused; what is taken has a path that begins with a slash.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imds_mock::http::fuzzed_head(bytes));
