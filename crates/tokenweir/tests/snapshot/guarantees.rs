//! S1, S2, S3 and S10 across restarts, wherever the new process's clock begins.

use super::random::Random;
use super::stage::{CALLERS, Caller, LIMITS, SECOND, START, TTL, admit, builder, fits, limiter, policy, restored};
use tokenweir::{Estimate, Limiter, Now, Policy, Request, UsageFilter};

const ANYONE: Caller = CALLERS[0];

fn at(now: u64) -> Now {
    Now::new(now, START + now as i64)
}

/// What is asked for through one limit at all times, over several lives: when, and how many tokens were admitted.
fn lives(limit: &str, seed: u64, tokens: u64, gap: u64) -> Vec<(u64, u64)> {
    let policy = policy(&[limit]);
    let mut random = Random::new(seed);
    let (mut now, mut origin) = (0, random.below(100 * SECOND));
    let mut limiter = limiter(&policy, Now::new(origin, START));
    let mut admitted = Vec::new();
    for _ in 0..6 {
        for _ in 0..40 {
            now += random.below(gap);
            let n = 1 + random.below(tokens);
            let at = Now::new(origin + now, START + now as i64);
            if admit(&limiter, ANYONE, n, at).is_some() {
                admitted.push((now, n));
            }
        }
        let snapshot = limiter.snapshot_at(Now::new(origin + now, START + now as i64));
        now += [0, random.below(SECOND), random.below(8 * SECOND)][random.below(3) as usize];
        // The next one's clock begins now, or anywhere.
        let mono = [now, now + random.below(1000 * SECOND)][random.below(2) as usize];
        origin = mono - now;
        let here = Now::new(mono, START + now as i64);
        limiter = builder(&policy, here).build();
        restored(&limiter, &snapshot, here);
    }
    assert!(admitted.len() > 20, "{admitted:?}");
    admitted
}

#[test]
fn s1_no_interval_holds_more_than_the_bucket_and_its_refill() {
    for seed in 0..200 {
        // 100 tokens a second.
        let admitted = lives(LIMITS[0], seed, 150, 2 * SECOND);
        for (from, first) in admitted.iter().enumerate() {
            let mut sum = 0;
            for last in &admitted[from..] {
                sum += last.1;
                let refilled = (last.0 - first.0 + 6) as u128 * 100;
                let most = 500 * u128::from(SECOND) + refilled;
                assert!(u128::from(sum) * u128::from(SECOND) <= most, "{sum} from {first:?} to {last:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn s2_no_interval_of_the_window_holds_more_than_its_amount() {
    for (limit, window, amount) in [(LIMITS[2], 10, 800), (LIMITS[3], 6, 9)] {
        for seed in 0..200 {
            let admitted = lives(limit, seed, 150, SECOND);
            let count = |n: u64| if limit == LIMITS[3] { 1 } else { n };
            for (from, first) in admitted.iter().enumerate() {
                let within = admitted[from..].iter().take_while(|last| last.0 < first.0 + window * SECOND);
                let sum: u64 = within.map(|last| count(last.1)).sum();
                assert!(sum <= amount, "{sum} from {first:?} on, seed {seed}");
            }
        }
    }
}

#[test]
fn s3_no_period_holds_more_than_the_quota() {
    for seed in 0..200 {
        let admitted = lives(LIMITS[4], seed, 150, SECOND);
        let bounds = policy(&[LIMITS[4]]);
        let tokenweir::policy::Algorithm::Quota { period, .. } = bounds.limits()[0].algorithm() else { panic!() };
        let period = |now: u64| period.bounds(START + now as i64).start;
        for first in &admitted {
            let sum: u64 = admitted.iter().filter(|one| period(one.0) == period(first.0)).map(|one| one.1).sum();
            assert!(sum <= 2000, "{sum} in the period of {first:?}, seed {seed}");
        }
    }
}

/// A life, and the next one, whose clocks show what they like.
fn next_life(policy: &Policy, before: &Limiter, saved: Now, here: Now) -> Limiter {
    let after = limiter(policy, here);
    restored(&after, &before.snapshot_at(saved), here);
    after
}

fn used(limiter: &Limiter, now: Now) -> u64 {
    limiter.usage_at(&UsageFilter::default(), now).first().map_or(0, |counter| counter.used)
}

#[test]
fn s3_places_come_back_when_their_permits_expire() {
    let policy = policy(&[LIMITS[5]]);
    let before = limiter(&policy, at(0));
    for now in [0, 1, 2] {
        assert!(admit(&before, ANYONE, 1, at(now * SECOND)).is_some());
    }
    let here = Now::new(0, START + 4 * SECOND as i64);
    let after = next_life(&policy, &before, at(3 * SECOND), here);
    assert_eq!(after.stats().permits_open, 3);
    let later = |nanos: u64| Now::new(nanos, here.wall + nanos as i64);
    assert!(admit(&after, ANYONE, 1, later(0)).is_none());
    // The first of them expires 5 s after it was admitted, at 0; now it is 4 s.
    let peek = ANYONE.with(|request| after.peek_at(request, Estimate::new(1, 0), later(0))).expect("it resolves");
    assert_eq!(peek.limits[0].wait, Some(SECOND));
    assert!(!fits(&after, ANYONE, 1, later(SECOND - 1)) && fits(&after, ANYONE, 1, later(SECOND)));
    assert!(admit(&after, ANYONE, 1, later(SECOND)).is_some());
    assert!(admit(&after, ANYONE, 1, later(SECOND)).is_none());
    // Saved again they are still there, and so is the new one.
    let again = next_life(&policy, &after, later(SECOND), later(SECOND));
    assert_eq!((again.stats().permits_open, used(&again, later(SECOND))), (3, 3));
    let over = later(SECOND + TTL);
    let books = again.usage_at(&UsageFilter::default(), over);
    assert_eq!((books[0].used, books[0].settled_total), (0, 4));
    again.sweep_at(over);
    assert_eq!(again.stats().permits_open, 0);
}

#[test]
fn s10_a_wall_clock_that_stepped_back_reopens_nothing_and_refills_nothing() {
    let back = Now::new(0, START - 90 * SECOND as i64);
    // A quota keeps its newest period, used up, until the next one.
    let quota = policy(&[LIMITS[4]]);
    let before = limiter(&quota, at(0));
    assert!(admit(&before, ANYONE, 1999, at(0)).is_some());
    let after = next_life(&quota, &before, at(0), back);
    assert!(!fits(&after, ANYONE, 2, back) && fits(&after, ANYONE, 1, back));
    assert!(!fits(&after, ANYONE, 2, Now::new(SECOND, START)));
    assert!(fits(&after, ANYONE, 2000, Now::new(SECOND, START + 30 * SECOND as i64)));
    // Also if nothing is used in it any more.
    let before = limiter(&quota, at(0));
    let (early, late) = (at(0), at(30 * SECOND));
    assert!(admit(&before, ANYONE, 1500, early).is_some());
    let id = admit(&before, ANYONE, 5, late).expect("a new period");
    before.cancel_at(id, late).expect("it is open");
    let after = next_life(&quota, &before, late, Now::new(0, early.wall));
    assert!(fits(&after, ANYONE, 2000, Now::new(0, early.wall)), "it counts to the period that was seen");
    let id = admit(&after, ANYONE, 2000, Now::new(0, early.wall)).expect("it fits");
    assert!(!fits(&after, ANYONE, 1, Now::new(0, late.wall)));
    after.cancel_at(id, Now::new(0, early.wall)).expect("it is open");
    // A bucket has what it had.
    let bucket = policy(&[LIMITS[0]]);
    let before = limiter(&bucket, at(0));
    assert!(admit(&before, ANYONE, 500, at(0)).is_some());
    let after = next_life(&bucket, &before, at(SECOND), back);
    assert!(fits(&after, ANYONE, 99, back) && !fits(&after, ANYONE, 101, back));
    // And a window holds what it held, for as long as it would have.
    let window = policy(&[LIMITS[2]]);
    let before = limiter(&window, at(0));
    assert!(admit(&before, ANYONE, 800, at(0)).is_some());
    let back = Now::new(100 * SECOND, back.wall);
    let after = next_life(&window, &before, at(6 * SECOND), back);
    let later = |nanos: u64| Now::new(back.mono + nanos, back.wall);
    // Charged at 0 it counts until the end of its sub-window and five more, 12 s; 6 s of it have gone by.
    assert!(!fits(&after, ANYONE, 1, later(6 * SECOND - 1)) && fits(&after, ANYONE, 800, later(6 * SECOND)));
}

#[test]
fn a_clock_that_begins_with_the_process_holds_a_window_longer_never_shorter() {
    let window = policy(&[LIMITS[2]]);
    let before = limiter(&window, at(0));
    assert!(admit(&before, ANYONE, 800, at(0)).is_some());
    let here = Now::new(0, at(6 * SECOND).wall);
    let after = next_life(&window, &before, at(6 * SECOND), here);
    let later = |nanos: u64| Now::new(nanos, here.wall + nanos as i64);
    assert!(!fits(&after, ANYONE, 1, later(12 * SECOND - 1)) && fits(&after, ANYONE, 800, later(12 * SECOND)));
}

#[test]
fn a_clock_that_is_behind_refills_nothing_twice() {
    let bucket = policy(&[LIMITS[0]]);
    let before = limiter(&bucket, at(0));
    assert!(admit(&before, ANYONE, 500, at(0)).is_some());
    // By another thread's clock, which is ahead.
    assert!(admit(&before, ANYONE, 500, at(10 * SECOND)).is_some());
    let here = at(10 * SECOND);
    let after = next_life(&bucket, &before, at(5 * SECOND), here);
    assert!(!fits(&after, ANYONE, 1, here), "refilled by the other thread's time, and again by this one's");
    assert!(fits(&after, ANYONE, 99, at(11 * SECOND)) && !fits(&after, ANYONE, 101, at(11 * SECOND)));
}

#[test]
fn what_is_taken_up_twice_or_by_one_in_use_is_counted_on_top() {
    for limit in [LIMITS[0], LIMITS[2], LIMITS[4]] {
        let policy = policy(&[limit]);
        let before = limiter(&policy, at(0));
        assert!(admit(&before, ANYONE, 100, at(0)).is_some());
        let snapshot = before.snapshot_at(at(0));
        let here = Now::new(100 * SECOND, START);
        let after = limiter(&policy, here);
        assert!(admit(&after, ANYONE, 50, here).is_some());
        restored(&after, &snapshot, here);
        restored(&after, &snapshot, here);
        // A bucket rounds up, for a unit of its line each time.
        let used = used(&after, here);
        assert!(used == 250 || limit == LIMITS[0] && used == 251, "{used}");
    }
}

#[test]
fn requests_without_keys_and_from_elsewhere_are_untouched() {
    let policy = policy(&[LIMITS[2]]);
    let before = limiter(&policy, at(0));
    assert!(admit(&before, ANYONE, 800, at(0)).is_some());
    let here = Now::new(100 * SECOND, START);
    let after = next_life(&policy, &before, at(0), here);
    assert!(!fits(&after, ANYONE, 1, here) && fits(&after, CALLERS[1], 800, here));
    let peek = after.peek_at(&Request::new("a", "d"), Estimate::new(900, 0), here).expect("it resolves");
    assert!(peek.admitted, "the limit does not apply without a user");
}
