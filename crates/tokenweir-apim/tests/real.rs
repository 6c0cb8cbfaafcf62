//! Policy documents as people write them, where they are at hand.

mod common;

use std::fs;
use std::path::Path;

use common::{complete, document, elements, limits};
use tokenweir_apim::{Importer, Scope, Tier};

#[test]
fn every_element_of_every_document_is_accounted_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/apim-policies");
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "xml"));
    files.sort();
    let mut found = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("the file can be read");
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        for tier in [Tier::V2, Tier::Classic] {
            let importer = Importer::new(tier).document(document(&name, Scope::Api, None, &text));
            let imported = importer.import().unwrap_or_else(|error| panic!("{error}"));
            complete(&imported, elements(&text));
            // Every limit in them can be mapped: the element's name, found in another way, says how many there are.
            let tags =
                ["<llm-token-limit ", "<azure-openai-token-limit ", "<rate-limit", "<quota", "<limit-concurrency"];
            let expected: usize = tags.iter().map(|tag| text.matches(tag).count()).sum();
            assert_eq!((limits(&imported).len(), imported.report.not_mapped.len()), (expected, 0), "{name}");
            found += expected;
        }
    }
    assert!(found >= 8, "only {found} limits were found");
}
