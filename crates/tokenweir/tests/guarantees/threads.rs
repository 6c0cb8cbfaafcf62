//! S5 and S6 from several threads at once. The clock stands still, so that what must come out is exact.

use crate::support::random::Random;
use crate::support::trace::START;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter};

const THREADS: u64 = 4;
const NOW: Now = Now::new(0, START);

fn policy(limits: &Value) -> Policy {
    Policy::from_json(&json!({ "limit": limits }).to_string()).unwrap_or_else(|error| panic!("{error}"))
}

fn limiter(limits: &Value) -> Limiter {
    Limiter::builder(policy(limits)).clock(ManualClock::new(NOW)).max_counters(256).build()
}

/// Limits that are just large enough for one request of 10 tokens on every thread at the same time.
fn just_enough() -> Value {
    let tokens = THREADS * 10;
    json!([
        { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": tokens, "per": "1m" },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": tokens, "per": "1m" },
        { "name": "quota", "meter": "total", "algorithm": "quota", "amount": tokens, "period": "daily" },
        { "name": "requests", "meter": "requests", "algorithm": "bucket", "amount": THREADS, "per": "1m" },
        { "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": THREADS },
        { "name": "own", "meter": "total", "algorithm": "window", "amount": 10, "per": "1s", "scope": ["project"] },
    ])
}

#[test]
fn s6_what_fits_together_is_never_denied() {
    let limiter = limiter(&just_enough());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let limiter = &limiter;
            scope.spawn(move || {
                let project = number.to_string();
                let request = Request::new(&project, "d");
                let route = limiter.route(&request).expect("it resolves");
                for step in 0..100_000 {
                    let estimate = Estimate::new(5, 5);
                    let decision = match step % 2 {
                        0 => route.admit_at(estimate, NOW),
                        _ => limiter.admit_at(&request, estimate, NOW),
                    };
                    match decision.expect("it resolves") {
                        Decision::Admitted(permit) => {
                            permit.cancel_at(NOW).expect("it is open");
                        }
                        Decision::Denied(denied) => {
                            let refused: Vec<_> = denied.refusals().collect();
                            panic!("thread {number}, step {step}: {refused:?}");
                        }
                    }
                }
            });
        }
    });
    for counter in limiter.usage_at(&UsageFilter::default(), NOW) {
        assert_eq!((counter.used, counter.held, counter.settled_total), (0, 0, 0), "{}", counter.limit);
    }
}

/// Some of the threads ask for what never fits: whatever is taken for it meanwhile refuses nobody else.
#[test]
fn s6_a_request_that_is_refused_stands_in_nobodys_way() {
    let mut limits = just_enough();
    for limit in limits.as_array_mut().expect("an array") {
        if limit["name"] != "places" && limit["name"] != "requests" {
            limit["amount"] = json!(20);
        }
    }
    // The last limit in the order of the policy refuses the greedy.
    limits[5]["amount"] = json!(10);
    let limiter = limiter(&limits);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let polite: Vec<_> = (0..2)
            .map(|number| {
                let limiter = &limiter;
                scope.spawn(move || {
                    let project = format!("polite {number}");
                    for step in 0..60_000 {
                        let decision = limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, 9), NOW);
                        let permit = decision.expect("it resolves").admitted();
                        let permit = permit.unwrap_or_else(|| panic!("thread {number}, step {step}"));
                        permit.cancel_at(NOW).expect("it is open");
                    }
                })
            })
            .collect();
        for number in 0..2 {
            let (limiter, done) = (&limiter, &done);
            scope.spawn(move || {
                let project = format!("greedy {number}");
                while !done.load(Relaxed) {
                    let decision = limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, 11), NOW);
                    assert!(!decision.expect("it resolves").is_admitted());
                }
            });
        }
        for thread in polite {
            let joined = thread.join();
            done.store(true, Relaxed);
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// All threads want the one place, or the last ten tokens, of the limits that are charged last: they find room, charge
/// the limits before, and are too late for these. Whatever they took before is given back in full.
#[test]
fn s5_threads_that_come_too_late_give_everything_back() {
    let plenty = 1u64 << 40;
    let limits = json!([
        { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": 1, "per": "1h", "burst": plenty },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": 1_000_000_000, "per": "1m" },
        { "name": "quota", "meter": "total", "algorithm": "quota", "amount": plenty, "period": "never" },
        { "name": "requests", "meter": "requests", "algorithm": "quota", "amount": plenty, "period": "daily" },
        { "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": 2 },
        { "name": "ten", "meter": "total", "algorithm": "window", "amount": 10, "per": "1m" },
        { "name": "place", "meter": "in_flight", "algorithm": "in_flight", "amount": 1 },
    ]);
    let limiter = limiter(&limits);
    let admitted = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (limiter, admitted) = (&limiter, &admitted);
            scope.spawn(move || {
                let project = number.to_string();
                for _ in 0..100_000 {
                    let decision = limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, 10), NOW);
                    if let Some(permit) = decision.expect("it resolves").admitted() {
                        permit.cancel_at(NOW).expect("it is open");
                        admitted.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    assert!(admitted.load(Relaxed) > 0);
    for counter in limiter.usage_at(&UsageFilter::default(), NOW) {
        assert_eq!((counter.used, counter.held, counter.settled_total), (0, 0, 0), "{}", counter.limit);
    }
}

const KEYS: usize = 5;

/// Everything at once on a few keys: at the end all that was settled is there, to the token, and nothing is held.
#[test]
fn s5_threads_lose_nothing_and_hold_nothing() {
    let amount = 40_000_000;
    let limits = json!([
        { "name": "quota", "meter": "total", "algorithm": "quota", "amount": amount, "period": "never", "scope": ["project"] },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": 400_000_000, "per": "1m", "scope": [] },
        { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": 1, "per": "1h", "burst": 400_000_000, "scope": [] },
        { "name": "requests", "meter": "requests", "algorithm": "quota", "amount": 1u64 << 40, "period": "yearly", "scope": [] },
        { "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": 40, "scope": [] },
    ]);
    let limiter = limiter(&limits);
    let settled: [AtomicU64; KEYS] = Default::default();
    let (requests, denied) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (limiter, settled, requests, denied) = (&limiter, &settled, &requests, &denied);
            scope.spawn(move || {
                let mut random = Random::new(number);
                let mut open: Vec<(PermitId, usize, u64)> = Vec::new();
                for step in 0..300_000u64 {
                    let key = random.below(KEYS as u64) as usize;
                    let estimate = random.below(400);
                    let project = key.to_string();
                    let decision = limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, estimate), NOW);
                    match decision.expect("it resolves").admitted() {
                        Some(permit) => open.push((permit.into_id(), key, estimate)),
                        None => _ = denied.fetch_add(1, Relaxed),
                    }
                    while open.len() > 8 || step == 299_999 && !open.is_empty() {
                        let (id, key, estimate) = open.swap_remove(random.below(open.len() as u64) as usize);
                        let seen = if random.below(4) == 0 { random.below(600) } else { 0 };
                        if seen > 0 {
                            limiter.observe_at(id, 0, seen, NOW).expect("it is open");
                        }
                        // A stream that was seen to bring so much is not reported to have brought less.
                        let used = seen.max(random.below(500));
                        let took = match random.below(8) {
                            0 if seen == 0 => limiter.cancel_at(id, NOW).map(|_| None),
                            1 => limiter.abandon_at(id, NOW).map(|_| Some(estimate.max(seen))),
                            _ => limiter.settle_at(id, Usage::new(0, used), NOW).map(|_| Some(used)),
                        };
                        let took = took.expect("it is open");
                        settled[key].fetch_add(took.unwrap_or(0), Relaxed);
                        requests.fetch_add(u64::from(took.is_some()), Relaxed);
                        assert!(limiter.settle_at(id, Usage::new(0, 1), NOW).is_err());
                    }
                }
            });
        }
    });
    let total: u64 = settled.iter().map(|settled| settled.load(Relaxed)).sum();
    println!("{total} tokens, {} requests, {} denials", requests.load(Relaxed), denied.load(Relaxed));
    assert!(denied.load(Relaxed) > 1000, "some must be refused in the end, and leave nothing behind");
    for counter in limiter.usage_at(&UsageFilter::default(), NOW) {
        let expected = match &*counter.limit {
            "quota" => {
                settled[String::from_utf8_lossy(&counter.scope[0].1).parse::<usize>().expect("a number")].load(Relaxed)
            }
            "requests" => requests.load(Relaxed),
            "places" => 0,
            _ => total,
        };
        let context = format!("{counter:?}");
        assert_eq!(counter.held, 0, "{context}");
        assert_eq!(counter.used, expected, "{context}");
        if counter.limit != "places" {
            assert_eq!(counter.settled_total, expected, "{context}");
        }
        if counter.limit == "quota" {
            // Settled beyond the estimate at most by what was in flight.
            assert!(counter.used <= amount + 40 * 600, "{context}");
        }
    }
    assert_eq!(limiter.stats().permits_open, 0);
}

/// Two threads settle the same permits: each goes through once.
#[test]
fn s5_threads_settle_each_permit_once() {
    let limits =
        json!([{ "name": "q", "meter": "total", "algorithm": "quota", "amount": 1u64 << 50, "period": "never" }]);
    let limiter = limiter(&limits);
    for round in 0..20 {
        let ids: Vec<PermitId> = (0..2000)
            .map(|_| {
                let decision =
                    limiter.admit_at(&Request::new("p", "d"), Estimate::new(0, 100), NOW).expect("it resolves");
                decision.admitted().expect("it fits").into_id()
            })
            .collect();
        let settle =
            |tokens: u64| ids.iter().filter(|id| limiter.settle_at(**id, Usage::new(0, tokens), NOW).is_ok()).count();
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(|| settle(7));
            (settle(3), other.join().expect("it does not panic"))
        });
        assert_eq!(one + other, ids.len());
        let counter = &limiter.usage_at(&UsageFilter::default(), NOW)[0];
        if round == 0 {
            assert_eq!(counter.used, 3 * one as u64 + 7 * other as u64);
        }
        assert_eq!((counter.used, counter.held), (counter.settled_total, 0));
    }
}

/// The policy changes all the while: nothing is lost, nothing is counted twice.
#[test]
fn s5_threads_keep_consumption_while_the_policy_changes() {
    let limits = |amount: u64| {
        json!([
            { "name": "quota", "meter": "total", "algorithm": "quota", "amount": amount, "period": "never" },
            { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": 1, "per": "1h", "burst": amount },
            { "name": "window", "meter": "total", "algorithm": "window", "amount": 1_000_000_000, "per": "1m" },
        ])
    };
    let limiter = limiter(&limits(1 << 40));
    let settled = AtomicU64::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|number| {
                let (limiter, settled) = (&limiter, &settled);
                scope.spawn(move || {
                    let mut random = Random::new(number);
                    let route = limiter.route(&Request::new("p", "d")).expect("it resolves");
                    for _ in 0..60_000 {
                        let used = random.below(200);
                        match route.admit_at(Estimate::new(0, 100), NOW).expect("it resolves") {
                            Decision::Admitted(permit) => {
                                permit.settle_at(Usage::new(0, used), NOW).expect("it is open")
                            }
                            Decision::Denied(denied) => panic!("{:?}", denied.refusals().collect::<Vec<_>>()),
                        };
                        settled.fetch_add(used, Relaxed);
                    }
                })
            })
            .collect();
        let mut amount = 1 << 40;
        while !workers.iter().all(|worker| worker.is_finished()) {
            amount ^= 1 << 39;
            limiter.swap_policy_at(policy(&limits(amount)), NOW).unwrap();
        }
        // Back to the first, so that the bucket's capacity has not changed in the end.
        limiter.swap_policy_at(policy(&limits(1 << 40)), NOW).unwrap();
    });
    let settled = settled.load(Relaxed);
    for counter in limiter.usage_at(&UsageFilter::default(), NOW) {
        assert_eq!((counter.settled_total, counter.held), (settled, 0), "{counter:?}");
        match &*counter.limit {
            // A lowered brim takes deficit away, a raised one does not: at most what was settled counts.
            "bucket" => assert!(counter.remaining <= (1 << 40) - counter.used as i64, "{counter:?}"),
            _ => assert_eq!(counter.used, settled, "{counter:?}"),
        }
    }
}
