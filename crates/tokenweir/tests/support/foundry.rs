//! Gateways and resources to test with. Every test file uses a part of it.
#![allow(dead_code)]

use serde_json::{Value, json};
use tokenweir::gateway::model::{
    AiGateway, CounterKey, FoundryResource, KeyPart, KeyedLimit, LimitScope, Limits, Membership, TokenLimit,
    TokenLimitFields, WorkloadLimit,
};

pub fn tokens(per_minute: Option<i128>, quota: Option<(i128, &str)>) -> TokenLimit {
    let fields = TokenLimitFields {
        tokens_per_minute: per_minute,
        token_quota: quota.map(|(tokens, _)| tokens),
        token_quota_period: quota.map(|(_, period)| period.to_owned()),
    };
    fields.check().expect("a valid limit")
}

/// An enabled gateway with these limits and no projects.
pub fn gateway(limits: Limits) -> AiGateway {
    let gateway = json!({
        "name": "gateway",
        "instance": "instance",
        "state": "enabled",
        "created": "1970-01-01T00:00:00Z",
        "made_instance": true,
        "since": "1970-01-01T00:00:00Z",
        "limits": limits,
    });
    serde_json::from_value(gateway).expect("a gateway")
}

const THEN: &str = "1970-01-01T00:00:00Z";

/// A project's place behind the gateway: `enabled` or `disabled`, and how often it has been enabled.
pub fn membership(status: &str, enabled_times: u32) -> Membership {
    let member = json!({ "status": status, "since": THEN, "enabled_times": enabled_times });
    serde_json::from_value(member).expect("a membership")
}

/// A resource with an enabled gateway of these limits, with projects `P1` and `P2` behind it and deployments `d`, `d2`.
/// P1 has the agent `a` and the tools `gated` and `direct`.
pub fn resource(region: &str, limits: Limits) -> FoundryResource {
    let mut gateway = gateway(limits);
    for project in ["P1", "P2"] {
        gateway.memberships.insert(name(project), membership("enabled", 1));
    }
    let tool = |route: Value| json!({ "kind": "mcp", "auth": "key", "url": "https://tool.example", "created": THEN, "route": route });
    let resource = json!({
        "site": { "tenant": "t", "subscription": "s", "resource_group": "g", "region": region },
        "public_network_access": true,
        "deployments": { "d": { "model": "gpt-4o" }, "d2": { "model": "gpt-4o-mini" } },
        "projects": {
            "P1": {
                "created": THEN,
                "agents": {
                    "a": { "url": "https://agent.example", "protocol": "A2A", "gateway_url": "https://gateway.example/a", "status": "running", "registered": THEN },
                },
                "tools": {
                    "gated": tool(json!({ "gated": { "endpoint": "https://gateway.example/mcp/gated" } })),
                    "direct": tool(json!("direct")),
                },
            },
            "P2": { "created": THEN },
        },
        "gateway": gateway,
    });
    serde_json::from_value(resource).expect("a resource")
}

pub fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a name")
}

/// One project's limit on one deployment.
pub fn on(project: &str, deployment: &str, limit: TokenLimit) -> Limits {
    let deployments = [(deployment.parse().expect("a name"), limit)];
    Limits { projects: [(project.parse().expect("a name"), deployments.into())].into(), ..Limits::default() }
}

pub fn keyed(key: &[KeyPart], tokens: TokenLimit) -> KeyedLimit {
    KeyedLimit {
        key: CounterKey::new(key.to_vec()).expect("a key"),
        scope: LimitScope::default(),
        limit: WorkloadLimit::new(None, None, None, Some(tokens)).expect("a limit"),
    }
}
