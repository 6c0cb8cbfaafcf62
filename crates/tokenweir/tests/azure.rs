//! An hour of a production service's traffic (the public Azure LLM inference trace) against four limits at once.
//!
//! The trace is not part of the project; where it is missing the test says so and passes.

mod support;

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use support::ledger::documented;
use support::traffic::{Call, Gate, Through, bookkeeper, check_bucket, check_quota, check_window, run};
use tokenweir::policy::Algorithm;
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage};

const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/traces/AzureLLMInferenceTrace_code.csv");

/// `2023-11-16 18:17:03.9799600` in nanoseconds since that midnight. The trace lies within one day.
fn nanos(stamp: &str) -> u64 {
    let (_, time) = stamp.split_once(' ').expect("a date and a time");
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u64>().expect("a number"));
    let fraction = format!("{fraction:0<9}").parse::<u64>().expect("a fraction");
    seconds * 1_000_000_000 + fraction
}

/// 2023-11-16T00:00:00Z.
const MIDNIGHT: i64 = 1_700_092_800_000_000_000;

fn wall(mono: u64) -> i64 {
    MIDNIGHT + mono as i64
}

/// The estimate is the prompt, which is known, and four times the real output; a token of output takes 20 ms.
fn calls(trace: &str) -> Vec<Call> {
    let rows = trace.lines().skip(1).map(str::trim_end).filter(|line| !line.is_empty());
    let call = |row: &str| {
        let mut fields = row.split(',');
        let mut field = || fields.next().expect("three fields");
        let at = nanos(field());
        let input: u64 = field().parse().expect("context tokens");
        let output: u64 = field().parse().expect("generated tokens");
        Call {
            at,
            project: "code",
            deployment: "model",
            estimate: Estimate::new(input, 4 * output),
            usage: Usage::new(input, output),
            duration: output * 20_000_000,
        }
    };
    rows.map(call).collect()
}

fn policy() -> Policy {
    let limits = json!([
        { "name": "tpm", "meter": "total", "algorithm": "bucket", "amount": 330_000, "per": "1m", "burst": 110_000 },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": 290_000, "per": "1m", "scope": ["project"] },
        { "name": "ten minutes", "meter": "output", "algorithm": "quota", "amount": 18_000,
          "period": { "every": "10m" }, "scope": ["deployment"] },
        { "name": "rpm", "meter": "requests", "algorithm": "window", "amount": 190, "per": "1m" },
        { "name": "output", "meter": "output", "algorithm": "bucket", "amount": 3_000, "per": "1m", "burst": 1_500 },
    ]);
    Policy::from_json(&json!({ "limit": limits }).to_string()).expect("the policy is valid")
}

/// The calls as a limit of output or of requests counts them.
fn counted(calls: &[Call], admitted: &[usize], meter: &str) -> Vec<Call> {
    let count = |call: &Call| match meter {
        "output" => Call {
            estimate: Estimate::new(0, call.estimate.output),
            usage: Usage::new(0, call.usage.output.unwrap_or(0)),
            ..call.clone()
        },
        "requests" => Call { estimate: Estimate::new(1, 0), usage: Usage::new(1, 0), ..call.clone() },
        _ => call.clone(),
    };
    admitted.iter().map(|number| count(&calls[*number])).collect()
}

/// The library, and how often each limit refused.
struct Counting<'a> {
    limiter: &'a Limiter,
    refused: BTreeMap<String, u64>,
}

impl Gate for Counting<'_> {
    type Permit = PermitId;

    fn admit(&mut self, call: &Call, now: Now) -> Option<PermitId> {
        let request = Request::new(call.project, call.deployment);
        match self.limiter.admit_at(&request, call.estimate, now).expect("the request resolves") {
            Decision::Admitted(permit) => Some(permit.into_id()),
            Decision::Denied(denied) => {
                for refusal in denied.refusals() {
                    *self.refused.entry(refusal.limit.to_owned()).or_default() += 1;
                }
                None
            }
        }
    }

    fn settle(&mut self, permit: PermitId, call: &Call, now: Now) {
        self.limiter.settle_at(permit, call.usage, now).expect("the permit is open");
    }
}

#[test]
fn s1_s2_s3_s7_an_hour_of_production_traffic() {
    let Ok(trace) = std::fs::read_to_string(TRACE) else {
        println!("skipped: {TRACE} is not there");
        return;
    };
    let mut calls = calls(&trace);
    calls.sort_by_key(|call| call.at);
    assert_eq!(calls.len(), 8819);
    let policy = policy();
    let clock = ManualClock::new(Now::new(calls[0].at, wall(calls[0].at)));
    let limiter = Limiter::builder(policy.clone()).clock(clock).permit_ttl(Duration::from_secs(86_400)).build();
    let mut counting = Counting { limiter: &limiter, refused: BTreeMap::new() };
    let admitted = run(&mut counting, &calls, wall);
    for limit in policy.limits() {
        let calls = counted(&calls, &admitted, limit.meter().as_str());
        let through: Through<'_> = calls.iter().collect();
        match limit.algorithm() {
            Algorithm::Bucket { amount, per, burst } => {
                check_bucket(&through, *burst, *amount, *per, documented(*burst, *amount, *per));
            }
            Algorithm::Window { amount, per, .. } => check_window(&through, *amount, *per),
            Algorithm::Quota { amount, period } => check_quota(&through, *amount, period, wall),
            Algorithm::InFlight { .. } => unreachable!("there is none"),
        }
    }
    let tokens = |admitted: &[usize]| admitted.iter().map(|call| calls[*call].tokens()).sum::<u64>();
    let bookkept = run(&mut bookkeeper(&policy), &calls, wall);
    let offered: u64 = calls.iter().map(Call::tokens).sum();
    let (library, exact) = (tokens(&admitted), tokens(&bookkept));
    let share = library as f64 / exact as f64;
    println!("{} of {} requests admitted, the bookkeeper {}", admitted.len(), calls.len(), bookkept.len());
    println!("{library} of {offered} tokens, the bookkeeper {exact}: {share:.4}");
    println!("refusals by limit: {:?}", counting.refused);
    // Each limit has to have had a say, or this would show nothing of it.
    assert_eq!(counting.refused.len(), policy.limits().len());
    assert!(share >= 0.98, "{share}");
}
