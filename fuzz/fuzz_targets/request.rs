//! Any bytes are a request or an error that says where; asking for the usage changes nothing else.
#![no_main]

#[path = "../../crates/tokenweir-wire/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::request(data));
