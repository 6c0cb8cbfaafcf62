//! Threads that charge, settle, renew and give back at once.

use super::memory::Memory;
use super::{limiter, policy, used};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use tokenweir::{Decision, Estimate, Request, StoreOptions, Usage};

/// Each admission that is out is in the store by then; at the end the books are exact.
#[test]
fn no_admission_is_out_before_it_is_recorded() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(4_000_000, 4_000_000), &store, StoreOptions::new().lease_part(5_000), 0);
    let (stop, admitted) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|worker| {
                let (limiter, store, admitted) = (&limiter, &store, &admitted);
                scope.spawn(move || {
                    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
                    for round in 0..20_000u64 {
                        let Ok(Decision::Admitted(permit)) = route.admit(Estimate::new(40, 0)) else {
                            panic!("there is enough")
                        };
                        // What others return meanwhile may come off both; what all have kept does not.
                        let kept = admitted.load(SeqCst);
                        let recorded = store.of("hour", "search").expect("recorded").used;
                        assert!(recorded >= kept, "{recorded} recorded, {kept} used for good");
                        let use_of_it = (round * 7 + worker) % 61;
                        permit.settle(Usage::new(use_of_it, 0)).expect("settled once");
                        admitted.fetch_add(use_of_it, SeqCst);
                    }
                })
            })
            .collect();
        let keeper = scope.spawn(|| {
            let mut round = 0u64;
            while !stop.load(SeqCst) {
                round += 1;
                if round.is_multiple_of(3) {
                    limiter.give_back_leases().expect("recorded");
                } else {
                    limiter.renew_leases().expect("recorded");
                }
            }
        });
        let done: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, SeqCst);
        keeper.join().expect("no panic");
        done.into_iter().for_each(|done| done.expect("no panic"));
    });
    limiter.give_back_leases().expect("recorded");
    let total = admitted.load(SeqCst);
    assert_eq!(used(&limiter, "hour", "search"), total);
    assert_eq!(store.of("hour", "search").expect("recorded").used, total);
    assert_eq!(store.of("day", "search").expect("recorded").used, 60_000);
}
