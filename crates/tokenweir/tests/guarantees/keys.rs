//! Section 6: any bytes, bounded counters, and no way around a limit by crowding it out.

use crate::support::cases;
use crate::support::random::Random;
use crate::support::trace::{MINUTE, SECOND, START};
use crate::support::traffic::{Call, check_bucket, check_window};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use tokenweir::{Decision, Estimate, Key, Limiter, LimiterBuilder, ManualClock, Now, Policy, Request, Usage, WhenFull};

fn builder(limits: Value) -> LimiterBuilder {
    let policy = Policy::from_json(&json!({ "limit": limits }).to_string()).unwrap_or_else(|error| panic!("{error}"));
    Limiter::builder(policy).clock(ManualClock::new(Now::new(0, START)))
}

const BUDGET: usize = 100_000;
const KEYS: u64 = 1_000_000;

/// A million keys, each twice in a random order, one token at a time, against a limit of one token that never comes
/// back. What each key got, by key.
fn crowd(answer: WhenFull) -> (Limiter, Vec<u8>, u64) {
    let limits = json!([{
        "name": "once", "meter": "total", "algorithm": "quota", "amount": 1, "period": "never", "scope": ["project"],
    }]);
    let limiter = builder(limits).max_counters(BUDGET).when_full(answer).build();
    let mut random = Random::new(6);
    let mut got = vec![0; KEYS as usize];
    let mut full = 0;
    for step in 0..2 * KEYS {
        let key = if step < KEYS { step } else { random.below(KEYS) };
        let project = key.to_be_bytes();
        // A sweep for room now and then: twenty seconds of traffic.
        let now = Now::new(step * 10_000, START);
        match limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, 1), now).expect("it resolves") {
            Decision::Admitted(permit) => {
                permit.settle_at(Usage::new(0, 1), now).expect("it is open");
                got[key as usize] += 1;
            }
            Decision::Denied(denied) => {
                assert_eq!((denied.limit(), denied.status()), ("once", 403));
                if denied.table_full() {
                    assert!(denied.retry_after().is_some(), "room may come");
                    full += 1;
                }
            }
        }
        if step % 65_536 == 0 {
            assert!(limiter.stats().counters <= BUDGET);
        }
    }
    (limiter, got, full)
}

#[test]
fn keys_beyond_the_budget_are_denied() {
    let (limiter, got, full) = crowd(WhenFull::Deny);
    assert!(got.iter().all(|got| *got <= 1), "no key got more than its limit");
    assert_eq!(got.iter().filter(|got| **got == 1).count(), BUDGET);
    let stats = limiter.stats();
    assert_eq!((stats.counters, stats.max_counters, stats.evicted), (BUDGET, BUDGET, 0));
    assert_eq!((stats.refused_full, stats.admitted_full), (full, 0));
    assert!(full > KEYS - BUDGET as u64);
}

#[test]
fn keys_beyond_the_budget_are_admitted_if_so_configured() {
    let (limiter, got, full) = crowd(WhenFull::Admit);
    // Those with a counter keep to it; the others pass uncounted, each time.
    assert!(got[..BUDGET].iter().all(|got| *got == 1));
    assert!(got[BUDGET..].iter().all(|got| *got >= 1));
    assert!(got[BUDGET..].iter().any(|got| *got > 1));
    let uncounted: u64 = got[BUDGET..].iter().map(|got| u64::from(*got)).sum();
    let stats = limiter.stats();
    assert_eq!((stats.counters, stats.evicted), (BUDGET, 0));
    assert_eq!((full, stats.refused_full, stats.admitted_full), (0, 0, uncounted));
}

/// Room for 50 counters, 500 keys, and a clock that lets counters come to rest and be evicted all the time: no key ever
/// gets more than its limit over any interval.
#[test]
fn eviction_is_no_escape() {
    let bucket = json!({ "algorithm": "bucket", "amount": 60, "per": "1m", "burst": 5 });
    let window = json!({ "algorithm": "window", "amount": 5, "per": "10s", "sub_windows": 10 });
    for mut limit in [bucket, window] {
        limit["name"] = json!("l");
        limit["meter"] = json!("total");
        limit["scope"] = json!(["project"]);
        let limiter = builder(json!([limit])).max_counters(50).build();
        let mut random = Random::new(9);
        let mut through: HashMap<u64, Vec<Call>> = HashMap::new();
        let (mut now, mut full) = (0, 0);
        for _ in 0..100_000 {
            now += random.below(SECOND / 20);
            // A few keys that hammer, and many that pass by.
            let key = if random.below(2) == 0 { random.below(10) } else { random.below(500) };
            let project = key.to_string();
            let (estimate, used) = (random.below(4), random.below(3));
            let at = Now::new(now, START + now as i64);
            let decision = limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, estimate), at);
            match decision.expect("it resolves") {
                Decision::Admitted(permit) => {
                    let usage = Usage::new(0, used.min(estimate));
                    permit.settle_at(usage, at).expect("it is open");
                    let call = Call {
                        at: now,
                        project: "",
                        deployment: "",
                        estimate: Estimate::new(0, estimate),
                        usage,
                        duration: 0,
                    };
                    through.entry(key).or_default().push(call);
                }
                Decision::Denied(denied) => full += u64::from(denied.table_full()),
            }
        }
        assert!(limiter.stats().evicted > 100, "{:?}", limiter.stats());
        assert_eq!(limiter.stats().refused_full, full);
        assert!(limiter.stats().counters <= 50);
        let tokens: u64 = through.values().flatten().map(Call::tokens).sum();
        assert!(tokens > 10_000, "{tokens}");
        for calls in through.values() {
            let through = calls.iter().collect();
            if limit["algorithm"] == "bucket" {
                check_bucket(&through, 5, 60, MINUTE, 1 << 20);
            } else {
                check_window(&through, 5, 10 * SECOND);
            }
        }
    }
}

/// A counter that is in use is never taken away: a quota with use, a bucket in debt, an open permit.
#[test]
fn what_is_in_use_stays() {
    let limits = json!([
        { "name": "quota", "meter": "total", "algorithm": "quota", "amount": 10, "period": "yearly", "scope": ["project"] },
        { "name": "debt", "meter": "total", "algorithm": "bucket", "amount": 1, "per": "1h", "burst": 10, "scope": ["project"] },
        { "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": 1, "scope": ["project"] },
    ]);
    let limiter = builder(limits).max_counters(64).build();
    let now = |mono: u64| Now::new(mono, START);
    let admit = |project: &str, tokens, mono| {
        let decision = limiter.admit_at(&Request::new(project, "d"), Estimate::new(0, tokens), now(mono));
        decision.expect("it resolves").admitted().map(|permit| permit.into_id())
    };
    let used = admit("used", 3, 0).expect("it fits");
    limiter.settle_at(used, Usage::new(0, 3), now(0)).expect("it is open");
    let debt = admit("debt", 1, 0).expect("it fits");
    limiter.settle_at(debt, Usage::new(0, 20), now(0)).expect("it is open");
    let open = admit("open", 0, 0).expect("it fits");
    let idle = admit("idle", 5, 0).expect("it fits");
    limiter.cancel_at(idle, now(0)).expect("it is open");
    let names = |mono| -> Vec<(String, Vec<u8>)> {
        let usage = limiter.usage_at(&Default::default(), now(mono)).into_iter();
        usage.map(|counter| (counter.limit, counter.scope[0].1.clone())).collect()
    };
    assert_eq!(names(MINUTE).len(), 12);
    limiter.sweep_at(now(MINUTE));
    let left = names(MINUTE);
    for (limit, project) in [("quota", "used"), ("quota", "debt"), ("debt", "debt"), ("places", "open")] {
        assert!(left.contains(&(limit.into(), project.into())), "{limit} of {project}: {left:?}");
    }
    assert!(!left.iter().any(|(_, project)| project == b"idle"), "{left:?}");
    assert_eq!(admit("used", 8, MINUTE), None);
    assert_eq!(admit("debt", 0, MINUTE), None);
    assert_eq!(admit("open", 0, MINUTE), None);
    limiter.cancel_at(open, now(MINUTE)).expect("it is open");
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    // Bytes that separators, lengths and escapes are made of come often.
    let byte = prop_oneof![2 => prop::sample::select(b"\0\x01\x02/:,|\x7f\x80\xff".to_vec()), 1 => any::<u8>()];
    prop_oneof![8 => prop::collection::vec(byte, 1..5), 1 => prop::collection::vec(any::<u8>(), 120..300)]
}

proptest! {
    #![proptest_config(cases(2000))]

    /// Two requests share a counter if, and only if, they agree in every part of its scope.
    #[test]
    fn different_keys_never_share_a_counter(
        a in (bytes(), bytes(), bytes(), bytes()),
        b in (bytes(), bytes(), bytes(), bytes()),
        same in prop::array::uniform4(any::<bool>()),
        joined in any::<bool>(),
    ) {
        // Often alike in some parts; sometimes alike when joined.
        let mut b = b;
        for (same, (from, to)) in same.iter().zip([(&a.0, &mut b.0), (&a.1, &mut b.1), (&a.2, &mut b.2), (&a.3, &mut b.3)]) {
            if *same {
                to.clone_from(from);
            }
        }
        if joined && a.0.len() > 1 {
            let (head, tail) = a.0.split_at(1);
            (b.0, b.1) = (head.to_vec(), [tail, &a.1[..]].concat());
        }
        let scope = json!(["project", "deployment", "key:user", "key:team"]);
        let limits = json!([{
            "name": "l", "meter": "requests", "algorithm": "quota", "amount": 1, "period": "never", "scope": scope,
        }]);
        let limiter = builder(limits).max_counters(16).build();
        let admit = |parts: &(Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| {
            // In either order: keys go by their names.
            let keys = [Key::new("team", &parts.3), Key::new("user", &parts.2)];
            let request = Request { project: &parts.0, deployment: &parts.1, keys: &keys };
            let decision = limiter.admit_at(&request, Estimate::default(), Now::new(0, START)).expect("it resolves");
            decision.is_admitted()
        };
        prop_assert!(admit(&a));
        prop_assert_eq!(admit(&b), a != b);
    }
}

/// A hundred busy buckets, and room for ten histories: memory is bounded, the limits hold, and a sweep makes room anew.
#[test]
fn no_more_buckets_keep_a_history_than_the_limiter_has_room_for() {
    let limits = json!([{
        "name": "tpm", "meter": "total", "algorithm": "bucket", "amount": 6000, "per": "1m", "scope": ["project"],
    }]);
    let limiter = builder(limits).max_histories(10).build();
    let calls = |at: u64| {
        let now = Now::new(at, START + at as i64);
        for number in 0..100 {
            let project = format!("project {number}");
            let admit = || limiter.admit_at(&Request::new(&project, "d"), Estimate::new(0, 2000), now);
            let open: Vec<_> = (0..3).map(|_| admit().expect("it resolves").admitted().expect("it fits")).collect();
            assert!(!admit().expect("it resolves").is_admitted(), "its 6,000 are all held");
            for permit in open {
                permit.settle_at(Usage::new(0, 1000), now).expect("it is open");
            }
            // In the instant of the charge all comes back, with a history or without.
            let peek = limiter.peek_at(&Request::new(&project, "d"), Estimate::new(0, 3000), now).expect("it resolves");
            assert_eq!((peek.admitted, peek.limits[0].remaining), (true, 3000));
        }
        limiter.stats()
    };
    let stats = calls(0);
    assert_eq!((stats.histories, stats.max_histories, stats.counters), (10, 10, 100));
    limiter.sweep_at(Now::new(2 * MINUTE, START));
    assert_eq!((limiter.stats().histories, limiter.stats().counters), (0, 0), "all are at rest");
    assert_eq!(calls(2 * MINUTE).histories, 10);
}

#[test]
fn who_shares_a_counter_has_the_same_key_of_it() {
    let limits = json!([
        { "name": "own", "meter": "total", "algorithm": "bucket", "amount": 60, "per": "1m", "scope": ["project", "key:user"] },
        { "name": "shared", "meter": "in_flight", "algorithm": "in_flight", "amount": 9, "scope": ["deployment"] },
        { "name": "watched", "meter": "requests", "algorithm": "window", "amount": 9, "per": "1m", "mode": "shadow" },
    ]);
    let limiter = builder(limits).build();
    let users = [[Key::new("user", "u")], [Key::new("user", "v")]];
    let of = |project, deployment, keys| {
        let request = Request::new(project, deployment).with_keys(keys);
        let counters = limiter.counters_of(&request).expect("it resolves");
        let Decision::Admitted(permit) = limiter.admit(&request, Estimate::new(1, 0)).expect("it resolves") else {
            panic!("there is room")
        };
        assert_eq!(limiter.counters_held(permit.id()), counters);
        let id = permit.id();
        assert!(limiter.is_open(id));
        permit.cancel().expect("it is open");
        assert!(!limiter.is_open(id) && limiter.counters_held(id).is_empty());
        counters
    };
    let (first, second) = (of("p", "d", &users[0]), of("p", "d", &users[1]));
    let named = |counters: &[tokenweir::CounterKey]| counters.iter().map(|c| c.limit.clone()).collect::<Vec<_>>();
    let mut names = named(&first);
    names.sort();
    assert_eq!(names, ["own", "shared"]);
    let shared: Vec<_> = first.iter().filter(|counter| second.contains(counter)).map(|c| &c.limit).collect();
    assert_eq!(shared, ["shared"]);
    assert_eq!(of("p", "d", &users[0]), first);
    assert_eq!(named(&of("p", "d", &[])), ["shared"], "without its key the other limit does not apply");
}
