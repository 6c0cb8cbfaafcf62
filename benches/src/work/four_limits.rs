//! Four limits at once: requests, a project bucket, a deployment window, a project quota. All or nothing, and settled.

use super::one_limit::{ESTIMATE, LESS, REQUEST, USAGE, now, round, round_at};
use super::{Case, case, looped, on_two_threads};
use crate::policies::{FOUR, frozen, system};
use std::hint::black_box;
use tokenweir::Request;

pub const GROUP: &str = "four limits";
pub const TWO_THREADS: &str = "four limits, two threads";

pub fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, held route, system clock", || {
        let limiter = system(FOUR);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |_| round(route.admit(black_box(ESTIMATE)), USAGE))
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now", || {
        let limiter = frozen(FOUR);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |count| {
            let now = now(count);
            round_at(route.admit_at(black_box(ESTIMATE), now), USAGE, now);
        })
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, settled below the estimate", || {
        let limiter = frozen(FOUR);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |count| {
            let now = now(count);
            round_at(route.admit_at(black_box(ESTIMATE), now), LESS, now);
        })
    }));
    cases.push(case(GROUP, "tokenweir, string keys, system clock", || {
        let limiter = system(FOUR);
        looped(move |_| {
            let request = Request::new(black_box(REQUEST.0), black_box(REQUEST.1));
            round(limiter.admit(&request, black_box(ESTIMATE)), USAGE);
        })
    }));
    cases.push(case(GROUP, "tokenweir, string keys, the caller's now", || {
        let limiter = frozen(FOUR);
        looped(move |count| {
            let now = now(count);
            let request = Request::new(black_box(REQUEST.0), black_box(REQUEST.1));
            round_at(limiter.admit_at(&request, black_box(ESTIMATE), now), USAGE, now);
        })
    }));
    cases.push(case(TWO_THREADS, "tokenweir, one held route, system clock", || {
        let limiter = system(FOUR);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        on_two_threads(route, |route, _, _| round(route.admit(black_box(ESTIMATE)), USAGE))
    }));
    cases.push(case(TWO_THREADS, "tokenweir, string keys, system clock", || {
        on_two_threads(system(FOUR), |limiter, _, _| {
            let request = Request::new(black_box(REQUEST.0), black_box(REQUEST.1));
            round(limiter.admit(&request, black_box(ESTIMATE)), USAGE);
        })
    }));
    #[cfg(feature = "peers")]
    peers::add(cases);
}

#[cfg(feature = "peers")]
pub(super) mod peers {
    use super::*;
    use crate::work::keys::peers::{Keyed, keyed};
    use crate::work::limitador::Limitador;
    use crate::work::slow;

    /// What four limits are made of where a limiter knows one limit: four limiters, asked one after the other. What the
    /// first ones took when a later one refuses is lost.
    pub fn four() -> [Keyed; 4] {
        std::array::from_fn(|_| keyed())
    }

    pub const KEYS: [&str; 4] = ["search", "search/gpt-4o", "gpt-4o", "search"];

    fn check_four(limiters: &[Keyed; 4], keys: &[String; 4]) {
        let all = limiters.iter().zip(keys).all(|(limiter, key)| limiter.check_key(black_box(key)).is_ok());
        assert!(black_box(all));
    }

    pub fn add(cases: &mut Vec<Case>) {
        cases.push(case(GROUP, "governor keyed(String), four times, system clock: check", || {
            let (limiters, keys) = (four(), KEYS.map(String::from));
            looped(move |_| check_four(&limiters, &keys))
        }));
        cases.push(case(TWO_THREADS, "governor keyed(String), four times, system clock: check", || {
            on_two_threads((four(), KEYS.map(String::from)), |(limiters, keys), _, _| check_four(limiters, keys))
        }));
        cases.push(slow(case(GROUP, "limitador, four limits: check and update", || {
            let limiter = Limitador::four_plenty();
            looped(move |_| assert!(black_box(limiter.check(REQUEST.0, 90))))
        })));
        cases.push(slow(case(GROUP, "limitador, four limits: reserve and commit", || {
            let limiter = Limitador::four_plenty();
            looped(move |_| assert!(black_box(limiter.reserve_and_commit(REQUEST.0, 90, 72))))
        })));
    }
}
