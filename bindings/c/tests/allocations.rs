//! Once a route exists, admitting, denying, observing and settling through the C interface allocates nothing; nor does
//! metering and filtering a stream as it passes.

// A counting allocator, and calls as C makes them.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{null, null_mut};
use tokenweir_capi::*;

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

const OK: tokenweir_code = tokenweir_code::TOKENWEIR_OK;

const POLICY: &str = "
    [[limit]]
    name = 'window'
    meter = 'total'
    algorithm = 'window'
    amount = 100
    per = '1s'
    scope = ['project', 'key:user']

    [[limit]]
    name = 'places'
    meter = 'in_flight'
    algorithm = 'in_flight'
    amount = 10
";

fn cleared<T: Copy>() -> T {
    // SAFETY: only called for the plain structs of the header, of which any bits are a value.
    unsafe { std::mem::zeroed() }
}

#[test]
fn the_path_of_a_request_allocates_nothing_held_or_by_keys() {
    let names = [c"user", c"a", c"b", c"c", c"d", c"e", c"f", c"g"];
    let keys = names.map(|name| {
        let (name, length) = (name.as_ptr(), name.to_bytes().len());
        tokenweir_key { name, name_length: length, value: name, value_length: length }
    });
    let request = tokenweir_request {
        size: size_of::<tokenweir_request>() as u32,
        project: c"search".as_ptr(),
        project_length: 6,
        deployment: c"gpt-4o".as_ptr(),
        deployment_length: 6,
        keys: keys.as_ptr(),
        key_count: keys.len(),
        ..cleared()
    };
    let estimate = |output| tokenweir_estimate { size: size_of::<tokenweir_estimate>() as u32, output, ..cleared() };
    let (small, large) = (estimate(10), estimate(101));
    let usage = tokenweir_usage { size: size_of::<tokenweir_usage>() as u32, output: 5, ..cleared() };
    let mut decision = tokenweir_decision { size: size_of::<tokenweir_decision>() as u32, ..cleared() };
    let mut settlement = tokenweir_settlement { size: size_of::<tokenweir_settlement>() as u32, ..cleared() };
    let (mut policy, mut clock, mut ring, mut limiter, mut route) =
        (null_mut(), null_mut(), null_mut(), null_mut(), null_mut());
    let error = null_mut();
    // SAFETY: every pointer is to a local of the right type, and to a struct that says its size; handles are live until
    // they are freed at the end.
    unsafe {
        assert_eq!(tokenweir_policy_from_toml(POLICY.as_ptr().cast(), POLICY.len(), &mut policy, error), OK);
        assert_eq!(tokenweir_clock_new_manual(null(), &mut clock, error), OK);
        assert_eq!(tokenweir_ring_new(64, &mut ring, error), OK);
        let options = tokenweir_options { size: size_of::<tokenweir_options>() as u32, clock, ring, ..cleared() };
        assert_eq!(tokenweir_limiter_new(policy, &options, &mut limiter, error), OK);
        assert_eq!(tokenweir_limiter_route(limiter, &request, null(), &mut route, error), OK);
        let mut now = tokenweir_now { mono: 0, wall: 0 };
        let mut round = || {
            now.mono += 1_000_000_000;
            for held in [true, false] {
                for (estimate, fits) in [(&small, 1), (&large, 0)] {
                    let code = if held {
                        tokenweir_route_admit(route, estimate, &now, &mut decision, null_mut(), error)
                    } else {
                        tokenweir_limiter_admit(limiter, &request, estimate, &now, &mut decision, null_mut(), error)
                    };
                    assert!(code == OK && decision.admitted == fits);
                    if fits == 0 {
                        continue;
                    }
                    let id = decision.permit;
                    assert_eq!(tokenweir_limiter_observe(limiter, id, 0, 12, &now, null_mut(), error), OK);
                    let code = if held {
                        tokenweir_route_settle(route, id, &usage, &now, &mut settlement, error)
                    } else {
                        tokenweir_limiter_settle(limiter, id, &usage, &now, &mut settlement, error)
                    };
                    assert_eq!(code, OK);
                    // An error, whose object nobody wants.
                    let gone = tokenweir_limiter_cancel(limiter, id, &now, null_mut(), error);
                    assert_eq!(gone, tokenweir_code::TOKENWEIR_PERMIT_SETTLED);
                }
            }
        };
        round();
        let before = ALLOCATIONS.with(Cell::get);
        (0..1000).for_each(|_| round());
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
        tokenweir_route_free(route);
        tokenweir_limiter_free(limiter);
        tokenweir_ring_free(ring);
        tokenweir_clock_free(clock);
        tokenweir_policy_free(policy);
    }
}

#[test]
fn a_stream_that_passes_allocates_nothing() {
    let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"At noon, more or less.\"}}],\"usage\":null}\n\n";
    let mut out = [0; 200 + TOKENWEIR_MOST_HELD];
    let (mut meter, mut filter) = (null_mut(), null_mut());
    let api = tokenweir_api::TOKENWEIR_API_CHAT_COMPLETIONS as u32;
    let content_type = c"text/event-stream";
    let mut measured = tokenweir_measured { size: size_of::<tokenweir_measured>() as u32, ..cleared() };
    let error = null_mut();
    // SAFETY: every pointer is to a local that is as long as is said; handles are live until they are freed at the end.
    unsafe {
        let length = content_type.count_bytes();
        assert_eq!(tokenweir_response_meter_new(api, content_type.as_ptr(), length, &mut meter, error), OK);
        assert_eq!(tokenweir_usage_chunk_filter_new(&mut filter, error), OK);
        let mut round = |cut: usize| {
            for chunk in [&event[..cut], &event[cut..]] {
                let (mut output, mut written) = (0, 0);
                let (chunk, length) = (chunk.as_ptr().cast(), chunk.len());
                assert_eq!(tokenweir_response_meter_feed(meter, chunk, length, &mut output, error), OK);
                assert_eq!(tokenweir_response_meter_measured(meter, &mut measured, error), OK);
                let (out, room) = (out.as_mut_ptr(), out.len());
                let code = tokenweir_usage_chunk_filter_feed(filter, chunk, length, out, room, &mut written, error);
                assert_eq!(code, OK);
            }
        };
        (0..event.len()).for_each(&mut round);
        let before = ALLOCATIONS.with(Cell::get);
        (0..10 * event.len()).for_each(|turn| round(turn % event.len()));
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
        tokenweir_usage_chunk_filter_free(filter);
        tokenweir_response_meter_free(meter);
    }
}
