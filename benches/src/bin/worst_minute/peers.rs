//! Other limiters, each as its documentation says to use it for a limit of so many tokens a minute.
//!
//! Where a limiter has no settlement the estimate stands; what a call used beyond it is asked for when it ends, and lost
//! if it is refused.

use crate::worst_minute::{LIMIT, MINUTE, Peer, SECOND, Time};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use limitador::limit::{Context, Limit, Namespace};
use limitador::{RateLimiter as Limitador, reservation::ReservationId};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Real time runs so many times as fast for limiters without a clock of one's own: their minute is a second.
pub const SPEED: u64 = MINUTE / SECOND;

/// The pattern's time as other libraries read it.
#[derive(Debug, Clone)]
pub struct Shown(Arc<Time>);

impl Clock for Shown {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.now())
    }
}

impl ratelimit::Clock for Shown {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.now())
    }
}

/// What a call used beyond its estimate, if anything.
fn excess(estimate: u64, used: Option<u64>) -> Option<u64> {
    Some(used?.saturating_sub(estimate)).filter(|excess| *excess > 0)
}

/// The end of a call where there is no settlement.
fn ask_for_excess(peer: &impl Peer<Hold = u64>, estimate: u64, used: Option<u64>, now: u64) {
    excess(estimate, used).and_then(|excess| peer.ask(excess, now));
}

/// A GCRA of the limit a minute, and of the limit at once.
pub struct Governor(RateLimiter<NotKeyed, InMemoryState, Shown, NoOpMiddleware<Nanos>>);

impl Governor {
    pub fn new(time: &Arc<Time>) -> Self {
        let limit = NonZeroU32::new(LIMIT as u32).expect("the limit is not 0");
        Governor(RateLimiter::direct_with_clock(Quota::per_minute(limit), Shown(time.clone())))
    }
}

impl Peer for Governor {
    type Hold = u64;
    const SETTLES: bool = false;

    fn ask(&self, estimate: u64, _now: u64) -> Option<u64> {
        let cells = NonZeroU32::new(estimate as u32)?;
        matches!(self.0.check_n(cells), Ok(Ok(()))).then_some(estimate)
    }

    fn end(&self, estimate: u64, used: Option<u64>, now: u64) {
        ask_for_excess(self, estimate, used, now);
    }
}

/// A bucket of the limit a minute, full at first.
pub struct Ratelimit(ratelimit::Ratelimiter<Shown>);

impl Ratelimit {
    pub fn new(time: &Arc<Time>) -> Self {
        let bucket = ratelimit::Builder::with_clock(LIMIT, Shown(time.clone()));
        let bucket = bucket.period(Duration::from_nanos(MINUTE)).max_tokens(LIMIT).initial_available(LIMIT);
        Ratelimit(bucket.build().expect("the bucket is valid"))
    }
}

impl Peer for Ratelimit {
    type Hold = u64;
    const SETTLES: bool = false;

    fn ask(&self, estimate: u64, _now: u64) -> Option<u64> {
        self.0.try_wait_n(estimate).is_ok().then_some(estimate)
    }

    fn end(&self, estimate: u64, used: Option<u64>, now: u64) {
        ask_for_excess(self, estimate, used, now);
    }
}

/// A bucket of the limit a second, full at first, refilled every millisecond.
pub struct LeakyBucket(leaky_bucket::RateLimiter);

impl LeakyBucket {
    pub fn new() -> Self {
        let limit = LIMIT as usize;
        let bucket = leaky_bucket::RateLimiter::builder()
            .max(limit)
            .initial(limit)
            .refill(limit / 1000)
            .interval(Duration::from_millis(1))
            .build();
        LeakyBucket(bucket)
    }
}

impl Peer for LeakyBucket {
    type Hold = u64;
    const SETTLES: bool = false;

    fn ask(&self, estimate: u64, _now: u64) -> Option<u64> {
        self.0.try_acquire(estimate as usize).then_some(estimate)
    }

    fn end(&self, estimate: u64, used: Option<u64>, now: u64) {
        ask_for_excess(self, estimate, used, now);
    }
}

/// One limit of a second in limitador's memory.
struct Counter {
    limiter: Limitador,
    namespace: Namespace,
}

impl Counter {
    fn new() -> Self {
        let limiter = Limitador::new(1000);
        let namespace = Namespace::from("tokens");
        limiter.add_limit(Limit::new(namespace.clone(), LIMIT, 1, vec![], Vec::<limitador::limit::Expression>::new()));
        Counter { limiter, namespace }
    }
}

/// limitador by `check_rate_limited_and_update`: no settlement, but what a call used beyond its estimate is added.
pub struct LimitadorCheck(Counter);

impl LimitadorCheck {
    pub fn new() -> Self {
        LimitadorCheck(Counter::new())
    }
}

impl Peer for LimitadorCheck {
    type Hold = u64;
    const SETTLES: bool = false;

    fn ask(&self, estimate: u64, _now: u64) -> Option<u64> {
        let checked = self.0.limiter.check_rate_limited_and_update(&self.0.namespace, &Context::default(), estimate);
        (!checked.expect("the limit is valid").limited).then_some(estimate)
    }

    fn end(&self, estimate: u64, used: Option<u64>, _now: u64) {
        if let Some(excess) = excess(estimate, used) {
            let added = self.0.limiter.update_counters(&self.0.namespace, &Context::default(), excess);
            added.expect("the limit is valid");
        }
    }
}

/// limitador by `reserve` and `commit_reservation`.
pub struct LimitadorReserve(Counter);

impl LimitadorReserve {
    pub fn new() -> Self {
        LimitadorReserve(Counter::new())
    }
}

impl Peer for LimitadorReserve {
    type Hold = Option<ReservationId>;

    fn ask(&self, estimate: u64, _now: u64) -> Option<Option<ReservationId>> {
        let reserved = self.0.limiter.reserve(&self.0.namespace, &Context::default(), estimate, None);
        let reserved = reserved.expect("the limit is valid");
        (!reserved.limited).then_some(reserved.reservation_id)
    }

    fn end(&self, hold: Option<ReservationId>, used: Option<u64>, _now: u64) {
        let (counter, used) = (&self.0, used.unwrap_or(0));
        let committed =
            counter.limiter.commit_reservation(&counter.namespace, &Context::default(), hold.as_ref(), used);
        committed.expect("the limit is valid");
    }
}
