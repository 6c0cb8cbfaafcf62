//! Histories of several threads on one counter, and on a few: what they did and saw is recorded, and an order is looked
//! for in which one after another could have done and seen the same.
//!
//! What is claimed, and checked:
//! - a counter of each algorithm, at a time that stands still: **linearizable** (a window's charges and returns in two
//!   steps each, see `counters`);
//! - the same while time moves: charges, refusals and looks; returns but for buckets, which give back less then;
//! - a request that several limits meet is all or nothing, but **not one atomic step**: each of its counters on its own
//!   is linearizable, where a request that was denied may have been charged for a moment and rolled back, and where
//!   every limit that is named in a denial stood by it at some instant of the call. Nobody is denied where all that is
//!   asked for at the same time fits, and in the end each limit's use is what was spent and what is held (`together`).
//!
//! The threads are real ones, or (`scripts/shuttle`) shuttle's.

mod counters;
#[cfg(shuttle)]
#[path = "../shuttle/explore.rs"]
mod explore;
#[path = "../support/random.rs"]
mod random;
mod record;
#[cfg(shuttle)]
mod schedules;
mod search;
#[cfg(not(shuttle))]
mod threads;
mod together;

use counters::{Bucket, Places, Quota, Refilling, Window};
use record::{Each, Kind, Run, Times};
#[cfg(shuttle)]
use schedules::explore;
#[cfg(not(shuttle))]
use threads::explore;

const AMOUNT: u64 = 10;

fn bucket(capacity: u64) -> Bucket {
    Bucket { capacity, deficit: 0 }
}

#[test]
fn a_bucket() {
    explore(&Run::of(Kind::Bucket, AMOUNT, Times::Still), |each| each.check(0, &bucket(AMOUNT)));
}

#[test]
fn a_bucket_that_refills() {
    let run = Run::of(Kind::Bucket, AMOUNT, Times::MovingWithoutReturns);
    explore(&run, |each| each.check(0, &Refilling::new(AMOUNT)));
}

#[test]
fn a_window() {
    let run = Run::of(Kind::Window { sub_windows: 2 }, AMOUNT, Times::Still);
    explore(&run, |each| each.check(0, &Window::new(AMOUNT, 2)));
}

#[test]
fn a_window_that_moves() {
    let run = Run::of(Kind::Window { sub_windows: 1 }, AMOUNT, Times::Moving);
    explore(&run, |each| each.check(0, &Window::new(AMOUNT, 1)));
}

/// Looks are taken at the newest sub-window here: ahead of it a look adds up several sub-windows, one after another, and
/// may count returns of which it saw one half as still in use.
#[test]
fn a_window_of_several_that_moves() {
    let run = Run::of(Kind::Window { sub_windows: 3 }, AMOUNT, Times::MovingLookingBack);
    explore(&run, |each| each.check(0, &Window::new(AMOUNT, 3)));
}

#[test]
fn a_quota() {
    explore(&Run::of(Kind::Quota, AMOUNT, Times::Still), |each| each.check(0, &Quota::new(AMOUNT)));
}

#[test]
fn a_quota_whose_periods_end() {
    explore(&Run::of(Kind::Quota, AMOUNT, Times::Moving), |each| each.check(0, &Quota::new(AMOUNT)));
}

#[test]
fn places() {
    explore(&Run::of(Kind::Places, 2, Times::Still), |each| each.check(0, &Places { amount: 2, taken: 0 }));
}

#[test]
fn each_of_four_limits() {
    let kinds = [Kind::Bucket, Kind::Window { sub_windows: 2 }, Kind::Quota, Kind::Places];
    let run = Run { limits: vec![(kinds[0], 14), (kinds[1], 12), (kinds[2], 10), (kinds[3], 3)], times: Times::Still };
    let explain = |each: &Each<'_>| {
        each.check(0, &bucket(14));
        each.check(1, &Window::new(12, 2));
        each.check(2, &Quota::new(10));
        each.check(3, &Places { amount: 3, taken: 0 });
        each.check_together();
    };
    explore(&run, explain);
}
