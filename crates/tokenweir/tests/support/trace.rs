//! Scenarios: a policy, and what happens under it.

use serde_json::{Value, json};
use tokenweir::{Key, Policy, Request};

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MILLISECOND;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// 2026-03-28T12:00:00Z: a day before the clocks change in Berlin, three before the month ends.
pub const START: i64 = 1_774_699_200 * SECOND as i64;

/// The most tokens that observations of one permit come to in all.
pub const OBSERVED_MOST: u64 = 1 << 30;

/// Names of projects, deployments and users: bytes, of which some are awkward.
const PROJECTS: [&[u8]; 3] = [b"search", b"p\xff/\0", b"d0"];
const DEPLOYMENTS: [&[u8]; 2] = [b"d0", b"d1"];
const USERS: [&[u8]; 2] = [b"u", b"\x01u"];

/// Passes the request that an `Op::Admit` of these numbers makes.
pub fn with_request<T>(project: u8, deployment: u8, user: Option<u8>, act: impl FnOnce(&Request<'_>) -> T) -> T {
    let keys: Vec<Key<'_>> = user.map(|user| Key::new("user", USERS[user as usize])).into_iter().collect();
    let (project, deployment) = (PROJECTS[project as usize], DEPLOYMENTS[deployment as usize]);
    act(&Request { project, deployment, keys: &keys })
}

/// `fraction` 128ths of `scale`; with 255 twice of it.
pub fn tokens(scale: u64, fraction: u8) -> u64 {
    (u128::from(scale) * u128::from(fraction) / 128) as u64
}

/// What came of an estimate: usually less, sometimes more.
pub fn used(estimate: u64, scale: u64, fraction: Option<u8>) -> Option<u64> {
    Some(match fraction? {
        255 => estimate * 3 + scale / 8,
        254 => estimate,
        fraction => (u128::from(estimate) * u128::from(fraction) / 200) as u64,
    })
}

/// Which of those that there are: as a part of their number, in 65,536ths.
#[derive(Debug, Clone, Copy)]
pub struct Which(pub u16);

impl Which {
    fn of(self, length: usize) -> usize {
        (usize::from(self.0) * length) >> 16
    }

    pub fn get<T>(self, all: &[T]) -> &T {
        &all[self.of(all.len())]
    }
}

/// One step of a scenario. Fractions of 0 to 255 are of the scenario's scale, or of the permit's estimate.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Admit {
        project: u8,
        deployment: u8,
        user: Option<u8>,
        input: u8,
        output: u8,
        raii: bool,
    },
    /// Time goes on, by both clocks alike.
    Wait(u64),
    /// As long as the last refusal said, less so many nanoseconds.
    WaitAsTold {
        less: u64,
    },
    /// The wall clock alone, in either direction.
    SetWall(i64),
    /// The monotonic clock alone, backwards: a caller whose clock is behind another's.
    StepBack(u64),
    Observe {
        which: Which,
        input: u8,
        output: u8,
    },
    Settle {
        which: Which,
        input: Option<u8>,
        cached: Option<u8>,
        output: Option<u8>,
    },
    Cancel(Which),
    Drop(Which),
    /// Something that has ended before is ended once more.
    Again(Which),
    Renew {
        which: Which,
        ttl: u64,
    },
    Sweep,
    Swap {
        which: Which,
        amount: u8,
        rate: u8,
    },
    /// A limit leaves the policy, or comes back to it.
    Toggle(Which),
}

/// A policy's limits as JSON, and the steps.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub limits: Vec<Value>,
    pub scale: u64,
    pub ttl: u64,
    /// How many buckets may keep a history.
    pub histories: usize,
    pub ops: Vec<Op>,
}

impl Scenario {
    pub fn policy(&self) -> Policy {
        policy(&self.limits)
    }
}

pub fn policy(limits: &[Value]) -> Policy {
    let price = json!([{ "deployment": "*", "input": 700, "cached_input": 90, "output": 3001 }]);
    let priced = limits.iter().any(|limit| limit["meter"] == "cost");
    let document = if priced { json!({ "limit": limits, "price": price }) } else { json!({ "limit": limits }) };
    Policy::from_json(&document.to_string()).unwrap_or_else(|error| panic!("{error}\n{document}"))
}

/// `percent` of `value`, at least 1.
pub fn part(value: u64, percent: u64) -> u64 {
    ((u128::from(value) * u128::from(percent) / 100) as u64).max(1)
}

/// 10^10 a minute, so that half a century is not the end of a bucket's line.
pub fn fastest(per: &str) -> u64 {
    match per {
        "1s" => 10_000_000_000 / 60,
        "1m" => 10_000_000_000,
        _ => 10_000_000_000 * 60,
    }
}

/// The same limits, of which one has another amount and, if it is a bucket, another rate.
pub fn changed(limits: &[Value], which: Which, amount: u8, rate: u8) -> Vec<Value> {
    let mut limits = limits.to_vec();
    let which = which.of(limits.len());
    let limit = &mut limits[which];
    let scaled = |value: &Value, by: u8, most: u64| {
        // From a fifth to five times as much; every eighth change is none.
        let percent = if by.is_multiple_of(8) { 100 } else { 20 + u64::from(by) * 480 / 255 };
        json!(part(value.as_u64().unwrap_or(1), percent).min(most))
    };
    match limit["algorithm"].as_str() {
        Some("bucket") => {
            limit["burst"] = scaled(&limit["burst"], amount, 1 << 44);
            let most = fastest(limit["per"].as_str().unwrap_or_default());
            limit["amount"] = scaled(&limit["amount"], rate, most);
        }
        _ => limit["amount"] = scaled(&limit["amount"], amount, 1_000_000_000),
    }
    limits
}
