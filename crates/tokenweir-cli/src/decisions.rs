//! The decisions file: one JSON line for each request.

use std::fmt::Write;

use crate::drive::{LimitFacts, Verdict};
use crate::instant;
use crate::trace::Entry;

/// Writes decisions as JSON lines; the names of the limits are quoted once.
#[derive(Debug)]
pub struct Decisions {
    names: Vec<String>,
}

impl Decisions {
    /// For these limits.
    pub fn new(limits: &[LimitFacts]) -> Self {
        Decisions { names: limits.iter().map(|limit| quoted(&limit.name)).collect() }
    }

    /// The line of one decision, with its end of line.
    ///
    /// Fields are in a fixed order and limits in the order of the policy, so that equal runs give equal files.
    pub fn line(&self, entry: &Entry, verdict: &Verdict) -> String {
        let mut line = String::with_capacity(256);
        let name = |limit: usize| self.names[limit].as_str();
        let decision = if verdict.status == 200 { "admitted" } else { "denied" };
        let limit = verdict.limit.map_or("null", name);
        let _ = write!(
            line,
            r#"{{"line":{},"at":{},"decision":"{decision}","status":{},"limit":{limit},"refused_by":["#,
            entry.line, entry.at_text, verdict.status
        );
        list(&mut line, verdict.refused.iter().map(|refused| name(refused.limit)));
        let wait = verdict.retry_after.map_or("null".into(), instant::seconds_text);
        let _ = write!(line, r#"],"retry_after":{wait},"never_fits":{},"remaining":{{"#, verdict.never_fits);
        for (place, (limit, left)) in verdict.remaining.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            let _ = write!(line, "{comma}{}:{left}", name(*limit));
        }
        line.push('}');
        if !verdict.shadow_refused.is_empty() {
            line.push_str(r#","shadow_refused":["#);
            list(&mut line, verdict.shadow_refused.iter().map(|&limit| name(limit)));
            line.push(']');
        }
        line.push_str("}\n");
        line
    }
}

fn list<'a>(line: &mut String, names: impl Iterator<Item = &'a str>) {
    for (place, name) in names.enumerate() {
        if place > 0 {
            line.push(',');
        }
        line.push_str(name);
    }
}

/// A name as JSON text.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
