//! A console in another process goes on where this one was.

use super::support::*;
use serde_json::json;
use tokenweir::gateway::Console;

#[test]
fn a_document_has_limits_counters_and_figures() {
    let console = with_gateway();
    let quota = json!({ "tokens_per_minute": 100, "token_quota": 250, "token_quota_period": "Monthly" });
    ok(&console, limit(480, "search", quota));
    call(&console, 480, "search", 110, 0);
    assert_eq!(call(&console, 480, "search", 0, 0)["retry_after"], 7);
    let document = ok(&console, json!({ "save": {} }))["document"].take();

    // It takes over how instances are made and how is counted.
    let other = Console::new(&options(json!({ "provider": { "ready_after": 5 }, "profile": { "tier": "classic" } })));
    let restored = ok(&other, json!({ "now": at(482), "load": { "document": document } }));
    assert_eq!(restored["counters"]["contoso"], json!({ "restored": 2, "left_out": [] }));
    assert_eq!(call(&other, 482, "search", 0, 0)["retry_after"], 5);
    let requests = status(&other, 482)["resources"]["contoso"]["projects"]["search"]["requests"].clone();
    assert_eq!((&requests["admitted"], &requests["refused-rate"]), (&json!(1), &json!(2)));
    assert_eq!(status(&other, 482)["resources"]["contoso"]["requests"], requests);
    // What is saved there is what goes on here.
    let again = ok(&other, json!({ "save": {} }))["document"].take();
    assert_eq!((&again["estate"], &again["console"]), (&document["estate"], &document["console"]));
    let without = ok(&other, json!({ "save": { "counters": false } }))["document"].take();
    assert!(without.get("counters").is_none(), "{without}");
    ok(&other, json!({ "load": { "document": without } }));
    assert_eq!(call(&other, 482, "search", 0, 0)["outcome"], "admitted");
}

#[test]
fn what_was_done_on_a_copy_is_adopted_in_one_step_and_calls_go_on() {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    let open = ok(&console, json!({ "call": { "project": "search", "deployment": "d" } }));
    call(&console, 480, "search", 20, 0);
    let copy = Console::new(&options(json!({})));
    let document = ok(&console, json!({ "save": { "counters": false } }))["document"].take();
    ok(&copy, json!({ "now": at(480), "load": { "document": document } }));
    ok(&copy, limit(481, "search", json!({ "tokens_per_minute": 200 })));
    let agent = json!({ "url": "https://agents.example/a", "protocol": "A2A" });
    ok(&copy, by_ada(481, "register_agent", json!({ "project": "search", "agent": "a", "registration": agent })));
    let changed = ok(&copy, json!({ "save": { "counters": false } }))["document"].take();

    console.adopt(&changed.to_string()).expect("it can be");
    assert_eq!(ok(&console, json!({ "save": { "counters": false } }))["document"], changed);
    let limits = ok(&console, json!({ "policy": {} }));
    assert_eq!(limits["limit"][0]["amount"], 200, "{limits}");
    // The counter and the call are those from before.
    let ended = ok(&console, json!({ "settle": { "call": open["call"], "usage": { "input": 50, "output": 5 } } }));
    assert_eq!(ended["settlement"]["input"], 50);
    assert_eq!(call(&console, 481, "search", 300, 0)["outcome"], "admitted");
    assert_eq!(call(&console, 481, "search", 0, 0)["status"], 429);

    for (wrong, code) in [("{", "DOCUMENT_INVALID"), (r#"{"format":"x","version":1}"#, "DOCUMENT_VERSION")] {
        assert_eq!(console.adopt(wrong).expect_err("it cannot be").code, code);
    }
    assert_eq!(ok(&console, json!({ "save": { "counters": false } }))["document"], changed);
}

#[test]
fn a_document_that_cannot_be_changes_nothing() {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    let open = ok(&console, json!({ "call": { "project": "search", "deployment": "d" } }));
    let document = ok(&console, json!({ "save": {} }))["document"].take();
    let mut newer = document.clone();
    newer["version"] = json!(2);
    assert_eq!(code(&console, json!({ "load": { "document": newer } })), "DOCUMENT_VERSION");
    let mut torn = document.clone();
    torn["counters"]["contoso"]["limits"]["limits"] = json!("none");
    assert_eq!(code(&console, json!({ "load": { "document": torn } })), "DOCUMENT_INVALID");
    let mut star = document.clone();
    star["estate"]["resources"]["contoso"]["projects"]["a*"] = json!({ "created": "2026-01-01T00:00:00Z" });
    star["estate"]["resources"]["contoso"]["gateway"]["limits"]["projects"]["a*"] =
        json!({ "d": { "tokens_per_minute": 1 } });
    assert_eq!(code(&console, json!({ "load": { "document": star } })), "DOCUMENT_INVALID");
    assert_eq!(ok(&console, json!({ "save": {} }))["document"], document);
    ok(&console, json!({ "settle": { "call": open["call"] } }));
    // One that can be ends the calls that are under way.
    let open = ok(&console, json!({ "call": { "project": "search", "deployment": "d" } }));
    ok(&console, json!({ "load": { "document": document } }));
    assert_eq!(code(&console, json!({ "settle": { "call": open["call"] } })), "CALL_UNKNOWN");
}

#[test]
fn figures_of_a_document_have_no_sum_that_is_too_large() {
    let console = with_gateway();
    call(&console, 480, "search", 1, 0);
    let mut document = ok(&console, json!({ "save": {} }))["document"].take();
    document["counters"]["contoso"]["calls"] = json!({ "admitted": u64::MAX, "bypassed": u64::MAX });
    ok(&console, json!({ "load": { "document": document } }));
    ok(&console, json!({ "save": {} }));
    ok(&console, json!({ "verify": { "project": "search", "deployment": "d" } }));
}

#[test]
fn a_new_gateway_of_the_same_name_shares_nothing_with_the_old_one() {
    let console = with_gateway();
    ok(&console, limit(480, "search", json!({ "tokens_per_minute": 100 })));
    call(&console, 480, "search", 110, 0);
    ok(&console, by_ada(480, "remove_project", json!({ "project": "search" })));
    ok(&console, by_ada(480, "delete_gateway", json!({})));
    ok(&console, by_ada(480, "delete_instance", json!({ "instance": "front" })));
    ok(&console, json!({ "now": at(540), "refresh": {} }));
    ok(&console, by_ada(540, "create_gateway", json!({ "name": "front" })));
    ok(&console, json!({ "now": at(1020), "refresh": {} }));
    ok(&console, by_ada(1020, "add_project", json!({ "project": "search" })));
    ok(&console, limit(1020, "search", json!({ "tokens_per_minute": 100 })));
    let front = status(&console, 1020)["resources"]["contoso"].clone();
    assert_eq!(front["projects"]["search"]["limits"]["d"]["use"][0]["remaining"], 100);
    assert_eq!(front["requests"]["admitted"], 0);
}
