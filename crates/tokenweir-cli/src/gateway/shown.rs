//! Answers for readers.

use std::fmt::Write as _;

use serde_json::Value;

use crate::text::{Table, grouped, printable};

/// JSON as it is.
pub fn json(answer: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// An instant to the second.
fn instant(value: &Value) -> String {
    let text = word(value);
    text.split_once('.').map_or_else(|| text.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), grouped)
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What an operation came to.
pub fn applied(applied: &Value) -> String {
    let mut out = format!("{}: {}\n", word(&applied["entity"]), word(&applied["state"]));
    for note in each(&applied["notes"]) {
        let _ = writeln!(out, "  note: {}", word(note));
    }
    for warning in each(&applied["warnings"]) {
        let (rule, reason, next) = (word(&warning["rule"]), word(&warning["reason"]), word(&warning["next"]));
        let _ = writeln!(out, "  warning [{rule}]: {reason}; {next}");
    }
    out
}

/// What came to an end by itself: said on the standard error, since it is no answer.
pub fn changes(answer: &Value) {
    use std::io::Write as _;
    for change in each(&answer["changes"]) {
        // The standard error may be closed; then there is nobody to tell.
        for line in applied(change).lines() {
            let _ = writeln!(std::io::stderr(), "meanwhile: {}", line.trim_start());
        }
    }
}

/// One call: what its client sees, and what is left.
pub fn call(nth: u32, decided: &Value, ended: &Value) -> String {
    let outcome = word(&decided["outcome"]);
    if let Some(status) = decided["status"].as_u64() {
        let headers: Vec<_> =
            fields(&decided["headers"]).map(|(name, value)| format!("{name}: {}", word(value))).collect();
        let headers = if headers.is_empty() { String::new() } else { format!(" ({})", headers.join(", ")) };
        return format!("{nth}: {status} {outcome}: {}{headers}\n", word(&decided["message"]));
    }
    let settlement = &ended["settlement"];
    if settlement.is_null() {
        return format!("{nth}: 200 {outcome}: no limit counts it\n");
    }
    let tokens = settlement["input"].as_u64().unwrap_or(0).saturating_add(settlement["output"].as_u64().unwrap_or(0));
    let mut out = format!("{nth}: 200 {outcome}: {} tokens", grouped(tokens));
    let left = [("tokens", "this minute"), ("quota_tokens", "of the quota")];
    for (name, of) in left {
        if let Some(left) = ended["remaining"][name].as_u64() {
            let _ = write!(out, ", {} left {of}", grouped(left));
        }
    }
    out.push('\n');
    out
}

/// Gateways, and a table of projects with their limits.
pub fn status(answer: &Value) -> String {
    let mut out = String::new();
    for (name, resource) in fields(&answer["resources"]) {
        gateway(&mut out, name, resource, &answer["instances"]);
        let calls: Vec<_> = fields(&resource["requests"])
            .filter(|(_, calls)| **calls != 0)
            .map(|(outcome, calls)| format!("{} {outcome}", number(calls)))
            .collect();
        let _ = writeln!(out, "requests: {}", if calls.is_empty() { "none".to_owned() } else { calls.join(", ") });
        let bypassed: Vec<_> = fields(&resource["projects"])
            .filter_map(|(project, held)| {
                let calls = &held["requests"]["bypassed"];
                calls.as_u64().filter(|calls| *calls > 0).map(|_| format!("{project} {}", number(calls)))
            })
            .collect();
        if !bypassed.is_empty() {
            let _ = writeln!(out, "  bypassed by project: {}", bypassed.join(", "));
        }
        projects(&mut out, resource);
    }
    let others = fields(&answer["instances"]).filter(|(_, instance)| each(&instance["hosts"]).next().is_none());
    for (name, instance) in others {
        let _ = writeln!(out, "instance {name}: {}", described(instance));
    }
    out
}

fn described(instance: &Value) -> String {
    let bills = match &instance["billed_since"] {
        Value::Null if instance["bills"] == true => "bills".to_owned(),
        Value::Null => "does not bill".to_owned(),
        since => format!("bills since {}", instant(since)),
    };
    format!("{}, {}, {bills}", word(&instance["tier"]), word(&instance["status"]))
}

fn gateway(out: &mut String, name: &str, resource: &Value, instances: &Value) {
    let gateway = &resource["gateway"];
    if gateway.is_null() {
        let _ = writeln!(out, "resource {name}: no gateway");
        return;
    }
    let (instance, state) = (word(&gateway["instance"]), word(&gateway["state"]));
    let _ = writeln!(
        out,
        "resource {name}: gateway {} is {state} since {}",
        word(&gateway["name"]),
        instant(&gateway["since"])
    );
    if let Some(reason) = gateway["reason"].as_str() {
        let _ = writeln!(out, "  because: {reason}");
    }
    let _ =
        writeln!(out, "instance {instance}: {}, https://{}", described(&instances[instance]), word(&gateway["host"]));
}

fn projects(out: &mut String, resource: &Value) {
    let mut table = Table::new(2, 4, &["project", "status", "on", "limit", "amount", "used", "left", "resets at"]);
    let mut add = |project: &str, status: &str, on: &str, uses: &Value| {
        let mut first = true;
        for used in each(uses) {
            let row = |text: &str| if first { printable(text.as_bytes()) } else { String::new() };
            let (left, resets) = match used.get("counters") {
                Some(counters) => (format!("{} counters", number(counters)), "-".to_owned()),
                None => (number(&used["remaining"]), instant(&used["resets_at"])),
            };
            let amount = number(&used["amount"]);
            let cells = [row(project), row(status), row(on), word(&used["name"]).to_owned()];
            table.row(cells.into_iter().chain([amount, number(&used["used"]), left, resets]).collect());
            first = false;
        }
        if first {
            let cells = [project, status, on, "none", "-", "-", "-", "-"];
            table.row(cells.map(|cell| printable(cell.as_bytes())).to_vec());
        }
    };
    for (project, held) in fields(&resource["projects"]) {
        let status = word(&held["status"]);
        let limits: Vec<_> = fields(&held["limits"]).collect();
        for (deployment, limit) in &limits {
            add(project, status, deployment, &limit["use"]);
        }
        if limits.is_empty() {
            add(project, status, "-", &Value::Null);
        }
        for (kind, held) in [("agent", &held["agents"]), ("tool", &held["tools"])] {
            for (name, held) in fields(held) {
                let at = match kind {
                    "agent" => word(&held["agent"]["status"]),
                    _ => held["tool"]["route"].as_str().unwrap_or("gated"),
                };
                add(project, at, &format!("{kind} {name}"), &held["use"]);
            }
        }
    }
    if !resource["gateway"]["aggregate"].is_null() {
        add("all", "-", "-", &resource["gateway"]["aggregate"]["use"]);
    }
    for (name, limit) in fields(&resource["gateway"]["keyed"]) {
        add("-", "-", &format!("key {name}"), &limit["use"]);
    }
    out.push_str(&table.render());
}

/// What keeps each instance from hosting the gateway; `hosts` has it already.
pub fn candidates(answer: &Value, hosts: Option<&str>) -> String {
    let mut out = String::new();
    for (name, findings) in fields(&answer["instances"]) {
        if hosts == Some(name) {
            let _ = writeln!(out, "{name}: hosts the gateway of this resource already");
            continue;
        }
        if each(findings).next().is_none() {
            let _ = writeln!(out, "{name}: can host the gateway");
        }
        for finding in each(findings) {
            let (code, rule) = (word(&finding["code"]), word(&finding["rule"]));
            let aspect = finding["aspect"].as_str().map_or_else(String::new, |aspect| format!("({aspect})"));
            let (reason, next) = (word(&finding["reason"]), word(&finding["next"]));
            let _ = writeln!(out, "{name}: {code}{aspect} [{rule}]: {reason}; {next}");
        }
    }
    if out.is_empty() { "there are no instances\n".to_owned() } else { out }
}

/// Each check, and what to do where it failed.
pub fn verified(answer: &Value) -> String {
    let mut out = String::new();
    for check in each(&answer["checks"]) {
        let mark = if check["passed"] == true { "ok" } else { "FAILED" };
        let _ = writeln!(out, "{mark}: {}", word(&check["detail"]));
        if let Some(next) = check["next"].as_str() {
            let _ = writeln!(out, "  next: {next}");
        }
    }
    out
}

/// Each cause, the surest first.
pub fn causes(answer: &Value) -> String {
    let mut out = String::new();
    for cause in each(&answer["causes"]) {
        let _ =
            writeln!(out, "{} ({}): {}", word(&cause["diagnosis"]), word(&cause["certainty"]), word(&cause["cause"]));
        for evidence in each(&cause["evidence"]) {
            let _ = writeln!(out, "  seen: {}", word(evidence));
        }
        let _ = writeln!(out, "  next: {}", word(&cause["remedy"]));
    }
    if out.is_empty() { "nothing that was seen points at anything\n".to_owned() } else { out }
}

/// The audit trail.
pub fn audit(answer: &Value) -> String {
    let mut out = String::new();
    for entry in each(&answer["entries"]) {
        let done = match entry["outcome"]["done"]["state"].as_str() {
            Some(state) => state.to_owned(),
            None => {
                let codes: Vec<_> = each(&entry["outcome"]["refused"]["codes"]).map(word).collect();
                format!("refused: {}", codes.join(", "))
            }
        };
        let (at, by) = (instant(&entry["at"]), word(&entry["by"]));
        let _ = writeln!(
            out,
            "{} {at} {by} {} {}: {done}",
            number(&entry["number"]),
            word(&entry["event"]),
            word(&entry["entity"])
        );
    }
    out
}
