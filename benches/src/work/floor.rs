//! The machine's own floor: what no limiter can do without.

use super::{Case, case, looped, on_two_threads};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Instant;

pub const GROUP: &str = "floor";
/// The same with two threads on one word.
pub const TWO_THREADS: &str = "floor, two threads";

fn swap(word: &AtomicU64, next: u64) {
    let seen = word.load(Relaxed);
    let _ = black_box(word.compare_exchange(seen, next, AcqRel, Relaxed));
}

pub fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "empty loop", || {
        looped(|count| {
            black_box(count);
        })
    }));
    cases.push(case(GROUP, "clock read", || {
        let origin = Instant::now();
        looped(move |_| {
            black_box(origin.elapsed());
        })
    }));
    cases.push(case(GROUP, "one compare-and-swap", || {
        let word = AtomicU64::new(0);
        looped(move |count| swap(&word, count))
    }));
    cases.push(case(GROUP, "clock read and compare-and-swap, twice", || {
        let (origin, word) = (Instant::now(), AtomicU64::new(0));
        looped(move |_| {
            for _ in 0..2 {
                swap(&word, origin.elapsed().as_nanos() as u64);
            }
        })
    }));
    cases.push(case(TWO_THREADS, "clock read and compare-and-swap of one word, twice", || {
        on_two_threads((Instant::now(), AtomicU64::new(0)), |(origin, word), _, _| {
            for _ in 0..2 {
                swap(word, origin.elapsed().as_nanos() as u64);
            }
        })
    }));
}
