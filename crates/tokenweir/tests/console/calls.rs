//! Calls that are decided on and ended by command.

use super::support::*;
use serde_json::{Value, json};

fn limited() -> tokenweir::gateway::Console {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    console
}

fn decide(console: &tokenweir::gateway::Console, more: Value) -> Value {
    let mut call = json!({ "project": "search", "deployment": "d" });
    call.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    ok(console, json!({ "call": call }))
}

#[test]
fn a_call_is_ended_once_by_the_id_that_its_decision_returned() {
    let console = limited();
    let decided = decide(&console, json!({ "correlation_id": "mine" }));
    assert_eq!(decided["correlation_id"], "mine");
    let settle =
        || json!({ "settle": { "call": decided["call"], "usage": { "input": 30, "cached_input": 10, "output": 5 } } });
    let ended = ok(&console, settle());
    assert_eq!(ended["remaining"]["tokens"], 75, "what comes from the cache does not count");
    assert_eq!((&ended["record"]["cached_input"], &ended["record"]["ended"]), (&json!(10), &json!("settled")));
    for again in [settle(), json!({ "cancel": { "call": decided["call"] } })] {
        assert_eq!(code(&console, again), "CALL_UNKNOWN");
    }
    for unknown in
        ["", "1", "-1", "zz-1", "0000000000000000-1", decided["call"].as_str().expect("an id").trim_end_matches('1')]
    {
        assert_eq!(code(&console, json!({ "cancel": { "call": unknown } })), "CALL_UNKNOWN", "{unknown:?}");
    }
}

#[test]
fn a_cancelled_call_takes_nothing_and_a_stream_is_charged_as_it_flows() {
    let console = limited();
    let cancelled = decide(&console, json!({ "streamed": true, "estimate": { "input": 60, "output": 900 } }));
    assert_eq!(cancelled["remaining"]["tokens"], 100, "what was left before the stream");
    assert_eq!(ok(&console, json!({ "cancel": { "call": cancelled["call"] } }))["remaining"]["tokens"], 100);
    let stream = decide(&console, json!({ "streamed": true, "estimate": { "input": 60, "output": 900 } }));
    let observe = |tokens: u64| json!({ "observe": { "call": stream["call"], "output": tokens } });
    assert_eq!(ok(&console, observe(30))["spent"], false);
    assert_eq!(ok(&console, observe(10))["spent"], true);
    // No usage came: what was seen stands.
    let ended = ok(&console, json!({ "settle": { "call": stream["call"] } }));
    assert_eq!((&ended["settlement"]["output"], &ended["settlement"]["estimated"]), (&json!(40), &json!(true)));
}

#[test]
fn a_call_that_is_renewed_outlives_those_that_are_not() {
    let console = limited();
    let calls: Vec<_> = (0..3).map(|_| decide(&console, json!({}))["call"].clone()).collect();
    let later = |seconds: u64, mut command: Value| {
        command["now"] = at(480 + seconds).into();
        answer(&console, &command)
    };
    let renewed = later(400, json!({ "renew": { "call": calls[0] } }));
    assert_eq!(renewed["ok"]["seconds"], 600);
    // Ten minutes after the three began a fourth begins, and the two that nobody renewed are over.
    later(601, json!({ "call": { "project": "search", "deployment": "d" } }));
    assert_eq!(later(602, json!({ "observe": { "call": calls[0], "output": 1 } }))["ok"]["spent"], false);
    for over in &calls[1..] {
        assert_eq!(later(603, json!({ "renew": { "call": over } }))["error"]["code"], "CALL_UNKNOWN");
    }
    // Its own time is over when ten minutes have gone since.
    later(1001, json!({ "call": { "project": "search", "deployment": "d" } }));
    assert_eq!(later(1002, json!({ "settle": { "call": calls[0] } }))["error"]["code"], "CALL_UNKNOWN");
}

#[test]
fn usage_that_cannot_be_ends_the_call_and_says_so() {
    let console = limited();
    let decided = decide(&console, json!({}));
    let usage = json!({ "input": 1, "cached_input": 2 });
    assert_eq!(code(&console, json!({ "settle": { "call": decided["call"], "usage": usage } })), "USAGE_INVALID");
    assert_eq!(code(&console, json!({ "settle": { "call": decided["call"] } })), "CALL_UNKNOWN");
}

#[test]
fn calls_that_nobody_ends_are_dropped_when_their_time_is_over() {
    let console = tokenweir::gateway::Console::new(&options(json!({ "max_calls": 2, "call_ttl_seconds": 30 })));
    declare(&console);
    for _ in 0..2 {
        ok(&console, json!({ "call": { "project": "search", "deployment": "d" } }));
    }
    let third = |seconds| json!({ "now": at(seconds), "call": { "project": "search", "deployment": "d" } });
    assert_eq!(code(&console, third(29)), "CALLS_EXHAUSTED");
    ok(&console, third(30));
    assert_eq!(ok(&console, json!({ "records": {} }))["records"].as_array().map(Vec::len), Some(2));
}

#[test]
fn records_are_taken_oldest_first_and_what_nobody_took_is_counted() {
    let console = tokenweir::gateway::Console::new(&options(json!({ "records": 3 })));
    declare(&console);
    for tokens in 1..=5 {
        call(&console, 0, "search", tokens, 0);
    }
    let taken = ok(&console, json!({ "records": { "most": 2 } }));
    let inputs: Vec<_> =
        taken["records"].as_array().expect("a list").iter().map(|record| record["input"].clone()).collect();
    assert_eq!((inputs, &taken["dropped"]), (vec![json!(3), json!(4)], &json!(2)));
    assert_eq!(ok(&console, json!({ "records": {} }))["records"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_call_whose_limits_cannot_be_asked_is_counted_and_recorded() {
    let console = limited();
    let twice = json!({ "now": at(480), "call": { "project": "search", "deployment": "d", "keys": { "agent": "a" }, "agent": "b" } });
    let keyed = json!({ "name": "each", "limit": { "key": [{ "caller": "agent" }], "limit": { "concurrency": 1 } } });
    ok(&console, by_ada(480, "set_keyed_limit", keyed));
    assert_eq!(code(&console, twice), "KEY_TWICE");
    let requests = status(&console, 480)["resources"]["contoso"]["requests"].clone();
    assert_eq!(requests["failed"], 1, "{requests}");
    let record = ok(&console, json!({ "records": {} }))["records"][0].clone();
    assert_eq!((&record["outcome"], &record["last_error"]["reason"]), (&json!("failed"), &json!("KEY_TWICE")));
}

#[test]
fn each_gateway_of_several_is_named() {
    let console = limited();
    let site = json!({ "tenant": "t", "subscription": "s", "resource_group": "g", "region": "eastus2" });
    let second = json!({ "name": "fabrikam", "public_network_access": true, "site": site });
    ok(&console, json!({ "declare": { "resource": second } }));
    assert_eq!(code(&console, json!({ "call": { "project": "search", "deployment": "d" } })), "RESOURCE_NOT_FOUND");
    let named = json!({ "call": { "resource": "contoso", "project": "search", "deployment": "d" } });
    assert_eq!(ok(&console, named)["outcome"], "admitted");
}

#[test]
fn a_gate_that_a_host_uses_itself_shares_counters_and_time() {
    let console = limited();
    call(&console, 480, "search", 100, 0);
    let gate = console.gate(&"contoso".parse().expect("a name")).expect("a gate");
    let refused = gate.admit(&tokenweir::gateway::Call::model("search", "d")).expect("a decision").refused();
    assert_eq!(refused.map(|refused| refused.status()), Some(429));
    assert!(console.gate(&"nobody".parse().expect("a name")).is_none());
}

#[test]
fn a_quota_as_large_as_there_can_be_is_verified() {
    let console = with_gateway();
    let quota = json!({ "tokens_per_minute": 100, "token_quota": 1_u64 << 53, "token_quota_period": "Monthly" });
    ok(&console, limit(480, "search", quota));
    let checked = ok(&console, json!({ "verify": { "project": "search", "deployment": "d" } }));
    assert_eq!(checked["passed"], true, "{checked:#}");
}
