//! Commands that cannot be read, or are refused, and what they leave behind.

use super::support::*;
use serde_json::{Value, json};
use tokenweir::gateway::{Console, ConsoleOptions};

fn raw(console: &Console, command: &str) -> Value {
    serde_json::from_str(&console.command(command)).expect("an answer is JSON")
}

#[test]
fn what_is_no_command_is_refused_with_what_is_wrong() {
    let console = declared();
    for (command, said) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "not an object"),
        ("{}", "no command"),
        (r#"{"now": "2026-11-23T09:00:00Z"}"#, "no command"),
        (r#"{"now": "soon", "refresh": {}}"#, "\"soon\" is not an instant"),
        (r#"{"refresh": {}, "rules": {}}"#, "2 fields (\"refresh\", \"rules\")"),
        (r#"{"refresh": {}, "refresh": {}}"#, "given twice"),
        (r#"{"refreshed": {}}"#, "unknown variant `refreshed`"),
        (r#"{"refresh": {"now": 1}}"#, "unknown field `now`"),
        (r#"{"status": {"resource": ""}}"#, "it is empty"),
        (r#"{"call": {"project": "search", "deploiment": "d"}}"#, "unknown field `deploiment`"),
        (r#"{"call": {"deployment": "d"}}"#, "missing field `project`"),
        (r#"{"call": {"project": "search", "estimate": {"input": -1}}}"#, "-1"),
        (r#"{"apply": {"by": "ada", "operation": {"fly": {}}}}"#, "unknown variant `fly`"),
        (
            r#"{"apply": {"by": "ada", "operation": {"add_project": {"project": "search"}}}}"#,
            "missing field `resource`",
        ),
        (r#"{"settle": {"call": 7}}"#, "expected a string"),
    ] {
        let answer = raw(&console, command);
        assert_eq!(answer["error"]["code"], "COMMAND_INVALID", "{command}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains(said)), "{command}: {answer}");
    }
}

#[test]
fn commands_are_bounded_in_length_depth_and_text() {
    let console = declared();
    let long = format!("{{\"call\": {{\"project\": \"{}\"}}}}", "p".repeat(Console::MOST_BYTES));
    assert_eq!(raw(&console, &long)["error"]["code"], "COMMAND_TOO_LARGE");
    let deep = format!("{{\"load\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(raw(&console, &deep)["error"]["code"], "COMMAND_INVALID");
    let project = "p".repeat(5_000);
    assert_eq!(code(&console, json!({ "call": { "project": project } })), "COMMAND_INVALID");
    let keys: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!("v"))).collect();
    assert_eq!(code(&console, json!({ "call": { "project": "search", "keys": keys } })), "COMMAND_INVALID");
}

#[test]
fn the_time_is_the_commands_or_the_clocks_and_never_both() {
    let told = console();
    assert_eq!(code(&told, json!({ "refresh": {} })), "NOW_MISSING");
    ok(&told, json!({ "now": at(5), "refresh": {} }));
    assert_eq!(status(&told, 5)["now"], json!(at(5)));
    assert_eq!(ok(&told, json!({ "status": {} }))["now"], json!(at(5)), "it stands still");
    let reads = Console::new(&ConsoleOptions::default());
    assert_eq!(code(&reads, json!({ "now": at(5), "refresh": {} })), "NOW_NOT_TAKEN");
    ok(&reads, json!({ "refresh": {} }));
    let clock = std::sync::Arc::new(tokenweir::ManualClock::default());
    let shared = Console::builder().clock(clock.clone()).build();
    clock.advance(90_000_000_000);
    assert_eq!(ok(&shared, json!({ "status": {} }))["now"], "1970-01-01T00:01:30Z");
}

#[test]
fn a_resource_that_is_not_there_is_said_to_be_whatever_is_asked() {
    let console = declared();
    for command in ["status", "policy", "diagnose", "call", "verify", "candidates"] {
        let fields = match command {
            "diagnose" => json!({ "resource": "fabrikam", "seen": {} }),
            "call" => json!({ "resource": "fabrikam", "project": "p" }),
            "verify" => json!({ "resource": "fabrikam", "project": "p", "deployment": "d" }),
            "candidates" => json!({ "resource": "fabrikam", "by": "ada" }),
            _ => json!({ "resource": "fabrikam" }),
        };
        let error = error(&console, json!({ command: fields }));
        assert_eq!(error["code"], "RESOURCE_NOT_FOUND", "{command}: {error}");
        assert_eq!(error["message"], "there is no Foundry resource \"fabrikam\" here", "{command}");
    }
}

#[test]
fn the_beginning_of_1970_is_a_time_like_others() {
    let console = Console::new(&options(json!({ "time": "given" })));
    assert_eq!(code(&console, json!({ "status": {} })), "NOW_MISSING");
    ok(&console, json!({ "now": "1970-01-01T00:00:00Z", "refresh": {} }));
    assert_eq!(ok(&console, json!({ "status": {} }))["now"], "1970-01-01T00:00:00Z");
}

#[test]
fn a_refused_operation_changes_nothing_but_the_audit_trail() {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    call(&console, 480, "search", 90, 0);
    let state = || {
        let mut document = ok(&console, json!({ "now": at(481), "save": {} }))["document"].take();
        let audit = document["audit"].take();
        (document, audit["entries"].as_array().map(Vec::len))
    };
    let before = state();
    for refused in [
        limit(481, "search", json!({ "tokens_per_minute": 0 })),
        limit(481, "chat", json!({ "tokens_per_minute": 7 })),
        by_ada(481, "add_project", json!({ "project": "search" })),
        by_ada(481, "delete_gateway", json!({})),
        by(
            "eve",
            481,
            "set_limit",
            json!({ "project": "search", "deployment": "d", "limit": { "tokens_per_minute": 7 } }),
        ),
    ] {
        let error = error(&console, refused);
        assert!(error["findings"].as_array().is_some_and(|findings| !findings.is_empty()), "{error}");
    }
    let after = state();
    assert_eq!(after.0, before.0);
    assert_eq!(after.1, before.1.map(|entries| entries + 5));
}

#[test]
fn what_is_asked_for_is_shown() {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    let rules = ok(&console, json!({ "rules": {} }));
    assert!(rules.as_array().is_some_and(|rules| rules.iter().any(|rule| rule["id"] == "V-07")));
    let policy = ok(&console, json!({ "policy": {} }));
    assert_eq!(policy["limit"][0]["name"], "project \"search\" on \"d\": tokens per minute");
    let trail = ok(&console, json!({ "audit": { "after": 1, "most": 2 } }));
    let numbers: Vec<_> =
        trail["entries"].as_array().expect("a list").iter().map(|entry| entry["number"].clone()).collect();
    assert_eq!(numbers, [2, 3]);
    let seen = json!({ "project": "chat", "listing": { "status": "disabled" } });
    assert_eq!(ok(&console, json!({ "diagnose": { "seen": seen } }))["causes"][0]["diagnosis"], "D-02");
    let candidates = ok(&console, json!({ "candidates": { "by": "ada" } }));
    assert!(candidates["instances"]["front"].is_array(), "{candidates}");
}
