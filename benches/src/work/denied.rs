//! A denial beside an admission, on four limits by held route. The admissions are settled off the clock.

use super::one_limit::{ESTIMATE, REQUEST, USAGE, now};
use super::{Case, Timed, case, looped};
use crate::policies::{FOUR, four_of_which_the_last_refuses, frozen};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokenweir::{Decision, Request};

pub const GROUP: &str = "denied, four limits";

/// So many permits are open at once: as few as keeps the clock reads out of the figure.
const BATCH: u64 = 64;

fn admissions() -> Timed {
    let limiter = frozen(FOUR);
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    let mut count = 0;
    Box::new(move |times| {
        let mut took = Duration::ZERO;
        let mut permits = Vec::with_capacity(BATCH as usize);
        for _ in 0..times.div_ceil(BATCH) {
            let start = Instant::now();
            for _ in 0..BATCH {
                count += 1;
                match route.admit_at(black_box(ESTIMATE), now(count)) {
                    Ok(Decision::Admitted(permit)) => permits.push(permit),
                    other => panic!("not admitted: {other:?}"),
                }
            }
            took += start.elapsed();
            for permit in permits.drain(..) {
                permit.settle_at(USAGE, now(count)).expect("it is open");
            }
        }
        took
    })
}

pub fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, held route: admitted", admissions));
    cases.push(case(GROUP, "tokenweir, held route: denied by the last limit", || {
        let limiter = frozen(&four_of_which_the_last_refuses());
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        let first = route.admit_at(ESTIMATE, now(0)).expect("it resolves").admitted().expect("there is room for one");
        first.settle_at(USAGE, now(0)).expect("it is open");
        looped(move |count| {
            let decision = route.admit_at(black_box(ESTIMATE), now(count));
            assert!(black_box(&decision).as_ref().is_ok_and(|decision| !decision.is_admitted()));
        })
    }));
}
