//! Several lives of one limiter.

use super::memory::Memory;
use super::{HOUR, limiter, policy, used};
use std::sync::Arc;
use tokenweir::store::CounterName;
use tokenweir::{Decision, Estimate, LeftOutReason, Limiter, ManualClock, Now, Request, StoreOptions, Usage, WhenFull};

const BEGIN: i64 = 1_774_699_200_000_000_000;

fn admit(limiter: &Limiter, project: &str, tokens: u64) -> bool {
    let decision = limiter.admit(&Request::new(project, "gpt-4o"), Estimate::new(tokens, 0)).expect("no error");
    match decision {
        Decision::Admitted(permit) => permit.settle(Usage::new(tokens, 0)).is_ok(),
        Decision::Denied(_) => false,
    }
}

#[test]
fn a_clean_end_is_exact() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new().lease_part(4), BEGIN);
    assert!(admit(&first, "search", 333));
    first.give_back_leases().expect("recorded");
    drop(first);
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new().lease_part(4), BEGIN);
    assert!(!admit(&second, "search", 668));
    assert!(admit(&second, "search", 667), "exactly what was left");
    assert!(!admit(&second, "search", 1));
    assert_eq!(used(&second, "hour", "search"), 1_000);
}

#[test]
fn no_number_of_kills_admits_more_than_the_quota() {
    let store = Arc::new(Memory::default());
    let mut admitted = 0;
    for _ in 0..200 {
        let (limiter, _) = limiter(policy(1_000, 1_000), &store, StoreOptions::new().lease_part(50), BEGIN);
        for _ in 0..3 {
            admitted += if admit(&limiter, "search", 7) { 7 } else { 0 };
        }
    }
    assert!(admitted <= 1_000, "{admitted}");
    // Each kill costs at most a lease of 20.
    assert!(admitted >= 500, "{admitted}");
}

#[test]
fn a_new_period_begins_with_nothing_used() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(admit(&first, "search", 1_000));
    let next = BEGIN + HOUR as i64;
    let (second, clock) = limiter(policy(1_000, 100), &store, StoreOptions::new(), next);
    assert!(admit(&second, "search", 1_000));
    assert!(!admit(&second, "search", 1));
    clock.advance(HOUR);
    assert!(admit(&second, "search", 1_000));
    // A clock that is an hour behind finds the newer period.
    let (third, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), next);
    assert!(!admit(&third, "search", 1));
}

#[test]
fn debt_outlives_the_process() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    let request = Request::new("search", "gpt-4o");
    let permit = first.admit(&request, Estimate::new(10, 0)).expect("no error").admitted().expect("there is enough");
    permit.settle(Usage::new(2_500, 0)).expect("settled once");
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    second.route(&request).expect("a route");
    assert_eq!(used(&second, "hour", "search"), 2_500);
}

#[test]
fn what_is_held_at_the_end_counts_as_used() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    let request = Request::new("search", "gpt-4o");
    let permit = first.admit(&request, Estimate::new(600, 0)).expect("no error").admitted().expect("there is enough");
    let id = permit.into_id();
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(!admit(&second, "search", 500));
    assert!(second.settle(id, Usage::new(1, 0)).is_err(), "it is not this process's");
}

#[test]
fn another_period_or_scope_is_another_counter_and_another_amount_is_not() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(admit(&first, "search", 1_000));
    let (second, _) = limiter(policy(1_500, 100), &store, StoreOptions::new(), BEGIN);
    assert!(!admit(&second, "search", 501));
    assert!(admit(&second, "search", 400));
    assert!(admit(&second, "mail", 1_500));
}

#[test]
fn evicted_counters_come_back_with_what_they_had() {
    let store = Arc::new(Memory::default());
    let clock = Arc::new(tokenweir::ManualClock::new(tokenweir::Now::new(0, BEGIN)));
    let policy = tokenweir::Policy::from_toml(
        "[[limit]]\nname = 'hour'\nmeter = 'total'\nalgorithm = 'quota'\namount = 100\nperiod = 'hourly'\nscope = ['project']\n",
    );
    let limiter = Limiter::builder(policy.expect("a policy"))
        .clock(clock.clone())
        .store(store.clone(), StoreOptions::new())
        .max_counters(4)
        .max_routes(4)
        .when_full(WhenFull::Deny)
        .build();
    // Within an hour those that are in use stay, and those of the hour before make room.
    for round in 0..5u64 {
        for project in 0..4 {
            assert!(admit(&limiter, &format!("{round}-{project}"), 60), "{round} {project}");
        }
        assert!(!admit(&limiter, &format!("{round}-0"), 60));
        clock.advance(HOUR);
    }
    // Cancelled to nothing, a counter keeps its lease and is not evicted before the hour is over.
    let permit = limiter.admit(&Request::new("cancelled", "gpt-4o"), Estimate::new(50, 0));
    permit.expect("no error").admitted().expect("there is enough").cancel().expect("open");
    limiter.sweep();
    assert!(admit(&limiter, "cancelled", 100));
}

#[test]
fn a_snapshot_does_not_count_again_what_the_store_has() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(admit(&first, "search", 400));
    let snapshot = first.snapshot();
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    let restored = second.restore(&snapshot);
    let kept: Vec<_> = restored.left_out.iter().map(|out| (out.limit.as_str(), out.reason)).collect();
    assert_eq!(kept, [("hour", LeftOutReason::Kept), ("day", LeftOutReason::Kept)]);
    assert!(admit(&second, "search", 580));
}

#[test]
fn a_snapshot_is_taken_up_by_a_store_that_has_less_and_counts_once() {
    let take_up = || StoreOptions::new().take_up(true);
    let alone = Limiter::builder(policy(1_000, 100)).clock(ManualClock::new(Now::new(7, BEGIN))).build();
    assert!(admit(&alone, "search", 400));
    let snapshot = alone.snapshot();
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, take_up(), BEGIN);
    let restored = first.restore(&snapshot);
    assert_eq!((restored.counters, restored.left_out.len()), (3, 0));
    assert_eq!(used(&first, "hour", "search"), 400);
    // It is recorded before anybody calls, so that a kill at once loses nothing.
    drop(first);
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(!admit(&second, "search", 601) && admit(&second, "search", 100));
    second.give_back_leases().expect("recorded");
    // Again, for whoever was killed before it could note that it was done: the store's use is the higher one.
    let (third, _) = limiter(policy(1_000, 100), &store, take_up(), BEGIN);
    assert_eq!(third.restore(&snapshot).counters, 3);
    let found = used(&third, "hour", "search");
    assert!((500..=510).contains(&found), "what was used, and at most a lease: {found}");
    // A snapshot of the hour before does not go back.
    let (fourth, _) = limiter(policy(1_000, 100), &store, take_up(), BEGIN + HOUR as i64);
    assert!(admit(&fourth, "search", 10));
    fourth.restore(&snapshot);
    assert_eq!(used(&fourth, "hour", "search"), 10);
}

#[test]
fn what_the_store_has_is_seen_before_the_first_request() {
    let store = Arc::new(Memory::default());
    let (first, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert!(admit(&first, "search", 400) && admit(&first, "support", 30));
    first.give_back_leases().expect("recorded");
    let (second, _) = limiter(policy(1_000, 100), &store, StoreOptions::new(), BEGIN);
    assert_eq!(used(&second, "hour", "search"), 0);
    let names = store.names();
    let strange = CounterName::new("[\"gone\"]", b"");
    let named = names.iter().map(|(limit, key)| CounterName::new(limit, key)).chain([strange]);
    assert_eq!(second.recall(named).expect("read"), names.len());
    assert_eq!((used(&second, "hour", "search"), used(&second, "hour", "support")), (400, 30));
    assert!(!admit(&second, "search", 601));
}
