//! Counters that are somewhere else: another limiter's, which can be away.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokenweir::elsewhere::{Counters, Decided, Deciding, Permits};
use tokenweir::policy::Limit;
use tokenweir::store::StoreError;
use tokenweir::{
    CounterUsage, Decision, Error, Estimate, Limiter, Now, Observed, PermitId, Policy, Request, Settlement, Usage,
    UsageFilter,
};

pub struct Elsewhere {
    pub limiter: Limiter,
    pub away: AtomicBool,
    /// No policy but the one that is there can be put in force.
    pub stubborn: AtomicBool,
}

impl Elsewhere {
    pub fn new(limiter: Limiter) -> Self {
        Elsewhere { limiter, away: AtomicBool::new(false), stubborn: AtomicBool::new(false) }
    }
}

impl Permits for Elsewhere {
    fn permit_ttl(&self) -> Duration {
        self.limiter.permit_ttl()
    }

    fn each_left_at(&self, id: PermitId, now: Now, see: &mut dyn FnMut(&Limit, i64)) {
        self.limiter.each_left_at(id, now, see);
    }

    fn observe_at(&self, id: PermitId, input: u64, output: u64, now: Now) -> Result<Observed, Error> {
        self.limiter.observe_at(id, input, output, now)
    }

    fn renew_at(&self, id: PermitId, ttl: Duration, now: Now) -> Result<(), Error> {
        self.limiter.renew_at(id, ttl, now)
    }

    fn settle_at(&self, id: PermitId, usage: Usage, now: Now) -> Result<Settlement, Error> {
        self.limiter.settle_at(id, usage, now)
    }

    fn cancel_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        self.limiter.cancel_at(id, now)
    }

    fn abandon_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        self.limiter.abandon_at(id, now)
    }
}

impl Counters for Elsewhere {
    fn admit<'a>(&'a self, request: &'a Request<'a>, estimate: Estimate) -> Deciding<'a> {
        let mut asked = false;
        Box::pin(std::future::poll_fn(move |context| {
            // Not ready at once, as nobody elsewhere is.
            if !std::mem::replace(&mut asked, true) {
                context.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            if self.away.load(Relaxed) {
                return std::task::Poll::Ready(Err(StoreError::new("10.0.0.7 is away").into()));
            }
            std::task::Poll::Ready(self.limiter.admit(request, estimate).map(|decision| match decision {
                Decision::Admitted(permit) => Decided::Admitted(permit.into_id()),
                Decision::Denied(denied) => Decided::Denied(Box::new(denied)),
            }))
        }))
    }

    fn put_in_force(&self, policy: Policy) -> Result<(), StoreError> {
        if self.stubborn.load(Relaxed) {
            return Err(StoreError::new("this policy cannot be"));
        }
        self.limiter.swap_policy(policy).map_err(StoreError::new)
    }

    fn usage(&self, filter: &UsageFilter) -> Vec<CounterUsage> {
        self.limiter.usage(filter)
    }
}
