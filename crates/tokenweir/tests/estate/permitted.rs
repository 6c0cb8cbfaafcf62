//! Who may do what.

use super::support::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokenweir::gateway::{Code, Operation};

/// The names of all operations, as reading one tells them.
fn names() -> BTreeSet<String> {
    let error = serde_json::from_value::<Operation>(json!({ "": {} })).expect_err("it has no name").to_string();
    let names = error.split_once("expected one of").expect("the names").1;
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One of each operation; to `ada` most of them would be done.
fn every_operation() -> Vec<Value> {
    let project = |operation: &str| on(operation, json!({ "project": "old" }));
    let agent = |operation: &str| on(operation, json!({ "project": "old", "agent": "a" }));
    let tool = |operation: &str| on(operation, json!({ "project": "old", "tool": "t" }));
    let tokens = json!({ "tokens_per_minute": 100 });
    let calls = json!({ "calls": { "calls": 1, "renewal_seconds": 60 } });
    let keyed = json!({ "key": [{ "caller": "user" }], "limit": calls });
    let registration = json!({ "url": "https://agent.example", "protocol": "A2A" });
    let made = json!({ "project": "old", "tool": "new", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    vec![
        on("create_gateway", json!({ "name": "hers" })),
        on("use_existing", json!({ "instance": "front", "name": "hers" })),
        on("retry_gateway", json!({})),
        on("delete_gateway", json!({})),
        on("disable_gateway", json!({})),
        json!({ "delete_instance": { "instance": "front" } }),
        json!({ "keep_instance": { "instance": "front" } }),
        on("create_project", json!({ "project": "hers" })),
        project("add_project"),
        project("remove_project"),
        project("re_add_project"),
        on("set_limit", json!({ "project": "old", "deployment": "d", "limit": tokens })),
        on("clear_limit", json!({ "project": "old", "deployment": "d" })),
        on("set_aggregate_limit", json!({ "limit": tokens })),
        on("clear_aggregate_limit", json!({})),
        on("set_keyed_limit", json!({ "name": "n", "limit": keyed })),
        on("clear_keyed_limit", json!({ "name": "n" })),
        on("set_agent_limit", json!({ "project": "old", "agent": "a", "limit": calls })),
        agent("clear_agent_limit"),
        on("set_tool_limit", json!({ "project": "old", "tool": "t", "limit": calls })),
        tool("clear_tool_limit"),
        on("set_traffic", json!({ "traffic": {} })),
        on("set_metric_dimensions", json!({ "dimensions": [] })),
        on("register_agent", json!({ "project": "old", "agent": "hers", "registration": registration })),
        agent("block_agent"),
        agent("unblock_agent"),
        agent("start_agent"),
        agent("stop_agent"),
        agent("remove_agent"),
        on("create_tool", made),
        tool("gate_tool"),
        tool("delete_tool"),
    ]
}

#[test]
fn who_lacks_the_roles_can_do_none_of_it_and_the_trail_has_each_attempt() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let registration = json!({ "url": "https://a.example", "protocol": "A2A" });
    done(
        &mut estate,
        500,
        on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration })),
    );
    let tool = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://t.example" });
    done(&mut estate, 500, on("create_tool", tool));
    declare(&mut estate, person("eve", &["Reader", "Foundry User"]));
    let before = holdings(&estate);
    let trail = estate.audit().entries().len();
    let attempts = every_operation();
    let attempted = attempts.iter().flat_map(|attempt| attempt.as_object().expect("an operation").keys().cloned());
    assert_eq!(attempted.collect::<BTreeSet<_>>(), names(), "each operation is attempted");
    for attempt in &attempts {
        for who in ["eve", "stranger"] {
            let refused = apply(&mut estate, who, 500, attempt.clone()).expect_err(&attempt.to_string());
            assert!(refused.codes().contains(&Code::PermissionDenied), "{attempt}: {refused}");
        }
    }
    assert_eq!(holdings(&estate), before);
    assert_eq!(estate.audit().entries().len(), trail + attempts.len() * 2);
}

#[test]
fn who_holds_the_roles_by_their_former_or_present_names_can_do_the_whole_walk() {
    for name in ["Foundry Owner", "Azure AI Owner", "Foundry Account Owner", "Azure AI Account Owner"] {
        let mut estate = estate(true);
        declare(&mut estate, person("grace", &["Contributor", "API Management Service Contributor", name]));
        let mut walk = |seconds: u64, operation: Value| {
            if seconds == EIGHT_MINUTES {
                estate.refresh(at(seconds));
            }
            let applied = apply(&mut estate, "grace", seconds, operation.clone());
            assert!(applied.is_ok(), "{name}: {operation}: {applied:?}");
        };
        let registration = json!({ "url": "https://agent.example", "protocol": "A2A" });
        let tool =
            json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
        let limit = json!({ "tokens_per_minute": 100, "token_quota": 250, "token_quota_period": "Monthly" });
        walk(0, on("create_gateway", json!({ "name": "front" })));
        walk(EIGHT_MINUTES, on("add_project", json!({ "project": "old" })));
        walk(500, on("set_limit", json!({ "project": "old", "deployment": "d", "limit": limit })));
        walk(500, on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration })));
        walk(500, on("block_agent", json!({ "project": "old", "agent": "a" })));
        walk(500, on("create_tool", tool));
        walk(500, on("create_project", json!({ "project": "new" })));
        walk(600, on("remove_project", json!({ "project": "old" })));
        walk(600, on("remove_project", json!({ "project": "new" })));
        walk(600, on("delete_gateway", json!({})));
        walk(600, json!({ "delete_instance": { "instance": "front" } }));
        assert!(estate.gateway("contoso").is_none() && estate.instances().is_empty(), "{name}");
    }
}
