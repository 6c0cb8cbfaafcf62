//! Any lines are headers of an upstream, and any text a time or none.
#![no_main]

#[path = "../../crates/tokenweir-wire/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::headers(data));
