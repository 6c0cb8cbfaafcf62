//! The reference model, tested by itself: what judges the library must be right first.

mod support;

use proptest::prelude::*;
use support::cases;
use support::ledger::{Bucket, Window, documented, exact, whole};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;

#[test]
fn a_bucket_starts_full_refills_and_is_never_fuller_than_full() {
    let mut bucket = Bucket::new(10, 60, MINUTE, exact);
    assert_eq!(bucket.balance(0), 10);
    bucket.charge(10, 0);
    assert_eq!(bucket.balance(SECOND - 1), 0);
    assert_eq!(bucket.balance(SECOND), 1);
    assert_eq!(bucket.ready(3, SECOND), Some(u128::from(3 * SECOND)));
    assert_eq!(bucket.ready(11, SECOND), None);
    assert_eq!(bucket.balance(MINUTE), 10);
}

#[test]
fn debt_is_paid_before_a_charge_of_nothing_fits() {
    let mut bucket = Bucket::new(10, 60, MINUTE, exact);
    bucket.charge(13, 0);
    assert_eq!(bucket.balance(0), -3);
    assert_eq!(bucket.ready(0, 0), Some(u128::from(3 * SECOND) + 1));
    assert!(!bucket.fits(0, 3 * SECOND));
    assert!(bucket.fits(0, 3 * SECOND + 1));
    // Where only whole tokens count, the first one must be complete.
    let mut bucket = Bucket::new(10, 60, MINUTE, whole);
    bucket.charge(13, 0);
    assert_eq!(bucket.ready(0, 0), Some(u128::from(4 * SECOND)));
}

#[test]
fn what_the_brim_swallowed_is_not_given_back() {
    // 10 taken at 0, refilled to 4 below the brim at 6 s: a return of 9 gives back no more than those 4.
    let mut bucket = Bucket::new(10, 60, MINUTE, exact);
    let charge = bucket.charge(10, 0);
    assert_eq!(bucket.formula(charge, 9, 6 * SECOND), 4 * i128::from(MINUTE));
    bucket.give_back(charge, 9);
    assert_eq!(bucket.balance(6 * SECOND), 10);
    // And it does not help a later one either, which found the bucket fuller.
    let mut bucket = Bucket::new(10, 60, MINUTE, exact);
    let first = bucket.charge(10, 0);
    bucket.charge(5, 9 * SECOND);
    assert_eq!(bucket.deficit(9 * SECOND), 6 * i128::from(MINUTE));
    bucket.give_back(first, 10);
    assert_eq!(bucket.deficit(9 * SECOND), 5 * i128::from(MINUTE));
}

#[test]
fn a_change_of_rate_credits_the_past_at_the_old_rate() {
    let mut bucket = Bucket::new(100, 60, MINUTE, exact);
    bucket.charge(100, 0);
    assert!(bucket.change(100, 600, 10 * SECOND));
    assert_eq!(bucket.balance(10 * SECOND), 10);
    assert_eq!(bucket.balance(11 * SECOND), 20);
    // Raised: not topped up. Lowered: clamped to the brim.
    bucket.change(150, 600, 11 * SECOND);
    assert_eq!(bucket.balance(11 * SECOND), 20);
    bucket.change(15, 600, 11 * SECOND);
    assert_eq!(bucket.balance(11 * SECOND), 15);
}

#[test]
fn a_window_holds_a_charge_through_one_sub_window_more() {
    let mut window = Window::new(100, MINUTE, 60);
    let charge = window.charge(60, SECOND / 2);
    assert_eq!(window.ready(50, 2 * SECOND), Some(u128::from(61 * SECOND)));
    assert_eq!(window.counted(61 * SECOND - 1), 60);
    assert_eq!(window.counted(61 * SECOND), 0);
    window.give_back(charge, 20);
    assert_eq!(window.counted(30 * SECOND), 40);
}

#[test]
fn the_documented_resolution_lasts_a_century() {
    for (rate, minimum) in [(1, 1 << 30), (100_000, 1 << 16), (10_000_000_000, 1), (100_000_000_000, 1)] {
        let parts = documented(rate, rate, MINUTE);
        assert!(parts >= minimum, "{rate} counts in {parts} parts");
        let century = 105 * 31_557_600u128 * u128::from(SECOND);
        let brought = century * u128::from(rate) / u128::from(MINUTE) * u128::from(parts);
        assert!(brought < 1 << 59 || parts == 1, "{rate}");
    }
}

/// A history of one bucket: waits, charges, returns of earlier charges, changes of rate and capacity.
#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    Charge(u64),
    GiveBack(prop::sample::Index, u64),
    Change(u64, u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..8 * SECOND).prop_map(Event::Wait),
        5 => (0..30u64).prop_map(Event::Charge),
        4 => (any::<prop::sample::Index>(), 0..30u64).prop_map(|(which, back)| Event::GiveBack(which, back)),
        1 => (1..40u64, 1..1000u64).prop_map(|(capacity, rate)| Event::Change(capacity, rate)),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    #![proptest_config(cases(400))]

    /// The contract says twice what a return gives back: as if the charge had been smaller, and as a running minimum.
    /// Here the history is rewritten and replayed from its beginning, and the formula must say the same.
    #[test]
    fn as_if_and_the_running_minimum_agree(events in events(), fine in any::<bool>()) {
        let mut bucket = Bucket::new(20, 300, MINUTE, if fine { exact } else { whole });
        let (mut now, mut charges) = (0, Vec::new());
        for event in events {
            match event {
                Event::Wait(time) => now += time,
                Event::Charge(n) => charges.push((bucket.charge(n, now), n)),
                Event::GiveBack(which, back) if !charges.is_empty() => {
                    let (index, left) = which.get_mut(&mut charges);
                    let back = back.min(*left);
                    *left -= back;
                    let before = bucket.deficit(now);
                    let formula = bucket.formula(*index, back, now);
                    bucket.give_back(*index, back);
                    prop_assert_eq!(before - bucket.deficit(now), formula);
                }
                Event::GiveBack(..) => {}
                Event::Change(capacity, rate) => prop_assert!(bucket.change(capacity, rate, now)),
            }
        }
    }

    /// Ready is the first instant that fits: not before it, and then.
    #[test]
    fn ready_is_the_first_instant_that_fits(events in events(), n in 0..20u64, fine in any::<bool>()) {
        let mut bucket = Bucket::new(20, 300, MINUTE, if fine { exact } else { documented });
        let mut window = Window::new(20, MINUTE, 12);
        let mut now = 0;
        for event in events {
            match event {
                Event::Wait(time) => now += time,
                Event::Charge(n) => {
                    bucket.charge(n, now);
                    window.charge(n, now);
                }
                _ => {}
            }
            let at = u64::try_from(bucket.ready(n, now).unwrap()).unwrap();
            prop_assert!(bucket.fits(n, at));
            prop_assert!(at == now || !bucket.fits(n, at - 1));
            let at = u64::try_from(window.ready(n, now).unwrap()).unwrap();
            prop_assert!(window.fits(n, at));
            prop_assert!(at == now || !window.fits(n, at - 1));
        }
    }
}
