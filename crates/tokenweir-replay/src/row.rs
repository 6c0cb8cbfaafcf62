//! The line of a decision, as files of decisions hold it.

use std::fmt::{self, Write};
use std::sync::Arc;

use crate::instant;

/// One decision, with limits by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The line of the request in the trace, counted from 1.
    pub line: u64,
    /// When it asked, in nanoseconds since 1970.
    pub at: i64,
    /// The same as the trace has it, as JSON text.
    pub at_text: String,
    /// Whether it was admitted.
    pub admitted: bool,
    /// 200, 429 (a rate) or 403 (a quota).
    pub status: u16,
    /// The limit that decided, if it was denied.
    pub limit: Option<Arc<str>>,
    /// Every limit that refused, in the order of the policy.
    pub refused_by: Vec<Arc<str>>,
    /// The wait that is advised, in nanoseconds; `None` if admitted, or if no wait is known to help.
    pub retry_after: Option<u64>,
    /// Whether the request is larger than a limit can ever hold.
    pub never_fits: bool,
    /// What every enforced limit has left after the decision, in the order of the policy; below 0 in debt.
    pub remaining: Vec<(Arc<str>, i64)>,
    /// The shadow limits that would have refused, in the order of the policy.
    pub shadow_refused: Vec<Arc<str>>,
}

impl Row {
    /// `admitted` or `denied`.
    pub fn decision(&self) -> &'static str {
        if self.admitted { "admitted" } else { "denied" }
    }

    /// The row as one line of JSON, without its end of line.
    ///
    /// Fields are in a fixed order and limits in the order of the policy, so that equal runs give equal files.
    /// `retry_after` is in seconds, exact to the nanosecond; `shadow_refused` stands there only if a shadow limit
    /// would have refused.
    pub fn to_json(&self) -> String {
        let mut line = String::with_capacity(256);
        // Nothing that is written to a String fails.
        let _ = self.write(&mut line);
        line
    }

    fn write(&self, line: &mut String) -> fmt::Result {
        let limit = self.limit.as_deref().map_or("null".into(), quoted);
        let (number, at, decision, status) = (self.line, &self.at_text, self.decision(), self.status);
        write!(line, r#"{{"line":{number},"at":{at},"decision":"{decision}","status":{status},"limit":{limit}"#)?;
        line.push_str(r#","refused_by":["#);
        list(line, self.refused_by.iter().map(|name| quoted(name)));
        let wait = self.retry_after.map_or("null".into(), instant::seconds_text);
        write!(line, r#"],"retry_after":{wait},"never_fits":{},"remaining":{{"#, self.never_fits)?;
        list(line, self.remaining.iter().map(|(name, left)| format!("{}:{left}", quoted(name))));
        line.push('}');
        if !self.shadow_refused.is_empty() {
            line.push_str(r#","shadow_refused":["#);
            list(line, self.shadow_refused.iter().map(|name| quoted(name)));
            line.push(']');
        }
        line.push('}');
        Ok(())
    }
}

fn list(line: &mut String, members: impl Iterator<Item = String>) {
    for (place, member) in members.enumerate() {
        if place > 0 {
            line.push(',');
        }
        line.push_str(&member);
    }
}

/// A name as JSON text.
fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
