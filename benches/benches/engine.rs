//! The engine beside the machine's own floor: `cargo bench -p tokenweir-benches`.
//!
//! Figures are to be read as ratios within one run. The floor of a request is what no limiter can do without: reading
//! the clock and one compare-and-swap, once to admit and once to settle.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokenweir::{Decision, Estimate, Now, Request, Usage};
use tokenweir_benches::{FOUR, ONE, SPENT, frozen, limiter};

fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let origin = Instant::now();
    group.bench_function("clock read", |b| b.iter(|| black_box(origin.elapsed())));
    let word = AtomicU64::new(0);
    group.bench_function("clock read and compare-and-swap, twice", |b| {
        b.iter(|| {
            for _ in 0..2 {
                let now = origin.elapsed().as_nanos() as u64;
                let seen = word.load(Ordering::Relaxed);
                black_box(word.compare_exchange(seen, now, Ordering::AcqRel, Ordering::Relaxed)).ok();
            }
        });
    });
    group.finish();
}

fn held_route(c: &mut Criterion) {
    for (name, policy) in [("one limit", ONE), ("four limits", FOUR)] {
        let mut group = c.benchmark_group(name);
        let request = Request::new("search", "gpt-4o");
        let usage = Usage::new(70, 20);
        let estimate = Estimate::new(70, 20);

        let system = limiter(policy);
        let route = system.route(&request).expect("a route");
        group.bench_function("held route, system clock: admit and settle", |b| {
            b.iter(|| match route.admit(black_box(estimate)) {
                Ok(Decision::Admitted(permit)) => permit.settle(black_box(usage)).is_ok(),
                _ => false,
            });
        });

        let still = frozen(policy);
        let route = still.route(&request).expect("a route");
        let mut at = 0;
        group.bench_function("held route, the caller's now: admit and settle", |b| {
            b.iter(|| {
                at += 50;
                let now = Now::new(at, at as i64);
                match route.admit_at(black_box(estimate), now) {
                    Ok(Decision::Admitted(permit)) => permit.settle_at(black_box(usage), now).is_ok(),
                    _ => false,
                }
            });
        });

        group.bench_function("held route, the caller's now: admit and settle below the estimate", |b| {
            b.iter(|| {
                at += 50;
                let now = Now::new(at, at as i64);
                match route.admit_at(black_box(Estimate::new(70, 400)), now) {
                    Ok(Decision::Admitted(permit)) => permit.settle_at(black_box(usage), now).is_ok(),
                    _ => false,
                }
            });
        });

        let still = frozen(policy);
        group.bench_function("string keys, the caller's now: admit and settle", |b| {
            b.iter(|| {
                at += 50;
                let now = Now::new(at, at as i64);
                let request = Request::new(black_box("search"), black_box("gpt-4o"));
                match still.admit_at(&request, black_box(estimate), now) {
                    Ok(Decision::Admitted(permit)) => permit.settle_at(black_box(usage), now).is_ok(),
                    _ => false,
                }
            });
        });
        group.finish();
    }
}

fn denied(c: &mut Criterion) {
    let still = frozen(SPENT);
    let request = Request::new("search", "gpt-4o");
    let route = still.route(&request).expect("a route");
    let _ =
        route.admit_at(Estimate::new(100, 0), Now::default()).map(|decision| decision.admitted().map(|p| p.into_id()));
    c.bench_function("always denied, held route", |b| {
        b.iter(|| route.admit_at(black_box(Estimate::new(100, 0)), Now::default()).is_ok_and(|d| d.is_admitted()));
    });
}

criterion_group!(benches, floor, held_route, denied);
criterion_main!(benches);
