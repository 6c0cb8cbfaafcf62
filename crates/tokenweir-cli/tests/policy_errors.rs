//! What is wrong with a policy is said with file, line, name and remedy, and the exit code is 2.

mod common;

use common::Folder;

const BASE: &str = r#"[[limit]]
name = "a"
meter = "total"
algorithm = "bucket"
amount = 10
per = "1m"
"#;

/// `check` and `replay` say the same of a wrong policy: the place, the reason, and after `; ` a remedy.
fn refused(test: &str, policy: &str, starts: &str) {
    let folder = Folder::new(test);
    folder.write("p.toml", policy);
    folder.write("t.jsonl", "");
    let check = folder.run(&["check", "p.toml"]);
    let replay = folder.run(&["replay", "--policy", "p.toml", "--trace", "t.jsonl", "--decisions", "d.jsonl"]);
    for ran in [&check, &replay] {
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.starts_with(&format!("error: p.toml:{starts}")), "{}", ran.err);
        assert!(ran.err.contains("; "), "no remedy: {}", ran.err);
    }
    assert_eq!(check.err, replay.err);
    assert_eq!(folder.names(), ["p.toml", "t.jsonl"]);
}

#[test]
fn unknown_field() {
    refused("unknown_field", &format!("{BASE}burts = 5\n"), "7: limit \"a\": unknown field \"burts\"");
}

#[test]
fn unknown_word() {
    refused("unknown_word", &BASE.replace("bucket", "buckets"), "4: limit \"a\": unknown algorithm \"buckets\"");
}

#[test]
fn name_used_twice() {
    refused("twice", &format!("{BASE}{BASE}"), "7: limit \"a\": the name is used twice");
}

#[test]
fn zero_negative_and_overflowing_numbers() {
    let amount = |amount: &str| BASE.replace("= 10", &format!("= {amount}"));
    refused("zero", &amount("0"), "5: limit \"a\": amount is 0");
    refused("negative", &amount("-5"), "5: limit \"a\": amount is negative");
    refused("overflow", &amount("9007199254740993"), "5: limit \"a\": amount is too large");
    refused("toml_overflow", &amount("99999999999999999999"), "5: ");
    refused("rate", &amount("200_000_000_000"), "5: limit \"a\": amount");
}

#[test]
fn window_that_does_not_divide() {
    let policy = format!("{}sub_windows = 7\n", BASE.replace("bucket", "window"));
    refused("not_dividing", &policy, "7: limit \"a\": per");
}

#[test]
fn limit_that_matches_nothing() {
    refused("nothing", &format!("{BASE}match = {{ project = \"\" }}\n"), "7: limit \"a\": match.project");
}

#[test]
fn override_of_nothing() {
    refused("override", &format!("{BASE}overrides = \"nope\"\n"), "7: limit \"a\": overrides names \"nope\"");
}

#[test]
fn text_that_is_no_toml() {
    refused("no_toml", &format!("{BASE}x = = 3\n"), "7: ");
}

#[test]
fn every_problem_of_every_file_is_said() {
    let folder = Folder::new("every_problem");
    folder.write("good.toml", BASE);
    folder.write("bad.toml", format!("{}burts = 1\n", BASE.replace("= 10", "= 0")));
    folder.write("bad.json", r#"{"limit": [{"name": "j", "meter": "tokens"}]}"#);
    let ran = folder.run(&["check", "bad.toml", "good.toml", "bad.json", "missing.toml", "policy.yaml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.starts_with("good.toml: ok, 1 limit, 0 prices\n"), "{}", ran.out);
    for start in [
        "error: bad.toml:5: limit \"a\": ",
        "error: bad.toml:7: limit \"a\": ",
        "error: bad.json:1: limit \"j\": ",
        "error: missing.toml: cannot read: ",
        "error: policy.yaml: its name ends in neither .toml nor .json; ",
    ] {
        assert!(ran.err.lines().any(|line| line.starts_with(start)), "{start}: {}", ran.err);
    }
}

#[test]
fn format_by_option() {
    let folder = Folder::new("format_by_option");
    folder.write("policy", BASE);
    assert_eq!(folder.run(&["check", "policy"]).code, 2);
    assert_eq!(folder.run(&["check", "--policy-format", "toml", "policy"]).code, 0);
    assert_eq!(folder.run(&["check", "--policy-format", "json", "policy"]).code, 2);
}

#[test]
fn explain_says_what_applies_and_why_not() {
    let folder = Folder::new("explain");
    let more = r#"scope = ["project", "key:user"]
[[limit]]
name = "b"
meter = "requests"
algorithm = "in_flight"
amount = 2
match = { project = "other*" }
"#;
    folder.write("p.toml", format!("{BASE}{more}").replace("requests", "in_flight"));
    let args = ["explain", "--policy", "p.toml", "--project", "x\u{1b}y", "--deployment", "d", "--input", "12"];
    let ran = folder.run(&args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("project=x\\u{1b}y deployment=d\n"), "{}", ran.out);
    assert!(ran.out.contains("0 limits apply\n"), "{}", ran.out);
    assert!(ran.out.contains("  a: the request has no key:user"), "{}", ran.out);
    assert!(ran.out.contains("  b: project is "), "{}", ran.out);
    let ran = folder.run(&[&args[..], &["--key", "user=u"]].concat());
    assert!(ran.out.contains("1 limit applies\n"), "{}", ran.out);
    assert!(ran.out.contains("counter project=x\\u{1b}y key:user=u\n"), "{}", ran.out);
    assert!(ran.out.contains("charge  12 of 10 tokens: never fits\n"), "{}", ran.out);
    assert_eq!(folder.run(&[&args[..], &["--key", "user"]].concat()).code, 2);
    assert_eq!(folder.run(&[&args[..7], &["--input", "9007199254740993"]].concat()).code, 2);
}
