//! What the fuzzer has kept, run again: each input once found a new way through the readers.

mod fuzzed;

use std::fs;
use std::path::Path;

fn each(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(files.len() > 50, "only {} inputs in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        run(&fs::read(&file).expect("the file can be read"));
    }
}

#[test]
fn responses() {
    each("response", fuzzed::response);
}

#[test]
fn requests() {
    each("request", fuzzed::request);
}

#[test]
fn headers() {
    each("headers", fuzzed::headers);
}
