//! Each row of the troubleshooting table, reproduced and diagnosed: with its own cause, how sure it is, and what to do.

use super::support::*;
use serde_json::{Value, json};
use tokenweir::gateway::Certainty::{self, Certain, Likely, Possible};
use tokenweir::gateway::{Estate, InProcessProvider};

/// The surest cause is of this row, and is this one; it has evidence, and a remedy with these words.
#[track_caller]
fn shows(row: &str, estate: &Estate, seconds: u64, seen: Value, (certainty, cause, remedy): (Certainty, &str, &str)) {
    let causes = causes(estate, seconds, seen);
    let first = causes.first().unwrap_or_else(|| panic!("{row}: nothing was found"));
    assert_eq!((first.diagnosis, first.certainty, &*first.cause), (row, certainty, cause), "{causes:#?}");
    assert!(first.remedy.contains(remedy), "{causes:#?}");
    assert!(causes.iter().all(|cause| !cause.evidence.is_empty() && !cause.remedy.is_empty()), "{causes:#?}");
    assert!(causes.is_sorted_by_key(|cause| cause.certainty), "{causes:#?}");
}

/// With `old` behind the gateway since 500 s.
fn with_project() -> Estate {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    estate
}

fn limit(estate: &mut Estate, limit: Value) {
    done(estate, 500, on("set_limit", json!({ "project": "old", "deployment": "d", "limit": limit })));
}

/// Long after everything was made.
const DAY: u64 = 90_000;

#[test]
fn d_01_a_gateway_is_not_listed() {
    let seen = || json!({ "listing": { "gateway": false } });
    let mut estate = estate(true);
    let absent = (Certain, "there is no gateway", "create one");
    shows("D-01", &estate, 0, seen(), absent);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    let underway = (Certain, "provisioning has not finished", "wait and refresh");
    shows("D-01", &estate, 120, seen(), underway);
    shows("D-01", &estate, 599, seen(), underway);
    let stuck = (Likely, "provisioning is stuck", "delete the gateway and make it again");
    shows("D-01", &estate, 600, seen(), stuck);
    estate.refresh(at(EIGHT_MINUTES));
    shows("D-01", &estate, 500, seen(), (Likely, "the list is older than the gateway", "refresh"));
    done(&mut estate, 500, on("delete_gateway", json!({})));
    shows("D-01", &estate, 500, seen(), (Certain, "the gateway was deleted", "delete its instance or keep it"));
}

#[test]
fn d_01_a_gateway_that_failed_says_why() {
    let mut estate = estate_of(InProcessProvider {
        ready_after: 60,
        failure: Some("no capacity".to_owned()),
        ..InProcessProvider::default()
    });
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    estate.refresh(at(60));
    let failed = (Certain, "provisioning failed: no capacity", "retry, or delete the gateway");
    shows("D-01", &estate, 60, json!({ "listing": { "gateway": false } }), failed);
}

#[test]
fn d_02_a_projects_gateway_status_is_disabled() {
    let seen = || json!({ "project": "old", "listing": { "status": "disabled" } });
    let add = "add the project";
    shows("D-02", &estate(true), 0, seen(), (Certain, "the gateway is not Enabled", add));
    let mut estate = with_gateway();
    let older = "the project is older than the gateway, and existing projects are not added by themselves";
    shows("D-02", &estate, 500, seen(), (Certain, older, add));
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    shows("D-02", &estate, 510, seen(), (Likely, "the list is older than the project's being added", "refresh"));
    done(&mut estate, 520, on("remove_project", json!({ "project": "old" })));
    shows("D-02", &estate, 530, seen(), (Certain, "the project was removed from the gateway", add));
}

#[test]
fn d_03_calls_bypass_the_gateway() {
    let seen = |at: Option<&str>, host: Option<&str>| {
        let call = json!({ "status": 200, "passed_gateway": false, "at": at, "host": host });
        json!({ "project": "old", "deployment": "d", "call": call })
    };
    let disabled = (Certain, "the project is not behind the gateway", "add the project");
    shows("D-03", &with_gateway(), 500, seen(None, None), disabled);
    let estate = with_project();
    let early = (Certain, "the gateway was not ready when the call was made", "later calls");
    shows("D-03", &estate, 600, seen(Some("2026-11-23T09:07:59Z"), None), early);
    let before = (Certain, "the project was added after the call", "later calls");
    shows("D-03", &estate, 600, seen(Some("2026-11-23T09:08:19Z"), None), before);
    let old = (Likely, "the client still calls the old address", "use the gateway's address");
    shows("D-03", &estate, 600, seen(None, Some("contoso.openai.azure.com")), old);
    let unknown = (Possible, "the client calls another address, or the log is behind", "front.azure-api.net");
    shows("D-03", &estate, 600, seen(None, Some("FRONT.azure-api.net")), unknown);
}

#[test]
fn d_04_a_missing_role() {
    let mut estate = estate(true);
    declare(&mut estate, person("eve", &["Reader"]));
    let refused = apply(&mut estate, "eve", 0, on("create_gateway", json!({ "name": "front" }))).expect_err("no role");
    let seen = |by: Option<&str>| json!({ "by": by, "refused": [refused.code().as_str()] });
    let found = causes(&estate, 1, seen(Some("eve")));
    assert!(found.len() >= 2, "the group's and the resource's: {found:#?}");
    for cause in &found {
        assert_eq!((cause.diagnosis, cause.certainty), ("D-04", Certain), "{found:#?}");
        assert!(cause.cause.contains("eve") && cause.remedy.contains("grant"), "{found:#?}");
    }
    shows("D-04", &estate, 1, seen(None), (Likely, "a role is missing", "Contributor or Owner granted"));
    let granted = (Possible, "a role was granted just now, or elsewhere", "sign in again");
    shows("D-04", &estate, 1, seen(Some("ada")), granted);
}

#[test]
fn d_05_an_instance_that_cannot_be_chosen() {
    let mut estate = estate(true);
    declare(&mut estate, instance("classic", "Premium", "public", "elsewhere"));
    declare(&mut estate, instance("fit", "Standard v2", "public", "s"));
    let seen =
        |by: Option<&str>, instance: &str| json!({ "by": by, "instance": instance, "listing": { "instance": false } });
    let found = causes(&estate, 1, seen(Some("ada"), "classic"));
    let evidence: Vec<_> = found.iter().flat_map(|cause| &cause.evidence).map(String::as_str).collect();
    assert!(found.iter().all(|cause| cause.diagnosis == "D-05" && cause.certainty == Certain), "{found:#?}");
    for failing in ["V-07 fails: APIM_NOT_ELIGIBLE(sku)", "APIM_NOT_ELIGIBLE(subscription)"] {
        assert!(evidence.iter().any(|evidence| evidence.contains(failing)), "{found:#?}");
    }
    shows("D-05", &estate, 1, seen(None, "fit"), (Possible, "who asked was not said", "say who it was"));
    shows("D-05", &estate, 1, seen(Some("ada"), "none"), (Certain, "there is no such instance", "correct the name"));
    let lag = (Likely, "the list is older than what made the instance eligible", "refresh");
    shows("D-05", &estate, 1, seen(Some("ada"), "fit"), lag);
    let own = (Certain, "the instance hosts the gateway of this resource already", "a resource has one gateway");
    shows("D-05", &with_gateway(), 500, seen(Some("ada"), "front"), own);
}

#[test]
fn d_06_a_limit_does_not_refuse() {
    let seen = |deployment: Option<&str>, tokens: u64| json!({ "project": "old", "deployment": deployment, "unrefused": { "tokens": tokens, "seconds": 60 } });
    let mut estate = with_project();
    let unknown = (Certain, "the calls name no deployment of the resource", "the deployment's, not the model's");
    shows("D-06", &estate, 600, seen(Some("gpt-4o"), 5000), unknown);
    shows("D-06", &estate, 600, seen(Some("d"), 5000), (Certain, "no limit is set", "Token management"));
    let which = (Possible, "which limit should have refused was not said", "give the deployment");
    shows("D-06", &estate, 600, seen(None, 5000), which);
    // E-07: a bucket starts full and refills all the time.
    limit(&mut estate, json!({ "tokens_per_minute": 20_000 }));
    let refilled = (Likely, "the limit allows that much", "a smaller limit");
    shows("D-06", &estate, 600, seen(Some("d"), 40_000), refilled);
    let evidence = causes(&estate, 600, seen(Some("d"), 5000)).remove(0).evidence;
    assert_eq!(evidence, ["5000 tokens in 60 s; 20000 TPM refill 333.3/s, so up to 40000 pass"]);
    let others = (Possible, "the calls count for another project or deployment", "logs");
    shows("D-06", &estate, 600, seen(Some("d"), 40_001), others);
    let mut elsewhere = seen(Some("d"), 40_001);
    elsewhere["call"] = json!({ "status": 200, "host": "contoso.openai.azure.com" });
    let old = (Likely, "the client still calls the old address", "use the gateway's address");
    shows("D-06", &estate, 600, elsewhere, old);
    done(&mut estate, 600, on("set_traffic", json!({ "traffic": { "enforce": false } })));
    let off = (Certain, "the enforcement of limits is switched off", "switch the enforcement of limits on");
    shows("D-06", &estate, 600, seen(Some("d"), 5000), off);
}

#[test]
fn d_07_calls_end_with_status_500() {
    let estate = with_project();
    let seen = |more: Value| {
        let mut call = json!({ "status": 500, "passed_gateway": true });
        call.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        json!({ "project": "old", "deployment": "d", "call": call })
    };
    let early = (Likely, "the endpoints are not fully provisioned", "wait a few minutes");
    shows("D-07", &estate, 510, seen(json!({ "direct": { "status": 200 } })), early);
    let unmapped = (Likely, "the deployment is not mapped at the gateway", "remove and re-add the project");
    shows("D-07", &estate, DAY, seen(json!({ "direct": { "status": 200 } })), unmapped);
    let theirs = (Certain, "the deployment itself fails", "the deployment first");
    shows("D-07", &estate, DAY, seen(json!({ "direct": { "status": 503 } })), theirs);
    let empty = "a limit was removed and left an empty variable in the product's policy";
    let reason = json!({ "last_error_reason": "ExpressionValueEvaluationFailure" });
    shows("D-07", &estate, DAY, seen(reason), (Likely, empty, "set the limit again"));
    let mut other = seen(json!({}));
    other["deployment"] = json!("gpt-4o");
    let missing = "the deployment is not mapped: the resource does not have it";
    shows("D-07", &estate, DAY, other, (Certain, missing, "correct the name"));
    let outside = (Likely, "the deployment itself fails: the gateway has no part in it", "see to the deployment");
    let unseen = || json!({ "passed_gateway": null });
    shows("D-07", &with_gateway(), DAY, seen(unseen()), outside);
    shows("D-07", &self::estate(true), DAY, seen(unseen()), outside);
    let last = (Possible, "the project's setup at the gateway is broken", "as a last resort");
    shows("D-07", &estate, DAY, seen(json!({})), last);
}

#[test]
fn d_08_a_project_is_missing_in_the_list() {
    let seen = |project: &str, read: Option<&str>| json!({ "project": project, "listing": { "project": false, "read": read } });
    shows(
        "D-08",
        &estate(true),
        0,
        seen("old", None),
        (Certain, "the gateway is not Enabled", "have the gateway Enabled"),
    );
    let mut estate = with_gateway();
    shows("D-08", &estate, 500, seen("old", None), (Likely, "the project is older than the gateway", "by hand"));
    let theirs = (Certain, "the project belongs to another Foundry resource", "the project's own resource");
    shows("D-08", &estate, 500, seen("theirs", None), theirs);
    done(&mut estate, 600, on("create_project", json!({ "project": "new" })));
    let stale = (Certain, "the list is older than the project", "refresh");
    shows("D-08", &estate, 700, seen("new", Some("2026-11-23T09:09:59Z")), stale);
    shows(
        "D-08",
        &estate,
        700,
        seen("new", Some("2026-11-23T09:10:01Z")),
        (Possible, "the list lags behind", "refresh"),
    );
}

#[test]
fn d_09_calls_are_slow_since_the_gateway_is_there() {
    let mut estate = estate(true);
    let mut far = instance("far", "Standard v2", "public", "s");
    far["instance"]["site"]["region"] = json!("japaneast");
    declare(&mut estate, far);
    done(&mut estate, 0, on("use_existing", json!({ "instance": "far", "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let seen = |direct: Option<u64>| {
        json!({ "project": "old", "deployment": "d", "call": { "status": 200, "latency_ms": 900, "passed_gateway": true,
            "direct": { "status": 200, "latency_ms": direct } } })
    };
    let region = (Likely, "the instance is in another region", "in the resource's region");
    shows("D-09", &estate, DAY, seen(Some(300)), region);
    shows("D-09", &estate, DAY, seen(Some(800)), (Certain, "the deployment itself is that slow", "its capacity"));
    let near = with_project();
    shows("D-09", &near, 510, seen(Some(300)), (Likely, "a cold start", "measure then"));
    shows("D-09", &near, DAY, seen(None), (Possible, "the deployment itself is slow", "past the gateway"));
}

fn tool(kind: &str, auth: &str) -> Value {
    on(
        "create_tool",
        json!({ "project": "old", "tool": "t", "kind": kind, "auth": auth, "url": "https://tool.example" }),
    )
}

#[test]
fn d_10_a_tools_calls_go_to_its_server() {
    let seen = |host: Option<&str>| json!({ "project": "old", "tool": "t", "call": { "status": 200, "passed_gateway": false, "host": host } });
    let mut before = estate(true);
    done(&mut before, 0, tool("mcp", "key"));
    shows("D-10", &before, 0, seen(None), (Certain, "there is no gateway", "create a gateway"));
    done(&mut before, 0, on("create_gateway", json!({ "name": "front" })));
    before.refresh(at(EIGHT_MINUTES));
    let older = (Certain, "the tool is older than the gateway", "create it again");
    shows("D-10", &before, 500, seen(None), older);
    let mut outside = with_gateway();
    done(&mut outside, 490, tool("mcp", "key"));
    let project = "the tool was made while its project was not behind the gateway";
    shows("D-10", &outside, 500, seen(None), (Certain, project, "add the project"));
    let mut never = with_project();
    done(&mut never, 500, tool("mcp", "managed_o_auth"));
    shows(
        "D-10",
        &never,
        500,
        seen(None),
        (Certain, "such a tool is not routed through a gateway", "without managed OAuth"),
    );
    let mut gated = with_project();
    done(&mut gated, 500, tool("mcp", "key"));
    let old = (Likely, "the client still calls the old address", "use the gateway's address");
    shows("D-10", &gated, 500, seen(Some("tool.example")), old);
    shows("D-10", &gated, 500, seen(None), (Possible, "its callers use the address of its server", "use that address"));
}

#[test]
fn d_11_a_tool_whose_policies_refuse() {
    let mut estate = with_project();
    done(&mut estate, 500, tool("mcp", "key"));
    let seen =
        |status: u16| json!({ "project": "old", "tool": "t", "call": { "status": status, "passed_gateway": true } });
    for (status, expected) in [
        (429, (Likely, "a rate policy refuses", "rate policy")),
        (403, (Likely, "an address filter refuses", "ip-filter")),
        (401, (Likely, "a policy strips the header that proves who calls", "Authorization")),
        (500, (Possible, "one of the tool's policies interferes", "one by one")),
    ] {
        shows("D-11", &estate, 600, seen(status), expected);
    }
    let limit = json!({ "project": "old", "tool": "t", "limit": { "calls": { "calls": 1, "renewal_seconds": 60 } } });
    done(&mut estate, 600, on("set_tool_limit", limit));
    shows("D-11", &estate, 600, seen(429), (Certain, "the tool's own limit refuses", "raise the tool's limit"));
}

#[test]
fn d_12_whose_limit_refuses() {
    let estate = with_project();
    let seen = |headers: Value, body: Option<&str>| {
        json!({ "project": "old", "deployment": "d", "call": { "status": 429, "passed_gateway": true, "headers": headers,
            "body": body } })
    };
    let theirs = "the deployment's own tokens or requests per minute are used up";
    let error = r#"{"error": {"code": "429", "message": "rate limit"}}"#;
    shows("D-12", &estate, 600, seen(json!({}), Some(error)), (Certain, theirs, "capacity"));
    let told = json!({ "X-RateLimit-Remaining-Tokens": "0" });
    shows("D-12", &estate, 600, seen(told, None), (Likely, theirs, "capacity"));
    let body = r#"{"statusCode": 429, "message": "Token limit is exceeded. Try again in 7 seconds."}"#;
    let ours = (Certain, "the gateway's own limit refuses", "wait 7 s (Retry-After)");
    shows("D-12", &estate, 600, seen(json!({ "retry-after": "7" }), Some(body)), ours);
    let open = (Possible, "either the gateway or the deployment refuses", "look at the body");
    shows("D-12", &estate, 600, seen(json!({}), Some("slow down")), open);
    let mut unseen = seen(json!({}), Some("slow down"));
    unseen["call"]["passed_gateway"] = Value::Null;
    shows("D-12", &with_gateway(), 600, unseen, (Likely, theirs, "capacity"));
}

#[test]
fn a_01_an_agent_that_is_blocked_and_a_02_names_that_are_not_there() {
    let mut estate = with_project();
    let registration = json!({ "url": "https://agent.example", "protocol": "A2A" });
    done(
        &mut estate,
        500,
        on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration })),
    );
    done(&mut estate, 500, on("block_agent", json!({ "project": "old", "agent": "a" })));
    let seen =
        |project: Option<&str>, agent: &str| json!({ "project": project, "agent": agent, "call": { "status": 403 } });
    shows("A-01", &estate, 600, seen(Some("old"), "a"), (Certain, "the agent is blocked", "unblock"));
    let none = (Certain, "project \"old\" has no custom agent \"b\"", "correct");
    shows("A-02", &estate, 600, seen(Some("old"), "b"), none);
    let whose = (Possible, "whose tool or agent it is was not said", "give its project");
    shows("A-02", &estate, 600, seen(None, "a"), whose);
    let unknown = (Certain, "Foundry resource \"contoso\" has no project \"odl\"", "correct the project's name");
    shows("A-02", &estate, 600, seen(Some("odl"), "a"), unknown);
    let unnamed = json!({ "project": "old", "deployment": "gpt-4o", "call": { "status": 404 } });
    let model = (Certain, "Foundry resource \"contoso\" has no deployment \"gpt-4o\"", "the deployment, not the model");
    shows("A-02", &estate, 600, unnamed, model);
    // Nothing else is said of a project that is not there.
    let bypassed = json!({ "project": "odl", "call": { "status": 200, "passed_gateway": false } });
    assert_eq!(causes(&estate, 600, bypassed).len(), 1);
}
