//! S8: with no other traffic the same request is denied a nanosecond before retry-after, and admitted at it.
//!
//! Each denial of a random scenario is tried on two fresh limiters that lived through the same steps, so that nothing
//! but the passing of time lies between.

use crate::support::cases;
use crate::support::lockstep::{Lockstep, limiter};
use crate::support::strategies::scenario;
use crate::support::trace::{Op, Scenario, tokens, with_request};
use proptest::prelude::*;
use serde_json::json;
use std::cell::Cell;
use tokenweir::{Decision, Denied, Estimate, Limiter, ManualClock, Now, Policy, Request, Usage};

/// Lives through the first `steps` steps, waits `more`, and then asks for what the next step asks for.
fn ask(scenario: &Scenario, steps: usize, more: u64) -> Option<Denied> {
    let (limiter, clock) = limiter(scenario);
    let mut lockstep = Lockstep::new(scenario, &limiter, clock);
    lockstep.quiet();
    for (number, op) in scenario.ops[..steps].iter().enumerate() {
        lockstep.step(number, op);
    }
    let now = lockstep.now();
    let then = Now::new(now.mono.saturating_add(more), now.wall.saturating_add_unsigned(more));
    let Op::Admit { project, deployment, user, input, output, .. } = scenario.ops[steps] else {
        panic!("step {steps} admits nothing");
    };
    let estimate = Estimate::new(tokens(scenario.scale, input), tokens(scenario.scale, output));
    let decide = |request: &Request<'_>| limiter.admit_at(request, estimate, then).expect("resolves").denied();
    with_request(project, deployment, user, decide)
}

#[test]
fn s8_denied_just_before_and_admitted_at_the_instant() {
    let tried = Cell::new(0);
    let result = proptest::test_runner::TestRunner::new(cases(500)).run(&scenario(100), |scenario| {
        let asking = |step: &usize| matches!(scenario.ops[*step], Op::Admit { .. });
        for step in (0..scenario.ops.len()).filter(asking) {
            let Some(denied) = ask(&scenario, step, 0) else { continue };
            let Some(wait) = denied.retry_after() else { continue };
            let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            prop_assert!(wait > 0);
            // Waits beyond a century lead off the library's line.
            if wait > 100 * 31_557_600 * 1_000_000_000 {
                continue;
            }
            tried.set(tried.get() + 1);
            let before = ask(&scenario, step, wait - 1);
            prop_assert!(before.is_some(), "step {}: admitted 1 ns before {}", step, wait);
            let then = ask(&scenario, step, wait);
            prop_assert!(then.is_none(), "step {}: still denied at {}: {:?}", step, wait, then);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("{} denials tried", tried.get());
    assert!(tried.get() > 500, "{}", tried.get());
}

fn admit<'a>(limiter: &'a Limiter, tokens: u64, mono: u64) -> Decision<'a> {
    limiter.admit_at(&Request::new("p", "d"), Estimate::new(0, tokens), Now::at(mono)).expect("resolves")
}

fn one(limit: serde_json::Value) -> Limiter {
    let mut limit = limit;
    limit["name"] = json!("l");
    limit["meter"] = json!("total");
    let policy = Policy::from_json(&json!({ "limit": [limit] }).to_string()).expect("valid");
    Limiter::builder(policy).clock(ManualClock::default()).max_counters(16).build()
}

#[test]
fn s8_seconds_are_rounded_up() {
    let limiter = one(json!({ "algorithm": "bucket", "amount": 60, "per": "1m" }));
    let permit = admit(&limiter, 60, 0).admitted().expect("the bucket is full");
    permit.settle_at(Usage::UNKNOWN, Now::at(0)).expect("open");
    for (asked, at, seconds) in [(1, 0, 1), (1, 1, 1), (2, 0, 2), (2, 999_999_999, 2), (2, 1_000_000_000, 1)] {
        let denied = admit(&limiter, asked, at).denied().expect("too early");
        assert_eq!(denied.retry_after_seconds(), Some(seconds), "{asked} at {at}");
    }
    let never = admit(&limiter, 61, 0).denied().expect("larger than the bucket");
    assert!(never.never_fits());
    assert_eq!((never.retry_after(), never.retry_after_seconds()), (None, None));
}

/// Where one token takes no whole number of nanoseconds, the wait is the next whole one: never early.
#[test]
fn s8_a_token_of_a_fraction_of_a_nanosecond() {
    for rate in [7u64, 999, 1_000_003, 60_000_000_000, 99_999_999_977] {
        let limiter = one(json!({ "algorithm": "bucket", "amount": rate, "per": "1m", "burst": 1_000_000 }));
        admit(&limiter, 1_000_000, 0).admitted().expect("full").settle_at(Usage::UNKNOWN, Now::at(0)).expect("open");
        for tokens in [1, 2, 3, 999_999] {
            let denied = admit(&limiter, tokens, 0).denied().expect("empty");
            let wait = denied.retry_after().expect("it refills").as_nanos() as u64;
            let refill = u128::from(tokens) * 60_000_000_000;
            assert!(u128::from(wait) >= refill.div_ceil(u128::from(rate)), "{rate}: {tokens} after {wait}");
            // In parts of a token it may be late by one part, which takes at most 6 ns.
            assert!(u128::from(wait) <= refill.div_ceil(u128::from(rate)) + 6, "{rate}: {tokens} after {wait}");
            assert!(!admit(&limiter, tokens, wait - 1).is_admitted());
        }
    }
}
