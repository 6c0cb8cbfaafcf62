//! Once a route exists, admitting, observing and settling on it allocates nothing, but for what comes once: a bucket's
//! history, and more places for open permits.

// The one thing that a counting allocator cannot do without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, Policy, RecordRing, Request, Usage};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(act: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    act();
    ALLOCATIONS.with(Cell::get) - before
}

const POLICY: &str = r#"
    [[limit]]
    name = "rpm"
    meter = "requests"
    algorithm = "bucket"
    amount = 1_000_000
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "window"
    meter = "total"
    algorithm = "window"
    amount = 100_000
    per = "1m"
    scope = ["deployment"]

    [[limit]]
    name = "month"
    meter = "total"
    algorithm = "quota"
    amount = 1_000_000_000
    period = "monthly"
    scope = ["project"]

    [[limit]]
    name = "at once"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 10
    scope = ["deployment"]
"#;

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1u8; 64]))) > 0);
}

#[test]
fn a_held_route_allocates_nothing_admitted_or_denied() {
    let policy = Policy::from_toml(POLICY).expect("a valid policy");
    let limiter = Limiter::builder(policy).clock(Arc::new(ManualClock::default())).build();
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    let mut now = Now::default();
    let mut round = |estimate: Estimate, usage: Usage| {
        now = Now::new(now.mono + 10_000_000, now.wall + 10_000_000);
        match route.admit_at(estimate, now) {
            Ok(Decision::Admitted(permit)) => {
                let _ = permit.observe_at(0, 10, now);
                permit.settle_at(usage, now).is_ok()
            }
            _ => false,
        }
    };
    // The thread's own places for permits, and the first look at the policy.
    assert!(round(Estimate::new(10, 20), Usage::new(1, 1)));
    let counted = allocations(|| {
        for _ in 0..1000 {
            assert!(round(Estimate::new(10, 20), Usage::new(1, 1)));
            assert!(round(Estimate::new(1, 2), Usage::new(10, 20)));
            assert!(!round(Estimate::new(100_000, 1), Usage::UNKNOWN));
        }
    });
    assert_eq!(counted, 0);
}

const TOKENS: &str = r#"
    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 10_000
    per = "1m"
    scope = ["project"]
"#;

#[test]
fn a_bucket_in_use_allocates_its_history_once() {
    let policy = Policy::from_toml(TOKENS).expect("a valid policy");
    let limiter = Limiter::builder(policy).clock(Arc::new(ManualClock::default())).build();
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    // Two permits are open at a time, and are settled below their estimates.
    let round = |now: Now, estimate: u64| {
        let admit = || route.admit_at(Estimate::new(0, estimate), now).expect("it resolves").admitted();
        for permit in [admit(), admit()].map(|permit| permit.expect("it fits")) {
            permit.settle_at(Usage::new(0, estimate / 2), now).expect("it is open");
        }
    };
    // The thread's own places for permits.
    drop(route.admit_at(Estimate::new(0, 1), Now::default()));
    assert_eq!((allocations(|| round(Now::at(0), 0)), limiter.stats().histories), (0, 0));
    // A fifth of it is in use from here on: it refills 100 in the time from one round to the next.
    assert!(allocations(|| round(Now::at(0), 2000)) > 0, "its history");
    assert_eq!(limiter.stats().histories, 1);
    let counted = allocations(|| (1..1000).for_each(|count| round(Now::at(count * 600_000_000), 100)));
    assert_eq!((counted, limiter.stats().histories), (0, 1));
    let left = limiter.peek_at(&Request::new("search", "gpt-4o"), Estimate::new(0, 1), Now::at(999 * 600_000_000));
    assert!(left.expect("it resolves").limits[0].remaining <= 8100, "it was in use to the end");
}

#[test]
fn one_limit_on_the_systems_clock_allocates_nothing() {
    // Far from being in use; and what a call gives back it still has by itself, if the thread waits less than seconds for
    // its turn: 72 tokens take two to refill.
    let policy = TOKENS.replace("10_000", "3_000_000").replace("1m", "1d");
    let limiter = Limiter::new(Policy::from_toml(&policy).expect("a valid policy"));
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    let round = || match route.admit(Estimate::new(70, 20)) {
        Ok(Decision::Admitted(permit)) => permit.settle(Usage::new(70, 2)).is_ok(),
        _ => false,
    };
    assert!(round());
    assert_eq!(allocations(|| assert!((0..1000).all(|_| round()))), 0);
}

#[test]
fn string_keys_of_a_known_route_allocate_nothing() {
    let policy = Policy::from_toml(POLICY).expect("a valid policy");
    let limiter = Limiter::builder(policy).clock(Arc::new(ManualClock::default())).build();
    let round = |at: u64| {
        let now = Now::new(at, at as i64);
        let request = Request::new("search", "gpt-4o");
        match limiter.admit_at(&request, Estimate::new(10, 20), now) {
            Ok(Decision::Admitted(permit)) => permit.settle_at(Usage::new(1, 1), now).is_ok(),
            _ => false,
        }
    };
    assert!(round(0));
    assert_eq!(allocations(|| assert!((1..1000).all(|at| round(at * 1_000_000)))), 0);
}

#[test]
fn a_ring_of_records_allocates_nothing_read_or_full() {
    let policy = Policy::from_toml(POLICY).expect("a valid policy");
    let ring = Arc::new(RecordRing::new(64));
    let clock = Arc::new(ManualClock::default());
    let limiter = Limiter::builder(policy).clock(clock).observer(ring.clone()).build();
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    let mut now = Now::default();
    let mut round = |tokens: u64| {
        now = Now::new(now.mono + 10_000_000, now.wall + 10_000_000);
        match route.admit_at(Estimate::new(tokens, 20), now) {
            Ok(Decision::Admitted(permit)) => permit.settle_at(Usage::new(1, 1), now).is_ok(),
            _ => false,
        }
    };
    assert!(round(10));
    let counted = allocations(|| {
        for _ in 0..1000 {
            assert!(round(10));
            assert!(!round(100_000));
            while ring.poll().is_some() {}
        }
        assert_eq!(ring.lost(), 0);
        (0..100).for_each(|_| assert!(round(10)));
        assert_eq!(ring.lost(), 200 - 64);
    });
    assert_eq!(counted, 0);
}
