//! Whatever was done before: a document brings it back, and what is done after comes to the same.

use super::support::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenweir::gateway::Console;

/// Something an administrator, the cloud or a client does, after some seconds.
fn step() -> impl Strategy<Value = (u64, Value)> {
    let project = || prop::sample::select(vec!["search", "chat", "new", "a*"]);
    let apply = |operation: &'static str, fields: Value| {
        let mut fields = fields;
        if !operation.ends_with("_instance") {
            fields["resource"] = json!("contoso");
        }
        json!({ "apply": { "by": "ada", "operation": { operation: fields } } })
    };
    let of_project = prop::sample::select(vec!["create_project", "add_project", "remove_project", "re_add_project"]);
    let period = prop::sample::select(vec!["Hourly", "Daily", "Weekly", "Monthly", "Yearly", "Never"]);
    let limit = (0_u64..200, prop::option::of((0_u64..500, period))).prop_map(|(rate, quota)| {
        let mut limit = json!({});
        if rate > 20 {
            limit["tokens_per_minute"] = json!(rate);
        }
        if let Some((tokens, period)) = quota {
            limit["token_quota"] = json!(tokens);
            limit["token_quota_period"] = json!(period);
        }
        limit
    });
    let gateway = prop::sample::select(vec![
        apply("create_gateway", json!({ "name": "front" })),
        apply("delete_gateway", json!({})),
        apply("delete_instance", json!({ "instance": "front" })),
        apply("keep_instance", json!({ "instance": "front" })),
        apply("use_existing", json!({ "instance": "front", "name": "again" })),
        apply("clear_aggregate_limit", json!({})),
        apply("set_traffic", json!({ "traffic": { "enforce": false } })),
        apply("set_traffic", json!({ "traffic": { "ungoverned": "deny" } })),
        apply("set_traffic", json!({ "traffic": {} })),
        json!({ "declare": { "project_gone": { "resource": "contoso", "name": "new" } } }),
        json!({ "declare": { "deployment_gone": { "resource": "contoso", "name": "d2" } } }),
        json!({ "declare": { "deployment": { "resource": "contoso", "name": "d2", "model": "gpt-4o-mini" } } }),
    ]);
    let workload = (project(), 0_u64..4).prop_map(move |(project, which)| match which {
        0 => apply(
            "register_agent",
            json!({ "project": project, "agent": "a",
            "registration": { "url": format!("https://{project}.example"), "protocol": "HTTP" } }),
        ),
        1 => apply("block_agent", json!({ "project": project, "agent": "a" })),
        2 => apply(
            "create_tool",
            json!({ "project": project, "tool": "t", "kind": "mcp", "auth": "key", "url": "https://t.example" }),
        ),
        _ => apply(
            "set_tool_limit",
            json!({ "project": project, "tool": "t", "limit": { "calls": { "calls": 2, "renewal_seconds": 60 } } }),
        ),
    });
    let call = (project(), prop::sample::select(vec!["d", "d2"]), 0_u64..120, prop::option::of(0_u64..2)).prop_map(
        |(project, deployment, tokens, workload)| {
            let mut call = json!({ "project": project, "tokens": tokens });
            match workload {
                None => call["deployment"] = json!(deployment),
                Some(0) => call["agent"] = json!("a"),
                Some(_) => call["tool"] = json!("t"),
            }
            json!({ "call": call })
        },
    );
    let what = prop_oneof![
        3 => gateway,
        4 => (of_project, project()).prop_map(move |(operation, project)| apply(operation, json!({ "project": project }))),
        3 => (project(), limit.clone()).prop_map(move |(project, limit)| {
            apply("set_limit", json!({ "project": project, "deployment": "d", "limit": limit }))
        }),
        1 => limit.prop_map(move |limit| apply("set_aggregate_limit", json!({ "limit": limit }))),
        2 => workload,
        6 => call,
    ];
    (prop_oneof![3 => Just(0), 4 => 1_u64..40, 1 => Just(480), 1 => Just(86_400)], what)
}

/// Carries a step out, and tells what came of it, but for numbers that a restored bucket may round by one.
fn take(console: &Console, seconds: u64, what: &Value) -> Value {
    ok(console, json!({ "now": at(seconds), "refresh": {} }));
    let mut what = what.clone();
    let tokens = what["call"].as_object_mut().and_then(|call| call.remove("tokens"));
    if what["call"].is_null() {
        what.as_object_mut().expect("fields").remove("call");
    }
    let answer = answer(console, &what);
    if let Some(id) = answer["ok"]["call"].as_str() {
        ok(console, json!({ "settle": { "call": id, "usage": { "input": tokens, "output": 0 } } }));
    }
    let ok = &answer["ok"];
    // The one with the longest wait comes first, and equal waits may be apart by that one.
    let mut refused_by: Vec<_> = ok["refused_by"].as_array().into_iter().flatten().map(Value::to_string).collect();
    refused_by.sort_unstable();
    json!([answer["error"]["code"], ok["state"], ok["outcome"], ok["status"], ok["retry_after"], refused_by])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_document_brings_everything_back(before in prop::collection::vec(step(), 0..40), after in prop::collection::vec(step(), 0..20)) {
        let console = if before.len() % 4 == 0 { declared() } else { with_gateway() };
        declare_more(&console);
        let mut now = 480;
        for (seconds, what) in &before {
            now += seconds;
            take(&console, now, what);
        }
        let document = ok(&console, json!({ "now": at(now), "save": {} }))["document"].take();
        let other = Console::new(&options(json!({})));
        let loaded = ok(&other, json!({ "now": at(now), "load": { "document": document } }));
        for restored in loaded["counters"].as_object().expect("gateways").values() {
            prop_assert_eq!(&restored["left_out"], &json!([]));
        }
        let again = ok(&other, json!({ "save": {} }))["document"].take();
        for part in ["format", "version", "estate", "audit", "console"] {
            prop_assert_eq!(&again[part], &document[part], "{}", part);
        }
        let calls = |document: &Value| ["calls", "projects", "unknown"].map(|part| document["counters"]["contoso"][part].clone());
        prop_assert_eq!(calls(&again), calls(&document));
        for (seconds, what) in &after {
            now += seconds;
            prop_assert_eq!(take(&console, now, what), take(&other, now, what), "{} at {}", what, now);
        }
    }
}

/// Commands of every kind, to be damaged.
const COMMANDS: &[&str] = &[
    r#"{"now": "2026-11-30T23:08:00Z", "apply": {"by": "ada", "operation": {"set_limit": {"resource": "contoso", "project": "search", "deployment": "d", "limit": {"tokens_per_minute": 100, "token_quota": 9, "token_quota_period": "Weekly"}}}}}"#,
    r#"{"declare": {"principal": {"id": "eve", "assignments": [{"role": "Reader", "scope": "/subscriptions/s/resourceGroups/g"}]}}}"#,
    r#"{"call": {"project": "search", "deployment": "d", "keys": {"user": "u"}, "estimate": {"input": 18446744073709551615, "output": 1}, "streamed": true}}"#,
    r#"{"settle": {"call": "0000000000000000-1", "usage": {"input": 1, "cached_input": 2, "output": 3}, "response_code": 200, "backend_ns": 18446744073709551615}}"#,
    r#"{"diagnose": {"seen": {"project": "search", "call": {"status": 500, "headers": {"a": "b"}}, "unrefused": {"tokens": 5, "seconds": 0}}}}"#,
    r#"{"verify": {"project": "search", "deployment": "d", "usage": {"input": 9007199254740993}}}"#,
    r#"{"load": {"document": {"format": "tokenweir gateway", "version": 1, "estate": {}, "counters": {}, "console": {"profile": {"tier": "classic", "sub_windows": 0}}}}}"#,
    r#"{"audit": {"after": 1, "most": 0}}"#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_command_has_an_answer(
        which in prop::sample::select(COMMANDS),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!["", "{", "}", "\"", "0", "-1", "null", "[]", "é", "\\", ","])), 0..4),
    ) {
        let console = with_gateway();
        let mut command = which.to_owned();
        for (at, with) in &cuts {
            let at = at.index(command.len().max(1));
            let end = (at + 1..=command.len()).find(|end| command.is_char_boundary(*end)).unwrap_or(at);
            if command.is_char_boundary(at) {
                command.replace_range(at..end, with);
            }
        }
        let answer: Value = serde_json::from_str(&console.command(&command)).expect("an answer is JSON");
        prop_assert!(answer.get("ok").is_some() != answer.get("error").is_some(), "{}: {}", command, answer);
        // Whatever it was, the console goes on.
        ok(&console, json!({ "now": at(481), "status": {} }));
    }
}

fn declare_more(console: &Console) {
    let second = json!({ "resource": "contoso", "name": "d2", "model": "gpt-4o-mini" });
    ok(console, json!({ "now": at(480), "declare": { "deployment": second } }));
    let starred = json!({ "resource": "contoso", "name": "a*", "created": "2026-01-01T00:00:00Z" });
    ok(console, json!({ "declare": { "project": starred } }));
}
