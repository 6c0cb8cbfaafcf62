//! What is not hot, as JSON. Times are whole nanoseconds and integers go up to 2^63: read them as 64-bit integers.

use serde_json::{Map, Value, json};
use std::time::Duration;
use tokenweir::policy::{Algorithm, Limit};
use tokenweir::{
    CounterUsage, Denied, Event, Explanation, LeftOutReason, LimitView, Peek, Policy, Record, Refusal, Restored, Usage,
};
use tokenweir_redb::QuotaRecord;
use tokenweir_wire::{NamedLimit, UpstreamLimit, UpstreamLimits};

/// Bytes as text, or as `{"hex": "00ff"}` if they are none.
fn bytes(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": value.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

fn scope(parts: &[(String, Vec<u8>)]) -> Value {
    parts.iter().map(|(part, value)| (part.clone(), bytes(value))).collect::<Map<_, _>>().into()
}

/// What each limit has left, by name.
pub(crate) fn remaining(left: Vec<(String, i64)>) -> Value {
    left.into_iter().map(|(limit, left)| (limit, json!(left))).collect::<Map<_, _>>().into()
}

fn refusal(refusal: Refusal<'_>) -> Value {
    json!({
        "limit": refusal.limit,
        "status": refusal.status,
        "retry_after_ns": refusal.retry_after,
        "never_fits": refusal.never_fits,
        "remaining": refusal.remaining,
        "fits_now": refusal.fits_now,
    })
}

pub(crate) fn denial(denied: &Denied) -> Value {
    json!({
        "decision": "denied",
        "status": denied.status(),
        "limit": denied.limit(),
        "retry_after_ns": wait(denied),
        "never_fits": denied.never_fits(),
        "table_full": denied.table_full(),
        "refusals": denied.refusals().map(refusal).collect::<Vec<_>>(),
        "remaining": remaining(denied.remaining()),
    })
}

/// Nanoseconds; `None` if no waiting helps.
pub(crate) fn wait(denied: &Denied) -> Option<u64> {
    denied.retry_after().map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX - 1))
}

fn view(view: &LimitView) -> Value {
    json!({
        "limit": view.limit,
        "mode": view.mode.as_str(),
        "charge": view.charge,
        "amount": view.amount,
        "remaining": view.remaining,
        "fits": view.fits,
        "never_fits": view.never_fits,
        "wait_ns": view.wait,
    })
}

pub(crate) fn peek(peek: &Peek) -> Value {
    json!({
        "admitted": peek.admitted,
        "denied": peek.denied.as_ref().map(denial),
        "limits": peek.limits.iter().map(view).collect::<Vec<_>>(),
    })
}

pub(crate) fn explanation(explanation: &Explanation) -> Value {
    let applied = explanation.applied.iter().map(|limit| {
        let mut applied = view(&limit.view);
        applied["scope"] = scope(&limit.scope);
        applied
    });
    let skipped = explanation.skipped.iter();
    json!({
        "admitted": explanation.admitted,
        "applied": applied.collect::<Vec<_>>(),
        "skipped": skipped
            .map(|(limit, reason)| json!({ "limit": limit, "reason": reason.to_string() }))
            .collect::<Vec<_>>(),
    })
}

pub(crate) fn usage(counters: &[CounterUsage]) -> Value {
    let counter = |counter: &CounterUsage| {
        json!({
            "limit": counter.limit,
            "meter": counter.meter.as_str(),
            "scope": scope(&counter.scope),
            "amount": counter.amount,
            "used": counter.used,
            "held": counter.held,
            "remaining": counter.remaining,
            "resets_at": counter.resets_at.map(|at| json!({ "mono": at.mono, "wall": at.wall })),
            "settled_total": counter.settled_total,
        })
    };
    json!({ "counters": counters.iter().map(counter).collect::<Vec<_>>() })
}

pub(crate) fn restored(restored: &Restored) -> Value {
    let reason = |reason| match reason {
        LeftOutReason::NoSuchLimit => "no_such_limit",
        LeftOutReason::Changed => "changed",
        LeftOutReason::Kept => "kept",
        LeftOutReason::Shared => "shared",
        LeftOutReason::NoRoom => "no_room",
        // The engine has learnt another.
        _ => "other",
    };
    let left_out = restored.left_out.iter();
    let left_out = left_out
        .map(|left| json!({ "limit": left.limit, "counters": left.counters, "reason": reason(left.reason) }))
        .collect::<Vec<_>>();
    json!({ "counters": restored.counters, "left_out": left_out })
}

pub(crate) fn quota_records(records: &[QuotaRecord]) -> Value {
    let record = |record: &QuotaRecord| {
        let counter = record.counter();
        json!({
            "store": record.store,
            "limit": counter.limit,
            "meter": counter.meter,
            "period": counter.period,
            "scope": scope(&counter.scope),
            "period_start": (record.period_start > i64::MIN).then_some(record.period_start),
            "period_end": (record.period_end < i64::MAX).then_some(record.period_end),
            "used": record.used,
        })
    };
    json!({ "records": records.iter().map(record).collect::<Vec<_>>() })
}

pub(crate) fn region_status(status: &tokenweir_shared::Status) -> Value {
    let attached = status.attached.iter().map(|attached| {
        json!({
            "seat": attached.seat,
            "process": attached.process,
            "since": attached.since,
            "alive": attached.alive,
        })
    });
    json!({
        "attached": attached.collect::<Vec<_>>(),
        "counters": status.counters,
        "callers": status.callers,
        "permits_open": status.permits_open,
        "histories": status.histories,
        "cleared_up": status.cleared_up,
        "unsure_steps": status.unsure_steps,
        "policies": status.policies,
    })
}

pub(crate) fn policy(policy: &Policy) -> Value {
    let names = |names: Vec<String>| json!(names);
    let limit = |limit: &Limit| {
        let mut value = json!({
            "name": &**limit.name(),
            "meter": limit.meter().as_str(),
            "algorithm": limit.algorithm().as_str(),
            "amount": limit.algorithm().amount(),
            "scope": names(limit.scope().iter().map(ToString::to_string).collect()),
            "match": limit
                .matches()
                .iter()
                .map(|(field, pattern)| (field.to_string(), json!(pattern.as_str())))
                .collect::<Map<_, _>>(),
            "overrides": limit.overrides(),
            "mode": limit.mode().as_str(),
            "require": limit.require(),
        });
        match limit.algorithm() {
            Algorithm::Bucket { per, burst, .. } => {
                value["per_ns"] = json!(per);
                value["burst"] = json!(burst);
            }
            Algorithm::Window { per, sub_windows, .. } => {
                value["per_ns"] = json!(per);
                value["sub_windows"] = json!(sub_windows);
                value["until"] = json!(limit.until().as_str());
            }
            Algorithm::Quota { period, .. } => {
                value["period"] = json!(period.to_string());
                value["until"] = json!(limit.until().as_str());
            }
            Algorithm::InFlight { .. } => {}
        }
        value
    };
    json!({
        "key_names": names(policy.key_names().iter().map(ToString::to_string).collect()),
        "limits": policy.limits().iter().map(limit).collect::<Vec<_>>(),
    })
}

fn nanoseconds(time: Option<Duration>) -> Value {
    json!(time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
}

fn upstream_limit(limit: &UpstreamLimit) -> Value {
    json!({ "limit": limit.limit, "remaining": limit.remaining, "reset_ns": nanoseconds(limit.reset) })
}

pub(crate) fn upstream(seen: &UpstreamLimits) -> Value {
    let named = |named: &NamedLimit| {
        let mut limit = upstream_limit(&named.limit);
        limit["name"] = json!(named.name);
        limit["unit"] = json!(named.unit);
        limit["window_ns"] = nanoseconds(named.window);
        limit
    };
    json!({
        "requests": upstream_limit(&seen.requests),
        "tokens": upstream_limit(&seen.tokens),
        "input_tokens": upstream_limit(&seen.input_tokens),
        "output_tokens": upstream_limit(&seen.output_tokens),
        "project_tokens": upstream_limit(&seen.project_tokens),
        "quota_tokens": upstream_limit(&seen.quota_tokens),
        "named": seen.named.iter().map(named).collect::<Vec<_>>(),
        "retry_after_ns": nanoseconds(seen.retry_after),
    })
}

fn reported(usage: &Usage) -> Value {
    json!({ "input": usage.input, "cached_input": usage.cached_input, "output": usage.output })
}

pub(crate) fn record(record: &Record) -> Value {
    let mut value = match &record.event {
        Event::Admitted { permit, shadow_refused } => {
            json!({ "decision": "admitted", "permit": permit.get(), "shadow_refused": shadow_refused })
        }
        Event::Denied(denied) => denial(denied),
        Event::Settled { settlement, usage } => json!({
            "outcome": settlement.outcome.as_str(),
            "permit": settlement.id.get(),
            "input": settlement.input,
            "cached_input": settlement.cached_input,
            "output": settlement.output,
            "estimated": settlement.estimated,
            "usage": reported(usage),
        }),
        // The engine has learnt to tell something else.
        _ => json!({}),
    };
    value["at"] = json!({ "mono": record.at.mono, "wall": record.at.wall });
    value["project"] = bytes(record.project());
    value["deployment"] = bytes(record.deployment());
    value["estimate"] = json!({ "input": record.estimate.input, "output": record.estimate.output });
    value
}
