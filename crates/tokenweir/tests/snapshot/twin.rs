//! Round trips on random histories against a twin that nobody touched: the same requests at the same times get the same
//! answers, but for the last units of a bucket's line.

use super::random::Random;
use super::stage::{CALLERS, Caller, LIMITS, SECOND, START, TTL, admit, fits, limiter, policy, restored};
use std::collections::BTreeMap;
use std::time::Duration;
use tokenweir::{Limiter, Now, PermitId, Policy, Usage, UsageFilter};

/// Two units of these buckets' lines, and more: how much sooner or later a charge may fit in one than in the other.
const SLACK: u64 = 20;

/// A permit on the limiter that was saved, and on the one that took up its counters.
type Pair = (PermitId, PermitId);

struct Twins {
    old: Limiter,
    new: Limiter,
    /// How far the new one's monotonic clock is ahead. Whole windows: sub-windows begin together.
    ahead: u64,
    has_buckets: bool,
    pairs: Vec<Pair>,
    agreed: u64,
    differed: u64,
}

fn at(now: u64) -> Now {
    Now::new(now, START + now as i64)
}

impl Twins {
    fn old_at(&self, now: u64) -> Now {
        at(now)
    }

    fn new_at(&self, now: u64) -> Now {
        Now::new(now + self.ahead, at(now).wall)
    }

    fn admit(&mut self, caller: Caller, tokens: u64, now: u64) {
        let (old_at, new_at) = (self.old_at(now), self.new_at(now));
        let (old, new) = (admit(&self.old, caller, tokens, old_at), admit(&self.new, caller, tokens, new_at));
        let soon = |now: Now| Now::new(now.mono + SLACK, now.wall + SLACK as i64);
        match (old, new) {
            (Some(old), Some(new)) => self.pairs.push((old, new)),
            (None, None) => {}
            // A moment before both would. Cancelled in the instant of its admission it leaves no trace.
            (Some(id), None) => {
                let near = self.has_buckets && fits(&self.new, caller, tokens, soon(new_at));
                assert!(near, "{caller:?} for {tokens} at {now} was admitted by the old one alone");
                self.old.cancel_at(id, old_at).expect("it is open");
                self.differed += 1;
            }
            (None, Some(id)) => {
                let near = self.has_buckets && fits(&self.old, caller, tokens, soon(old_at));
                assert!(near, "{caller:?} for {tokens} at {now} was admitted by the new one alone");
                self.new.cancel_at(id, new_at).expect("it is open");
                self.differed += 1;
            }
        }
        self.agreed += 1;
    }

    /// Ends a permit of both. What a bucket gets back late depends on where its ticks begin: none do, here.
    fn end(&mut self, random: &mut Random, now: u64) {
        if self.pairs.is_empty() {
            return;
        }
        let (old, new) = self.pairs.swap_remove(random.below(self.pairs.len() as u64) as usize);
        let input = if self.has_buckets { 200 + random.below(50) } else { random.below(250) };
        let usage = Usage::new(input, 0);
        let (old, new) = (
            self.old.settle_at(old, usage, self.old_at(now)).map(|settled| settled.input),
            self.new.settle_at(new, usage, self.new_at(now)).map(|settled| settled.input),
        );
        // Both have expired, or none.
        assert_eq!(old.ok(), new.ok());
    }
}

/// What each counter has in use, and has ever settled; by limit and key.
type Books = BTreeMap<(String, Vec<(String, Vec<u8>)>), (u64, u64)>;

fn books(limiter: &Limiter, now: Now) -> Books {
    let usage = limiter.usage_at(&UsageFilter::default(), now).into_iter();
    let usage = usage.map(|counter| ((counter.limit, counter.scope), (counter.used, counter.settled_total)));
    usage.filter(|(_, books)| *books != (0, 0)).collect()
}

/// A history on the limiter that will be saved: anything goes.
fn live(limiter: &Limiter, random: &mut Random, steps: u64, start: u64) -> u64 {
    let mut now = start;
    let mut open = Vec::new();
    for _ in 0..steps {
        now += pause(random);
        let caller = CALLERS[random.below(4) as usize];
        match random.below(8) {
            0..4 => open.extend(admit(limiter, caller, random.below(200), at(now))),
            _ if open.is_empty() => {}
            kind => {
                let id = open[random.below(open.len() as u64) as usize];
                let usage = Usage::new(random.below(300), 0);
                // Some have ended before: errors are part of it.
                let _ = match kind {
                    4 => limiter.settle_at(id, usage, at(now)).map(|_| ()),
                    5 => limiter.cancel_at(id, at(now)).map(|_| ()),
                    6 => limiter.observe_at(id, random.below(100), random.below(10), at(now)).map(|_| ()),
                    _ => limiter.renew_at(id, Duration::from_nanos(random.below(2 * TTL)), at(now)),
                };
            }
        }
    }
    now
}

fn pause(random: &mut Random) -> u64 {
    match random.below(8) {
        0..3 => 0,
        3..5 => random.below(1_000_000),
        5..7 => random.below(SECOND / 2),
        _ => random.below(3 * SECOND),
    }
}

/// One history, one restart, and what comes after it.
fn play(policy: &Policy, has_buckets: bool, seed: u64) -> (u64, u64) {
    let mut random = Random::new(seed);
    let begins = random.below(100 * SECOND);
    let old = limiter(policy, at(begins));
    let steps = 10 + random.below(60);
    let saved = live(&old, &mut random, steps, begins);
    let snapshot = old.snapshot_at(at(saved));
    assert_eq!(snapshot.taken_at(), at(saved).wall);
    let down = [0, random.below(SECOND), random.below(30 * SECOND)][random.below(3) as usize];
    let (mut now, ahead) = (saved + down, 60 * SECOND * (1 + random.below(1000)));
    let mut twins = Twins { new: old.clone(), old, ahead, has_buckets, pairs: Vec::new(), agreed: 0, differed: 0 };
    let new_now = twins.new_at(now);
    twins.new = limiter(policy, new_now);
    restored(&twins.new, &snapshot, new_now);
    if !has_buckets {
        assert_eq!(books(&twins.new, new_now), books_of_the_dead(&twins, now), "taken at {saved}, taken up at {now}");
    }
    for _ in 0..60 {
        match random.below(4) {
            0 => twins.end(&mut random, now),
            _ => twins.admit(CALLERS[random.below(4) as usize], random.below(200), now),
        }
        now += pause(&mut random);
    }
    // All permits expire, all windows end: what is left is what was ever settled, and it is the same.
    now += 60 * SECOND;
    assert_eq!(books(&twins.new, twins.new_at(now)), books(&twins.old, twins.old_at(now)));
    twins.new.sweep_at(twins.new_at(now));
    assert_eq!(twins.new.stats().permits_open, 0, "places are held until their permits expire");
    (twins.agreed, twins.differed)
}

/// The old one's books, in which what open permits hold has been spent; places are still taken.
fn books_of_the_dead(twins: &Twins, now: u64) -> Books {
    let usage = twins.old.usage_at(&UsageFilter::default(), twins.old_at(now)).into_iter();
    let usage = usage.map(|counter| {
        let spent = if counter.limit == "places" { 0 } else { counter.held };
        ((counter.limit, counter.scope), (counter.used, counter.settled_total + spent))
    });
    usage.filter(|(_, books)| *books != (0, 0)).collect()
}

#[test]
fn each_limit_by_itself() {
    for (at, limit) in LIMITS.iter().enumerate() {
        let policy = policy(&[limit]);
        let (mut agreed, mut differed) = (0, 0);
        for seed in 0..300 {
            let came = play(&policy, at < 2, seed);
            (agreed, differed) = (agreed + came.0, differed + came.1);
        }
        println!("{differed} of {agreed} decisions differed: {limit:?}");
        assert!(differed * 100 <= agreed);
    }
}

#[test]
fn all_limits_together() {
    let policy = policy(&LIMITS);
    for seed in 1000..1500 {
        play(&policy, true, seed);
    }
}
