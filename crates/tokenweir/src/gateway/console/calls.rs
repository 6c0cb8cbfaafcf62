//! Calls that are decided on and ended by commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Console;
use super::command::{CallFields, SettleFields};
use super::error::ConsoleError;
use crate::apim::Remaining;
use crate::clock::Now;
use crate::gateway::code::Code;
use crate::gateway::traffic::{Ended, Gate, Passage, RefusedCall, Verdict};
use crate::record::Settlement;

/// Calls that have passed and have not ended, by number. A number is never used again.
pub(super) struct OpenCalls {
    /// Of this console alone, so that another's ids are not taken for its own.
    run: u64,
    next: u64,
    most: usize,
    ttl: u64,
    calls: BTreeMap<u64, OpenCall>,
    /// When each of them counts as dropped, in monotonic nanoseconds, and its number.
    due: BTreeSet<(u64, u64)>,
}

struct OpenCall {
    call: CallFields,
    gate: Gate,
    passage: Passage,
    /// As in `due`.
    until: u64,
}

impl OpenCalls {
    pub(super) fn new(most: usize, ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
        let run = crate::table::hasher().hash_one(0);
        OpenCalls { run, next: 1, most: most.max(1), ttl, calls: BTreeMap::new(), due: BTreeSet::new() }
    }

    pub(super) fn take_all(&mut self) -> impl Sized + use<> {
        self.due.clear();
        std::mem::take(&mut self.calls)
    }

    /// Those whose time is over. They end when they are dropped.
    fn take_expired(&mut self, now: Now) -> Vec<OpenCall> {
        let mut gone = Vec::new();
        while let Some(&(until, number)) = self.due.first().filter(|(until, _)| *until <= now.mono) {
            self.due.remove(&(until, number));
            gone.extend(self.calls.remove(&number));
        }
        gone
    }

    fn put(&mut self, number: u64, call: OpenCall) {
        self.due.insert((call.until, number));
        self.calls.insert(number, call);
    }

    fn take(&mut self, number: u64) -> Option<OpenCall> {
        let call = self.calls.remove(&number)?;
        self.due.remove(&(call.until, number));
        Some(call)
    }

    fn id(&self, number: u64) -> String {
        format!("{:016x}-{number}", self.run)
    }

    fn number(&self, id: &str) -> Result<u64, ConsoleError> {
        let number = id.split_once('-').and_then(|(run, number)| {
            let number = number.parse().ok()?;
            (u64::from_str_radix(run, 16).ok()? == self.run && self.id(number) == id).then_some(number)
        });
        number.filter(|number| self.calls.contains_key(number)).ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            let message = format!("no call {shown:?} is under way here: it has ended, or never began");
            ConsoleError::new(Code::CallUnknown, message, "end each call once, by the id that its decision returned")
        })
    }
}

impl Console {
    pub(super) fn call(&self, call: CallFields, now: Now) -> Result<Value, ConsoleError> {
        let gate = self.control.lock().gate_of(call.resource.as_ref())?;
        let (expired, full) = {
            let mut open = self.open.lock();
            let expired = open.take_expired(now);
            (expired, (open.calls.len() >= open.most).then_some(open.most))
        };
        drop(expired);
        if let Some(most) = full {
            let message = format!("all {most} calls that may be under way are");
            let next = "end the ones that have ended, or make the console with a larger max_calls";
            return Err(ConsoleError::new(Code::CallsExhausted, message, next));
        }
        // Decided without any lock: observers may use the console.
        let passage = match call.with(|call| gate.admit_at(call, now))? {
            Verdict::Passed(passage) => passage,
            Verdict::Refused(refused) => return Ok(refusal(&refused, &gate)),
        };
        let mut answer = json!({
            "outcome": passage.outcome(),
            "correlation_id": passage.correlation_id(),
            "remaining": remaining(passage.remaining_at(now)),
            "headers": headers(gate.headers(passage.remaining_at(now), None)),
        });
        if let (Some(permit), Some(fields)) = (passage.permit(), answer.as_object_mut()) {
            fields.insert("permit".into(), permit.get().into());
        }
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        let until = now.mono.saturating_add(open.ttl);
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("call".into(), open.id(number).into());
        }
        open.put(number, OpenCall { call, gate, passage, until });
        Ok(answer)
    }

    pub(super) fn observe(&self, id: &str, input: u64, output: u64, now: Now) -> Result<Value, ConsoleError> {
        let open = self.open.lock();
        let number = open.number(id)?;
        let Some(call) = open.calls.get(&number) else { return Ok(Value::Null) };
        let observed = call.passage.observe_at(input, output, now)?;
        let spent = observed.is_some_and(|observed| observed.spent);
        Ok(json!({ "spent": spent, "remaining": remaining(call.passage.remaining_at(now)) }))
    }

    /// Lets a call live as long again as one that has just begun.
    pub(super) fn renew(&self, id: &str, now: Now) -> Result<Value, ConsoleError> {
        let mut open = self.open.lock();
        let (number, ttl) = (open.number(id)?, open.ttl);
        let Some(mut call) = open.take(number) else { return Ok(Value::Null) };
        let renewed = call.passage.renew_at(Duration::from_nanos(ttl), now);
        if renewed.is_ok() {
            call.until = now.mono.saturating_add(ttl);
        }
        open.put(number, call);
        renewed?;
        Ok(json!({ "seconds": ttl / 1_000_000_000 }))
    }

    pub(super) fn settle(&self, settle: &SettleFields, now: Now) -> Result<Value, ConsoleError> {
        let call = self.take(&settle.call)?;
        let ended = call.passage.settle_recorded(&settle.completion(), now);
        self.ended(&call.call, &call.gate, ended, now)
    }

    pub(super) fn cancel(&self, id: &str, now: Now) -> Result<Value, ConsoleError> {
        let call = self.take(id)?;
        let ended = call.passage.cancel_recorded(now);
        self.ended(&call.call, &call.gate, ended, now)
    }

    fn take(&self, id: &str) -> Result<OpenCall, ConsoleError> {
        let mut open = self.open.lock();
        let number = open.number(id)?;
        open.take(number).ok_or_else(|| {
            // Looked for under the same lock.
            ConsoleError::new(Code::CallUnknown, format!("no call {id:?} is under way here"), "end each call once")
        })
    }

    fn ended(&self, call: &CallFields, gate: &Gate, (result, record): Ended, now: Now) -> Result<Value, ConsoleError> {
        let settlement = result?;
        let left = call.with(|call| gate.remaining_at(call, now)).unwrap_or_default();
        let consumed = settlement.map(|settled| settled.input.saturating_add(settled.output));
        Ok(json!({
            "settlement": settlement.as_ref().map(settled),
            "remaining": remaining(left),
            "headers": headers(gate.headers(left, consumed)),
            "record": record,
        }))
    }
}

fn settled(settlement: &Settlement) -> Value {
    json!({
        "permit": settlement.id.get(),
        "outcome": settlement.outcome.as_str(),
        "input": settlement.input,
        "cached_input": settlement.cached_input,
        "output": settlement.output,
        "estimated": settlement.estimated,
    })
}

fn refusal(refused: &RefusedCall, gate: &Gate) -> Value {
    let record = refused.record();
    let mut answer = json!({
        "outcome": record.outcome,
        "correlation_id": record.correlation_id,
        "status": refused.status(),
        "message": refused.message(),
        "retry_after": refused.retry_after(),
        "never_fits": record.never_fits,
        "limit": record.limit,
        "refused_by": record.refused_by,
        "record": record,
    });
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("headers".into(), headers(gate.refusal_headers(refused)));
        fields.insert("body".into(), refused.body().into());
    }
    answer
}

fn headers(headers: Vec<(String, u64)>) -> Value {
    Value::Object(headers.into_iter().map(|(name, value)| (name, value.to_string().into())).collect::<Map<_, _>>())
}

fn remaining(left: Remaining) -> Value {
    let named = [("tokens", left.tokens), ("quota_tokens", left.quota_tokens), ("calls", left.calls)];
    let known = named.into_iter().filter_map(|(name, left)| Some((name.to_owned(), left?.into())));
    Value::Object(known.collect::<Map<_, _>>())
}
