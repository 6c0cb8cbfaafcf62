//! What each argument asks of the console.

use std::io::Read;

use serde_json::{Map, Value, json};
use tokenweir::gateway::Console;
use tokenweir::gateway::model::PrincipalId;

use super::args::{Action, Diagnose, Init, Profile, SetLimit};
use super::{Session, calls, refused, shown, state};
use crate::failure::Failure;

/// Whether a command may change the state.
pub fn changes(action: &Action) -> bool {
    !matches!(action, Action::Status | Action::Candidates | Action::Diagnose(_) | Action::Audit { .. } | Action::Policy)
}

/// What of a command has no use for someone who asks, since it asks for no permission.
pub fn asks_nobody(action: &Action) -> Option<&'static str> {
    match action {
        Action::Init(_) => Some("init states what there is"),
        Action::Grant { .. } | Action::Revoke { .. } => Some("who holds which role is a fact that is stated"),
        Action::Call(_) | Action::Verify { .. } => Some("a call comes from a project"),
        Action::Status | Action::Audit { .. } | Action::Policy => Some("anyone may look"),
        Action::Command { .. } => Some("the command itself says who asks, as \"by\""),
        _ => None,
    }
}

/// A console with one resource and someone who may do everything.
pub fn init(init: &Init, now: &str) -> Result<Console, Failure> {
    let profile = match init.profile {
        Profile::V2 => json!({ "tier": "v2" }),
        Profile::Classic => json!({ "tier": "classic" }),
        Profile::Native => Value::Null,
    };
    let provider = json!({ "ready_after": init.ready_after, "delete_after": init.gone_after, "failure": init.failure });
    let console = state::console(&json!({ "profile": profile, "provider": provider }), now)?;
    let site = json!({ "tenant": init.tenant, "subscription": init.subscription,
        "resource_group": init.resource_group, "region": init.region });
    let resource = json!({ "name": init.name, "site": site, "public_network_access": !init.private });
    let mut facts = vec![json!({ "resource": resource })];
    for deployment in &init.deployments {
        let (name, model) = deployment.split_once('=').unwrap_or((deployment, deployment));
        facts.push(json!({ "deployment": { "resource": init.name, "name": name, "model": model } }));
    }
    for project in &init.projects {
        facts.push(json!({ "project": { "resource": init.name, "name": project, "created": now } }));
    }
    let scope = format!("/subscriptions/{}", init.subscription);
    let roles = ["Owner", "Foundry Owner"].map(|role| json!({ "role": role, "scope": scope }));
    facts.push(json!({ "principal": { "id": init.principal, "assignments": roles } }));
    for fact in facts {
        console.execute(json!({ "declare": fact })).map_err(|error| refused(&error))?;
    }
    Ok(console)
}

/// What `status` prints.
pub fn status(console: &Console) -> Result<Value, Failure> {
    console.execute(json!({ "status": {} })).map_err(|error| refused(&error))
}

/// Carries out what was asked for, and prints the answer.
pub fn run(session: &Session<'_>) -> Result<(), Failure> {
    let project = |project: &str| json!({ "project": project });
    let agent = |of: &super::args::Agent| json!({ "project": of.project, "agent": of.agent });
    match &session.args.action {
        Action::Init(_) => Ok(()),
        Action::Create { name, instance, resource_group } => session.apply(
            "create_gateway",
            given([("name", json!(name)), ("instance", json!(instance)), ("resource_group", json!(resource_group))]),
        ),
        Action::Associate { instance, name } => {
            session.apply("use_existing", json!({ "instance": instance, "name": name }))
        }
        Action::Retry => session.apply("retry_gateway", json!({})),
        Action::CreateProject(of) => session.apply("create_project", project(&of.project)),
        Action::AddProject(of) => session.apply("add_project", project(&of.project)),
        Action::RemoveProject(of) => session.apply("remove_project", project(&of.project)),
        Action::ReAddProject(of) => session.apply("re_add_project", project(&of.project)),
        Action::SetLimit(limit) => set_limit(session, limit),
        Action::ClearLimit { project: Some(project), deployment } => {
            session.apply("clear_limit", json!({ "project": project, "deployment": deployment }))
        }
        Action::ClearLimit { project: None, .. } => session.apply("clear_aggregate_limit", json!({})),
        Action::RegisterAgent(of) => {
            let registration = json!({ "url": of.url, "protocol": of.protocol });
            let fields = json!({ "project": of.project, "agent": of.agent, "registration": registration });
            session.apply("register_agent", fields)
        }
        Action::BlockAgent(of) => session.apply("block_agent", agent(of)),
        Action::UnblockAgent(of) => session.apply("unblock_agent", agent(of)),
        Action::CreateTool(of) => session.apply(
            "create_tool",
            json!({ "project": of.project, "tool": of.tool, "url": of.url, "kind": of.kind, "auth": of.auth,
                "require_gated": of.require_gated }),
        ),
        Action::Call(call) => calls::run(session, call),
        Action::Status => {
            let only = given([("resource", json!(session.args.common.resource))]);
            session.print(&session.ask(json!({ "status": only }))?, shown::status)
        }
        Action::Candidates => {
            let resource = session.resource()?;
            let answer = session.ask(json!({ "candidates": { "by": session.by()?, "resource": resource } }))?;
            let hosts = session
                .console
                .estate(|estate| estate.gateway(&resource).map(|gateway| gateway.instance.as_str().to_owned()));
            session.print(&answer, |answer| shown::candidates(answer, hosts.as_deref()))
        }
        Action::Verify { project, deployment } => {
            let verify = json!({ "resource": session.resource()?, "project": project, "deployment": deployment });
            let answer = session.ask(json!({ "verify": verify }))?;
            session.print(&answer, shown::verified)?;
            match answer["passed"] == true {
                true => Ok(()),
                false => Err(Failure::Refused(vec!["it does not work yet: see what failed, and what to do".into()])),
            }
        }
        Action::Diagnose(of) => {
            let answer =
                session.ask(json!({ "diagnose": { "resource": session.resource()?, "seen": seen(session, of)? } }))?;
            session.print(&answer, shown::causes)
        }
        Action::Delete => session.apply("delete_gateway", json!({})),
        Action::DeleteInstance { instance } => session.apply("delete_instance", json!({ "instance": instance })),
        Action::KeepInstance { instance } => session.apply("keep_instance", json!({ "instance": instance })),
        Action::Grant { who, role, scope } => grant(session, who, role, scope.as_deref()),
        Action::Revoke { who } => declare(session, json!({ "principal": { "id": who, "assignments": [] } })),
        Action::Audit { last } => {
            let after = session.console.estate(|estate| {
                let trail = estate.audit();
                trail.dropped().saturating_add((trail.entries().len().saturating_sub(*last)) as u64)
            });
            session.print(&session.ask(json!({ "audit": { "after": after } }))?, shown::audit)
        }
        Action::Policy => {
            let answer = session.ask(json!({ "policy": { "resource": session.resource()? } }))?;
            session.print(&answer, shown::json)
        }
        Action::Command { text } => command(session, text),
    }
}

/// The fields that have a value.
pub fn given<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let known = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(known.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Takes a half away.
const NONE: &str = "none";

/// The half that is not given stays as it is.
fn set_limit(session: &Session<'_>, limit: &SetLimit) -> Result<(), Failure> {
    let mut fields = Map::new();
    if limit.tpm.is_some() || limit.quota.is_some() {
        fields = held_limit(session, limit)?;
    }
    if let Some(tpm) = &limit.tpm {
        fields.remove("tokens_per_minute");
        if tpm != NONE {
            fields.insert("tokens_per_minute".into(), whole("--tpm", tpm, "write tokens, for instance 100, or none")?);
        }
    }
    if let Some(quota) = &limit.quota {
        fields.remove("token_quota");
        fields.remove("token_quota_period");
        if quota != NONE {
            // What is wrong with either part is for the gateway to say.
            let (tokens, period) =
                quota.split_once('/').map_or((&**quota, None), |(tokens, period)| (tokens, Some(period)));
            let next = "write tokens/period, for instance 250/monthly, or none";
            fields.insert("token_quota".into(), whole("--quota", tokens, next)?);
            fields.extend(period.map(|period| ("token_quota_period".to_owned(), Value::from(period.trim()))));
        }
    }
    match (&limit.project, &limit.deployment) {
        (Some(project), Some(deployment)) => {
            session.apply("set_limit", json!({ "project": project, "deployment": deployment, "limit": fields }))
        }
        _ => session.apply("set_aggregate_limit", json!({ "limit": fields })),
    }
}

/// The limit as it is now.
fn held_limit(session: &Session<'_>, limit: &SetLimit) -> Result<Map<String, Value>, Failure> {
    let resource = session.resource()?;
    let held = session.console.estate(|estate| {
        let limits = &estate.gateway(&resource)?.limits;
        match (&limit.project, &limit.deployment) {
            (Some(project), Some(deployment)) => {
                limits.projects.get(project.as_str())?.get(deployment.as_str()).copied()
            }
            _ => limits.aggregate,
        }
    });
    match held.map(|held| json!(held)) {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn whole(option: &'static str, text: &str, next: &str) -> Result<Value, Failure> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let number = text.trim().replace('_', "").parse::<i64>();
    number.map(Value::from).map_err(|error| match error.kind() {
        PosOverflow | NegOverflow => {
            let next = "give 1 to 2147483647 tokens per minute, or a quota of 1 to 9007199254740992";
            Failure::input(option, format!("{} is out of range", text.trim()), next)
        }
        _ => Failure::input(option, format!("{text:?} is no whole number"), next),
    })
}

fn declare(session: &Session<'_>, fact: Value) -> Result<(), Failure> {
    session.print(&session.ask(json!({ "declare": fact }))?, shown::applied)
}

/// One role more than someone holds already.
fn grant(session: &Session<'_>, who: &str, role: &str, scope: Option<&str>) -> Result<(), Failure> {
    let id: PrincipalId = who.parse().map_err(|error| Failure::input("WHO", error, "give another name"))?;
    let resource = session.resource()?;
    let (held, home) = session.console.estate(|estate| {
        let home = estate.resources().get(resource.as_str()).map(|resource| resource.site.subscription.to_string());
        (estate.principals().get(&id).cloned().unwrap_or_default(), home)
    });
    let scope = match (scope, home) {
        (Some(scope), _) => scope.to_owned(),
        (None, Some(home)) => format!("/subscriptions/{home}"),
        (None, None) => {
            return Err(Failure::input("--resource", format!("there is no {resource:?} here"), "correct its name"));
        }
    };
    let mut principal = json!(held);
    if let Some(fields) = principal.as_object_mut() {
        fields.insert("id".into(), who.into());
        if let Some(assignments) = fields.get_mut("assignments").and_then(Value::as_array_mut) {
            assignments.push(json!({ "role": role, "scope": scope }));
        }
    }
    declare(session, json!({ "principal": principal }))
}

fn seen(session: &Session<'_>, of: &Diagnose) -> Result<Value, Failure> {
    // Where it matters who asks and that is not known, the diagnosis says so.
    let by = json!(session.by().ok());
    if let Some(seen) = &of.seen {
        let mut seen: Value =
            serde_json::from_str(seen).map_err(|error| Failure::input("--seen", error, "correct the JSON"))?;
        if let Some(fields) = seen.as_object_mut()
            && !by.is_null()
        {
            fields.entry("by").or_insert(by);
        }
        return Ok(seen);
    }
    let wrong = "write tokens/seconds, for instance 500/60";
    let spent = of.unrefused.as_ref().map(|spent| {
        let (tokens, seconds) = spent.split_once('/').unwrap_or((spent, "0"));
        match (tokens.trim().parse::<u64>(), seconds.trim().parse::<u64>()) {
            (Ok(tokens), Ok(seconds)) => Ok(json!({ "tokens": tokens, "seconds": seconds })),
            _ => Err(Failure::input("--unrefused", format!("{spent:?} is not two whole numbers"), wrong)),
        }
    });
    let filled = |fields: Value| if fields == json!({}) { Value::Null } else { fields };
    let direct = given([("status", json!(of.direct_status)), ("latency_ms", json!(of.direct_latency))]);
    let headers: Map<String, Value> = of.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let call = given([
        ("at", json!(of.at)),
        ("status", json!(of.status)),
        ("headers", filled(Value::Object(headers))),
        ("last_error_reason", json!(of.last_error_reason)),
        ("body", json!(of.body)),
        ("host", json!(of.host)),
        ("latency_ms", json!(of.latency)),
        ("passed_gateway", json!(of.passed_gateway)),
        ("direct", filled(direct)),
    ]);
    let listing = given([
        ("gateway", json!(of.gateway_listed)),
        ("project", json!(of.project_listed)),
        ("status", json!(of.listed_as.as_ref().map(|status| status.to_ascii_lowercase()))),
        ("read", json!(of.list_read)),
        ("instance", json!(of.missing_instance.as_ref().map(|_| false))),
    ]);
    Ok(given([
        ("by", by),
        ("project", json!(of.project)),
        ("deployment", json!(of.deployment)),
        ("instance", json!(of.missing_instance)),
        ("tool", json!(of.tool)),
        ("agent", json!(of.agent)),
        ("listing", filled(listing)),
        ("call", filled(call)),
        ("unrefused", spent.transpose()?.unwrap_or_default()),
        ("refused", json!(of.refused)),
    ]))
}

fn command(session: &Session<'_>, json: &str) -> Result<(), Failure> {
    let mut text = json.to_owned();
    if json == "-" {
        text.clear();
        let read = std::io::stdin().lock().take(Console::MOST_BYTES as u64 + 1).read_to_string(&mut text);
        read.map_err(|error| Failure::input("standard input", error, "give the command as UTF-8 text"))?;
    }
    let answer = session.console.command(&text);
    let answer: Map<String, Value> = serde_json::from_str(&answer).unwrap_or_default();
    match (answer.get("ok"), answer.get("error")) {
        (Some(ok), _) => session.print(ok, shown::json),
        (None, error) => {
            Err(Failure::Told(serde_json::to_string_pretty(&json!({ "error": error })).unwrap_or_default()))
        }
    }
}
