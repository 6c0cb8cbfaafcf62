//! Golden E-20, and every wrong order.

use super::support::*;
use serde_json::json;
use tokenweir::gateway::model::{GatewayState, InstanceStatus, Timestamp};
use tokenweir::gateway::{Call, CallOutcome, Code, Completion, Gate, InstanceProvider, Progress, Task, TaskKind};
use tokenweir::{ManualClock, Now, Usage};

#[test]
fn e_20_1_a_private_resource_cannot_have_a_gateway_made() {
    let mut estate = estate(false);
    assert_eq!(code(&mut estate, 0, on("create_gateway", json!({ "name": "front" }))), Code::NetworkIncompatible);
}

#[test]
fn e_20_2_a_private_resource_takes_a_private_instance() {
    let mut estate = estate(false);
    declare(&mut estate, instance("open", "Standard v2", "public", "s"));
    declare(&mut estate, instance("closed", "Standard v2", "private_endpoint", "s"));
    let with = |instance: &str| on("use_existing", json!({ "instance": instance, "name": "front" }));
    assert_eq!(code(&mut estate, 0, with("open")), Code::NetworkIncompatible);
    assert_eq!(done(&mut estate, 0, with("closed")).state, "Provisioning");
}

#[test]
fn e_20_3_an_older_project_is_added_by_hand_a_newer_one_is_enabled() {
    let mut estate = with_gateway();
    let status = |estate: &tokenweir::gateway::Estate, project: &str| {
        holdings(estate)["resources"]["contoso"]["gateway"]["memberships"][project]["status"].clone()
    };
    assert_ne!(status(&estate, "old"), "enabled");
    let contoso = |estate: &tokenweir::gateway::Estate| estate.resources()["contoso"].clone();
    let gate = Gate::builder("contoso".parse().expect("a name"), &contoso(&estate))
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .build()
        .expect("a gate");
    let take = || {
        let passage =
            gate.admit_at(&Call::model("old", "d"), Now::at(0)).expect("a decision").passed().expect("it passes");
        let outcome = passage.outcome();
        passage.settle_at(&Completion::of(Usage::new(50, 10)), Now::at(0)).expect("it ends");
        (
            outcome,
            gate.limiter().usage_at(&Default::default(), Now::at(0)).iter().map(|counter| counter.used).sum::<u64>(),
        )
    };
    assert_eq!(take(), (CallOutcome::Bypassed, 0), "it bypasses, and no counter moves");
    let limit = json!({ "project": "old", "deployment": "d", "limit": { "tokens_per_minute": 100 } });
    assert_eq!(code(&mut estate, 500, on("set_limit", limit.clone())), Code::ProjectNotEnabled);
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    assert_eq!(status(&estate, "old"), "enabled");
    done(&mut estate, 500, on("set_limit", limit));
    gate.update_at(&contoso(&estate), Now::at(0)).expect("it follows");
    assert_eq!(take(), (CallOutcome::Admitted, 60), "now it is governed");
    done(&mut estate, 600, on("create_project", json!({ "project": "new" })));
    assert_eq!(status(&estate, "new"), "enabled");
}

#[test]
fn e_20_4_a_gateway_goes_after_its_projects_and_bills_until_its_instance_goes() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let delete = || on("delete_gateway", json!({}));
    let stays = refused(&mut estate, 510, delete());
    assert_eq!(stays.code(), Code::GatewayHasEnabledProjects);
    assert!(stays.to_string().contains("old"), "{stays}");
    let instance = || json!({ "delete_instance": { "instance": "front" } });
    assert_eq!(code(&mut estate, 510, instance()), Code::GatewayStillAssociated);
    done(&mut estate, 520, on("remove_project", json!({ "project": "old" })));
    assert_eq!(done(&mut estate, 530, delete()).state, "Orphaned");
    let billed = |estate: &tokenweir::gateway::Estate| {
        estate.instances().get("front").is_some_and(|instance| instance.billed_since.is_some())
    };
    assert!(billed(&estate));
    done(&mut estate, 540, instance());
    estate.refresh(at(600));
    assert!(!billed(&estate) && estate.gateway("contoso").is_none());
}

#[test]
fn e_20_5_one_instance_serves_one_resource() {
    let mut estate = with_gateway();
    declare(
        &mut estate,
        json!({ "resource": { "name": "fabrikam", "public_network_access": true, "site": site("s") } }),
    );
    let second = json!({ "use_existing": { "resource": "fabrikam", "instance": "front", "name": "second" } });
    let refused = refused(&mut estate, 500, second);
    assert!(refused.codes().contains(&Code::ApimAlreadyAssociated), "{refused}");
}

#[test]
fn e_20_6_every_failing_requirement_is_reported() {
    let mut estate = estate(true);
    declare(&mut estate, instance("classic", "Premium", "public", "elsewhere"));
    let refused = refused(&mut estate, 0, on("use_existing", json!({ "instance": "classic", "name": "front" })));
    let aspects: Vec<_> = refused.findings.iter().filter_map(|finding| finding.aspect).collect();
    assert!(aspects.contains(&"sku") && aspects.contains(&"subscription"), "{refused}");
}

#[test]
fn each_wrong_order_has_its_code() {
    let project = |operation: &str| on(operation, json!({ "project": "old" }));
    let mut estate = estate(true);
    assert_eq!(code(&mut estate, 0, project("add_project")), Code::GatewayNotFound);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    assert_eq!(code(&mut estate, 1, project("add_project")), Code::GatewayNotReady);
    assert_eq!(code(&mut estate, 1, on("create_gateway", json!({ "name": "again" }))), Code::GatewayAlreadyExists);
    assert!(estate.refresh(at(EIGHT_MINUTES - 1)).is_empty());
    estate.refresh(at(EIGHT_MINUTES));
    assert_eq!(estate.gateway("contoso").map(|gateway| &gateway.state), Some(&GatewayState::Enabled));
    assert_eq!(code(&mut estate, 500, on("disable_gateway", json!({}))), Code::GatewayDisableUnsupported);
    assert_eq!(code(&mut estate, 500, project("remove_project")), Code::ProjectNotEnabled);
    done(&mut estate, 500, project("add_project"));
    assert_eq!(code(&mut estate, 500, project("add_project")), Code::ProjectAlreadyEnabled);
    assert_eq!(code(&mut estate, 500, on("add_project", json!({ "project": "nobody's" }))), Code::ProjectNotInResource);
    let limit = |deployment: &str, limit: serde_json::Value| {
        on("set_limit", json!({ "project": "old", "deployment": deployment, "limit": limit }))
    };
    for (deployment, fields, wanted) in [
        ("none", json!({ "tokens_per_minute": 100 }), Code::DeploymentNotFound),
        ("d", json!({}), Code::LimitEmpty),
        ("d", json!({ "token_quota": 100 }), Code::QuotaPeriodMismatch),
        ("d", json!({ "token_quota_period": "Monthly" }), Code::QuotaPeriodMismatch),
        ("d", json!({ "tokens_per_minute": 0 }), Code::LimitNotPositive),
        ("d", json!({ "tokens_per_minute": -5 }), Code::LimitNotPositive),
        ("d", json!({ "tokens_per_minute": 1_u64 << 31 }), Code::OutOfRange),
        ("d", json!({ "token_quota": 100, "token_quota_period": "Fortnightly" }), Code::QuotaPeriodUnknown),
    ] {
        let refused = refused(&mut estate, 500, limit(deployment, fields.clone()));
        assert!(refused.codes().contains(&wanted), "{fields}: {refused}");
    }
    done(&mut estate, 500, limit("d", json!({ "token_quota": 100, "token_quota_period": "monthly" })));
}

#[test]
fn agents_are_blocked_not_stopped_and_tools_are_routed_when_they_are_made() {
    let mut estate = estate(true);
    let agent = |operation: &str| on(operation, json!({ "project": "old", "agent": "a" }));
    let register = |url: &str, protocol: &str| {
        on(
            "register_agent",
            json!({ "project": "old", "agent": "a", "registration": { "url": url, "protocol": protocol } }),
        )
    };
    let tool = |operation: &str| on(operation, json!({ "project": "old", "tool": "t" }));
    let create = || {
        on(
            "create_tool",
            json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" }),
        )
    };
    assert_eq!(code(&mut estate, 0, register("https://agent.example", "A2A")), Code::GatewayRequired);
    done(&mut estate, 0, create());
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    assert_eq!(code(&mut estate, 500, register("", "A2A")), Code::AgentInvalid);
    assert_eq!(code(&mut estate, 500, register("https://agent.example", "SOAP")), Code::AgentInvalid);
    done(&mut estate, 500, register("https://agent.example", "A2A"));
    assert_eq!(code(&mut estate, 500, agent("stop_agent")), Code::AgentLifecycleUnsupported);
    assert_eq!(code(&mut estate, 500, agent("unblock_agent")), Code::AgentNotBlocked);
    done(&mut estate, 500, agent("block_agent"));
    assert_eq!(code(&mut estate, 500, agent("block_agent")), Code::AgentAlreadyBlocked);
    assert_eq!(code(&mut estate, 500, tool("gate_tool")), Code::ToolMustBeRecreated);
    done(&mut estate, 500, tool("delete_tool"));
    done(&mut estate, 500, create());
    assert_eq!(code(&mut estate, 500, tool("gate_tool")), Code::ToolAlreadyGated);
}

#[test]
fn what_had_an_address_at_a_deleted_gateway_is_not_governed_by_the_next_one() {
    let mut estate = with_gateway();
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let tool = |operation: &str| on(operation, json!({ "project": "old", "tool": "t" }));
    let create = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": "key", "url": "https://tool.example" });
    assert_eq!(done(&mut estate, 500, on("create_tool", create.clone())).state, "Gated");
    let registration = json!({ "url": "https://agent.example", "protocol": "A2A" });
    let register = || on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration }));
    done(&mut estate, 500, register());
    done(&mut estate, 500, on("block_agent", json!({ "project": "old", "agent": "a" })));
    done(&mut estate, 510, on("remove_project", json!({ "project": "old" })));
    // A project that was removed can come back, and so its tools are left as they are.
    assert_eq!(code(&mut estate, 510, tool("gate_tool")), Code::ToolAlreadyGated);
    let notes = done(&mut estate, 520, on("delete_gateway", json!({}))).notes.join("; ");
    assert!(notes.contains("\"a\" of project \"old\" (blocked)"), "{notes}");
    assert!(notes.contains("to their servers") && notes.contains("\"t\" of project \"old\""), "{notes}");
    let project = holdings(&estate)["resources"]["contoso"]["projects"]["old"].clone();
    assert_eq!((&project["tools"]["t"]["route"], project.get("agents")), (&json!("direct"), None));

    // The instance is kept, and hosts the next gateway at the same address.
    done(&mut estate, 530, json!({ "keep_instance": { "instance": "front" } }));
    done(&mut estate, 540, on("use_existing", json!({ "instance": "front", "name": "second" })));
    estate.refresh(at(540 + EIGHT_MINUTES));
    done(&mut estate, 1100, on("add_project", json!({ "project": "old" })));
    assert_eq!(code(&mut estate, 1100, tool("gate_tool")), Code::ToolMustBeRecreated);
    let limit = json!({ "project": "old", "tool": "t", "limit": { "calls": { "calls": 1, "renewal_seconds": 60 } } });
    assert_eq!(code(&mut estate, 1100, on("set_tool_limit", limit.clone())), Code::ToolMustBeRecreated);
    let seen = json!({ "project": "old", "tool": "t", "call": { "passed_gateway": false } });
    let cause = causes(&estate, 1100, seen).remove(0);
    assert_eq!((cause.diagnosis, &*cause.remedy), ("D-10", "delete the tool and create it again"), "{cause:?}");
    done(&mut estate, 1110, tool("delete_tool"));
    assert_eq!(done(&mut estate, 1110, on("create_tool", create)).state, "Gated");
    done(&mut estate, 1110, on("set_tool_limit", limit));
    done(&mut estate, 1110, register());
}

#[test]
fn an_instance_that_others_depend_on_is_not_deleted() {
    let mut estate = estate(true);
    let mut shared = instance("shared", "Standard v2", "public", "s");
    shared["instance"]["dependants"] = json!(["billing API"]);
    declare(&mut estate, shared);
    done(&mut estate, 0, on("use_existing", json!({ "instance": "shared", "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    let keep = || json!({ "keep_instance": { "instance": "shared" } });
    assert_eq!(code(&mut estate, 500, keep()), Code::GatewayNotOrphaned);
    done(&mut estate, 500, on("delete_gateway", json!({})));
    let stays = refused(&mut estate, 500, json!({ "delete_instance": { "instance": "shared" } }));
    assert!(stays.code() == Code::ApimInUse && stays.to_string().contains("billing API"), "{stays}");
    done(&mut estate, 500, keep());
    assert!(estate.gateway("contoso").is_none());
    assert!(estate.instances()["shared"].billed_since.is_some(), "it goes on billing");
    assert_eq!(code(&mut estate, 500, keep()), Code::GatewayNotOrphaned);
    done(&mut estate, 500, on("use_existing", json!({ "instance": "shared", "name": "second" })));
}

#[test]
fn an_instance_that_was_there_bills_before_it_hosts_and_since_when_is_not_made_up() {
    let mut estate = estate(true);
    let mut old = instance("old", "Standard v2", "public", "s");
    old["instance"].as_object_mut().expect("fields").remove("billed_since");
    declare(&mut estate, old);
    let billing = |estate: &tokenweir::gateway::Estate| {
        let old = &estate.instances()["old"];
        (old.bills(), old.billed_since)
    };
    assert_eq!(billing(&estate), (true, None));
    done(&mut estate, 0, on("use_existing", json!({ "instance": "old", "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    assert_eq!(billing(&estate), (true, None));
    done(&mut estate, 500, on("delete_gateway", json!({})));
    done(&mut estate, 500, json!({ "delete_instance": { "instance": "old" } }));
    // One that is being made does not.
    done(&mut estate, 1000, on("create_gateway", json!({ "name": "front" })));
    assert!(!estate.instances()["front"].bills());
    estate.refresh(at(1000 + EIGHT_MINUTES));
    assert_eq!(estate.instances()["front"].billed_since, Some(at(1000 + EIGHT_MINUTES)));
}

#[test]
fn what_a_gateway_denied_ends_with_it() {
    let mut estate = with_gateway();
    done(
        &mut estate,
        500,
        on("set_traffic", json!({ "traffic": { "ungoverned": "deny", "unknown_project": "deny" } })),
    );
    let gate = Gate::builder("contoso".parse().expect("a name"), &estate.resources()["contoso"])
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .build()
        .expect("a gate");
    let decide = |estate: &tokenweir::gateway::Estate| {
        gate.update_at(&estate.resources()["contoso"], Now::at(0)).expect("it follows");
        let verdict = gate.admit_at(&Call::model("old", "d"), Now::at(0)).expect("a decision");
        verdict.refused().map(|refused| refused.status())
    };
    assert_eq!(decide(&estate), Some(403));
    done(&mut estate, 510, on("delete_gateway", json!({})));
    assert_eq!(decide(&estate), None, "there is no gateway to deny it");
}

#[test]
fn names_that_are_taken_and_what_is_not_there_have_their_codes() {
    let mut estate = estate(true);
    declare(&mut estate, instance("taken", "Standard v2", "public", "s"));
    assert_eq!(code(&mut estate, 0, on("create_gateway", json!({ "name": "taken" }))), Code::NameTaken);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    estate.refresh(at(EIGHT_MINUTES));
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    let agent = |operation: &str| on(operation, json!({ "project": "old", "agent": "a" }));
    for operation in ["block_agent", "unblock_agent", "remove_agent", "clear_agent_limit"] {
        assert_eq!(code(&mut estate, 500, agent(operation)), Code::AgentNotFound, "{operation}");
    }
    let register = |url: &str| {
        let registration = json!({ "url": url, "protocol": "A2A" });
        on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration }))
    };
    done(&mut estate, 500, register("https://agent.example"));
    assert_eq!(code(&mut estate, 500, register("https://another.example")), Code::NameTaken);
    let tool = |auth: &str, url: &str| {
        let fields =
            json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": auth, "url": url, "require_gated": true });
        on("create_tool", fields)
    };
    for operation in ["gate_tool", "delete_tool", "clear_tool_limit"] {
        let missing = on(operation, json!({ "project": "old", "tool": "t" }));
        assert_eq!(code(&mut estate, 500, missing), Code::ToolNotFound, "{operation}");
    }
    assert_eq!(code(&mut estate, 500, tool("key", "tool.example")), Code::ToolInvalid);
    assert_eq!(code(&mut estate, 500, tool("managed_o_auth", "https://tool.example")), Code::ToolNotEligible);
    done(&mut estate, 500, tool("key", "https://tool.example"));
    assert_eq!(code(&mut estate, 500, tool("key", "https://tool.example")), Code::NameTaken);
    assert_eq!(code(&mut estate, 500, on("create_project", json!({ "project": "old" }))), Code::NameTaken);
}

/// Makes at once, and fails to delete after a minute until it is told otherwise.
struct Clinging;

impl InstanceProvider for Clinging {
    fn begin(&mut self, task: &Task<'_>) -> Progress {
        if task.kind == TaskKind::Delete { Progress::Underway } else { Progress::Done }
    }

    fn progress(&mut self, task: &Task<'_>, now: Timestamp) -> Progress {
        match now.seconds_since(task.since) {
            0..60 => Progress::Underway,
            _ => Progress::Failed { reason: "it is locked".to_owned() },
        }
    }
}

#[test]
fn a_deletion_that_fails_leaves_the_instance_billing_and_can_be_tried_again() {
    let mut estate = estate_of(Clinging);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    done(&mut estate, 10, on("delete_gateway", json!({})));
    let delete = || json!({ "delete_instance": { "instance": "front" } });
    assert_eq!(done(&mut estate, 20, delete()).state, "Deleting");
    assert_eq!(code(&mut estate, 30, delete()), Code::GatewayNotReady);
    let created = refused(&mut estate, 30, on("create_gateway", json!({ "name": "again" })));
    assert!(created.to_string().contains("wait until instance \"front\" is deleted"), "{created}");
    assert!(estate.refresh(at(79)).is_empty());
    let changes = estate.refresh(at(80));
    assert!(changes.iter().any(|change| change.notes.iter().any(|note| note.contains("it is locked"))), "{changes:?}");
    let front = &estate.instances()["front"];
    assert!(front.status == InstanceStatus::Ready && front.billed_since.is_some(), "{front:?}");
    assert_eq!(estate.gateway("contoso").map(|gateway| &gateway.state), Some(&GatewayState::Orphaned));
    assert_eq!(done(&mut estate, 90, delete()).state, "Deleting");
}
