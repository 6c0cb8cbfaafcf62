//! A million keys, asked for by two threads, the n-th most popular 1/n as often as the first (Zipf, exponent 1).

use super::{Case, case, on_two_threads};
use crate::policies::{ONE, builder};
use std::hint::black_box;
use std::sync::Arc;
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, Request};

/// What it is compared within.
pub const GROUP: &str = "a million keys, Zipf, two threads";

/// How many keys there are.
pub const KEYS: u64 = 1_000_000;
/// How many requests of each thread are drawn beforehand; then they come again.
const DRAWN: usize = 1 << 20;

/// The key of a number.
pub fn key(number: u64) -> String {
    format!("project-{number:07}")
}

/// Which keys the two threads ask for. Popularity has nothing to do with the order of the numbers.
pub fn drawn() -> [Vec<u32>; 2] {
    let mut sums = Vec::with_capacity(KEYS as usize);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    [0x9e37_79b9_7f4a_7c15u64, 0xd1b5_4a32_d192_ed03].map(|mut seed| {
        let mut draw = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 11) as f64 / (1u64 << 53) as f64 * sum;
            let rank = sums.partition_point(|up_to| *up_to < at) as u64;
            // 7,368,787 has no factor in common with a million: every number comes once.
            (rank.min(KEYS - 1) * 7_368_787 % KEYS) as u32
        };
        (0..DRAWN).map(|_| draw()).collect()
    })
}

/// All keys, and which are asked for.
struct Asked {
    keys: Vec<String>,
    drawn: [Vec<u32>; 2],
}

impl Asked {
    fn new() -> Self {
        Asked { keys: (0..KEYS).map(key).collect(), drawn: drawn() }
    }

    fn number(&self, thread: usize, count: u64) -> usize {
        self.drawn[thread][count as usize % DRAWN] as usize
    }

    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "for those that want an owned key"))]
    fn key(&self, thread: usize, count: u64) -> &String {
        &self.keys[self.number(thread, count)]
    }
}

/// A limiter that has seen every key and keeps so many routes.
fn filled(keys: &[String], max_routes: usize) -> Limiter {
    let builder = builder(ONE).clock(Arc::new(ManualClock::default()));
    let limiter = builder.max_counters(keys.len() + 1).max_routes(max_routes).build();
    for key in keys {
        admit(&limiter, key, Now::default());
    }
    limiter
}

fn admit(limiter: &Limiter, key: &str, now: Now) {
    let request = Request::new(black_box(key), black_box("gpt-4o"));
    match limiter.admit_at(&request, black_box(Estimate::new(9, 1)), now) {
        // Dropped: the estimate stands.
        Ok(Decision::Admitted(_permit)) => {}
        other => panic!("not admitted: {other:?}"),
    }
}

/// Admits, and drops the permit: that is in the figure.
fn admissions(max_routes: usize) -> super::Timed {
    let asked = Asked::new();
    let limiter = filled(&asked.keys, max_routes);
    on_two_threads((limiter, asked), |(limiter, asked), thread, count| {
        let now = Now::new(count * 100, 0);
        admit(limiter, &asked.keys[asked.number(thread, count)], now);
    })
}

pub(super) fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, string keys, the caller's now: admit", || admissions(KEYS as usize + 1)));
    let few = case(GROUP, "tokenweir, the same, 4,096 routes", || admissions(4096));
    cases.push(Case { round: 100_000, ..few });
    cases.push(case(GROUP, "array slot and compare-and-swap", || {
        use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
        let slots: Vec<AtomicU64> = (0..KEYS).map(AtomicU64::new).collect();
        on_two_threads((slots, Asked::new()), |(slots, asked), thread, count| {
            let slot = &slots[asked.number(thread, count)];
            let seen = slot.load(Relaxed);
            let _ = black_box(slot.compare_exchange(seen, seen + 1, AcqRel, Relaxed));
        })
    }));
    #[cfg(feature = "peers")]
    peers::add(cases);
}

/// Other limiters.
#[cfg(feature = "peers")]
pub mod peers {
    use super::*;
    use crate::work::limitador::Limitador;
    use crate::work::slow;
    use dashmap::DashMap;
    use governor::clock::MonotonicClock;
    use governor::middleware::NoOpMiddleware;
    use governor::state::keyed::DefaultKeyedStateStore;
    use governor::{Quota, RateLimiter};
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
    use std::time::Instant;

    const PLENTY: NonZeroU32 = NonZeroU32::new(1_000_000_000).expect("not 0");
    /// As much as it takes never to refuse.
    pub const QUOTA: Quota = Quota::per_second(PLENTY).allow_burst(PLENTY);

    /// governor by key, on the system's clock.
    pub type Keyed = RateLimiter<String, DefaultKeyedStateStore<String>, MonotonicClock, NoOpMiddleware<Instant>>;

    /// The same by number.
    pub type KeyedByNumber = RateLimiter<u64, DefaultKeyedStateStore<u64>, MonotonicClock, NoOpMiddleware<Instant>>;

    /// A fresh one that never refuses.
    pub fn keyed_by_number() -> KeyedByNumber {
        RateLimiter::new(QUOTA, DefaultKeyedStateStore::default(), MonotonicClock)
    }

    /// A fresh one that never refuses.
    pub fn keyed() -> Keyed {
        keyed_within(QUOTA)
    }

    /// A fresh one of this quota.
    pub fn keyed_within(quota: Quota) -> Keyed {
        RateLimiter::new(quota, DefaultKeyedStateStore::default(), MonotonicClock)
    }

    pub(super) fn add(cases: &mut Vec<Case>) {
        cases.push(case(GROUP, "governor keyed(String), system clock: check", || {
            let (asked, limiter) = (Asked::new(), keyed());
            asked.keys.iter().for_each(|key| assert!(limiter.check_key(key).is_ok()));
            on_two_threads((limiter, asked), |(limiter, asked), thread, count| {
                assert!(black_box(limiter.check_key(asked.key(thread, count)).is_ok()));
            })
        }));
        cases.push(case(GROUP, "governor keyed(u64), system clock: check", || {
            let limiter = keyed_by_number();
            (0..KEYS).for_each(|key| assert!(limiter.check_key(&key).is_ok()));
            on_two_threads((limiter, Asked::new()), |(limiter, asked), thread, count| {
                let key = asked.number(thread, count) as u64;
                assert!(black_box(limiter.check_key(&key).is_ok()));
            })
        }));
        cases.push(slow(case(GROUP, "limitador: check and update", || {
            let (asked, limiter) = (Asked::new(), Limitador::one(2 * KEYS));
            asked.keys.iter().for_each(|key| assert!(limiter.check(key, 1)));
            on_two_threads((limiter, asked), |(limiter, asked), thread, count| {
                assert!(black_box(limiter.check(asked.key(thread, count), 10)));
            })
        })));
        cases.push(case(GROUP, "dashmap of String and one compare-and-swap", || {
            let (asked, map) = (Asked::new(), DashMap::new());
            for key in &asked.keys {
                map.insert(key.clone(), AtomicU64::new(0));
            }
            on_two_threads((map, asked), |(map, asked), thread, count| {
                let word = map.get(asked.key(thread, count)).expect("it is there");
                let seen = word.load(Relaxed);
                let _ = black_box(word.compare_exchange(seen, seen + 1, AcqRel, Relaxed));
            })
        }));
    }
}
