//! Changes of policy while others charge and settle: consumption is kept, and the next decision is the new policy's.

use super::explore::explore;
use super::stage::{
    BY_PROJECT, Came, DAY, at, bucket, call, closed_books, entry, limit, limiter, nothing_stays, part, pass, policy,
    settle, together,
};
use tokenweir::{Estimate, Request};

fn of(amount: u64) -> String {
    bucket(amount) + &limit("quota", "quota", amount, DAY)
}

/// Late settlement against raised and lowered capacity: the quota is exact; the bucket at least what was settled, and at
/// most what was charged.
#[test]
fn settlement_against_changes_of_capacity() {
    let (low, high) = (policy(&of(20)), policy(&of(30)));
    explore(5000, move || {
        let limiter = limiter(&low);
        let early = pass(&limiter, "a", 8, at(0));
        let (low, high) = (low.clone(), high.clone());
        let parts = vec![
            part(&limiter, move |limiter| {
                let over = pass(limiter, "a", 5, at(0));
                settle(limiter, early, 2, at(0)).input + settle(limiter, over, 7, at(0)).input
            }),
            part(&limiter, |limiter| {
                let permit = pass(limiter, "a", 4, at(0));
                settle(limiter, permit, 1, at(0)).input
            }),
            part(&limiter, move |limiter| {
                limiter.swap_policy_at(high, at(0)).unwrap();
                limiter.swap_policy_at(low, at(0)).unwrap();
                0
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        assert_eq!(total, 10);
        let books = closed_books(&limiter, at(0));
        assert_eq!(entry(&books, "quota"), (total, total));
        let (used, lifetime) = entry(&books, "bucket");
        // 9 tokens were not used; of a charge from two changes ago they are not given back.
        assert!((total..=total + 9).contains(&used) && lifetime == total, "{books:?}");
        nothing_stays(&limiter);
    });
}

/// When the change has returned, whoever asks is decided by the new policy, on a held route as well.
#[test]
fn the_next_decision_is_the_new_policys() {
    let (low, high) = (policy(&of(3)), policy(&of(20)));
    explore(5000, move || {
        let limiter = limiter(&high);
        let route = limiter.route_at(&Request::new("a", "d"), at(0)).expect("it resolves");
        let low = low.clone();
        let parts = vec![
            part(&limiter, move |limiter| {
                limiter.swap_policy_at(low, at(0)).unwrap();
                assert!(matches!(call(limiter, "a", 4, at(0)), Came::Refused(_)), "4 never fit 3");
                0
            }),
            part(&limiter, move |_| {
                let mut settled = 0;
                for _ in 0..2 {
                    let decision = route.admit_at(Estimate::new(5, 0), at(0)).expect("it resolves");
                    if let Some(permit) = decision.admitted() {
                        let settlement = permit.settle_at(tokenweir::Usage::new(5, 0), at(0));
                        settled += settlement.expect("it is open").input;
                    }
                }
                settled
            }),
            part(&limiter, |limiter| match call(limiter, "a", 6, at(0)) {
                Came::In(permit) => settle(limiter, permit, 6, at(0)).input,
                Came::Refused(_) => 0,
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        assert_eq!(entry(&books, "quota"), (total, total), "{books:?}");
        let (used, lifetime) = entry(&books, "bucket");
        // The lowered brim takes 17 of the deficit away, as far as there was so much before the change.
        assert!(used <= total && used >= total.saturating_sub(17) && lifetime == total, "{books:?}");
        nothing_stays(&limiter);
    });
}

/// A limit leaves the policy and comes back while its permits settle: its use is still there.
#[test]
fn a_limit_that_leaves_and_comes_back() {
    let whole = policy(&of(20));
    let part_of_it = policy(&bucket(20));
    explore(5000, move || {
        let limiter = limiter(&whole);
        let early = pass(&limiter, "a", 8, at(0));
        let (whole, part_of_it) = (whole.clone(), part_of_it.clone());
        let parts = vec![
            part(&limiter, move |limiter| settle(limiter, early, 6, at(0)).input),
            part(&limiter, move |limiter| {
                limiter.swap_policy_at(part_of_it, at(0)).unwrap();
                limiter.sweep_at(at(0));
                limiter.swap_policy_at(whole, at(0)).unwrap();
                0
            }),
            part(&limiter, |limiter| {
                let permit = pass(limiter, "a", 4, at(0));
                settle(limiter, permit, 4, at(0)).input
            }),
        ];
        let total = together(parts).into_iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        assert_eq!(entry(&books, "bucket"), (total, total), "{books:?}");
        // The one in between may have met the policy without the quota.
        assert!([6, total].map(|used| (used, used)).contains(&entry(&books, "quota")), "{books:?}");
        nothing_stays(&limiter);
    });
}

/// A counter comes into being while the policy changes, and then changes again: it is brought under every change, or
/// its deficit would be read in other parts of a token than it was written in.
#[test]
fn a_counter_made_while_the_parts_of_a_token_change() {
    let rates = |amount: u64, burst: u64| {
        policy(&limit("bucket", "bucket", amount, &format!("per = '1m'\nburst = {burst}\n{BY_PROJECT}")))
    };
    let (slow, fast, faster) = (rates(60, 20), rates(6_000_000_000, 20), rates(6_000_000_000, 21));
    explore(5000, move || {
        let limiter = limiter(&slow);
        let (fast, faster) = (fast.clone(), faster.clone());
        let user = part(&limiter, |limiter| {
            let permit = pass(limiter, "a", 8, at(0));
            settle(limiter, permit, 8, at(0)).input
        });
        let change = part(&limiter, move |limiter| {
            limiter.swap_policy_at(fast, at(0)).unwrap();
            limiter.swap_policy_at(faster, at(0)).unwrap();
            0
        });
        together(vec![user, change]);
        // 8, and one more if it was there when the brim was raised by one.
        let (used, lifetime) = entry(&closed_books(&limiter, at(0)), "bucket a");
        assert!([8, 9].contains(&used) && lifetime == 8, "{used}");
        nothing_stays(&limiter);
    });
}
