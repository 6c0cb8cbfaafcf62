//! Documents of the tests' own, imported.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use tokenweir::policy::Limit;
use tokenweir::{Key, Request};
use tokenweir_apim::{Document, Imported, Importer, Scope, Tier};

pub fn document(name: &str, scope: Scope, id: Option<&str>, text: &str) -> Document {
    Document { name: name.into(), text: text.into(), scope, id: id.map(Into::into) }
}

/// A document with this in its inbound section; what is given begins on line 2.
pub fn inbound(body: &str) -> String {
    format!("<policies><inbound><base />\n{body}\n</inbound></policies>")
}

pub fn importer(body: &str) -> Importer {
    Importer::new(Tier::V2).document(document("p.xml", Scope::Api, None, &inbound(body)))
}

pub fn import(body: &str) -> Imported {
    importer(body).import().unwrap_or_else(|error| panic!("{body}\n{error}"))
}

/// The limits as `amount algorithm [scope]`, shadow ones left out.
pub fn limits(imported: &Imported) -> Vec<String> {
    imported.policy.limits().iter().filter(|limit| limit.mode().as_str() == "enforce").map(told).collect()
}

fn told(limit: &Limit) -> String {
    let scope: Vec<String> = limit.scope().iter().map(ToString::to_string).collect();
    let (algorithm, meter) = (limit.algorithm(), limit.meter());
    format!("{} {meter} {} by {}", algorithm.amount(), algorithm.as_str(), scope.join("+"))
}

/// The amounts of the enforced limits that a request meets, in ascending order.
pub fn met(imported: &Imported, deployment: &str, keys: &[(&str, &str)]) -> Vec<u64> {
    let keys: Vec<Key<'_>> = keys.iter().map(|(name, value)| Key::new(name, value)).collect();
    let request = Request::new("p", deployment).with_keys(&keys);
    let resolution = imported.policy.resolve(&request).unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    let limits = resolution.applied.iter().map(|applied| &imported.policy.limits()[applied.limit]);
    let mut amounts: Vec<u64> =
        limits.filter(|limit| limit.mode().as_str() == "enforce").map(|limit| limit.algorithm().amount()).collect();
    amounts.sort_unstable();
    amounts
}

/// How many elements a text holds, counted by another way than the import's: a `<` before a small letter that follows
/// no letter or digit, which is what tells it from the types of C#.
pub fn elements(text: &str) -> usize {
    let mut text = text.to_owned();
    while let Some(start) = text.find("<!--") {
        let end = text[start..].find("-->").map_or(text.len(), |end| start + end + 3);
        text.replace_range(start..end, " ");
    }
    let bytes = text.as_bytes();
    (0..bytes.len())
        .filter(|at| bytes[*at] == b'<' && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase))
        .filter(|at| *at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
        .count()
}

/// Every element is accounted for, once.
pub fn complete(imported: &Imported, elements: usize) {
    let report = &imported.report;
    let all = report.imported.len() + report.not_mapped.len() + report.not_about_limits.len();
    assert_eq!(all, elements, "{report:#?}");
    assert!(report.not_mapped.iter().all(|one| !one.notes.is_empty()), "a reason is missing: {report:#?}");
    let again = tokenweir::Policy::from_toml(&imported.toml).expect("the text is a policy");
    assert_eq!(again, imported.policy);
    assert_eq!(report.limits.len(), imported.policy.limits().len());
}
