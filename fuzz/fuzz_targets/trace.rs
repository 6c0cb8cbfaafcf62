//! Any bytes are a trace, in either format, up to the first line that is wrong, which is named.
#![no_main]

#[path = "../../crates/tokenweir-replay/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::trace(data));
