//! S6: nobody is refused for what nobody takes, and a refused request leaves nothing behind.

use super::explore::explore;
use super::stage::{
    BY_PROJECT, Came, DAY, WINDOW, at, bucket, call, closed_books, entry, four, limit, limiter, never_above,
    nothing_stays, part, pass, policy, settle, together,
};

/// Whatever is asked for at the same time fits together, to the last token and place.
#[test]
fn what_fits_together_is_never_refused() {
    let limits = policy(&four(12, 3));
    explore(4000, move || {
        let limiter = limiter(&limits);
        let caller = |tokens: u64| {
            part(&limiter, move |limiter| {
                for _ in 0..2 {
                    let permit = pass(limiter, "a", tokens, at(0));
                    limiter.cancel_at(permit, at(0)).expect("it is open");
                }
            })
        };
        together(vec![caller(3), caller(4), caller(5)]);
        assert!(closed_books(&limiter, at(0)).values().all(|books| *books == (0, 0)));
        nothing_stays(&limiter);
    });
}

/// Two want the last ten of the limit that is charged last. One comes too late, and what it took before is given back,
/// to the token, and stands in nobody's way meanwhile.
#[test]
fn who_comes_too_late_gives_everything_back() {
    let limits = bucket(24)
        + &limit("window", "window", 24, WINDOW)
        + &limit("quota", "quota", 24, DAY)
        + &limit("ten", "window", 10, &format!("{WINDOW}\n{BY_PROJECT}"));
    let limits = policy(&limits);
    explore(6000, move || {
        let limiter = limiter(&limits);
        let late = || {
            part(&limiter, |limiter| match call(limiter, "a", 10, at(0)) {
                Came::In(permit) => settle(limiter, permit, 10, at(0)).input,
                Came::Refused(by) => {
                    assert_eq!(by, ["ten"], "the others have room for both");
                    0
                }
            })
        };
        let other = part(&limiter, |limiter| {
            never_above(limiter, at(0));
            // 4 fit beside both.
            let permit = pass(limiter, "b", 4, at(0));
            settle(limiter, permit, 4, at(0)).input
        });
        let came = together(vec![late(), late(), other]);
        assert_eq!(came[0] + came[1], 10, "one of them, and only one");
        let books = closed_books(&limiter, at(0));
        for name in ["bucket", "window", "quota"] {
            assert_eq!(entry(&books, name), (14, 14), "{name}: {books:?}");
        }
        assert_eq!((entry(&books, "ten a"), entry(&books, "ten b")), ((10, 10), (4, 4)));
        nothing_stays(&limiter);
    });
}

/// As before, but what the late one takes for a moment is more than there is for the third as well: that one may be
/// refused, by the limit that was short and no other, and is admitted whenever nobody stands in its way any more.
#[test]
fn what_a_late_one_takes_for_a_moment_is_all_there_is() {
    let limits =
        bucket(20) + &limit("quota", "quota", 20, DAY) + &limit("ten", "quota", 10, &format!("{DAY}\n{BY_PROJECT}"));
    let limits = policy(&limits);
    explore(6000, move || {
        let limiter = limiter(&limits);
        let late = || {
            part(&limiter, |limiter| match call(limiter, "a", 10, at(0)) {
                Came::In(permit) => settle(limiter, permit, 10, at(0)).input,
                Came::Refused(_) => 0,
            })
        };
        let other = part(&limiter, |limiter| {
            let come = || match call(limiter, "b", 4, at(0)) {
                Came::In(permit) => settle(limiter, permit, 4, at(0)).input,
                Came::Refused(by) => {
                    assert!(!by.contains(&"ten".to_owned()), "b has ten of its own");
                    0
                }
            };
            match come() {
                0 => come(),
                settled => settled,
            }
        });
        let came = together(vec![late(), late(), other]);
        // The first to come may itself be refused because the third was there: 10, 4 and 10 are more than 20.
        assert!([0, 10].contains(&(came[0] + came[1])), "{came:?}");
        let total = came.iter().sum::<u64>();
        let books = closed_books(&limiter, at(0));
        for name in ["bucket", "quota"] {
            assert_eq!(entry(&books, name), (total, total), "{name}: {books:?}");
        }
        let again = pass(&limiter, "b", 4, at(0));
        limiter.cancel_at(again, at(0)).expect("it is open");
        nothing_stays(&limiter);
    });
}
