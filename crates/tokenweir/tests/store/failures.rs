//! A store that fails.

use super::memory::Memory;
use super::{limiter, policy, used};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tokenweir::{Decision, Error, Estimate, Request, StoreOptions, Usage, WhenStoreFails};

const SEARCH: Request<'static> = Request { project: b"search", deployment: b"gpt-4o", keys: &[] };

#[test]
fn what_cannot_be_recorded_is_not_admitted_and_nothing_is_charged() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(1_000, 100), &store, StoreOptions::new().lease_part(10), 0);
    let permit = limiter.admit(&SEARCH, Estimate::new(10, 0)).expect("no error").admitted().expect("there is enough");
    permit.settle(Usage::new(10, 0)).expect("settled once");
    let leased = store.of("hour", "search").expect("recorded").used;
    store.failing.store(true, SeqCst);
    // Within the lease nobody asks the store.
    let mut admitted = 10;
    let failed = loop {
        match limiter.admit(&SEARCH, Estimate::new(10, 0)) {
            Ok(Decision::Admitted(permit)) => admitted += permit.settle(Usage::new(10, 0)).map_or(0, |done| done.input),
            Ok(Decision::Denied(denied)) => panic!("{denied:?}"),
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed.name(), "STORE_FAILED");
    assert!(failed.to_string().contains("the disk is full"), "{failed}");
    assert_eq!(used(&limiter, "hour", "search"), admitted);
    assert!(admitted <= leased);
    assert_eq!(used(&limiter, "rate", "search"), 10 * (admitted / 10), "the other limits are as before");
    assert!(limiter.stats().store_failures > 0);
    assert_eq!(limiter.stats().permits_open, 0);
    // Nor is anybody new.
    assert!(matches!(limiter.admit(&Request::new("mail", "gpt-4o"), Estimate::new(1, 0)), Err(Error::Store(_))));
    store.failing.store(false, SeqCst);
    assert!(limiter.admit(&SEARCH, Estimate::new(10, 0)).expect("no error").is_admitted(), "it goes on by itself");
}

#[test]
fn a_settlement_that_cannot_be_recorded_is_recorded_with_the_next_lease() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(1_000, 100), &store, StoreOptions::new().lease_part(10), 0);
    let permit = limiter.admit(&SEARCH, Estimate::new(10, 0)).expect("no error").admitted().expect("there is enough");
    store.failing.store(true, SeqCst);
    permit.settle(Usage::new(700, 0)).expect("nothing refuses a settlement");
    assert_eq!(used(&limiter, "hour", "search"), 700);
    assert!(store.of("hour", "search").expect("recorded").used < 700);
    assert!(limiter.renew_leases().is_err());
    store.failing.store(false, SeqCst);
    assert_eq!(limiter.renew_leases(), Ok(1));
    let recorded = store.of("hour", "search").expect("recorded").used;
    assert!((700..=800).contains(&recorded), "{recorded}");
}

#[test]
fn admitted_meanwhile_where_that_is_wanted() {
    let store = Arc::new(Memory::default());
    let options = StoreOptions::new().lease_part(10).when_it_fails(WhenStoreFails::Admit);
    let (limiter, _) = limiter(policy(1_000, 100), &store, options, 0);
    store.failing.store(true, SeqCst);
    for _ in 0..10 {
        let decision = limiter.admit(&SEARCH, Estimate::new(100, 0)).expect("no error");
        decision.admitted().expect("there is enough").settle(Usage::new(100, 0)).expect("settled once");
    }
    let refused =
        limiter.admit(&SEARCH, Estimate::new(1, 0)).expect("no error").denied().expect("the quota is used up");
    assert_eq!((refused.status(), refused.limit()), (403, "hour"));
    assert_eq!(store.of("hour", "search"), None);
    store.failing.store(false, SeqCst);
    limiter.renew_leases().expect("recorded");
    assert_eq!(store.of("hour", "search").expect("recorded").used, 1_000, "whoever renews leases has it recorded");
    limiter.give_back_leases().expect("recorded");
    assert_eq!(store.of("hour", "search").expect("recorded").used, 1_000);
}

#[test]
fn giving_back_that_fails_leaves_at_least_what_is_used() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(1_000, 100), &store, StoreOptions::new().lease_part(2), 0);
    drop(limiter.admit(&SEARCH, Estimate::new(100, 0)).expect("no error"));
    store.failing.store(true, SeqCst);
    assert!(limiter.give_back_leases().is_err());
    assert!(store.of("hour", "search").expect("recorded").used >= 100);
    assert!(limiter.give_back_leases().is_err(), "it is not forgotten that the store has more");
    store.failing.store(false, SeqCst);
    limiter.give_back_leases().expect("recorded");
    assert_eq!(store.of("hour", "search").expect("recorded").used, 100);
    assert!(limiter.admit(&SEARCH, Estimate::new(100, 0)).expect("no error").is_admitted());
    assert!(store.of("hour", "search").expect("recorded").used >= 200);
}

#[test]
fn what_could_not_be_read_is_not_written_over() {
    let store = Arc::new(Memory::default());
    let options = StoreOptions::new().lease_part(100).when_it_fails(WhenStoreFails::Admit);
    let (first, _) = limiter(policy(1_000, 100), &store, options.clone(), 0);
    drop(first.admit(&SEARCH, Estimate::new(600, 0)).expect("no error"));
    first.give_back_leases().expect("recorded");
    let (second, _) = limiter(policy(1_000, 100), &store, options, 0);
    store.failing.store(true, SeqCst);
    let permit = second.admit(&SEARCH, Estimate::new(500, 0)).expect("no error").admitted().expect("none is known of");
    store.failing.store(false, SeqCst);
    permit.settle(Usage::new(10, 0)).expect("settled once");
    second.give_back_leases().expect("recorded");
    assert_eq!(store.of("hour", "search").expect("recorded").used, 600);
}
