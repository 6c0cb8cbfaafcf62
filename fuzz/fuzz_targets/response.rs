//! Any bytes are a response: of some use, however they are cut.
#![no_main]

#[path = "../../crates/tokenweir-wire/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::response(data));
