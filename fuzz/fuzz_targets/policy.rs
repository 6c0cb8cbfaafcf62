//! Any text is a policy or an error that names a remedy; a policy resolves any request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokenweir::{Policy, Request};

fuzz_target!(|text: &str| {
    for parsed in [Policy::from_toml(text), Policy::from_json(text)] {
        match parsed {
            Ok(policy) => {
                let _ = policy.explain(&Request::new("search", "gpt-4o"));
            }
            Err(error) => assert!(error.problems().iter().all(|problem| !problem.remedy.is_empty())),
        }
    }
});
