//! Permits that are open in this process, for hosts that cannot wait where they end them.

use crate::answer::{Answer, Said, Status};
use crate::decision::Decision;
use crate::error::Error;
use crate::limiter::{Inner, RedisLimiter};
use crate::permit::{Ending, Permit, Raise};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokenweir::elsewhere::{Counters, Decided, Deciding, Permits};
use tokenweir::policy::Limit;
use tokenweir::store::StoreError;
use tokenweir::{
    CounterUsage, Estimate, Now, Observed, Outcome, PermitId, Policy, Request, Settlement, Usage, UsageFilter,
};

/// A limiter on a server as a [gate](tokenweir::gateway::GateBuilder::counters) or the tower layer's `OnServer` has it: it waits
/// where it decides, and nowhere else. What a call comes to, and what a stream brings beyond its estimate, the server is told in
/// the background.
///
/// It keeps every permit that it has given out until that is ended: whoever has one ends it, also if its call is dropped. Where
/// places in flight are held for less time than permits live ([`Builder::place_ttl`](crate::Builder::place_ttl)), it has the
/// server hold those of all that are open.
pub struct OpenPermits {
    limiter: RedisLimiter,
    open: Arc<Mutex<HashMap<u64, Open>>>,
    looked_at: Mutex<Arc<Vec<CounterUsage>>>,
}

struct Open {
    permit: Permit,
    excess: Arc<Excess>,
}

/// What a permit was charged beyond its estimate, on its way to the server.
#[derive(Default)]
pub(crate) struct Excess(Mutex<OnItsWay>);

#[derive(Default)]
struct OnItsWay {
    /// What is to be told next: it includes all before.
    next: Option<Raise>,
    /// The end of the permit, which comes behind what is being told.
    end: Option<Ending>,
    telling: bool,
    said: Option<Vec<Said>>,
    /// The server has no such permit any more.
    gone: bool,
}

impl Excess {
    pub(crate) fn is_gone(&self) -> bool {
        self.0.lock().gone
    }

    pub(crate) fn has_gone(&self) {
        self.0.lock().gone = true;
    }

    /// What the server has said since it was asked last.
    pub(crate) fn said(&self) -> Option<Vec<Said>> {
        self.0.lock().said.take()
    }

    /// Has the server told what a permit is charged by now.
    pub(crate) fn tell(self: &Arc<Self>, inner: &Arc<Inner>, raise: Raise) {
        let mut on_its_way = self.0.lock();
        on_its_way.next = Some(raise);
        if !std::mem::replace(&mut on_its_way.telling, true) {
            let (excess, inner) = (self.clone(), inner.clone());
            inner.runtime.clone().spawn(async move { excess.tell_all(&inner).await });
        }
    }

    /// Has the end of the permit told behind what is on its way. What is on its way may make the record that it ends.
    pub(crate) fn end(&self, inner: &Inner, ending: Ending) {
        let mut on_its_way = self.0.lock();
        if on_its_way.telling {
            inner.behind.fetch_add(1, Relaxed);
            on_its_way.end = Some(ending);
        } else {
            drop(on_its_way);
            inner.later(ending);
        }
    }

    async fn tell_all(&self, inner: &Inner) {
        while let Some(raise) = self.next(inner) {
            // What it cannot be told now, the end of the permit tells.
            if let Ok(Answer { status, said, .. }) = inner.raise(&raise, inner.by()).await {
                let mut on_its_way = self.0.lock();
                match status {
                    Status::Done => on_its_way.said = Some(said),
                    Status::Not => on_its_way.gone = true,
                    Status::OtherPeriod | Status::Taken => {}
                }
            }
        }
    }

    /// What is told next. Behind the last one comes the end.
    fn next(&self, inner: &Inner) -> Option<Raise> {
        let mut on_its_way = self.0.lock();
        let raise = on_its_way.next.take().filter(|_| on_its_way.end.is_none());
        on_its_way.telling = raise.is_some();
        if !on_its_way.telling
            && let Some(ending) = on_its_way.end.take()
        {
            drop(on_its_way);
            inner.later(ending);
            // Release: whoever finds that none is behind a call finds it among those that wait.
            inner.behind.fetch_sub(1, Release);
        }
        raise
    }
}

/// So many permits have their places held at once.
const AT_ONCE: usize = 64;

/// Has the server hold the places of open permits, for as long as there is somebody who has them.
async fn hold(limiter: Weak<Inner>, open: Weak<Mutex<HashMap<u64, Open>>>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let (Some(inner), Some(open)) = (limiter.upgrade(), open.upgrade()) else { return };
        let mut waiting: Vec<_> = open.lock().values().filter_map(|one| one.permit.places()).collect();
        drop(open);
        while inner.link.is_up() && !waiting.is_empty() {
            let mut tasks = tokio::task::JoinSet::new();
            for (plan, id) in waiting.drain(waiting.len().saturating_sub(AT_ONCE)..) {
                let inner = inner.clone();
                // Whether it is gone its end will show.
                tasks.spawn(async move { inner.renew(&plan, id, None).await });
            }
            tasks.join_all().await;
        }
    }
}

impl fmt::Debug for OpenPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenPermits").field("open", &self.open.lock().len()).finish_non_exhaustive()
    }
}

impl OpenPermits {
    /// The permits that are admitted through this, of a limiter.
    pub fn new(limiter: RedisLimiter) -> Self {
        let open = Arc::default();
        if let Some(place_ttl) = limiter.inner.place_ttl {
            let every = place_ttl / 3;
            limiter.inner.runtime.spawn(hold(Arc::downgrade(&limiter.inner), Arc::downgrade(&open), every));
        }
        OpenPermits { limiter, open, looked_at: Mutex::default() }
    }

    /// The limiter.
    pub fn limiter(&self) -> &RedisLimiter {
        &self.limiter
    }

    /// How many permits are open.
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.lock().is_empty()
    }

    /// Looks at the counters on the server ([`RedisLimiter::usage`]), for [`Counters::usage`].
    ///
    /// # Errors
    /// As [`RedisLimiter::usage`]; then what was seen before stays.
    pub async fn look(&self) -> Result<(), Error> {
        let seen = self.limiter.usage().await?;
        *self.looked_at.lock() = Arc::new(seen);
        Ok(())
    }

    fn with<T>(
        &self,
        id: PermitId,
        act: impl FnOnce(&Permit, &Arc<Excess>) -> Result<T, tokenweir::Error>,
    ) -> Result<T, tokenweir::Error> {
        match self.open.lock().get(&id.get()) {
            Some(open) => act(&open.permit, &open.excess),
            None => Err(tokenweir::Error::PermitSettled { id }),
        }
    }

    fn end(&self, id: PermitId, outcome: Outcome, usage: &Usage) -> Result<Settlement, tokenweir::Error> {
        let mut open = self.open.lock();
        let settled = tokenweir::Error::PermitSettled { id };
        let Some(ended) = open.get_mut(&id.get()) else { return Err(settled) };
        let gone = ended.excess.is_gone();
        let settlement = ended.permit.end_later(outcome, usage, &ended.excess)?;
        open.remove(&id.get());
        if gone { Err(settled) } else { Ok(settlement) }
    }
}

impl Drop for OpenPermits {
    fn drop(&mut self) {
        if self.limiter.inner.is_forked() {
            return;
        }
        for (_, Open { permit, excess }) in self.open.lock().iter_mut() {
            // As if each had been dropped, behind what is on its way of it.
            let _ = permit.end_later(Outcome::Dropped, &Usage::UNKNOWN, excess);
        }
    }
}

impl Permits for OpenPermits {
    fn permit_ttl(&self) -> Duration {
        self.limiter.inner.permit_ttl
    }

    fn each_left_at(&self, id: PermitId, _now: Now, see: &mut dyn FnMut(&Limit, i64)) {
        let Ok((policy, left)) = self.with(id, |permit, excess| {
            permit.has_been_told(excess);
            Ok((permit.policy().clone(), permit.remaining()))
        }) else {
            return;
        };
        for standing in left {
            if let Some(limit) = policy.limit(&standing.limit) {
                see(limit, standing.remaining);
            }
        }
    }

    fn observe_at(&self, id: PermitId, input: u64, output: u64, _now: Now) -> Result<Observed, tokenweir::Error> {
        let spent = self.with(id, |permit, excess| permit.observe_later(input, output, excess))?;
        Ok(tokenweir::elsewhere::observed(spent))
    }

    fn renew_at(&self, id: PermitId, ttl: Duration, _now: Now) -> Result<(), tokenweir::Error> {
        self.with(id, |permit, excess| permit.renew_later(ttl, excess))
    }

    fn settle_at(&self, id: PermitId, usage: Usage, _now: Now) -> Result<Settlement, tokenweir::Error> {
        self.end(id, Outcome::Settled, &usage)
    }

    fn cancel_at(&self, id: PermitId, _now: Now) -> Result<Settlement, tokenweir::Error> {
        self.end(id, Outcome::Cancelled, &Usage::UNKNOWN)
    }

    fn abandon_at(&self, id: PermitId, _now: Now) -> Result<Settlement, tokenweir::Error> {
        self.end(id, Outcome::Dropped, &Usage::UNKNOWN)
    }
}

impl Counters for OpenPermits {
    fn admit<'a>(&'a self, request: &'a Request<'a>, estimate: Estimate) -> Deciding<'a> {
        Box::pin(async move {
            match self.limiter.admit(request, estimate).await {
                Ok(Decision::Admitted(permit)) => {
                    let id = permit.id();
                    self.open.lock().insert(id.get(), Open { permit, excess: Arc::default() });
                    Ok(Decided::Admitted(id))
                }
                Ok(Decision::Denied { denied, .. }) => Ok(Decided::Denied(denied)),
                Ok(Decision::Unavailable) => Err(StoreError::new("the server of the counters is away").into()),
                Err(Error::Engine(wrong)) => Err(wrong),
                Err(wrong) => Err(StoreError::new(wrong).into()),
            }
        })
    }

    fn put_in_force(&self, policy: Policy) -> Result<(), StoreError> {
        self.limiter.set_policy(policy).map_err(StoreError::new)
    }

    fn usage(&self, filter: &UsageFilter) -> Vec<CounterUsage> {
        let seen = self.looked_at.lock().clone();
        seen.iter().filter(|counter| filter.matches(counter)).cloned().collect()
    }
}
