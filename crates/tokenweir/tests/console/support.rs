use serde_json::{Value, json};
use tokenweir::gateway::{Console, ConsoleOptions};

/// An hour before the end of a month, so that a monthly quota comes round soon.
pub const MONTH_END: &str = "2026-11-30T23:00:00Z";

/// A console that is told the time, whose instances are ready after 480 s and gone after 60.
pub fn console() -> Console {
    Console::new(&options(json!({})))
}

pub fn options(more: Value) -> ConsoleOptions {
    let mut options = json!({ "time": "given", "provider": { "ready_after": 480, "delete_after": 60 } });
    options.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    serde_json::from_value(options).expect("options")
}

/// The instant so many seconds after the month's last hour began.
pub fn at(seconds: u64) -> String {
    let start: tokenweir::gateway::model::Timestamp = MONTH_END.parse().expect("an instant");
    start.plus_seconds(seconds).to_string()
}

pub fn answer(console: &Console, command: &Value) -> Value {
    serde_json::from_str(&console.command(&command.to_string())).expect("an answer is JSON")
}

#[track_caller]
pub fn ok(console: &Console, command: Value) -> Value {
    let mut answer = answer(console, &command);
    assert!(answer.get("error").is_none(), "{command}: {answer:#}");
    answer["ok"].take()
}

/// What the command is refused with: it says what to do.
#[track_caller]
pub fn error(console: &Console, command: Value) -> Value {
    let mut answer = answer(console, &command);
    let error = answer["error"].take();
    assert!(
        error["code"].is_string() && error["next"].as_str().is_some_and(|next| !next.is_empty()),
        "{command}: {error:#}"
    );
    error
}

#[track_caller]
pub fn code(console: &Console, command: Value) -> String {
    error(console, command)["code"].as_str().expect("a code").to_owned()
}

/// An operation of `ada`, who may do everything.
pub fn by_ada(seconds: u64, operation: &str, fields: Value) -> Value {
    by("ada", seconds, operation, fields)
}

pub fn by(who: &str, seconds: u64, operation: &str, mut fields: Value) -> Value {
    if !operation.ends_with("_instance") {
        fields.as_object_mut().expect("fields").insert("resource".into(), "contoso".into());
    }
    json!({ "now": at(seconds), "apply": { "by": who, "operation": { operation: fields } } })
}

pub fn person(id: &str, roles: &[&str]) -> Value {
    let grants: Vec<_> = roles.iter().map(|role| json!({ "role": role, "scope": "/subscriptions/s" })).collect();
    json!({ "now": at(0), "declare": { "principal": { "id": id, "assignments": grants } } })
}

/// The resource `contoso` with the deployment `d`, the projects `search` and `chat`, and `ada`.
pub fn declared() -> Console {
    let console = console();
    declare(&console);
    console
}

pub fn declare(console: &Console) {
    let site = json!({ "tenant": "t", "subscription": "s", "resource_group": "g", "region": "swedencentral" });
    for fact in [
        json!({ "resource": { "name": "contoso", "public_network_access": true, "site": site } }),
        json!({ "deployment": { "resource": "contoso", "name": "d", "model": "gpt-4o" } }),
        json!({ "project": { "resource": "contoso", "name": "search", "created": "2026-01-01T00:00:00Z" } }),
        json!({ "project": { "resource": "contoso", "name": "chat", "created": "2026-01-01T00:00:00Z" } }),
    ] {
        ok(console, json!({ "now": at(0), "declare": fact }));
    }
    ok(console, person("ada", &["Owner", "Foundry Owner"]));
}

/// With the gateway `front` Enabled at 480 s, and `search` behind it.
pub fn with_gateway() -> Console {
    let console = declared();
    ok(&console, by_ada(0, "create_gateway", json!({ "name": "front" })));
    ok(&console, json!({ "now": at(480), "refresh": {} }));
    ok(&console, by_ada(480, "add_project", json!({ "project": "search" })));
    console
}

pub fn limit(seconds: u64, project: &str, limit: Value) -> Value {
    by_ada(seconds, "set_limit", json!({ "project": project, "deployment": "d", "limit": limit }))
}

/// A call of a project, settled with these tokens if it passes.
#[track_caller]
pub fn call(console: &Console, seconds: u64, project: &str, input: u64, output: u64) -> Value {
    let decided = ok(console, json!({ "now": at(seconds), "call": { "project": project, "deployment": "d" } }));
    if let Some(id) = decided["call"].as_str() {
        let usage = json!({ "input": input, "output": output });
        ok(console, json!({ "settle": { "call": id, "usage": usage, "response_code": 200 } }));
    }
    decided
}

pub fn status(console: &Console, seconds: u64) -> Value {
    ok(console, json!({ "now": at(seconds), "status": {} }))
}
