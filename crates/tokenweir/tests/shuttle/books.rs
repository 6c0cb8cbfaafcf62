//! S5: whichever way they meet, nothing is lost, nothing is counted twice, and nothing stays behind.

use super::explore::explore;
use super::stage::{
    Came, Part, SECOND, at, builder, call, closed_books, entry, four, limiter, never_above, nothing_stays, part, pass,
    policy, settle, together,
};
use std::time::Duration;
use tokenweir::{Estimate, Request, Usage};

/// What a part settled for each of the projects `a`, `b`, `c`, and how often it was refused for lack of room.
type Settled = ([u64; 3], u64);

/// Four limits with roll-back, settlement, eviction with next to no room, and a change of policy, all at once.
#[test]
fn admission_settlement_eviction_and_change_of_policy() {
    let (before, after) = (policy(&four(12, 3)), policy(&four(40, 3)));
    explore(4000, move || {
        // Room for the shared bucket, window and places, and two of the three quotas.
        let limiter = builder(&before).max_counters(5).max_routes(4).build();
        let after = after.clone();
        let caller = |project: usize, tokens: u64, used: u64| {
            part(&limiter, move |limiter| -> Settled {
                let name = ["a", "b", "c"][project];
                let mut settled = [0; 3];
                let mut full = 0;
                for used in [used, 0] {
                    match call(limiter, name, tokens, at(0)) {
                        // What takes nothing in the end leaves its counters at rest, to be evicted.
                        Came::In(permit) => settled[project] += settle(limiter, permit, used, at(0)).input,
                        Came::Refused(by) => full += u64::from(by.is_empty()),
                    }
                }
                (settled, full)
            })
        };
        let mut parts = vec![caller(0, 5, 3), caller(1, 9, 4), caller(2, 2, 1)];
        parts.push(part(&limiter, move |limiter| {
            limiter.sweep_at(at(0));
            limiter.swap_policy_at(after, at(0)).unwrap();
            limiter.sweep_at(at(0));
            ([0; 3], 0)
        }));
        let came = together(parts);
        let settled = |project: usize| came.iter().map(|(settled, _)| settled[project]).sum::<u64>();
        let total = (0..3).map(settled).sum::<u64>();
        let books = closed_books(&limiter, at(0));
        for (project, name) in ["quota a", "quota b", "quota c"].iter().enumerate() {
            assert_eq!(entry(&books, name), (settled(project), settled(project)), "{name}: {books:?}");
        }
        assert_eq!(entry(&books, "window"), (total, total), "{books:?}");
        // The larger bucket is not topped up: its 28 further tokens are missing, or it was made under the new policy.
        let (used, lifetime) = entry(&books, "bucket");
        assert!(used <= total + 28 && used >= total && lifetime == total, "{total}: {books:?}");
        assert!(books.len() <= 5, "more counters than the budget: {books:?}");
        assert_eq!(limiter.stats().refused_full, came.iter().map(|(_, full)| full).sum::<u64>());
        nothing_stays(&limiter);
    });
}

/// Three want two places and twelve of twenty tokens, by request and by held route, and settle by id elsewhere.
#[test]
fn what_is_settled_on_another_thread_is_settled_once() {
    let limits = policy(&four(12, 2));
    explore(4000, move || {
        let limiter = limiter(&limits);
        let route = limiter.route_at(&Request::new("a", "d"), at(0)).expect("it resolves");
        let first = pass(&limiter, "a", 4, at(0));
        let parts = vec![
            part(&limiter, move |limiter| {
                limiter.settle_at(first, Usage::new(3, 0), at(0)).map_or(0, |done| done.input)
            }),
            part(&limiter, move |limiter| {
                let settled = limiter.cancel_at(first, at(0)).map_or(0, |done| done.input);
                never_above(limiter, at(0));
                settled
            }),
            part(&limiter, move |limiter| {
                let settled = limiter.abandon_at(first, at(0)).map_or(0, |done| done.input);
                match call(limiter, "a", 8, at(0)) {
                    Came::In(permit) => settled + settle(limiter, permit, 8, at(0)).input,
                    Came::Refused(by) => {
                        // 8 fit beside 4; the places are two, and two at most are asked for.
                        panic!("refused by {by:?}");
                    }
                }
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        for name in ["quota a", "bucket", "window"] {
            assert_eq!(entry(&books, name), (total, total), "{name}: {books:?}");
        }
        assert!((8..=12).contains(&total));
        drop(route);
        nothing_stays(&limiter);
    });
}

/// A stream is observed while it is settled, and while its time runs out: what was accepted counts, once.
#[test]
fn observation_settlement_and_expiry() {
    let limits = policy(&four(100, 2));
    explore(4000, move || {
        let limiter = limiter(&limits);
        let stream = pass(&limiter, "a", 4, at(0));
        let late = at(60_000_000_000);
        let parts: Vec<Part<(u64, Option<u64>)>> = vec![
            part(&limiter, move |limiter| {
                let seen = |more| limiter.observe_at(stream, more, 0, at(1)).map_or(0, |_| more);
                (seen(3) + seen(5), None)
            }),
            part(&limiter, move |limiter| {
                let used = limiter.settle_at(stream, Usage::new(20, 0), at(1)).ok().map(|done| done.input);
                (0, used)
            }),
            part(&limiter, move |limiter| {
                // Another call finds the stream's time over, or settles what it brought itself.
                let own = pass(limiter, "b", 1, late);
                settle(limiter, own, 1, late);
                (0, None)
            }),
        ];
        let came = together(parts);
        let observed = came[0].0;
        let used = match came[1].1 {
            Some(used) => used,
            // Expired: the estimate stands, or what was seen of it.
            None => observed.max(4),
        };
        let books = closed_books(&limiter, late);
        assert_eq!(entry(&books, "quota a"), (used, used), "{observed} observed: {books:?}");
        assert_eq!(entry(&books, "quota b"), (1, 1));
        // The window and the bucket have let go of what was charged a minute ago, unless it came late.
        for name in ["window", "bucket"] {
            let (now, lifetime) = entry(&books, name);
            assert!(now <= used + 1 && lifetime == used + 1, "{name}: {books:?}");
        }
        assert!(limiter.settle_at(stream, Usage::new(1, 0), late).is_err());
        nothing_stays(&limiter);
    });
}

/// Routes come and go while one is held: the held one keeps its counters, the others are freed once.
#[test]
fn eviction_of_routes_and_counters_against_a_held_route() {
    let limits = policy(&four(30, 4));
    explore(4000, move || {
        let limiter = builder(&limits).max_counters(6).max_routes(2).build();
        let held = limiter.route_at(&Request::new("a", "d"), at(0)).expect("it resolves");
        let visitor = |project: &'static str, used: u64| {
            part(&limiter, move |limiter| {
                let request = Request::new(project, "d");
                // Where the registry is full of held routes there is no room for one more: an error, and nothing taken.
                let Ok(decision) = limiter.admit_at(&request, Estimate::new(4, 0), at(0)) else { return 0 };
                let Some(permit) = decision.admitted() else { return 0 };
                permit.settle_at(Usage::new(used, 0), at(0)).expect("it is open").input
            })
        };
        let parts = vec![
            part(&limiter, move |_| {
                let mut settled = 0;
                for used in [2, 0] {
                    let permit = held.admit_at(Estimate::new(3, 0), at(0)).expect("it resolves").admitted();
                    let permit = permit.expect("a held route finds its counters, and there is plenty");
                    settled += permit.settle_at(Usage::new(used, 0), at(0)).expect("it is open").input;
                }
                settled
            }),
            visitor("b", 0),
            visitor("c", 1),
            part(&limiter, |limiter| {
                limiter.sweep_at(at(0));
                limiter.sweep_at(at(0));
                0
            }),
        ];
        let came = together(parts);
        let total = came.iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        assert_eq!(entry(&books, "quota a"), (2, 2), "{books:?}");
        assert_eq!(entry(&books, "quota c"), (came[2], came[2]), "{books:?}");
        for name in ["bucket", "window"] {
            assert_eq!(entry(&books, name), (total, total), "{name}: {books:?}");
        }
        nothing_stays(&limiter);
    });
}

/// One sweep has seen a counter at rest and stops; it is used, and let go by another sweep; and the first goes on. What
/// is evicted must be at rest under the seal, not before it.
#[test]
fn a_counter_used_between_the_look_and_the_seal() {
    let limits = policy(&four(30, 4));
    explore(8000, move || {
        let limiter = limiter(&limits);
        let known = pass(&limiter, "a", 1, at(0));
        limiter.cancel_at(known, at(0)).expect("it is open");
        let sweep = || {
            part(&limiter, |limiter| {
                limiter.sweep_at(at(0));
                0
            })
        };
        let user = part(&limiter, |limiter| {
            let permit = pass(limiter, "a", 4, at(0));
            let settled = settle(limiter, permit, 2, at(0)).input;
            limiter.sweep_at(at(0));
            settled
        });
        let total = together(vec![sweep(), user]).into_iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        for name in ["quota a", "bucket", "window"] {
            assert_eq!(entry(&books, name), (total, total), "{name}: {books:?}");
        }
        nothing_stays(&limiter);
    });
}

/// One stream was renewed and one was not: those who find the time of the one over leave the other alone.
#[test]
fn renewal_against_expiry() {
    let limits = policy(&four(100, 4));
    explore(4000, move || {
        let limiter = limiter(&limits);
        let (renewed, old) = (pass(&limiter, "a", 4, at(0)), pass(&limiter, "b", 3, at(0)));
        limiter.renew_at(renewed, Duration::from_secs(300), at(1)).expect("it is open");
        let late = at(61 * SECOND);
        let parts = vec![
            part(&limiter, move |limiter| settle(limiter, renewed, 6, late).input),
            part(&limiter, move |limiter| {
                limiter.sweep_at(late);
                0
            }),
            part(&limiter, move |limiter| {
                assert!(limiter.settle_at(old, Usage::new(1, 0), late).is_err(), "its time is over");
                let again = limiter.renew_at(old, Duration::from_secs(300), late);
                assert!(again.is_err(), "its time is over");
                0
            }),
        ];
        assert_eq!(together(parts).into_iter().sum::<u64>(), 6);
        let books = closed_books(&limiter, late);
        assert_eq!((entry(&books, "quota a"), entry(&books, "quota b")), ((6, 6), (3, 3)), "{books:?}");
        nothing_stays(&limiter);
    });
}
