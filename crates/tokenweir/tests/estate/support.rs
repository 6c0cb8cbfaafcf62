use serde_json::{Value, json};
use tokenweir::gateway::model::Timestamp;
use tokenweir::gateway::{Applied, Cause, Code, Estate, InProcessProvider, InstanceProvider, Refused, diagnose};

/// As long as a Basic v2 instance typically takes.
pub const EIGHT_MINUTES: u64 = 480;

pub fn at(seconds: u64) -> Timestamp {
    "2026-11-23T09:00:00Z".parse::<Timestamp>().expect("an instant").plus_seconds(seconds)
}

pub fn site(subscription: &str) -> Value {
    json!({ "tenant": "t", "subscription": subscription, "resource_group": "g", "region": "swedencentral" })
}

/// An estate with the resource `contoso`, its deployments `d` and `d2`, the project `old`, and `ada`, who may do everything.
pub fn estate(public: bool) -> Estate {
    peopled(InProcessProvider { ready_after: EIGHT_MINUTES, ..InProcessProvider::default() }, public)
}

/// The same with instances of this provider.
pub fn estate_of(provider: impl InstanceProvider + Send + 'static) -> Estate {
    peopled(provider, true)
}

fn peopled(provider: impl InstanceProvider + Send + 'static, public: bool) -> Estate {
    let mut estate = Estate::new(provider);
    for fact in [
        json!({ "resource": { "name": "contoso", "public_network_access": public, "site": site("s") } }),
        json!({ "deployment": { "resource": "contoso", "name": "d", "model": "gpt-4o" } }),
        json!({ "deployment": { "resource": "contoso", "name": "d2", "model": "gpt-4o-mini" } }),
        json!({ "project": { "resource": "contoso", "name": "old", "created": "2026-01-01T00:00:00Z" } }),
        person("ada", &["Owner", "Foundry Owner"]),
    ] {
        declare(&mut estate, fact);
    }
    estate
}

/// Someone who holds these roles on the subscription.
pub fn person(id: &str, roles: &[&str]) -> Value {
    let grants: Vec<Value> = roles.iter().map(|role| json!({ "role": role, "scope": "/subscriptions/s" })).collect();
    json!({ "principal": { "id": id, "assignments": grants } })
}

pub fn instance(name: &str, tier: &str, network: &str, subscription: &str) -> Value {
    json!({ "instance": { "name": name, "site": site(subscription), "tier": tier, "network": network,
        "billed_since": "2026-01-01T00:00:00Z" } })
}

pub fn declare(estate: &mut Estate, fact: Value) {
    estate.declare(at(0), &serde_json::from_value(fact).expect("a declaration")).expect("it can be");
}

pub fn apply(estate: &mut Estate, by: &str, seconds: u64, operation: Value) -> Result<Applied, Refused> {
    let operation = serde_json::from_value(operation).expect("an operation");
    estate.apply(&by.parse().expect("an id"), at(seconds), &operation)
}

/// Done by `ada`.
pub fn done(estate: &mut Estate, seconds: u64, operation: Value) -> Applied {
    apply(estate, "ada", seconds, operation.clone()).unwrap_or_else(|refused| panic!("{operation}: {refused}"))
}

/// Refused to `ada`; it names what it is about, says what to do next, and has changed nothing.
pub fn refused(estate: &mut Estate, seconds: u64, operation: Value) -> Refused {
    let before = holdings(estate);
    let refused = apply(estate, "ada", seconds, operation.clone()).expect_err(&operation.to_string());
    assert_eq!(holdings(estate), before, "{operation}");
    assert!(!refused.entity.is_empty() && refused.findings.iter().all(|finding| !finding.next.is_empty()), "{refused}");
    refused
}

pub fn code(estate: &mut Estate, seconds: u64, operation: Value) -> Code {
    refused(estate, seconds, operation).code()
}

/// Everything but the audit trail.
pub fn holdings(estate: &Estate) -> Value {
    let mut document: Value = serde_json::from_str(&estate.save(&Default::default())).expect("JSON");
    document["estate"].take()
}

pub fn on(operation: &str, more: Value) -> Value {
    let mut fields = json!({ "resource": "contoso" });
    fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    json!({ operation: fields })
}

/// With the gateway `front` enabled, and nothing behind it.
pub fn with_gateway() -> Estate {
    let mut estate = estate(true);
    done(&mut estate, 0, on("create_gateway", json!({ "name": "front" })));
    assert_eq!(estate.refresh(at(EIGHT_MINUTES)).len(), 1);
    estate
}

/// The diagnoses of what was seen, the surest first.
pub fn causes(estate: &Estate, seconds: u64, seen: Value) -> Vec<Cause> {
    let seen = serde_json::from_value(seen).expect("an observation");
    diagnose(estate, &"contoso".parse().expect("a name"), at(seconds), &seen).expect("the resource is known")
}
