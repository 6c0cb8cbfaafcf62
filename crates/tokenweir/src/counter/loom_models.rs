//! One model for each race on a counter's words. Run by `scripts/loom`.

use super::bucket::{Bucket, BucketRule, Charged};
use super::floors::Histories;
use super::in_flight::InFlight;
use super::quota::Quota;
use super::window::{Window, WindowRule};
use super::{Look, Ready};
use loom::thread;
use std::sync::Arc;

/// One token a nanosecond, in whole tokens: deficits are small numbers.
fn rule(capacity: u64) -> BucketRule {
    rule_with(capacity, 1)
}

/// The same; so many buckets may keep a history.
fn rule_with(capacity: u64, histories: usize) -> BucketRule {
    BucketRule::new(capacity, 1_000_000_000, 1_000_000_000, 0, Arc::new(Histories::new(histories)))
}

fn taken(charged: Result<Charged, super::bucket::Stale>) -> Option<u64> {
    match charged {
        Ok(Charged::Taken(receipt)) => Some(receipt),
        _ => None,
    }
}

/// Runs every interleaving of `check` with up to three preemptions.
pub(crate) fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(check);
}

#[test]
fn bucket_two_charges_never_share_a_token() {
    model(|| {
        let rule = Arc::new(rule(10));
        let bucket = Arc::new(Bucket::new(&rule));
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || taken(bucket.charge(&rule, 6, 0)).is_some())
        };
        let mine = taken(bucket.charge(&rule, 6, 0)).is_some();
        assert!(mine ^ other.join().unwrap(), "one of them fits, and only one");
        assert_eq!(bucket.deficit(&rule, 0), Ok(6));
    });
}

#[test]
fn bucket_two_charges_that_fit_are_both_admitted() {
    model(|| {
        let rule = Arc::new(rule(10));
        let bucket = Arc::new(Bucket::new(&rule));
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || taken(bucket.charge(&rule, 4, 1)).is_some())
        };
        assert!(taken(bucket.charge(&rule, 6, 0)).is_some());
        assert!(other.join().unwrap());
    });
}

#[test]
fn bucket_first_return_against_a_charge() {
    model(|| {
        let rule = Arc::new(rule(10));
        let bucket = Arc::new(Bucket::new(&rule));
        let receipt = taken(bucket.charge(&rule, 6, 0)).unwrap();
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || taken(bucket.charge(&rule, 8, 0)).is_some())
        };
        assert_eq!(bucket.give_back(&rule, (6, receipt, 0), 5, 0), Ok(5));
        let admitted = other.join().unwrap();
        assert_eq!(bucket.deficit(&rule, 0), Ok(if admitted { 9 } else { 1 }));
    });
}

#[test]
fn bucket_two_returns_never_spend_the_same_floor() {
    model(|| {
        let rule = Arc::new(rule(10));
        let bucket = Arc::new(Bucket::new(&rule));
        // Both charges of 5 at 0; at 6 only 4 of the deficit are left to be given back, to both together.
        let first = taken(bucket.charge(&rule, 5, 0)).unwrap();
        let second = taken(bucket.charge(&rule, 5, 0)).unwrap();
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || bucket.give_back(&rule, (5, first, 0), 5, 6).unwrap())
        };
        let mine = bucket.give_back(&rule, (5, second, 0), 5, 6).unwrap();
        let back = mine + other.join().unwrap();
        assert!(back <= 4, "{back} given back");
        assert_eq!(bucket.deficit(&rule, 6), Ok(4 - back));
    });
}

#[test]
fn bucket_two_returns_without_a_history_give_back_what_their_own_charges_warrant() {
    model(|| {
        let rule = Arc::new(rule_with(10, 0));
        let bucket = Arc::new(Bucket::new(&rule));
        let first = taken(bucket.charge(&rule, 5, 0)).unwrap();
        let second = taken(bucket.charge(&rule, 5, 0)).unwrap();
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || bucket.give_back(&rule, (5, first, 0), 5, 2).unwrap())
        };
        // Of either charge 3 were not refilled by 2; when both are gone, so is the deficit of 8 but for these.
        assert_eq!(bucket.give_back(&rule, (5, second, 0), 5, 2), Ok(3));
        assert_eq!(other.join().unwrap(), 3);
        assert_eq!(bucket.deficit(&rule, 2), Ok(2));
    });
}

/// A history goes to one bucket of two, and the other goes without.
#[test]
fn bucket_the_last_place_for_a_history_goes_to_one() {
    model(|| {
        let histories = Arc::new(Histories::new(1));
        let other = {
            let histories = histories.clone();
            thread::spawn(move || histories.place())
        };
        let mine = histories.place();
        let theirs = other.join().unwrap();
        assert!(!(mine.is_some() && theirs.is_some()), "there is room for one");
        assert!(histories.refused(), "and it is known that one went without");
        drop((mine, theirs));
        assert_eq!(histories.kept(), 0);
        assert!(histories.place().is_some());
    });
}

#[test]
fn bucket_change_of_policy_against_a_charge() {
    model(|| {
        let old = Arc::new(rule(10));
        let new = Arc::new(old.changed(6, 1_000_000_000, 0));
        let bucket = Arc::new(Bucket::new(&old));
        assert!(taken(bucket.charge(&old, 6, 0)).is_some());
        let other = {
            let (old, new, bucket) = (old.clone(), new.clone(), bucket.clone());
            thread::spawn(move || match bucket.charge(&old, 3, 0) {
                Ok(Charged::Taken(_)) => true,
                Ok(Charged::Refused) => panic!("3 of the 4 left fit under either policy"),
                Err(_) => taken(bucket.charge(&new, 3, 0)).is_some(),
            })
        };
        new.put_in_force();
        bucket.adopt(&new).expect("it is the newest");
        assert!(other.join().unwrap());
        // The balance was 4, is kept by the change, and 3 of it were taken before or after.
        assert_eq!(bucket.deficit(&new, 0), Ok(5));
    });
}

#[test]
fn window_expiry_leaves_at_once_and_for_everyone() {
    model(|| {
        let rule = WindowRule { amount: 10, sub_window: 10 };
        let window = Arc::new(Window::new(1));
        assert!(window.charge(&rule, 8, 5).is_some());
        let other = {
            let window = window.clone();
            thread::spawn(move || window.charge(&rule, 5, 25).is_some())
        };
        assert!(window.charge(&rule, 5, 25).is_some(), "what was charged in the first sub-window has left");
        assert!(other.join().unwrap());
        assert_eq!(window.used(&rule, 25), 10);
    });
}

#[test]
fn window_two_charges_never_share_a_token() {
    model(|| {
        let rule = WindowRule { amount: 10, sub_window: 10 };
        let window = Arc::new(Window::new(1));
        let other = {
            let window = window.clone();
            thread::spawn(move || window.charge(&rule, 6, 15).is_some())
        };
        let mine = window.charge(&rule, 6, 5).is_some();
        assert!(mine ^ other.join().unwrap());
        assert_eq!(window.used(&rule, 15), 6);
        assert_eq!(window.used(&rule, 35), 0);
    });
}

/// A return to the first sub-window, while a charge at `at` moves the window on. At 25 the first sub-window is one that
/// leaves; at 15 it is not yet.
fn window_return_against_a_move(at: u64) {
    model(move || {
        let rule = WindowRule { amount: 10, sub_window: 10 };
        let window = Arc::new(Window::new(1));
        let receipt = window.charge(&rule, 4, 5).unwrap();
        let other = {
            let window = window.clone();
            thread::spawn(move || window.charge(&rule, 3, at).is_some())
        };
        let back = window.give_back(&rule, (receipt, 5), 2, 5);
        assert!(other.join().unwrap(), "3 fit beside 4");
        assert!(back <= 2);
        // As long as the sub-window counts, less what came back; afterwards nothing of it, neither more nor less.
        if at < 20 {
            assert_eq!(window.used(&rule, 15), 7 - back);
        }
        assert_eq!(window.used(&rule, 25), 3);
        assert!(window.charge(&rule, 7, 25).is_some(), "all the rest is there");
        assert_eq!(window.used(&rule, 45), 0);
    });
}

#[test]
fn window_return_against_expiry_takes_off_once() {
    window_return_against_a_move(25);
}

#[test]
fn window_return_against_the_next_sub_window_takes_off_once() {
    window_return_against_a_move(15);
}

#[test]
fn quota_roll_over_loses_nothing() {
    model(|| {
        let quota = Arc::new(Quota::new());
        let (old, new) = (0, 3_600_000_000_000);
        assert!(quota.charge(old, 10, 10).is_some());
        let other = {
            let quota = quota.clone();
            thread::spawn(move || quota.charge(new, 5, 10).is_some())
        };
        assert!(quota.charge(new, 5, 10).is_some());
        assert!(other.join().unwrap());
        assert_eq!(quota.used(new), (10, new));
    });
}

#[test]
fn quota_return_never_reaches_the_next_period() {
    model(|| {
        let quota = Arc::new(Quota::new());
        let (old, new) = (0, 3_600_000_000_000);
        let receipt = quota.charge(old, 10, 10).unwrap();
        let other = {
            let quota = quota.clone();
            thread::spawn(move || quota.give_back(old, receipt, 4))
        };
        assert!(quota.charge(new, 5, 10).is_some());
        other.join().unwrap();
        assert_eq!(quota.used(new), (5, new));
    });
}

#[test]
fn quota_two_charges_never_share_a_token() {
    model(|| {
        let quota = Arc::new(Quota::new());
        let other = {
            let quota = quota.clone();
            thread::spawn(move || quota.charge(0, 6, 10).is_some())
        };
        let mine = quota.charge(0, 6, 10).is_some();
        assert!(mine ^ other.join().unwrap());
        assert_eq!(quota.used(0).0, 6);
    });
}

#[test]
fn in_flight_one_place_goes_to_one() {
    model(|| {
        let places = Arc::new(InFlight::new());
        let other = {
            let places = places.clone();
            thread::spawn(move || places.charge(1))
        };
        let mine = places.charge(1);
        let theirs = other.join().unwrap();
        assert!(mine ^ theirs);
        places.release();
        assert!(places.charge(1));
    });
}

/// Charges the quick way, as a request does that meets no race; `None` if it has to go the long way.
fn quickly<T>(look: impl Fn(&mut Ready) -> Look, make: impl Fn(&Ready) -> T) -> Option<T> {
    let mut ready = Ready::default();
    (look(&mut ready) == Look::Fits).then(|| make(&ready))
}

#[test]
fn bucket_a_quick_charge_never_takes_what_another_took() {
    model(|| {
        let rule = Arc::new(rule(10));
        let bucket = Arc::new(Bucket::new(&rule));
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || taken(bucket.charge(&rule, 6, 0)).is_some())
        };
        let mine = quickly(|to| bucket.look(&rule, 6, 0, to), |ready| bucket.make(ready, 0)) == Some(true);
        let theirs = other.join().unwrap();
        assert!(!(mine && theirs), "only one of them fits");
        assert_eq!(bucket.deficit(&rule, 0), Ok(if mine || theirs { 6 } else { 0 }));
    });
}

#[test]
fn bucket_a_quick_charge_that_began_before_there_were_floors_fails() {
    model(|| {
        let rule = Arc::new(rule(100));
        let bucket = Arc::new(Bucket::new(&rule));
        let first = taken(bucket.charge(&rule, 10, 0)).expect("it fits");
        let other = {
            let (rule, bucket) = (rule.clone(), bucket.clone());
            thread::spawn(move || {
                quickly(|to| bucket.look(&rule, 5, 1, to), |ready| bucket.make(ready, 1)) == Some(true)
            })
        };
        let _ = bucket.give_back(&rule, (10, first, 0), 4, 2);
        let charged = other.join().unwrap();
        // 10 at 0, 4 given back at 2; or 5 more at 1 or later: never less than the exact history leaves.
        assert!(bucket.deficit(&rule, 2).unwrap() >= if charged { 9 } else { 4 });
    });
}

#[test]
fn window_a_quick_charge_against_one_that_moves_it_on() {
    model(|| {
        let rule = WindowRule { amount: 10, sub_window: 10 };
        let window = Arc::new(Window::new(1));
        assert!(window.charge(&rule, 4, 0).is_some());
        let other = {
            let window = window.clone();
            thread::spawn(move || window.charge(&rule, 6, 10).is_some())
        };
        let mine = quickly(|to| window.look(&rule, 6, 5, to), |ready| window.make(ready).is_some()) == Some(true);
        let theirs = other.join().unwrap();
        assert!(!(mine && theirs), "both would be 16");
        let used = 4 + if mine { 6 } else { 0 } + if theirs { 6 } else { 0 };
        assert_eq!(window.used(&rule, 10), used);
    });
}

#[test]
fn quota_a_quick_charge_against_the_next_period() {
    model(|| {
        const DAY: i64 = 86_400_000_000_000;
        let quota = Arc::new(Quota::new());
        assert!(quota.charge(0, 4, 10).is_some());
        let other = {
            let quota = quota.clone();
            thread::spawn(move || quota.charge(DAY, 6, 10).is_some())
        };
        quickly(|to| quota.look(0, 6, 10, to), |ready| quota.make(ready));
        assert!(other.join().unwrap());
        assert_eq!(quota.used(DAY).0, 6, "the old day's charge is not the new one's");
    });
}

/// What a store would have recorded, by turns as the limiter's keeper has it.
struct Ledger(loom::sync::Mutex<u64>);

impl Ledger {
    /// Records what is used, and `more`.
    fn cover(&self, quota: &Quota, more: u64) {
        let mut recorded = self.0.lock().unwrap();
        if let Some(leased) = quota.leased()
            && !leased.covers()
        {
            *recorded = leased.used + more;
            quota.lease(leased.period, *recorded);
        }
    }

    /// Records exactly what is used.
    fn give_back(&self, quota: &Quota) {
        let mut recorded = self.0.lock().unwrap();
        let Some(leased) = quota.leased() else { return };
        quota.lease(leased.period, leased.used);
        let now = quota.leased().unwrap();
        *recorded = now.used.max(leased.used);
        quota.lease(leased.period, *recorded);
    }
}

#[test]
fn quota_a_charge_is_recorded_though_its_lease_is_given_back() {
    model(|| {
        let (quota, ledger) = (Arc::new(Quota::kept(None)), Arc::new(Ledger(loom::sync::Mutex::new(0))));
        assert!(quota.charge(0, 1, 10).is_some());
        ledger.cover(&quota, 4);
        let other = {
            let (quota, ledger) = (quota.clone(), ledger.clone());
            thread::spawn(move || {
                let charged = quickly(|to| quota.look(0, 2, 10, to), |ready| quota.make(ready)).is_some();
                if quota.leased().is_some_and(|leased| !leased.covers()) {
                    ledger.cover(&quota, 0);
                }
                let recorded = *ledger.0.lock().unwrap();
                assert!(!charged || recorded >= 3, "an admission that is out is recorded");
            })
        };
        ledger.give_back(&quota);
        other.join().unwrap();
        assert!(*ledger.0.lock().unwrap() >= quota.used(0).0);
    });
}

#[test]
fn in_flight_a_quick_charge_takes_the_last_place_alone() {
    model(|| {
        let places = Arc::new(InFlight::new());
        let other = {
            let places = places.clone();
            thread::spawn(move || places.charge(1))
        };
        let mine = quickly(|to| places.look(1, to), |ready| places.make(ready)) == Some(true);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(places.open(), 1);
    });
}
