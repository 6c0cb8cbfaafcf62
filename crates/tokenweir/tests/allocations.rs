//! Once a route exists, admitting, observing and settling on it allocates nothing.

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
    // The first early settlement of a bucket makes the room in which it remembers its floors.
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
