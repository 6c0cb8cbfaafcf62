//! What must hold of any text at all that is given as a policy document: the fuzz target, and the kept corpus as a test.

use tokenweir::{Policy, Request};
use tokenweir_apim::{Document, Importer, Scope, Tier};

/// Any text is imported with an account of every element, or refused with place and remedy.
pub fn apim(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let document = |scope, id: Option<&str>, text: &str| Document {
        name: "fuzzed.xml".into(),
        text: text.to_owned(),
        scope,
        id: id.map(Into::into),
    };
    for tier in [Tier::V2, Tier::Classic] {
        // The text as an API's, as a product's around it, and as a fragment: documents that meet are what is hard.
        let imported = Importer::new(tier)
            .document(document(Scope::Api, Some("a"), text))
            .document(document(Scope::Product, None, text))
            .fragment("f", "fragment.xml", text)
            .named_value("n", "5")
            .placeholder("p", "@(context.User.Id)")
            .part("key:product", "project")
            .import();
        match imported {
            Ok(imported) => {
                let read = Policy::from_toml(&imported.toml).expect("what is written is a policy");
                assert_eq!(read, imported.policy);
                let report = &imported.report;
                assert_eq!(report.limits.len(), read.limits().len());
                let accounted = [&report.imported, &report.not_mapped, &report.not_about_limits];
                let mut places: Vec<_> = accounted.iter().flat_map(|list| list.iter().map(|one| &one.place)).collect();
                assert_eq!(places.len() % 3, 0, "each element of the text was there three times");
                places.retain(|place| place.line == 0);
                assert!(places.is_empty());
                let _ = read.resolve(&Request::new("p", "d"));
            }
            Err(error) => {
                assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    assert!(problem.line >= 1 && problem.line <= text.lines().count().max(1) + 1, "{problem}");
                    assert!(!problem.remedy.is_empty() && !problem.file.is_empty(), "{problem}");
                    assert_ne!(problem.code, "POLICY_REFUSED", "{problem}");
                }
            }
        }
    }
}
