//! The estate as a document.

use super::support::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokenweir::gateway::{Code, Estate, InProcessProvider};

#[test]
fn what_is_saved_is_loaded_and_goes_on() {
    let mut estate = estate(true);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    let counters = BTreeMap::from([("contoso".parse().expect("a name"), json!({ "kept": 1 }))]);
    let document = estate.save(&counters);
    let provider = InProcessProvider { ready_after: EIGHT_MINUTES, ..InProcessProvider::default() };
    let (mut again, kept) = Estate::load(&document, provider).expect("its own document");
    assert_eq!((again.save(&kept), &kept), (document, &counters));
    // What was under way goes on.
    assert_eq!(again.refresh(at(EIGHT_MINUTES)).len(), 1);
    done(&mut again, 500, on("add_project", json!({ "project": "old" })));
}

#[test]
fn another_version_an_unknown_field_and_a_contradiction_are_refused() {
    let estate = with_gateway();
    let document: Value = serde_json::from_str(&estate.save(&BTreeMap::new())).expect("JSON");
    let load = |document: &Value| Estate::load(&document.to_string(), InProcessProvider::default()).map(|_| ());
    assert!(load(&document).is_ok());
    let mut newer = document.clone();
    newer["version"] = json!(2);
    assert_eq!(load(&newer).expect_err("a later version").code(), Code::DocumentVersion);
    let mut unknown = document.clone();
    unknown["estate"]["resources"]["contoso"]["colour"] = json!("red");
    assert_eq!(load(&unknown).expect_err("an unknown field").code(), Code::DocumentInvalid);
    let mut torn = document;
    torn["estate"]["instances"].as_object_mut().expect("instances").remove("front");
    assert_eq!(load(&torn).expect_err("a gateway without its instance").code(), Code::DocumentInvalid);
}

#[test]
fn a_tool_or_an_agent_at_a_gateway_that_is_not_there_is_a_contradiction() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let tool = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    done(&mut estate, 500, on("create_tool", tool));
    let registration = json!({ "url": "https://agent.example", "protocol": "A2A" });
    done(
        &mut estate,
        500,
        on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration })),
    );
    let document: Value = serde_json::from_str(&estate.save(&BTreeMap::new())).expect("JSON");
    let load = |document: &Value| Estate::load(&document.to_string(), InProcessProvider::default()).map(|_| ());
    assert!(load(&document).is_ok());
    let mut without = document.clone();
    without["estate"]["resources"]["contoso"].as_object_mut().expect("a resource").remove("gateway");
    let error = load(&without).expect_err("what they are at is gone").to_string();
    assert!(error.contains("tool \"t\"") && error.contains("agent \"a\" is registered"), "{error}");
    let mut elsewhere = document;
    let tool = &mut elsewhere["estate"]["resources"]["contoso"]["projects"]["old"]["tools"]["t"];
    tool["route"] = json!({ "gated": { "endpoint": "https://other.azure-api.net/mcp/old/t" } });
    let error = load(&elsewhere).expect_err("another gateway's address").to_string();
    assert!(error.contains("tool \"t\" is at https://other.azure-api.net/mcp/old/t"), "{error}");
}

#[test]
fn agents_and_tools_of_a_document_meet_what_registering_and_making_them_demands() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let tool = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    done(&mut estate, 500, on("create_tool", tool));
    for agent in ["a", "b"] {
        let registration = json!({ "url": format!("https://{agent}.example"), "protocol": "A2A" });
        let fields = json!({ "project": "old", "agent": agent, "registration": registration });
        done(&mut estate, 500, on("register_agent", fields));
    }
    let document: Value = serde_json::from_str(&estate.save(&BTreeMap::new())).expect("JSON");
    for (pointer, value, said) in [
        ("tools/t/url", "javascript:1", "the URL of tool \"t\" is not valid"),
        ("tools/t/auth", "managed_o_auth", "tool \"t\" is routed through the gateway, and tools with managed OAuth"),
        ("agents/a/url", "ftp://a.example", "agent \"a\": AGENT_INVALID [V-21]: the agent's URL is not valid"),
        (
            "agents/b/url",
            "https://a.example",
            "agent \"b\": AGENT_INVALID [V-21]: the agent's URL is that of agent \"a\"",
        ),
        ("agents/a/card_path", "card.json", "does not begin with /"),
    ] {
        let mut wrong = document.clone();
        let place =
            wrong.pointer_mut(&format!("/estate/resources/contoso/projects/old/{pointer}")).expect("it is there");
        *place = json!(value);
        let error = Estate::load(&wrong.to_string(), InProcessProvider::default()).expect_err(pointer).to_string();
        assert!(error.contains(said), "{pointer}: {error}");
    }
}
