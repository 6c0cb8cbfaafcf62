//! Time moves on while others charge and give back: windows slide, periods end, buckets refill.

use super::explore::explore;
use super::stage::{
    Came, DAY, SECOND, WINDOW, at, builder, call, closed_books, entry, limit, limiter, never_above, nothing_stays,
    part, pass, policy, settle, together,
};

use std::time::Duration;

/// A window of two sub-windows of 5 s. A return of what is about to leave, a charge that makes it leave, and a charge by
/// a clock that is behind.
#[test]
fn a_return_against_a_window_that_moves() {
    let limits = policy(&limit("window", "window", 20, WINDOW));
    explore(8000, move || {
        let limiter = limiter(&limits);
        let old = pass(&limiter, "a", 9, at(0));
        let parts = vec![
            part(&limiter, move |limiter| settle(limiter, old, 2, at(14 * SECOND)).input),
            part(&limiter, |limiter| {
                // Beside the 9 there is room for 11, until 15 s; then for all.
                let permit = pass(limiter, "a", 7, at(16 * SECOND));
                settle(limiter, permit, 7, at(16 * SECOND)).input
            }),
            part(&limiter, |limiter| {
                let permit = pass(limiter, "a", 4, at(12 * SECOND));
                never_above(limiter, at(16 * SECOND));
                settle(limiter, permit, 4, at(17 * SECOND)).input
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        assert_eq!(total, 13);
        // What was charged at 0 has left at 15 s, whole or in part; the rest is there, to the token.
        assert_eq!(entry(&closed_books(&limiter, at(17 * SECOND)), "window"), (11, total));
        assert_eq!(entry(&closed_books(&limiter, at(60 * SECOND)), "window"), (0, total));
        nothing_stays(&limiter);
    });
}

/// The window leaps by more than its length while two charge and one gives back.
#[test]
fn a_window_that_leaps() {
    let limits = policy(&limit("window", "window", 20, WINDOW));
    explore(8000, move || {
        let limiter = limiter(&limits);
        let old = pass(&limiter, "a", 20, at(4 * SECOND));
        let caller = |seconds: u64| {
            part(&limiter, move |limiter| {
                // Whoever is first makes 20 leave; the other finds 10 of 20 left.
                let permit = pass(limiter, "a", 10, at(seconds * SECOND));
                settle(limiter, permit, 10, at(seconds * SECOND)).input
            })
        };
        let parts =
            vec![caller(30), caller(31), part(&limiter, move |limiter| settle(limiter, old, 0, at(29 * SECOND)).input)];
        let total = together(parts).into_iter().sum::<u64>();
        assert_eq!(entry(&closed_books(&limiter, at(31 * SECOND)), "window"), (20, total));
        nothing_stays(&limiter);
    });
}

/// A day ends while two charge and one gives back what it took the day before.
#[test]
fn a_period_that_ends() {
    let limits = policy(&limit("quota", "quota", 10, DAY));
    explore(8000, move || {
        let limiter = builder(&limits).permit_ttl(Duration::from_secs(200_000)).build();
        let (today, tomorrow) = (at(0), at(86_400 * SECOND));
        let old = pass(&limiter, "a", 10, today);
        let caller = |tokens: u64| {
            part(&limiter, move |limiter| {
                let permit = pass(limiter, "a", tokens, tomorrow);
                settle(limiter, permit, tokens, tomorrow).input
            })
        };
        let parts = vec![
            caller(4),
            caller(5),
            part(&limiter, move |limiter| settle(limiter, old, 1, today).input),
            // Today there is no room, unless the old one has given back; but if another has seen tomorrow, there is.
            part(&limiter, move |limiter| match call(limiter, "a", 1, today) {
                Came::In(permit) => settle(limiter, permit, 0, today).input,
                Came::Refused(_) => 0,
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        assert_eq!(entry(&closed_books(&limiter, tomorrow), "quota"), (9, total));
        nothing_stays(&limiter);
    });
}
