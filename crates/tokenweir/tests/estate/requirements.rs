//! Each requirement, failing and met: one row for each rule.

use super::support::*;
use serde_json::{Value, json};
use tokenweir::gateway::{Estate, Severity, rules};

/// One rule: who does what in which world, so that it fails, and so that it does not.
struct Row {
    rule: &'static str,
    severity: Severity,
    fails: Try,
    passes: Try,
}

struct Try {
    world: World,
    by: &'static str,
    what: Value,
}

#[derive(Clone, Copy)]
enum World {
    /// A public resource without a gateway, and instances of all kinds.
    Public,
    /// The same of a resource that is not public.
    Private,
    /// With the gateway `front`, and `old` behind it.
    Front,
}

fn made(world: World) -> Estate {
    let mut estate = match world {
        World::Public => estate(true),
        World::Private => estate(false),
        World::Front => with_gateway(),
    };
    declare(&mut estate, person("foundry", &["Foundry Owner"]));
    declare(&mut estate, person("contributor", &["Contributor"]));
    let mut hidden = person("hidden", &["Owner", "Foundry Owner"]);
    hidden["principal"]["hidden_subscriptions"] = json!(["s"]);
    declare(&mut estate, hidden);
    let in_site = |name: &str, part: &str, other: &str| {
        let mut fact = instance(name, "Standard v2", "public", "s");
        fact["instance"]["site"][part] = json!(other);
        fact
    };
    for fact in [
        instance("good", "Standard v2", "public", "s"),
        instance("closed", "Standard v2", "private_endpoint", "s"),
        instance("classic", "Premium", "public", "s"),
        in_site("other-tenant", "tenant", "elsewhere"),
        in_site("other-subscription", "subscription", "elsewhere"),
        instance("taken", "Standard v2", "public", "s"),
        json!({ "resource": { "name": "fabrikam", "public_network_access": true, "site": site("s") } }),
    ] {
        declare(&mut estate, fact);
    }
    let second = json!({ "use_existing": { "resource": "fabrikam", "instance": "taken", "name": "second" } });
    done(&mut estate, 0, second);
    if matches!(world, World::Front) {
        done(&mut estate, 500, on("add_project", json!({ "project": "old" })));
    }
    estate
}

/// The rules that find something, and how heavy it is; whether it is done.
fn found(estate: &mut Estate, by: &str, what: Value) -> (Vec<(&'static str, Severity)>, bool) {
    let result = match serde_json::from_value(what.clone()) {
        Ok(fact) => estate.declare(at(600), &fact),
        Err(_) => apply(estate, by, 600, what),
    };
    let rules = |findings: &[tokenweir::gateway::Finding]| {
        findings.iter().filter_map(|finding| Some((finding.rule?, finding.severity))).collect()
    };
    match result {
        Ok(applied) => (rules(&applied.warnings), true),
        Err(refused) => (rules(&refused.findings), false),
    }
}

fn row(rule: &'static str, world: World, by: &'static str, fails: Value, passes: Value) -> Row {
    let passes = Try { world, by: "ada", what: passes };
    Row { rule, severity: Severity::Error, fails: Try { world, by, what: fails }, passes }
}

/// Something that fails for somebody, and not for `ada`.
fn role(rule: &'static str, world: World, by: &'static str, what: Value) -> Row {
    row(rule, world, by, what.clone(), what)
}

fn table() -> Vec<Row> {
    use World::{Front, Private, Public};
    let create = |name: &str| on("create_gateway", json!({ "name": name }));
    let existing = |instance: &str| on("use_existing", json!({ "instance": instance, "name": "front" }));
    let limit = |limit: Value| on("set_limit", json!({ "project": "old", "deployment": "d", "limit": limit }));
    let keyed = |key: Value, limit: Value| {
        on("set_keyed_limit", json!({ "name": "n", "limit": { "key": key, "limit": limit } }))
    };
    let user = || json!([{ "caller": "user" }]);
    let dimensions = |count: usize| {
        let each: Vec<_> = (0..count).map(|n| json!({ "name": format!("d{n}"), "value": "v" })).collect();
        on("set_metric_dimensions", json!({ "dimensions": each }))
    };
    let agent = |url: &str| {
        let registration = json!({ "url": url, "protocol": "A2A" });
        on("register_agent", json!({ "project": "old", "agent": "a", "registration": registration }))
    };
    let tool = |auth: &str| {
        let fields = json!({ "project": "old", "tool": "t", "kind": "mcp", "auth": auth, "url": "https://tool.example", "require_gated": true });
        on("create_tool", fields)
    };
    let calls = |seconds: u64| json!({ "calls": { "calls": 5, "renewal_seconds": seconds } });
    let quota = |fields: Value| json!({ "call_quota": fields });
    vec![
        role("V-01", Public, "foundry", create("front")),
        role("V-02", Public, "foundry", existing("good")),
        role("V-03", Public, "contributor", create("front")),
        row("V-04", Public, "ada", existing("other-tenant"), existing("good")),
        row("V-05", Public, "ada", existing("other-subscription"), existing("good")),
        role("V-06", Public, "hidden", existing("good")),
        row("V-07", Public, "ada", existing("classic"), existing("good")),
        row("V-08", Public, "ada", existing("taken"), existing("good")),
        row("V-09", Private, "ada", existing("good"), existing("closed")),
        Row {
            passes: Try { world: Public, by: "ada", what: create("front") },
            ..row("V-10", Private, "ada", create("front"), Value::Null)
        },
        Row { severity: Severity::Warning, ..row("V-11", Public, "ada", create("front"), existing("good")) },
        row("V-12", Public, "ada", create("7 gateways"), create("front")),
        role("V-13", Front, "foundry", on("remove_project", json!({ "project": "old" }))),
        row(
            "V-14",
            Front,
            "ada",
            limit(json!({ "token_quota": 5 })),
            limit(json!({ "token_quota": 5, "token_quota_period": "Daily" })),
        ),
        row(
            "V-15",
            Front,
            "ada",
            limit(json!({ "token_quota": 5, "token_quota_period": "Fortnightly" })),
            limit(json!({ "token_quota": 5, "token_quota_period": "weekly" })),
        ),
        row(
            "V-16",
            Front,
            "ada",
            limit(json!({ "tokens_per_minute": 0 })),
            limit(json!({ "tokens_per_minute": i32::MAX })),
        ),
        row("V-17", Front, "ada", keyed(json!([]), calls(60)), keyed(user(), calls(60))),
        row("V-18", Front, "ada", keyed(user(), calls(301)), keyed(user(), calls(300))),
        row(
            "V-19",
            Front,
            "ada",
            keyed(user(), quota(json!({ "renewal_seconds": 300 }))),
            keyed(user(), quota(json!({ "calls": 5, "renewal_seconds": 300 }))),
        ),
        row("V-20", Front, "ada", dimensions(6), dimensions(5)),
        row("V-21", Front, "ada", agent("not an address"), agent("https://agent.example")),
        row("V-22", Front, "ada", tool("managed_o_auth"), tool("key")),
        row(
            "V-23",
            Public,
            "ada",
            person("grace", &["Emperor"]),
            person("grace", &["Azure AI Owner", "Foundry Owner"]),
        ),
    ]
}

#[test]
fn each_requirement_fails_and_is_met() {
    let table = table();
    let listed: Vec<_> = rules().map(|rule| rule.id).filter(|id| id.starts_with("V-")).collect();
    assert!(listed.iter().all(|id| table.iter().filter(|row| row.rule == *id).count() == 1), "{listed:?}");
    for Row { rule, severity, fails, passes } in table {
        let (failing, applied) = found(&mut made(fails.world), fails.by, fails.what.clone());
        assert!(failing.contains(&(rule, severity)), "{rule}: {} finds {failing:?}", fails.what);
        assert_eq!(applied, severity == Severity::Warning, "{rule}");
        let (met, applied) = found(&mut made(passes.world), passes.by, passes.what.clone());
        assert!(applied && met.iter().all(|(found, _)| *found != rule), "{rule}: {} finds {met:?}", passes.what);
    }
}

#[test]
fn everything_that_is_wrong_with_a_limit_is_reported_at_once() {
    let mut estate = made(World::Front);
    let limit = json!({
        "calls": { "calls": 0, "renewal_seconds": 301 },
        "call_quota": { "bandwidth_kilobytes": -1, "renewal_seconds": 299 },
        "concurrency": -1,
        "tokens": { "token_quota": 5 },
    });
    let scope = json!({ "project": "nobody's", "deployment": "none" });
    let what = on("set_keyed_limit", json!({ "name": "n", "limit": { "key": [], "scope": scope, "limit": limit } }));
    let refused = refused(&mut estate, 600, what);
    let count = |code: &str| refused.findings.iter().filter(|finding| finding.code.as_str() == code).count();
    for (code, times) in [
        ("PROJECT_NOT_IN_RESOURCE", 1),
        ("DEPLOYMENT_NOT_FOUND", 1),
        ("QUOTA_PERIOD_MISMATCH", 1),
        ("LIMIT_NOT_POSITIVE", 3),
        ("COUNTER_CONFLICT", 1),
        ("RENEWAL_OUT_OF_RANGE", 2),
    ] {
        assert_eq!(count(code), times, "{code}: {refused}");
    }
    assert!(refused.to_string().contains("a constant if one counter for all is meant"), "{refused}");
    let nothing =
        on("set_keyed_limit", json!({ "name": "n", "limit": { "key": [{ "caller": "user" }], "limit": {} } }));
    let refused = self::refused(&mut estate, 600, nothing);
    assert!(refused.to_string().contains("calls, a call quota and concurrency"), "{refused}");
}

#[test]
fn what_cannot_be_put_in_force_is_refused_when_it_is_set() {
    let tokens = |per_minute: u64| json!({ "tokens": { "tokens_per_minute": per_minute } });
    let keyed = |name: &str, scope: Value, limit: Value| {
        on(
            "set_keyed_limit",
            json!({ "name": name, "limit": { "key": [{ "caller": "user" }], "scope": scope, "limit": limit } }),
        )
    };
    let mut estate = made(World::Front);
    declare(
        &mut estate,
        json!({ "project": { "resource": "contoso", "name": "a*", "created": "2026-01-01T00:00:00Z" } }),
    );
    declare(&mut estate, json!({ "deployment": { "resource": "contoso", "name": "gpt*", "model": "gpt-4o" } }));
    done(&mut estate, 600, on("add_project", json!({ "project": "a*" })));
    let on_d = json!({ "deployment": "d" });
    done(&mut estate, 600, keyed("first", on_d.clone(), tokens(100)));
    let bandwidth = json!({ "call_quota": { "calls": 5, "bandwidth_kilobytes": 5, "renewal_seconds": 0 } });
    let bytes =
        on("set_keyed_limit", json!({ "name": "bytes", "limit": { "key": [{ "caller": "ip" }], "limit": bandwidth } }));
    let limit = |project: &str, deployment: &str, limit: Value| {
        on("set_limit", json!({ "project": project, "deployment": deployment, "limit": limit }))
    };
    let quota = |tokens: u64| json!({ "token_quota": tokens, "token_quota_period": "Yearly" });
    for (what, code, said) in [
        (limit("a*", "d", quota(5)), "NAME_INVALID", "\"a*\" has a *"),
        (limit("old", "gpt*", quota(5)), "NAME_INVALID", "\"gpt*\" has a *"),
        (limit("old", "d", quota((1 << 53) + 1)), "OUT_OF_RANGE", "9007199254740993"),
        (
            on("set_aggregate_limit", json!({ "limit": quota(u64::MAX >> 1) })),
            "OUT_OF_RANGE",
            "all projects: token quota",
        ),
        (bytes, "BANDWIDTH_UNSUPPORTED", "bandwidth is not counted"),
        (keyed("faster", json!({}), tokens(200)), "COUNTER_CONFLICT", "they limit it differently"),
        (
            keyed("elsewhere", json!({ "deployment": "d2" }), tokens(100)),
            "COUNTER_CONFLICT",
            "they are on different requests",
        ),
    ] {
        let refused = refused(&mut estate, 600, what.clone());
        assert_eq!(refused.code().as_str(), code, "{what}: {refused}");
        assert!(refused.findings[0].reason.contains(said), "{what}: {refused}");
        assert_eq!(refused.findings.len(), 1, "said once: {refused}");
    }
    for what in
        [limit("old", "d", quota(1 << 53)), keyed("same", on_d, tokens(100)), keyed("all", json!({}), tokens(100))]
    {
        done(&mut estate, 600, what);
    }
    let policy = estate.gateway("contoso").expect("a gateway").policy(&tokenweir::gateway::Terms::native());
    assert!(policy.is_ok(), "{policy:?}");
}
