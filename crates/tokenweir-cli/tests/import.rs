//! `tokenweir import apim`.

mod common;

use common::Folder;
use serde_json::Value;

const API: &str = r#"<policies>
  <inbound>
    <base />
    <llm-token-limit counter-key="@(context.Request.Headers.GetValueOrDefault("x-user"))" tokens-per-minute="{tpm}" />
    <rate-limit-by-key calls="5" renewal-period="30" counter-key="@(context.Request.Body.As<string>())" />
  </inbound>
</policies>
"#;

fn folder(test: &str) -> Folder {
    let folder = Folder::new(test);
    folder.write("api.xml", API);
    folder.write("gold.xml", r#"<policies><inbound><base /><include-fragment fragment-id="f" /></inbound></policies>"#);
    folder.write("f.xml", r#"<fragment><quota calls="{{calls}}" renewal-period="3600" /></fragment>"#);
    folder
}

const ALL: [&str; 12] = [
    "import",
    "apim",
    "api.xml",
    "--document",
    "product:gold=gold.xml",
    "--fragment",
    "f=f.xml",
    "--named-value",
    "calls=70",
    "--set",
    "tpm=9",
    "--tier=classic",
];

#[test]
fn a_policy_is_written_and_the_rest_is_said() {
    let folder = folder("import");
    let ran = folder.run(&[&ALL[..], &["--output", "p.toml", "--part", "product=project"]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.err);
    assert!(lines[0].starts_with("api.xml:5: <rate-limit-by-key> is not mapped: counter-key: "), "{}", lines[0]);
    assert_eq!(lines[1], "2 elements imported as 2 limits, 1 element not mapped, 8 elements not about limits");
    let check = folder.run(&["check", "p.toml"]);
    assert_eq!((check.code, check.err.as_str()), (0, ""));
    assert!(check.out.starts_with("p.toml: ok, 2 limits, 0 prices\n"), "{}", check.out);
    let policy = folder.read("p.toml");
    assert!(policy.contains("match = { project = \"gold\" }") && policy.contains("# f.xml:1: <quota>"), "{policy}");
    // Without --output the policy is what is printed.
    let printed = folder.run(&[&ALL[..], &["--part", "product=project"]].concat());
    assert_eq!((printed.code, printed.out), (0, policy));
}

#[test]
fn the_account_as_json() {
    let folder = folder("import_json");
    let ran = folder.run(&[&ALL[..], &["--json"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&ran.out).expect("is JSON");
    assert_eq!(report["tier"], "classic");
    assert_eq!(report["limits"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["not_mapped"][0]["line"], 5);
    assert_eq!(report["documents"][1]["id"], "gold");
    let policy = report["policy"].as_str().expect("the policy is in it");
    folder.write("p.toml", policy);
    assert_eq!(folder.run(&["check", "p.toml"]).code, 0);
}

#[test]
fn wrong_documents_are_errors_with_their_place() {
    let folder = folder("import_wrong");
    folder
        .write("wrong.xml", "<policies>\n<inbound>\n<quota calls=\"0\" renewal-period=\"x\" />\n</inbound></policies>");
    folder.write("bomb.xml", "<!DOCTYPE a [<!ENTITY b \"c\">]>\n<policies />");
    folder.write("open.xml", "<policies>\n<inbound>\n</policies>");
    for (file, start) in [
        ("wrong.xml", "error: wrong.xml:3: LIMIT_NOT_POSITIVE: "),
        ("bomb.xml", "error: bomb.xml:1: DOCUMENT_REFUSED: "),
        ("open.xml", "error: open.xml:3: DOCUMENT_MALFORMED: "),
        ("missing.xml", "error: missing.xml: cannot read: "),
    ] {
        let ran = folder.run(&["import", "apim", file, "--output", "p.toml"]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.starts_with(start), "{}", ran.err);
        assert!(ran.err.lines().all(|line| line.contains("; ")), "{}", ran.err);
    }
    assert!(!folder.names().contains(&"p.toml".to_string()));
    for options in [
        &["--scope", "nowhere"][..],
        &["--scope", "product:"],
        &["--document", "product"],
        &["--set", "tpm"],
        &["--document", "api=api.xml"],
        &["--output", "api.xml"],
    ] {
        let ran = folder.run(&[&["import", "apim", "api.xml"], options].concat());
        assert_eq!(ran.code, 2, "{options:?}: {}", ran.err);
    }
    assert_eq!(folder.read("api.xml"), API);
}

#[test]
fn strict_fails_where_anything_is_not_mapped() {
    let folder = folder("import_strict");
    let ran = folder.run(&[&ALL[..], &["--strict", "--output", "p.toml"]].concat());
    assert_eq!(ran.code, 2);
    assert!(ran.err.starts_with("error: api.xml:5: <rate-limit-by-key> is not mapped: "), "{}", ran.err);
    assert!(!folder.names().contains(&"p.toml".to_string()));
    let ran =
        folder.run(&["import", "apim", "gold.xml", "--fragment", "f=f.xml", "--named-value", "calls=7", "--strict"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}
