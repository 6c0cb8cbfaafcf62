//! Calls through the gateway.

use serde_json::{Map, Value, json};

use super::args::Call;
use super::commands::given;
use super::{Session, shown};
use crate::failure::Failure;
use crate::output;

/// Decides on each call, settles what passes, and prints what a client would see.
pub fn run(session: &Session<'_>, call: &Call) -> Result<(), Failure> {
    let keys: Map<String, Value> = call.keys.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let estimate = call.estimate.map(|(input, output)| json!({ "input": input, "output": output }));
    let fields = given([
        ("resource", json!(session.resource()?)),
        ("project", json!(call.project)),
        ("deployment", json!(call.deployment)),
        ("agent", json!(call.agent)),
        ("tool", json!(call.tool)),
        ("keys", json!(keys)),
        ("estimate", json!(estimate)),
        ("streamed", json!(call.stream)),
    ]);
    let mut all = Vec::new();
    for number in 1..=call.count {
        let decided = session.ask(json!({ "call": fields }))?;
        let ended = match decided.get("call") {
            Some(id) => session.ask(settle(id, call))?,
            None => Value::Null,
        };
        if session.args.common.json {
            all.push(json!({ "decision": decided, "ended": ended }));
        } else {
            output::print(&shown::call(number, &decided, &ended))?;
        }
    }
    match session.args.common.json {
        true => session.print(&Value::Array(all), shown::json),
        false => Ok(()),
    }
}

fn settle(id: &Value, call: &Call) -> Value {
    let (input, output) = call.usage;
    let cached = (call.cached > 0).then_some(call.cached);
    let usage = given([("input", json!(input)), ("cached_input", json!(cached)), ("output", json!(output))]);
    json!({ "settle": { "call": id, "usage": usage, "response_code": 200, "backend_response_code": 200 } })
}
