//! Bytes for each counter at a million string keys: `cargo run --release -p tokenweir-benches --bin memory`, with
//! `--features peers` beside governor and limitador. It prints Markdown.
//!
//! What the allocator was asked for. Counters are one thing; the routes that lead to them are a cache of another size
//! (`max_routes`), so both are stated.

// A counting allocator cannot do without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokenweir::{Estimate, Limiter, ManualClock, Now, Policy, Request, Usage};
use tokenweir_benches::{machine, work::keys};

struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ASKED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Prints what `make` took for each of a million keys.
fn measure<T>(what: &str, make: impl FnOnce() -> T) {
    let before = ASKED.load(Relaxed);
    let made = make();
    println!("| {what} | {:.0} |", asked_since(before) as f64 / keys::KEYS as f64);
    drop(made);
}

/// What the allocator was asked for beyond that.
fn asked_since(before: usize) -> usize {
    ASKED.load(Relaxed) - before
}

/// A limiter whose every counter has been charged once, and not much.
fn filled(limit: &str, max_routes: usize) -> Limiter {
    let policy = format!("[[limit]]\nname = 'project'\nmeter = 'total'\nscope = ['project']\n{limit}");
    let limiter = Limiter::builder(Policy::from_toml(&policy).expect("a valid policy"))
        .clock(Arc::new(ManualClock::default()))
        .max_counters(keys::KEYS as usize)
        .max_routes(max_routes)
        .build();
    for number in 0..keys::KEYS {
        let key = keys::key(number);
        // Dropped: the estimate stands, so that no counter is at rest.
        let decision = limiter.admit_at(&Request::new(&key, "gpt-4o"), Estimate::new(9, 1), Now::default());
        assert!(decision.expect("it resolves").is_admitted());
    }
    assert_eq!(limiter.stats().counters, keys::KEYS as usize);
    limiter
}

/// As many buckets, and every one of them in use: two calls that overlap hold half of it, and use half of that.
fn in_use(max_histories: usize) -> Limiter {
    let policy = "[[limit]]\nname = 'project'\nmeter = 'total'\nscope = ['project']\nalgorithm = 'bucket'\n\
                  amount = 1000\nper = '1m'";
    let limiter = Limiter::builder(Policy::from_toml(policy).expect("a valid policy"))
        .clock(Arc::new(ManualClock::default()))
        .max_counters(keys::KEYS as usize)
        .max_routes(4096)
        .max_histories(max_histories)
        .build();
    for number in 0..keys::KEYS {
        let key = keys::key(number);
        let admit = || {
            let decision = limiter.admit_at(&Request::new(&key, "gpt-4o"), Estimate::new(200, 50), Now::default());
            decision.expect("it resolves").admitted().expect("there is room for two")
        };
        for permit in [admit(), admit()] {
            permit.settle_at(Usage::new(100, 25), Now::at(1_000_000)).expect("it is open");
        }
    }
    assert_eq!(limiter.stats().histories, max_histories);
    limiter
}

fn main() {
    const BUCKET: &str = "algorithm = 'bucket'\namount = 1000\nper = '1m'";
    const QUOTA: &str = "algorithm = 'quota'\namount = 1000\nperiod = 'monthly'";
    println!("{}\n\n| a million string keys | bytes each |", machine::description());
    println!("|---|---:|");
    measure("tokenweir, bucket counters, 4,096 routes", || filled(BUCKET, 4096));
    measure("tokenweir, bucket counters, a route for each", || filled(BUCKET, keys::KEYS as usize));
    // What one history takes.
    let (with, without) = (1000, 0);
    let took = |histories| {
        let before = ASKED.load(Relaxed);
        let _limiter = in_use(histories);
        asked_since(before)
    };
    println!("| tokenweir, one bucket's history | {} |", (took(with) - took(without)) / with);
    let default = Limiter::new(Policy::from_toml("").expect("no limits")).stats().max_histories;
    let what = format!("tokenweir, bucket counters, all in use, 4,096 routes, {default} histories (the default)");
    measure(&what, || in_use(default));
    measure("tokenweir, quota counters, 4,096 routes", || filled(QUOTA, 4096));
    for sub_windows in [60, 12, 6] {
        let window = format!("algorithm = 'window'\namount = 1000\nper = '1m'\nsub_windows = {sub_windows}");
        let what = format!("tokenweir, window counters, {sub_windows} sub-windows, 4,096 routes");
        measure(&what, || filled(&window, 4096));
    }
    #[cfg(feature = "peers")]
    measure("governor keyed(String)", || {
        let limiter = keys::peers::keyed();
        (0..keys::KEYS).for_each(|number| assert!(limiter.check_key(&keys::key(number)).is_ok()));
        limiter
    });
    #[cfg(feature = "peers")]
    measure("limitador, in memory", || {
        let limiter = tokenweir_benches::work::limitador::Limitador::one(2 * keys::KEYS);
        (0..keys::KEYS).for_each(|number| assert!(limiter.check(&keys::key(number), 1)));
        limiter
    });
}
