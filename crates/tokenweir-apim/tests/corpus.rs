//! What the fuzzer has kept, run again, and documents with a few pieces cut out, doubled or replaced.

mod fuzzed;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[test]
fn kept_documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/apim");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "only {} inputs in {}", files.len(), folder.display());
    for file in files {
        println!("{}", file.display());
        fuzzed::apim(&fs::read(&file).expect("the file can be read"));
    }
}

const SEED: &str = include_str!("fuzzed/limits.xml");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_mutation_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..60usize, "[-a-z0-9'\"\\[\\]{}=,.:*@$()<>/&?! \n]{0,6}", any::<bool>()), 1..6),
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, length, replacement, double) in edits {
            let from = at.index(text.len() + 1);
            let to = (from + length).min(text.len());
            let piece: Vec<char> = text[from..to].to_vec();
            let new: Vec<char> = if double { [piece.clone(), piece].concat() } else { replacement.chars().collect() };
            text.splice(from..to, new);
        }
        fuzzed::apim(text.into_iter().collect::<String>().as_bytes());
    }
}
