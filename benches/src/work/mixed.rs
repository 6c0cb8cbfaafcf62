//! One limit, one hot key, and requests that cost anything from 1 to 8,000 tokens.

use super::one_limit::{REQUEST, now, round_at};
use super::{Case, case, looped};
use crate::policies::{ONE, frozen};
use std::hint::black_box;
use tokenweir::{Estimate, Request, Usage};

pub const GROUP: &str = "one limit, 1 to 8,000 tokens";

/// A request every so many microseconds: all limiters here refill more than 8,000 in that time.
const EVERY: u64 = 8;

/// What requests cost, in turn.
fn costs() -> Vec<u32> {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        1 + (seed >> 32) as u32 % 8000
    };
    (0..4096).map(|_| draw()).collect()
}

fn cost(costs: &[u32], count: u64) -> u32 {
    black_box(costs[count as usize % costs.len()])
}

pub(super) fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, held route, the caller's now", || {
        let (limiter, costs) = (frozen(ONE), costs());
        let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
        looped(move |count| {
            let (now, tokens) = (now(count * EVERY), u64::from(cost(&costs, count)));
            round_at(route.admit_at(Estimate::new(tokens, 0), now), Usage::new(tokens, 0), now);
        })
    }));
    #[cfg(feature = "peers")]
    peers::add(cases);
}

#[cfg(feature = "peers")]
mod peers {
    use super::*;
    use crate::work::keys::peers::QUOTA;
    use crate::work::one_limit::peers::{leaky_bucket, ratelimit};
    use governor::RateLimiter;
    use governor::clock::Clock;
    use governor::nanos::Nanos;
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// A clock that is set from outside.
    #[derive(Debug, Clone, Default)]
    struct Set(Arc<AtomicU64>);

    impl Clock for Set {
        type Instant = Nanos;

        fn now(&self) -> Nanos {
            Nanos::new(self.0.load(Relaxed))
        }
    }

    pub fn add(cases: &mut Vec<Case>) {
        cases.push(case(GROUP, "governor direct, a clock that is set: check_n", || {
            let (clock, costs) = (Set::default(), costs());
            let limiter = RateLimiter::direct_with_clock(QUOTA, clock.clone());
            looped(move |count| {
                clock.0.store(count * EVERY * 1000, Relaxed);
                let tokens = NonZeroU32::new(cost(&costs, count)).expect("at least 1");
                assert!(black_box(limiter.check_n(tokens)).is_ok_and(|checked| checked.is_ok()));
            })
        }));
        cases.push(case(GROUP, "ratelimit: try_wait_n", || {
            let (limiter, costs) = (ratelimit(), costs());
            looped(move |count| assert!(black_box(limiter.try_wait_n(cost(&costs, count).into())).is_ok()))
        }));
        cases.push(case(GROUP, "leaky-bucket: try_acquire", || {
            let (limiter, costs) = (leaky_bucket(), costs());
            looped(move |count| assert!(black_box(limiter.try_acquire(cost(&costs, count) as usize))))
        }));
    }
}
