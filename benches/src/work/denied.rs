//! A denial beside an admission, on four limits by held route. The admissions are settled off the clock.

use super::one_limit::{ESTIMATE, REQUEST, USAGE, now};
use super::{Case, Timed, case, looped};
use crate::policies::{FOUR, ONE_REFUSES, four_of_which_the_first_refuses, four_of_which_the_last_refuses, frozen};
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokenweir::{Decision, Request};

pub const GROUP: &str = "denied, four limits";
/// The same with one limit.
pub const ONE_LIMIT: &str = "denied, one limit";

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

/// Refusals by a limiter that has room for one request, which is made first.
fn denials(policy: &str) -> Timed {
    let limiter = frozen(policy);
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    let first = route.admit_at(ESTIMATE, now(0)).expect("it resolves").admitted().expect("there is room for one");
    first.settle_at(USAGE, now(0)).expect("it is open");
    looped(move |count| {
        let decision = route.admit_at(black_box(ESTIMATE), now(count));
        assert!(black_box(&decision).as_ref().is_ok_and(|decision| !decision.is_admitted()));
    })
}

pub fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, held route: admitted", admissions));
    cases.push(case(GROUP, "tokenweir, held route: denied by the last limit", || {
        denials(&four_of_which_the_last_refuses())
    }));
    cases.push(case(GROUP, "tokenweir, held route: denied by the first limit", || {
        denials(&four_of_which_the_first_refuses())
    }));
    cases.push(case(ONE_LIMIT, "tokenweir, held route: denied", || denials(ONE_REFUSES)));
    #[cfg(feature = "peers")]
    peers::add(cases);
}

#[cfg(feature = "peers")]
mod peers {
    use super::*;
    use crate::work::four_limits::peers::{KEYS, four};
    use crate::work::keys::peers::keyed_within;
    use crate::work::limitador::Limitador;
    use crate::work::slow;
    use governor::clock::MonotonicClock;
    use governor::{Quota, RateLimiter};
    use std::num::NonZeroU32;

    /// One a day.
    fn one_a_day() -> Quota {
        Quota::with_period(Duration::from_secs(86_400)).expect("not 0").allow_burst(NonZeroU32::MIN)
    }

    pub fn add(cases: &mut Vec<Case>) {
        cases.push(case(ONE_LIMIT, "governor direct, system clock: check", || {
            let limiter = RateLimiter::direct_with_clock(one_a_day(), MonotonicClock);
            assert!(limiter.check().is_ok());
            looped(move |_| assert!(black_box(limiter.check().is_err())))
        }));
        cases.push(case(GROUP, "governor keyed(String), four times, system clock: refused by the last", || {
            let [first, second, third, _] = four();
            let last = keyed_within(one_a_day());
            let keys = KEYS.map(String::from);
            assert!(last.check_key(&keys[3]).is_ok());
            looped(move |_| {
                let before = [&first, &second, &third].into_iter().zip(&keys);
                let passed =
                    before.fold(true, |passed, (limiter, key)| passed & limiter.check_key(black_box(key)).is_ok());
                assert!(black_box(passed && last.check_key(black_box(&keys[3])).is_err()));
            })
        }));
        cases.push(slow(case(GROUP, "limitador, four limits: refused by the last", || {
            let limiter = Limitador::four(100);
            assert!(limiter.check(REQUEST.0, 90));
            looped(move |_| {
                // Its window lasts for a minute; when it is over, one passes.
                black_box(limiter.check(REQUEST.0, 90));
            })
        })));
    }
}
