//! S10: clocks that stand still, leap and step back. And a century of refill, exact to the token.

use crate::support::trace::{DAY, HOUR, MINUTE, START};
use serde_json::{Value, json};
use std::time::Duration;
use tokenweir::{Estimate, Limiter, ManualClock, Now, Policy, Request, Usage, UsageFilter};

const YEAR: u64 = 31_557_600_000_000_000;

fn limiter(limits: &[Value]) -> Limiter {
    let policy = Policy::from_json(&json!({ "limit": limits }).to_string()).unwrap_or_else(|error| panic!("{error}"));
    let builder = Limiter::builder(policy).clock(ManualClock::new(Now::new(0, START)));
    builder.max_counters(16).permit_ttl(Duration::from_nanos(YEAR)).build()
}

fn limit(name: &str, algorithm: &str, amount: u64) -> Value {
    json!({ "name": name, "meter": "total", "algorithm": algorithm, "amount": amount })
}

/// Takes so many tokens for good, if they are there.
fn take(limiter: &Limiter, tokens: u64, now: Now) -> bool {
    let request = Request::new("p", "d");
    let decision = limiter.admit_at(&request, Estimate::new(0, tokens), now).expect("the request resolves");
    decision.admitted().map(|permit| permit.settle_at(Usage::UNKNOWN, now).expect("it is open")).is_some()
}

fn remaining(limiter: &Limiter, now: Now) -> i64 {
    limiter.usage_at(&UsageFilter::default(), now)[0].remaining
}

fn monotonic(mono: u64) -> Now {
    Now::new(mono, START)
}

/// What a century of refill brings is what the formula says, whether the bucket is asked every second or once.
#[test]
fn s10_a_century_at_one_and_at_ten_billion_a_minute_is_exact_to_the_token() {
    for rate in [1u64, 10_000_000_000] {
        // As large as an amount may be: it never overflows, so every token that came is still there.
        let burst = 1u64 << 53;
        let mut bucket = limit("l", "bucket", rate);
        bucket["per"] = json!("1m");
        bucket["burst"] = json!(burst);
        for polls in [1, 7, 1000, 50_000] {
            let limiter = limiter(&[bucket.clone()]);
            let mut taken = 0u128;
            // Empty from the first, so that nothing is lost at the brim.
            assert!(take(&limiter, burst, monotonic(0)));
            for poll in 1..=polls {
                let now = monotonic((u128::from(100 * YEAR) * poll / polls) as u64);
                let came = u128::from(now.mono) * u128::from(rate) / u128::from(MINUTE);
                let there = remaining(&limiter, now);
                let expected = (came - taken).min(u128::from(burst)) as i64;
                if came - taken <= u128::from(burst) {
                    assert_eq!(there, expected, "rate {rate}, poll {poll} of {polls}");
                    taken += expected as u128;
                } else {
                    assert_eq!(there, burst as i64);
                    taken = came;
                }
                assert!(there == 0 || take(&limiter, there as u64, now));
            }
        }
    }
}

/// A bucket that is asked every few nanoseconds refills as one that is left alone.
#[test]
fn s10_polling_quickly_loses_nothing() {
    for rate in [1u64, 59, 1_000_003, 700_000_000 * 60] {
        let mut bucket = limit("l", "bucket", rate);
        bucket["per"] = json!("1m");
        bucket["burst"] = json!(1u64 << 50);
        let limiter = limiter(&[bucket]);
        assert!(take(&limiter, 1 << 50, monotonic(0)));
        for step in 1..=100_000u64 {
            let now = monotonic(step * 600_011);
            let came = u128::from(now.mono) * u128::from(rate) / u128::from(MINUTE);
            assert_eq!(remaining(&limiter, now) as u128, came, "rate {rate}, step {step}");
        }
    }
}

fn all_algorithms() -> Vec<Value> {
    let mut bucket = limit("bucket", "bucket", 60);
    bucket["per"] = json!("1m");
    let mut window = limit("window", "window", 60);
    window["per"] = json!("1m");
    let mut quota = limit("quota", "quota", 60);
    quota["period"] = json!("daily");
    vec![bucket, window, quota]
}

#[test]
fn s10_a_frozen_clock_freezes() {
    for limit in all_algorithms() {
        let limiter = limiter(std::slice::from_ref(&limit));
        let admitted = (0..1000).filter(|_| take(&limiter, 1, monotonic(MINUTE))).count();
        assert_eq!(admitted, 60, "{limit}");
    }
}

/// The monotonic clock is said never to step back. If it does, nothing is admitted that would not have been.
#[test]
fn s10_a_monotonic_step_back_is_no_time() {
    for limit in all_algorithms() {
        let limiter = limiter(std::slice::from_ref(&limit));
        assert!(take(&limiter, 60, monotonic(10 * MINUTE)));
        for back in [10 * MINUTE, 9 * MINUTE, 1, 0] {
            assert!(!take(&limiter, 1, monotonic(back)), "{limit} at {back}");
            assert!(!take(&limiter, 0, monotonic(back)), "{limit} at {back}");
        }
        // Nor has the step lost anything.
        let later = Now::new(12 * MINUTE, START + DAY as i64);
        assert!(take(&limiter, 60, later), "{limit}");
        assert!(!take(&limiter, 1, later), "{limit}");
    }
}

#[test]
fn s10_a_wall_clock_that_steps_back_reopens_nothing() {
    for (period, length) in [("hourly", HOUR), ("daily", DAY), ("weekly", 7 * DAY), ("monthly", 31 * DAY)] {
        let mut quota = limit("l", "quota", 100);
        quota["period"] = json!(period);
        let limiter = limiter(&[quota]);
        let at = |wall: i64| Now::new(0, wall);
        assert!(take(&limiter, 100, at(START)));
        let next = START + length as i64;
        assert!(take(&limiter, 60, at(next)), "{period}: a new period");
        // Back in the old period: it stays closed, and what is taken counts in the new one.
        for back in [START, START - 1, START - 400 * DAY as i64, i64::MIN] {
            assert!(!take(&limiter, 41, at(back)), "{period} at {back}");
            assert_eq!(remaining(&limiter, at(back)), 40, "{period} at {back}");
        }
        assert!(take(&limiter, 40, at(START)));
        assert!(!take(&limiter, 1, at(next)), "{period}: all of the new period is taken");
        // A refusal meanwhile counts the wait from the clock as it shows.
        let denied = limiter.admit_at(&Request::new("p", "d"), Estimate::new(0, 1), at(START)).expect("resolves");
        let wait = denied.denied().and_then(|denied| denied.retry_after()).expect("it comes again");
        assert!(take(&limiter, 1, at(START + wait.as_nanos() as i64)), "{period} after {wait:?}");
    }
}

#[test]
fn s10_a_return_to_a_period_that_is_over_gives_nothing_to_the_present() {
    let mut quota = limit("l", "quota", 100);
    quota["period"] = json!("hourly");
    let limiter = limiter(&[quota]);
    let (first, second) = (Now::new(0, START), Now::new(HOUR, START + HOUR as i64));
    let request = Request::new("p", "d");
    let permit = limiter.admit_at(&request, Estimate::new(0, 100), first).expect("resolves").admitted();
    assert!(take(&limiter, 90, second));
    permit.expect("it fits").settle_at(Usage::new(0, 1), second).expect("open");
    assert_eq!(remaining(&limiter, second), 10);
    // Nor by a clock that shows the old period again.
    let permit = limiter.admit_at(&request, Estimate::new(0, 10), second).expect("resolves").admitted();
    permit.expect("it fits").settle_at(Usage::new(0, 4), first).expect("open");
    assert_eq!(remaining(&limiter, first), 6);
}

/// Leaps of years and the ends of both clocks: no panic, no wrap, and no more admitted than the amount at any instant.
#[test]
fn s10_leaps_neither_panic_nor_wrap() {
    let monos = [0, 1, MINUTE, 50 * YEAR, 104 * YEAR, 110 * YEAR, 291 * YEAR, i64::MAX as u64, u64::MAX - 1, u64::MAX];
    let walls = [i64::MIN, i64::MIN + 1, -1, 0, START, START + 100 * YEAR as i64, i64::MAX - 1, i64::MAX];
    for limit in all_algorithms() {
        let limiter = limiter(std::slice::from_ref(&limit));
        for mono in monos {
            for wall in walls {
                let now = Now::new(mono, wall);
                let admitted = (0..100).filter(|_| take(&limiter, 1, now)).count();
                assert!(admitted <= 60, "{limit}: {admitted} at {now:?}");
                assert!(remaining(&limiter, now) <= 60, "{limit} at {now:?}");
            }
        }
    }
    // An ordinary leap refills and empties, as it should, at the highest rate that is valid.
    let mut bucket = limit("l", "bucket", 100_000_000_000);
    bucket["per"] = json!("1m");
    let limiter = self::limiter(&[bucket]);
    for year in 0..9 {
        assert!(take(&limiter, 100_000_000_000, monotonic(year * YEAR)), "year {year}");
        assert!(!take(&limiter, 1, monotonic(year * YEAR)), "year {year}");
    }
}

/// What is charged beyond any limit saturates on the strict side: it never turns into room.
#[test]
fn s10_huge_excesses_saturate_on_the_strict_side() {
    let huge = 1u64 << 53;
    let second = |second: u64| Now::new(second * MINUTE / 60, START);
    for mut limit in all_algorithms() {
        limit["amount"] = if limit["algorithm"] == "quota" { json!(huge) } else { json!(1_000_000_000) };
        let limiter = limiter(std::slice::from_ref(&limit));
        let open = |output: u64| {
            let request = Request::new("p", "d");
            let decision =
                limiter.admit_at(&request, Estimate::new(0, output), second(0)).expect("the request resolves");
            decision.admitted().expect("it fits")
        };
        // Three that were admitted for nothing take 2^53 tokens each, and are settled one after the other.
        let calls = [open(0), open(0), open(0)];
        let whole = open(limit["amount"].as_u64().unwrap_or(0));
        for (step, permit) in (0..).zip(calls) {
            permit.settle_at(Usage::new(0, huge), second(10 * step)).expect("it is open");
        }
        whole.settle_at(Usage::new(0, 0), second(25)).expect("it is open");
        // The last of them leaves the window after 81 seconds, and none of them the quota's day.
        for time in 25..81 {
            assert!(remaining(&limiter, second(time)) <= 0, "{limit} at {time} s");
            assert!(!take(&limiter, 1, second(time)), "{limit} at {time} s");
        }
    }
}
