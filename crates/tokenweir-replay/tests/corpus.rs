//! What the fuzzer has kept, run again: each input once found a new way through the readers of traces.

mod fuzzed;

use std::fs;
use std::path::Path;

#[test]
fn traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/trace");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(files.len() > 50, "only {} inputs in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        fuzzed::trace(&fs::read(&file).expect("the file can be read"));
    }
}
