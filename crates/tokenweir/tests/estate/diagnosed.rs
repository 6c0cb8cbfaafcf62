//! Each row of the troubleshooting table, reproduced and diagnosed.

use super::support::*;
use serde_json::{Value, json};
use tokenweir::gateway::Estate;

/// The surest cause is of this row, and has evidence and a remedy.
fn shows(row: &str, estate: &Estate, seconds: u64, seen: Value) {
    let causes = causes(estate, seconds, seen);
    let first = causes.first().unwrap_or_else(|| panic!("{row}: nothing was found"));
    assert_eq!(first.diagnosis, row, "{causes:#?}");
    assert!(causes.iter().all(|cause| !cause.evidence.is_empty() && !cause.remedy.is_empty()), "{causes:#?}");
}

#[test]
fn d_01_a_gateway_that_is_still_being_made_is_not_listed() {
    let mut estate = estate(true);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    shows("D-01", &estate, 120, json!({ "listing": { "gateway": false } }));
}

#[test]
fn d_02_and_d_08_a_project_that_is_older_than_the_gateway() {
    let estate = with_gateway();
    shows("D-02", &estate, 500, json!({ "project": "old", "listing": { "status": "disabled" } }));
    shows("D-08", &estate, 500, json!({ "project": "old", "listing": { "project": false } }));
}

#[test]
fn d_03_calls_of_a_project_that_is_not_behind_the_gateway_bypass_it() {
    let estate = with_gateway();
    shows("D-03", &estate, 500, json!({ "project": "old", "call": { "status": 200, "passed_gateway": false } }));
}

#[test]
fn d_04_a_missing_role() {
    let mut estate = estate(true);
    declare(&mut estate, person("eve", &["Reader"]));
    let refused = apply(&mut estate, "eve", 0, on("create_gateway", json!({ "name": "front" }))).expect_err("no role");
    shows("D-04", &estate, 1, json!({ "by": "eve", "refused": [refused.code().as_str()] }));
}

#[test]
fn d_05_an_instance_that_cannot_be_chosen() {
    let mut estate = estate(true);
    declare(&mut estate, instance("classic", "Premium", "public", "elsewhere"));
    shows("D-05", &estate, 1, json!({ "by": "ada", "instance": "classic", "listing": { "instance": false } }));
}

#[test]
fn d_06_a_limit_that_nobody_has_set_does_not_refuse() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let seen = json!({ "project": "old", "deployment": "d", "unrefused": { "tokens": 5000, "seconds": 60 } });
    shows("D-06", &estate, 600, seen);
}

#[test]
fn d_07_errors_500_just_after_the_gateway_was_made() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let seen = json!({ "project": "old", "deployment": "d",
        "call": { "status": 500, "passed_gateway": true, "direct": { "status": 200 } } });
    shows("D-07", &estate, 510, seen);
}

#[test]
fn d_09_slow_calls_to_an_instance_in_another_region() {
    let mut estate = estate(true);
    let mut far = instance("far", "Standard v2", "public", "s");
    far["instance"]["site"]["region"] = json!("japaneast");
    declare(&mut estate, far);
    done(&mut estate, 0, on("use_existing", json!({ "instance": "far", "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let seen = json!({ "project": "old", "deployment": "d",
        "call": { "status": 200, "latency_ms": 900, "passed_gateway": true, "direct": { "status": 200, "latency_ms": 300 } } });
    shows("D-09", &estate, 90_000, seen);
}

#[test]
fn d_10_a_tool_that_is_older_than_the_gateway_is_called_directly() {
    let mut estate = estate(true);
    let tool = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    done(&mut estate, 0, on("create_tool", tool));
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    let seen = json!({ "project": "old", "tool": "t", "call": { "status": 200, "passed_gateway": false } });
    shows("D-10", &estate, 500, seen);
}

#[test]
fn d_11_a_tool_whose_policies_refuse() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let tool = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    done(&mut estate, 500, on("create_tool", tool));
    for status in [429, 403, 401] {
        let seen = json!({ "project": "old", "tool": "t", "call": { "status": status, "passed_gateway": true } });
        shows("D-11", &estate, 600, seen);
    }
}

#[test]
fn d_12_the_deployments_own_limit() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let seen = json!({ "project": "old", "deployment": "d", "call": { "status": 429, "passed_gateway": true,
        "body": "{\"error\": {\"code\": \"429\", \"message\": \"rate limit\"}}" } });
    shows("D-12", &estate, 600, seen);
}
