//! S5: what is denied, looked at, refused as an error or settled twice changes nothing; and everything adds up.

use crate::support::random::Random;
use crate::support::trace::{DAY, HOUR, MINUTE, SECOND, START};
use serde_json::{Value, json};
use std::time::Duration;
use tokenweir::{
    CounterUsage, Estimate, Key, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter,
};

fn limiter(limits: Value) -> Limiter {
    let policy = Policy::from_json(&json!({ "limit": limits }).to_string()).unwrap_or_else(|error| panic!("{error}"));
    let builder = Limiter::builder(policy).clock(ManualClock::new(Now::new(0, START))).max_counters(64);
    builder.permit_ttl(Duration::from_nanos(400 * DAY)).build()
}

/// One limit of each algorithm, 100 tokens each, and two places.
fn all() -> Value {
    json!([
        { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": 100, "per": "1m" },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": 100, "per": "1m" },
        { "name": "quota", "meter": "total", "algorithm": "quota", "amount": 100, "period": "daily" },
        { "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": 2 },
        { "name": "shadow", "meter": "total", "algorithm": "window", "amount": 10, "per": "1m", "mode": "shadow" },
    ])
}

fn at(mono: u64) -> Now {
    Now::new(mono, START + mono as i64)
}

fn view(limiter: &Limiter, now: Now) -> Vec<CounterUsage> {
    limiter.usage_at(&UsageFilter::default(), now)
}

fn open(limiter: &Limiter, tokens: u64, now: Now) -> Option<PermitId> {
    let decision = limiter.admit_at(&Request::new("p", "d"), Estimate::new(0, tokens), now).expect("it resolves");
    decision.admitted().map(|permit| permit.into_id())
}

#[test]
fn s5_a_denied_request_leaves_every_counter_as_it_was() {
    let limiter = limiter(all());
    let first = open(&limiter, 60, at(0)).expect("it fits");
    let before = view(&limiter, at(1));
    // Refused by all that count tokens; by none, in the end, but the shadow's limit is not touched either.
    for tokens in [41, 100, 101, 1 << 53] {
        assert_eq!(open(&limiter, tokens, at(1)), None);
        assert_eq!(view(&limiter, at(1)), before, "{tokens}");
    }
    let second = open(&limiter, 0, at(1)).expect("it fits");
    let before = view(&limiter, at(1));
    assert_eq!(open(&limiter, 1, at(1)), None, "no place is left");
    assert_eq!(view(&limiter, at(1)), before);
    for permit in [first, second] {
        limiter.cancel_at(permit, at(1)).expect("it is open");
    }
    assert!(view(&limiter, at(1)).iter().all(|counter| counter.used == 0 && counter.settled_total == 0));
}

/// Looking never moves anything, whatever instant it looks at.
#[test]
fn s5_looking_changes_nothing() {
    for time in [0, SECOND, HOUR, 40 * DAY] {
        let limiter = limiter(all());
        let permit = open(&limiter, 100, at(0)).expect("it fits");
        let before = view(&limiter, at(SECOND / 2));
        let peek = limiter.peek_at(&Request::new("p", "d"), Estimate::new(0, 50), at(time)).expect("it resolves");
        assert_eq!(peek.admitted, time >= HOUR * 24, "{time}");
        let explained = limiter.explain_at(&Request::new("p", "d"), Estimate::new(0, 50), at(time));
        assert_eq!(explained.expect("it resolves").admitted, peek.admitted);
        let _ = limiter.remaining_at(permit, at(time));
        let _ = view(&limiter, at(time));
        assert_eq!(view(&limiter, at(SECOND / 2)), before, "looked at {time}");
        assert_eq!(open(&limiter, 50, at(SECOND / 2)), None, "looked at {time}");
    }
}

#[test]
fn s5_an_error_changes_nothing() {
    let mut limits = all();
    limits[0]["scope"] = json!(["key:user"]);
    limits[0]["require"] = json!(true);
    let limiter = limiter(limits);
    let user = [Key::new("user", "u")];
    let request = Request::new("p", "d").with_keys(&user);
    let admit = |request: &Request<'_>, estimate| {
        limiter.admit_at(request, estimate, at(0)).map(|decision| decision.admitted())
    };
    let permit = admit(&request, Estimate::new(10, 10)).expect("it resolves").expect("it fits").into_id();
    let before = view(&limiter, at(0));
    let twice = [Key::new("user", "u"), Key::new("user", "v")];
    let empty = [Key::new("user", "")];
    let errors = [
        (admit(&Request::new("", "d").with_keys(&user), Estimate::default()).map(drop), 10),
        (admit(&Request::new("p", "").with_keys(&user), Estimate::default()).map(drop), 10),
        (admit(&Request::new("p", "d").with_keys(&empty), Estimate::default()).map(drop), 10),
        (admit(&Request::new("p", "d"), Estimate::default()).map(drop), 11),
        (admit(&Request::new("p", "d").with_keys(&twice), Estimate::default()).map(drop), 13),
        (admit(&request, Estimate::new((1 << 53) + 1, 0)).map(drop), 14),
        (admit(&request, Estimate::new(0, u64::MAX)).map(drop), 14),
        (limiter.settle_at(permit, Usage::new(5, 5).with_cached(6), at(0)).map(drop), 20),
        (limiter.settle_at(permit, Usage::new(5, u64::MAX), at(0)).map(drop), 20),
        (limiter.observe_at(permit, u64::MAX, 0, at(0)).map(drop), 20),
        (limiter.settle_at(PermitId::new(1).expect("not 0"), Usage::new(1, 1), at(0)).map(drop), 22),
        (limiter.cancel_at(PermitId::new(u64::MAX).expect("not 0"), at(0)).map(drop), 22),
    ];
    for (number, (error, code)) in errors.into_iter().enumerate() {
        assert_eq!(error.map_err(|error| error.code()), Err(code), "error {number}");
    }
    assert_eq!(view(&limiter, at(0)), before);
    // The permit was open all the while.
    limiter.settle_at(permit, Usage::new(5, 5).with_cached(5), at(0)).expect("it is open");
}

#[test]
fn s5_a_second_settlement_changes_nothing() {
    let limiter = limiter(all());
    type End = fn(&Limiter, PermitId, Now) -> Result<(), tokenweir::Error>;
    let ends: [End; 4] = [
        |limiter, id, now| limiter.settle_at(id, Usage::new(1, 2), now).map(drop),
        |limiter, id, now| limiter.cancel_at(id, now).map(drop),
        |limiter, id, now| limiter.abandon_at(id, now).map(drop),
        |limiter, id, now| limiter.settle_at(id, Usage::UNKNOWN, now).map(drop),
    ];
    for (number, first) in ends.iter().enumerate() {
        let id = open(&limiter, 20, at(number as u64 * MINUTE)).expect("it fits");
        let now = at(number as u64 * MINUTE + 1);
        first(&limiter, id, now).expect("it is open");
        let before = view(&limiter, now);
        for second in ends {
            assert_eq!(second(&limiter, id, now).map_err(|error| error.code()), Err(21));
        }
        assert_eq!(limiter.observe_at(id, 50, 50, now).map_err(|error| error.code()), Err(21));
        assert_eq!(view(&limiter, now), before);
    }
}

/// A quota's use is what was settled and what is held, and the lifetime total is what was settled, at every step.
/// A route settles its own permits the quick way and every other permit of its limiter the ordinary way: the counters
/// are those that the permit was charged on, before and after a change of policy.
#[test]
fn s5_a_route_settles_any_permit_on_the_counters_that_it_was_charged_on() {
    let limits = json!([{
        "name": "quota", "meter": "total", "algorithm": "quota", "amount": 1000, "period": "never", "scope": ["project"],
    }, {
        "name": "places", "meter": "in_flight", "algorithm": "in_flight", "amount": 9, "scope": ["project"],
    }]);
    let limiter = limiter(limits.clone());
    let (a, b) = (Request::new("a", "d"), Request::new("b", "d"));
    let (route_a, route_b) = (limiter.route(&a).expect("room"), limiter.route(&b).expect("room"));
    let tokens = Estimate::new(0, 100);
    let admit = |route: &tokenweir::Route| {
        let decision = route.admit_at(tokens, at(0)).expect("it resolves");
        decision.admitted().map(|permit| permit.into_id()).expect("it fits")
    };
    let by_key = || limiter.admit_at(&a, tokens, at(0)).expect("it resolves").admitted().map(|permit| permit.into_id());

    let (own, other, keyed) = (admit(&route_a), admit(&route_b), by_key().expect("it fits"));
    let before_the_swap = [admit(&route_a), admit(&route_b)];
    assert_eq!(route_a.settle_at(own, Usage::new(0, 1), at(1)).expect("open").output, 1);
    assert_eq!(route_a.settle_at(other, Usage::new(0, 10), at(1)).expect("open").output, 10);
    assert_eq!(route_b.settle_at(keyed, Usage::new(0, 2), at(1)).expect("open").output, 2);

    let policy = Policy::from_json(&json!({ "limit": limits }).to_string()).expect("a valid policy");
    limiter.swap_policy_at(policy, at(1)).unwrap();
    let after_the_swap = [admit(&route_a), admit(&route_b)];
    for [of_a, of_b] in [before_the_swap, after_the_swap] {
        assert!(route_b.cancel_at(of_b, at(2)).is_ok());
        assert_eq!(route_a.settle_at(of_a, Usage::new(0, 4), at(2)).expect("open").output, 4);
    }
    for gone in [own, other, keyed, after_the_swap[0]] {
        assert_eq!(route_a.settle_at(gone, Usage::new(0, 9), at(2)).map_err(|error| error.code()), Err(21));
        assert_eq!(route_a.cancel_at(gone, at(2)).map_err(|error| error.code()), Err(21));
    }
    let never = PermitId::new(u64::MAX).expect("not 0");
    assert_eq!(route_a.settle_at(never, Usage::UNKNOWN, at(2)).map_err(|error| error.code()), Err(22));

    let view: Vec<_> = view(&limiter, at(2)).into_iter().map(|counter| (counter.used, counter.settled_total)).collect();
    assert_eq!(view[..2], [(0, 4), (0, 1)], "places: requests that were settled and not cancelled");
    assert_eq!(view[2..], [(1 + 2 + 8, 11), (10, 10)], "quota");
}

#[test]
fn s5_a_quotas_use_is_the_sum_of_what_was_settled_and_what_is_held() {
    let limiter = limiter(json!([
        { "name": "q", "meter": "total", "algorithm": "quota", "amount": 100_000, "period": "never" },
        { "name": "b", "meter": "total", "algorithm": "bucket", "amount": 600_000, "per": "1m", "burst": 5000 },
    ]));
    let mut random = Random::new(7);
    let mut held: Vec<(PermitId, u64)> = Vec::new();
    let (mut settled, mut now) = (0, 0);
    for step in 0..20_000 {
        now += random.below(SECOND / 10);
        let estimate = random.below(500);
        if random.below(2) == 0 {
            held.extend(open(&limiter, estimate, at(now)).map(|id| (id, estimate)));
        } else if !held.is_empty() {
            let (id, estimate) = held.swap_remove(random.below(held.len() as u64) as usize);
            let used = random.below(40).min(estimate);
            settled += match random.below(5) {
                0 => limiter.cancel_at(id, at(now)).map(|_| 0),
                1 => limiter.abandon_at(id, at(now)).map(|_| estimate),
                _ => limiter.settle_at(id, Usage::new(0, used), at(now)).map(|_| used),
            }
            .expect("it is open");
        }
        let holding: u64 = held.iter().map(|(_, estimate)| estimate).sum();
        for counter in view(&limiter, at(now)) {
            assert_eq!(counter.held, holding, "step {step}");
            assert_eq!(counter.settled_total, settled, "step {step}");
            if counter.limit == "q" {
                assert_eq!(counter.used, settled + holding, "step {step}");
                assert!(counter.used <= 100_000, "step {step}");
            }
        }
    }
    assert!(settled > 50_000, "the quota was used: {settled}");
}

/// Found by the lockstep run: a raised capacity must not give back what the old brim had swallowed.
#[test]
fn s5_a_raised_limit_does_not_revive_what_the_brim_swallowed() {
    let limit = |burst: u64| json!([{ "name": "b", "meter": "total", "algorithm": "bucket", "amount": 60, "per": "1m", "burst": burst }]);
    let policy = |burst| Policy::from_json(&json!({ "limit": limit(burst) }).to_string()).expect("it is valid");
    let limiter = limiter(limit(10));
    // A return first: from then on the bucket keeps a history.
    let id = open(&limiter, 1, at(0)).expect("it fits");
    limiter.settle_at(id, Usage::new(0, 0), at(0)).expect("it is open");
    let early = open(&limiter, 1, at(SECOND)).expect("it fits");
    // Ten seconds later the bucket is full, and the new brim is ten above it: the balance stays 10.
    limiter.swap_policy_at(policy(20), at(10 * SECOND)).unwrap();
    assert_eq!(view(&limiter, at(10 * SECOND))[0].remaining, 10);
    limiter.settle_at(early, Usage::new(0, 0), at(10 * SECOND)).expect("it is open");
    assert_eq!(view(&limiter, at(10 * SECOND))[0].remaining, 10);
}
