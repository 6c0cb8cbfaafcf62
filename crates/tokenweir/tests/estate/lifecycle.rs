//! Golden E-20, and every wrong order.

use super::support::*;
use serde_json::json;
use tokenweir::gateway::Code;
use tokenweir::gateway::model::GatewayState;

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
    let limit = json!({ "project": "old", "deployment": "d", "limit": { "tokens_per_minute": 100 } });
    assert_eq!(code(&mut estate, 500, on("set_limit", limit.clone())), Code::ProjectNotEnabled);
    done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    assert_eq!(status(&estate, "old"), "enabled");
    done(&mut estate, 500, on("set_limit", limit));
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
