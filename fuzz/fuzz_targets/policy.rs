//! Any text is a policy or an error that names a remedy; a policy decides on any request at any time.
#![no_main]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/tokenweir/tests/support"]
mod support {
    pub mod bytes;
    pub mod fuzzed;
    pub mod ledger;
    pub mod lockstep;
    pub mod model;
    pub mod trace;
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::fuzzed::policy(data));
