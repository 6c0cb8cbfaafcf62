//! Any text is a policy document of API Management, accounted for element by element, or refused with a place.
#![no_main]

#[path = "../../crates/tokenweir-apim/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::apim(data));
