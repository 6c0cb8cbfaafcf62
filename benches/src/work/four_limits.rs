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
mod peers {
    use super::*;
    use crate::work::keys::peers::{Keyed, keyed};
    use limitador::RateLimiter;
    use limitador::limit::{Context, Limit, Namespace};
    use std::collections::HashMap;

    /// What four limits are made of where a limiter knows one limit: four limiters, asked one after the other. What the
    /// first ones took when a later one refuses is lost.
    fn four() -> [Keyed; 4] {
        std::array::from_fn(|_| keyed())
    }

    const KEYS: [&str; 4] = ["search", "search/gpt-4o", "gpt-4o", "search"];

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
        let limitador = case(GROUP, "limitador, four limits: check and update", || {
            let limiter = RateLimiter::new(10_000);
            let namespace: Namespace = "gateway".into();
            for (at, variables) in
                [&["project"][..], &["project", "deployment"], &["deployment"], &["project"]].into_iter().enumerate()
            {
                let variables: Vec<_> = variables.iter().map(|name| (*name).try_into().expect("a variable")).collect();
                limiter.add_limit(Limit::new(namespace.clone(), u64::MAX / 2, 60 + at as u64, vec![], variables));
            }
            looped(move |_| {
                let pairs = [("project", black_box("search")), ("deployment", black_box("gpt-4o"))];
                let values: HashMap<String, String> =
                    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let limited = limiter.check_rate_limited_and_update(&namespace, &Context::from(values), 90);
                assert!(!black_box(limited).expect("in memory").limited);
            })
        });
        cases.push(Case { round: 50_000, ..limitador });
    }
}
