//! What the fuzzer has kept, run again: each input once found a new way through the code.

mod support;

use std::fs;
use std::path::Path;
use support::fuzzed;

/// Every kept input of a target, in the order of their names.
fn each(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(files.len() > 50, "only {} inputs in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        check(&fs::read(&file).expect("the file can be read"));
    }
}

#[test]
fn calls() {
    each("calls", fuzzed::calls);
}

#[test]
fn policies() {
    each("policy", fuzzed::policy);
}
