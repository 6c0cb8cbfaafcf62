//! One limit, one hot key: admit and settle.

use super::{Case, case, looped, on_two_threads};
use crate::policies::{BUSY, ONE, builder, frozen, system};
use std::hint::black_box;
use std::sync::Arc;
use tokenweir::{CoarseClock, Decision, Estimate, ManualClock, Now, Request, Usage};

/// What it is compared within.
pub const GROUP: &str = "one limit";
/// The same with two threads.
pub const TWO_THREADS: &str = "one limit, two threads";

/// Project and deployment.
pub const REQUEST: (&str, &str) = ("search", "gpt-4o");
/// What each request is expected to take.
pub const ESTIMATE: Estimate = Estimate::new(70, 20);
/// As much as estimated came of it.
pub const USAGE: Usage = Usage::new(70, 20);
/// Less came of it.
pub const LESS: Usage = Usage::new(70, 2);
/// More came of it.
pub const MORE: Usage = Usage::new(70, 40);

/// Admits and settles at the clock's instant.
pub fn round(admitted: Result<Decision<'_>, tokenweir::Error>, usage: Usage) {
    match admitted {
        Ok(Decision::Admitted(permit)) => assert!(black_box(&permit.settle(black_box(usage))).is_ok()),
        other => panic!("not admitted: {other:?}"),
    }
}

/// Admits and settles at the caller's.
pub fn round_at(admitted: Result<Decision<'_>, tokenweir::Error>, usage: Usage, now: Now) {
    match admitted {
        Ok(Decision::Admitted(permit)) => assert!(black_box(&permit.settle_at(black_box(usage), now)).is_ok()),
        other => panic!("not admitted: {other:?}"),
    }
}

/// The caller's time: a microsecond later each time.
pub fn now(count: u64) -> Now {
    Now::new(count * 1000, (count * 1000) as i64)
}

/// What puts a busy bucket to use.
const A_TENTH: Estimate = Estimate::new(2_000_000_000, 0);

fn busy(usage: Usage, max_histories: usize) -> super::Timed {
    let limiter = builder(BUSY).clock(Arc::new(ManualClock::default())).max_histories(max_histories).build();
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    round_at(route.admit_at(A_TENTH, now(0)), Usage::UNKNOWN, now(0));
    looped(move |count| {
        let now = now(count);
        round_at(route.admit_at(black_box(ESTIMATE), now), usage, now);
    })
}

fn held(policy: &'static str, usage: Usage, estimate: Estimate) -> super::Timed {
    let limiter = frozen(policy);
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    looped(move |count| {
        let now = now(count);
        round_at(route.admit_at(black_box(estimate), now), usage, now);
    })
}

pub(super) fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, held route, system clock", || {
        let limiter = system(ONE);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |_| round(route.admit(black_box(ESTIMATE)), USAGE))
    }));
    cases.push(case(GROUP, "tokenweir, held route, coarse clock", || {
        let clock = Arc::new(CoarseClock::new());
        let limiter = builder(ONE).clock(clock.clone()).build();
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |count| {
            if count % 1024 == 0 {
                clock.tick();
            }
            round(route.admit(black_box(ESTIMATE)), USAGE);
        })
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now", || held(ONE, USAGE, ESTIMATE)));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, 1 token", || {
        held(ONE, Usage::new(0, 1), Estimate::new(0, 1))
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, 8,000 tokens", || {
        let limiter = frozen(ONE);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |count| {
            // As slowly as the bucket refills.
            let now = now(count * 8);
            round_at(route.admit_at(black_box(Estimate::new(7000, 1000)), now), Usage::new(7000, 1000), now);
        })
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, settled below the estimate", || {
        held(ONE, LESS, ESTIMATE)
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, settled above the estimate", || {
        held(ONE, MORE, ESTIMATE)
    }));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, busy bucket", || busy(USAGE, 1)));
    cases.push(case(GROUP, "tokenweir, held route, the caller's now, busy bucket, settled below the estimate", || {
        busy(LESS, 1)
    }));
    cases.push(case(
        GROUP,
        "tokenweir, held route, the caller's now, busy bucket without a history, settled below",
        || busy(LESS, 0),
    ));
    cases.push(case(GROUP, "tokenweir, string keys, system clock", || {
        let limiter = system(ONE);
        looped(move |_| {
            let request = Request::new(black_box(REQUEST.0), black_box(REQUEST.1));
            round(limiter.admit(&request, black_box(ESTIMATE)), USAGE);
        })
    }));
    cases.push(case(TWO_THREADS, "tokenweir, one held route, system clock", || {
        let limiter = system(ONE);
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        on_two_threads(route, |route, _, _| round(route.admit(black_box(ESTIMATE)), USAGE))
    }));
    #[cfg(feature = "peers")]
    peers::add(cases);
}

#[cfg(feature = "peers")]
pub(super) mod peers {
    use super::*;
    use crate::work::keys::peers::{QUOTA, keyed, keyed_by_number};
    use crate::work::limitador::Limitador;
    use crate::work::slow;
    use governor::RateLimiter;
    use governor::clock::MonotonicClock;

    /// As much as it takes never to refuse.
    pub fn ratelimit() -> ratelimit::Ratelimiter {
        let limiter = ratelimit::Ratelimiter::builder(1 << 40).max_tokens(1 << 50).initial_available(1 << 50);
        limiter.build().expect("it is valid")
    }

    /// As much as it takes never to refuse.
    pub fn leaky_bucket() -> leaky_bucket::RateLimiter {
        leaky_bucket::RateLimiter::builder().initial(1 << 50).max(1 << 50).refill(1 << 30).build()
    }

    pub fn add(cases: &mut Vec<Case>) {
        cases.push(case(GROUP, "governor direct, quanta clock: check", || {
            let limiter = RateLimiter::direct(QUOTA);
            looped(move |_| assert!(black_box(limiter.check().is_ok())))
        }));
        cases.push(case(GROUP, "governor direct, system clock: check", || {
            let limiter = RateLimiter::direct_with_clock(QUOTA, MonotonicClock);
            looped(move |_| assert!(black_box(limiter.check().is_ok())))
        }));
        cases.push(case(GROUP, "governor keyed(u64), system clock: check", || {
            let limiter = keyed_by_number();
            looped(move |_| assert!(black_box(limiter.check_key(&black_box(7)).is_ok())))
        }));
        cases.push(case(GROUP, "governor keyed(String), system clock: check", || {
            let (limiter, key) = (keyed(), REQUEST.0.to_owned());
            looped(move |_| assert!(black_box(limiter.check_key(black_box(&key)).is_ok())))
        }));
        cases.push(case(GROUP, "ratelimit: try_wait_n", || {
            let limiter = ratelimit();
            looped(move |_| assert!(black_box(limiter.try_wait_n(90).is_ok())))
        }));
        cases.push(case(GROUP, "leaky-bucket: try_acquire", || {
            let limiter = leaky_bucket();
            looped(move |_| assert!(black_box(limiter.try_acquire(90))))
        }));
        cases.push(case(TWO_THREADS, "governor direct, system clock: check", || {
            on_two_threads(RateLimiter::direct_with_clock(QUOTA, MonotonicClock), |limiter, _, _| {
                assert!(black_box(limiter.check().is_ok()));
            })
        }));
        cases.push(case(TWO_THREADS, "governor keyed(String), system clock: check", || {
            on_two_threads((keyed(), REQUEST.0.to_owned()), |(limiter, key), _, _| {
                assert!(black_box(limiter.check_key(black_box(key)).is_ok()));
            })
        }));
        cases.push(case(TWO_THREADS, "ratelimit: try_wait_n", || {
            on_two_threads(ratelimit(), |limiter, _, _| assert!(black_box(limiter.try_wait_n(90).is_ok())))
        }));
        cases.push(case(TWO_THREADS, "leaky-bucket: try_acquire", || {
            on_two_threads(leaky_bucket(), |limiter, _, _| assert!(black_box(limiter.try_acquire(90))))
        }));
        cases.push(slow(case(GROUP, "limitador: check and update", || {
            let limiter = Limitador::one(1000);
            looped(move |_| assert!(black_box(limiter.check(REQUEST.0, 90))))
        })));
        cases.push(slow(case(GROUP, "limitador: reserve and commit", || {
            let limiter = Limitador::one(1000);
            looped(move |_| assert!(black_box(limiter.reserve_and_commit(REQUEST.0, 90, 72))))
        })));
        cases.push(slow(case(TWO_THREADS, "limitador: check and update", || {
            on_two_threads(Limitador::one(1000), |limiter, _, _| assert!(black_box(limiter.check(REQUEST.0, 90))))
        })));
    }
}
