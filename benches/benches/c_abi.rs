//! What the C interface adds to a call: `cargo bench -p tokenweir-benches --bench c_abi`.
//!
//! The same admission and settlement with the caller's now, in Rust and through the C entry points, in one run. The
//! entry points are called by pointers that the compiler cannot see through, as C calls them. What criterion measures
//! apart from one another is measured turn by turn as well, in short batches, so that whatever else the machine does
//! meets both alike; the last lines are the difference of the quickest batches.

// They take pointers.
#![allow(unsafe_code)]

use criterion::Criterion;
use std::hint::black_box;
use std::ptr::{null, null_mut};
use std::time::Instant;
use tokenweir::{Decision, Estimate, Limiter, Now, Request, Route, Usage};
use tokenweir_benches::policies::{FOUR, ONE, frozen};
use tokenweir_capi::*;

const TOKENS: (u64, u64) = (70, 20);

/// One admission and settlement each, at the given instant; true if both went through.
struct InRust {
    limiter: Limiter,
    route: Route,
    estimate: Estimate,
    usage: Usage,
}

impl InRust {
    fn new(policy: &str) -> Self {
        let limiter = frozen(policy);
        let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
        let (estimate, usage) = (Estimate::new(TOKENS.0, TOKENS.1), Usage::new(TOKENS.0, TOKENS.1));
        InRust { limiter, route, estimate, usage }
    }

    #[inline]
    fn held_route(&mut self, at: u64) -> bool {
        let now = Now::new(at, at as i64);
        match self.route.admit_at(black_box(self.estimate), now) {
            Ok(Decision::Admitted(permit)) => permit.settle_at(black_box(self.usage), now).is_ok(),
            _ => false,
        }
    }

    #[inline]
    fn string_keys(&mut self, at: u64) -> bool {
        let now = Now::new(at, at as i64);
        let request = Request::new(black_box("search"), black_box("gpt-4o"));
        match self.limiter.admit_at(&request, black_box(self.estimate), now) {
            Ok(Decision::Admitted(permit)) => {
                self.limiter.settle_at(permit.into_id(), black_box(self.usage), now).is_ok()
            }
            _ => false,
        }
    }
}

type Now_ = *const tokenweir_now;
type Error_ = *mut *mut tokenweir_error;
type Denial_ = *mut *mut tokenweir_denial;
type Decision_ = *mut tokenweir_decision;
type Settlement_ = *mut tokenweir_settlement;
type Estimate_ = *const tokenweir_estimate;
type Usage_ = *const tokenweir_usage;
type Settle<Handle> = unsafe extern "C" fn(*const Handle, u64, Usage_, Now_, Settlement_, Error_) -> tokenweir_code;

struct InC {
    limiter: *const tokenweir_limiter,
    route: *const tokenweir_route,
    request: tokenweir_request,
    estimate: tokenweir_estimate,
    usage: tokenweir_usage,
    decision: tokenweir_decision,
    settlement: tokenweir_settlement,
    route_admit:
        unsafe extern "C" fn(*const tokenweir_route, Estimate_, Now_, Decision_, Denial_, Error_) -> tokenweir_code,
    route_settle: Settle<tokenweir_route>,
    limiter_admit: unsafe extern "C" fn(
        *const tokenweir_limiter,
        *const tokenweir_request,
        Estimate_,
        Now_,
        Decision_,
        Denial_,
        Error_,
    ) -> tokenweir_code,
    limiter_settle: Settle<tokenweir_limiter>,
}

fn size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Structs of integers and pointers as C clears them.
fn cleared<T: Copy>() -> T {
    // SAFETY: only called for the plain structs of the header, of which any bits are a value.
    unsafe { std::mem::zeroed() }
}

const OK: tokenweir_code = tokenweir_code::TOKENWEIR_OK;

impl InC {
    /// What it holds lives as long as the bench runs.
    fn new(policy: &str) -> Self {
        let request = tokenweir_request {
            size: size::<tokenweir_request>(),
            project: c"search".as_ptr(),
            project_length: 6,
            deployment: c"gpt-4o".as_ptr(),
            deployment_length: 6,
            ..cleared()
        };
        let (mut read, mut clock, mut limiter, mut route) = (null_mut(), null_mut(), null_mut(), null_mut());
        // SAFETY: every pointer is to a local of the right type, and to a struct that says its size.
        unsafe {
            assert_eq!(tokenweir_policy_from_toml(policy.as_ptr().cast(), policy.len(), &mut read, null_mut()), OK);
            assert_eq!(tokenweir_clock_new_manual(null(), &mut clock, null_mut()), OK);
            let options = tokenweir_options { size: size::<tokenweir_options>(), clock, ..cleared() };
            assert_eq!(tokenweir_limiter_new(read, &options, &mut limiter, null_mut()), OK);
            assert_eq!(tokenweir_limiter_route(limiter, &request, null(), &mut route, null_mut()), OK);
        }
        let (input, output) = TOKENS;
        InC {
            limiter,
            route,
            request,
            estimate: tokenweir_estimate { size: size::<tokenweir_estimate>(), input, output, ..cleared() },
            usage: tokenweir_usage {
                size: size::<tokenweir_usage>(),
                input,
                cached_input: TOKENWEIR_ABSENT,
                output,
                ..cleared()
            },
            decision: tokenweir_decision { size: size::<tokenweir_decision>(), ..cleared() },
            settlement: tokenweir_settlement { size: size::<tokenweir_settlement>(), ..cleared() },
            route_admit: black_box(tokenweir_route_admit),
            route_settle: black_box(tokenweir_route_settle),
            limiter_admit: black_box(tokenweir_limiter_admit),
            limiter_settle: black_box(tokenweir_limiter_settle),
        }
    }

    #[inline]
    fn held_route(&mut self, at: u64) -> bool {
        let now = tokenweir_now { mono: at, wall: at as i64 };
        let (estimate, usage) = (black_box(&self.estimate), black_box(&self.usage));
        // SAFETY: live handles, and structs that say their size.
        unsafe {
            let (admit, settle) = (black_box(self.route_admit), black_box(self.route_settle));
            admit(self.route, estimate, &now, &mut self.decision, null_mut(), null_mut()) == OK
                && settle(self.route, self.decision.permit, usage, &now, &mut self.settlement, null_mut()) == OK
        }
    }

    #[inline]
    fn string_keys(&mut self, at: u64) -> bool {
        let now = tokenweir_now { mono: at, wall: at as i64 };
        let (request, estimate, usage) = (black_box(&self.request), black_box(&self.estimate), black_box(&self.usage));
        // SAFETY: live handles, and structs that say their size.
        unsafe {
            let (admit, settle) = (black_box(self.limiter_admit), black_box(self.limiter_settle));
            admit(self.limiter, request, estimate, &now, &mut self.decision, null_mut(), null_mut()) == OK
                && settle(self.limiter, self.decision.permit, usage, &now, &mut self.settlement, null_mut()) == OK
        }
    }
}

/// Nanoseconds each of two takes at its quickest, batch by batch in turn.
fn in_turn(mut one: impl FnMut(u64) -> bool, mut other: impl FnMut(u64) -> bool) -> [f64; 2] {
    const BATCH: u32 = 200;
    let mut at = 0;
    let mut quickest = [f64::MAX; 2];
    let mut batch = |quickest: &mut f64, call: &mut dyn FnMut(u64) -> bool| {
        let start = Instant::now();
        for _ in 0..BATCH {
            at += 50;
            assert!(call(at));
        }
        *quickest = quickest.min(start.elapsed().as_nanos() as f64 / f64::from(BATCH));
    };
    for _ in 0..20_000 {
        batch(&mut quickest[0], &mut one);
        batch(&mut quickest[1], &mut other);
    }
    quickest
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut at = 0;
    let mut next = || {
        at += 50;
        at
    };
    let mut differences = Vec::new();
    for (name, policy) in [("one limit", ONE), ("four limits", FOUR)] {
        let (mut rust, mut c) = (InRust::new(policy), InC::new(policy));
        let mut group = criterion.benchmark_group(format!("C interface, {name}"));
        group.bench_function("held route: admit and settle, Rust", |b| b.iter(|| rust.held_route(next())));
        group.bench_function("held route: admit and settle, C", |b| b.iter(|| c.held_route(next())));
        group.bench_function("string keys: admit and settle by id, Rust", |b| b.iter(|| rust.string_keys(next())));
        group.bench_function("string keys: admit and settle by id, C", |b| b.iter(|| c.string_keys(next())));
        group.finish();

        let (mut rust, mut c) = (InRust::new(policy), InC::new(policy));
        let held = in_turn(|at| rust.held_route(at), |at| c.held_route(at));
        differences.push((format!("{name}, held route"), held));
        let (mut rust, mut c) = (InRust::new(policy), InC::new(policy));
        let keyed = in_turn(|at| rust.string_keys(at), |at| c.string_keys(at));
        differences.push((format!("{name}, string keys"), keyed));
    }
    criterion.final_summary();
    for (what, [rust, c]) in differences {
        println!("{what}: Rust {rust:.1} ns, C {c:.1} ns, C adds {:.1} ns", c - rust);
    }
}
