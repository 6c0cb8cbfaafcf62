//! Leases: capacity that the server has charged in advance, and that is spent here without asking it.
//!
//! A lease is of one counter. It is a permit's record on the server, charged before any of it is spent, and settled when the
//! last request that took from it has ended; what a process leaves behind that dies stays charged. Nothing is taken from a
//! lease whose time is over, counted from before it was asked for.

use crate::leased::Leg;
use crate::limiter::Inner;
use crate::permit::Ending;
use crate::plan::Plan;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How capacity is leased from the server ([`Builder::leases`](crate::Builder::leases)).
///
/// Requests are then decided in this process, by [`By::Lease`](crate::By::Lease), as long as leases of all their limits last,
/// and by the server otherwise. Requests that meet an in-flight or a shadow limit are always decided by the server.
///
/// What a stream brings beyond its estimate is taken from the leases, and what they do not have the server is charged while it runs,
/// as without leases. A limit is [spent](crate::Observed::spent) then when the server has nothing left, though others may hold what they
/// leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leases {
    /// How long a lease may be spent; 1 s unless set, 10 ms to 1 minute. By so much the bounds of buckets and windows are
    /// stretched: an interval of length T holds no more than the server charges in T and `life`. A quota's lease also ends with
    /// its period.
    pub life: Duration,
    /// A lease takes at most one part of so many of what its limit has left; 8 unless set, 2 to 1000. So it shrinks as the limit
    /// nears its end, and where it would be smaller than a request, the server decides each.
    pub part: u32,
}

impl Default for Leases {
    fn default() -> Self {
        Leases { life: Duration::from_secs(1), part: 8 }
    }
}

impl Leases {
    /// The usual ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`life`](Leases::life).
    pub fn life(self, life: Duration) -> Self {
        Leases { life, ..self }
    }

    /// Sets [`part`](Leases::part).
    pub fn part(self, part: u32) -> Self {
        Leases { part, ..self }
    }
}

/// A lease is closed: nothing more is taken from it or put back. Amounts are below 2^54.
const CLOSED: u64 = 1 << 63;

/// What was leased of one counter.
pub(crate) struct Lease {
    /// What is left to be spent, or [`CLOSED`].
    left: AtomicU64,
    granted: u64,
    /// What its limit had left beside it.
    rest: i64,
    /// With less than this left, it is time for the next one.
    low: u64,
    since: Instant,
    until: Instant,
    id: u64,
    plan: Arc<Plan>,
    /// How long its record lives on the server.
    lives: Mutex<Instant>,
    /// What was given back after it was closed, and what was left then.
    back: AtomicU64,
    /// The server is to be told what was given back.
    untold: AtomicBool,
    inner: Weak<Inner>,
}

impl Lease {
    /// Takes `n`. A charge of nothing needs something left, as everywhere. What is left then.
    fn take(&self, n: u64) -> Option<u64> {
        let mut left = self.left.load(Relaxed);
        loop {
            if left & CLOSED != 0 || left < n.max(1) {
                return None;
            }
            if n == 0 {
                return Some(left);
            }
            match self.left.compare_exchange_weak(left, left - n, AcqRel, Relaxed) {
                Ok(_) => return Some(left - n),
                Err(now) => left = now,
            }
        }
    }

    /// Takes what there is of `n`; how much.
    fn take_some(&self, n: u64) -> u64 {
        if Instant::now() >= self.until {
            return 0;
        }
        let taken = self.left.fetch_update(AcqRel, Relaxed, |left| (left & CLOSED == 0).then(|| left - left.min(n)));
        taken.map_or(0, |left| left.min(n))
    }

    /// Puts back what was taken and not used. False if it is closed: then it is for the server.
    fn put(&self, n: u64) -> bool {
        self.left.fetch_update(AcqRel, Relaxed, |left| (left & CLOSED == 0).then(|| left + n)).is_ok()
    }

    /// From here on nothing is taken. What was left.
    fn close(&self) -> u64 {
        let left = self.left.swap(CLOSED, AcqRel);
        if left & CLOSED != 0 {
            return 0;
        }
        self.back.fetch_add(left, AcqRel);
        left
    }

    fn left(&self) -> u64 {
        let left = self.left.load(Acquire);
        if left & CLOSED == 0 { left } else { 0 }
    }

    /// Has its record live until then, so that what is not used of it can be given back.
    pub(crate) fn renew(self: &Arc<Self>, until: Instant) {
        let mut lives = self.lives.lock();
        if *lives >= until {
            return;
        }
        *lives = until;
        drop(lives);
        if let Some(inner) = self.inner.upgrade() {
            let lease = self.clone();
            inner.runtime.clone().spawn(async move {
                let rest = until.saturating_duration_since(Instant::now());
                // If it cannot be told, what is not used stays charged.
                let _ = inner.renew(&lease.plan, lease.id, Some(rest)).await;
            });
        }
    }

    /// What its limit had left when it was charged, with what is left of it.
    pub(crate) fn remaining(&self) -> i64 {
        self.rest.saturating_add_unsigned(self.left())
    }

    /// What the server is to have charged.
    fn ending(&self) -> Ending {
        let charges = vec![self.granted.saturating_sub(self.back.load(Acquire))];
        Ending { id: self.id, plan: self.plan.clone(), charges, record: None }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close();
        if let Some(inner) = self.inner.upgrade() {
            inner.later(self.ending());
        }
    }
}

/// What a request took from one lease.
pub(crate) struct Taken {
    pub(crate) lease: Arc<Lease>,
    pub(crate) charge: u64,
}

impl Taken {
    /// Takes what there is of `n` more; how much.
    pub(crate) fn take_some(&mut self, n: u64) -> u64 {
        let some = self.lease.take_some(n);
        self.charge += some;
        some
    }

    /// Gives back what was not used of it: to the lease, or to the server if the lease is closed.
    pub(crate) fn give_back(&self, unused: u64) {
        let unused = unused.min(self.charge);
        if unused == 0 || self.lease.put(unused) {
            return;
        }
        self.lease.back.fetch_add(unused, AcqRel);
        if !self.lease.untold.swap(true, AcqRel)
            && let Some(inner) = self.lease.inner.upgrade()
            && let Some(leasing) = &inner.leasing
        {
            leasing.untold.lock().push(self.lease.clone());
        }
    }
}

/// The leases of one counter, one after the other.
#[derive(Default)]
pub(crate) struct Allowance {
    current: ArcSwapOption<Lease>,
    /// Somebody has asked for the next one already.
    wanted: AtomicBool,
    /// It is in the list of those with a lease.
    listed: AtomicBool,
    /// The charge that was asked for last, and when, in microseconds since the limiter began.
    asked: AtomicU64,
    asked_at: AtomicU64,
    /// Until when no lease is asked for, since there was none to be had.
    pause: AtomicU64,
}

impl std::fmt::Debug for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Allowance").finish_non_exhaustive()
    }
}

impl Allowance {
    pub(crate) fn current(&self) -> Option<Arc<Lease>> {
        self.current.load_full()
    }
}

/// An allowance that the next lease is wanted for.
struct Wanted {
    plan: Arc<Plan>,
    leg: usize,
}

/// All that is leased by one limiter.
pub(crate) struct Leasing {
    options: Leases,
    wanted: Mutex<Vec<Wanted>>,
    /// How many are wanted or on their way.
    renewing: AtomicU64,
    /// Allowances with a lease.
    live: Mutex<Vec<(Arc<Plan>, usize)>>,
    untold: Mutex<Vec<Arc<Lease>>>,
    /// Some are on their way back to the server.
    returning: AtomicBool,
    wake: tokio::sync::Notify,
    pub(crate) leases: AtomicU64,
    began: Instant,
}

impl Leasing {
    pub(crate) fn new(options: Leases) -> Self {
        Leasing {
            options,
            wanted: Mutex::default(),
            renewing: AtomicU64::new(0),
            live: Mutex::default(),
            untold: Mutex::default(),
            returning: AtomicBool::new(false),
            wake: tokio::sync::Notify::new(),
            leases: AtomicU64::new(0),
            // Earlier, so that 0 is long ago.
            began: Instant::now().checked_sub(Duration::from_secs(120)).unwrap_or_else(Instant::now),
        }
    }

    /// Takes what a request is charged from the leases of all its limits, or from none.
    pub(crate) fn take(&self, plan: &Arc<Plan>, charges: &[u64]) -> Option<Vec<Leg>> {
        if plan.allowances.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut taken: Vec<Leg> = Vec::with_capacity(plan.allowances.len());
        for (leg, (allowance, charge)) in plan.allowances.iter().zip(charges).enumerate() {
            let lease = allowance.current.load_full().filter(|lease| now < lease.until);
            let left = lease.as_ref().and_then(|lease| lease.take(*charge));
            let low = match (&lease, left) {
                (Some(lease), Some(left)) => left < lease.low,
                _ => true,
            };
            if low {
                self.want(plan, leg, *charge, lease.is_some());
            }
            match (lease, left) {
                (Some(lease), Some(_)) => taken.push(Leg::new(Taken { lease, charge: *charge })),
                _ => {
                    taken.iter_mut().for_each(Leg::cancel);
                    return None;
                }
            }
        }
        Some(taken)
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// The next lease of a counter is wanted: if there was one, or if it was asked for before within a life. Whoever asks
    /// seldom has no use of it.
    #[cold]
    fn want(&self, plan: &Arc<Plan>, leg: usize, charge: u64, has_one: bool) {
        let allowance = &plan.allowances[leg];
        let (now, life) = (self.micros(), self.options.life.as_micros() as u64);
        allowance.asked.store(charge.max(1), Relaxed);
        let often = now.saturating_sub(allowance.asked_at.swap(now, Relaxed)) <= life;
        if (often || has_one) && now >= allowance.pause.load(Relaxed) && !allowance.wanted.swap(true, AcqRel) {
            self.renewing.fetch_add(1, Relaxed);
            self.wanted.lock().push(Wanted { plan: plan.clone(), leg });
            self.wake.notify_one();
        }
    }

    /// Whether a lease is wanted or on its way.
    pub(crate) fn is_renewing(&self) -> bool {
        self.renewing.load(Acquire) > 0
    }

    /// Whether something is to be told of leases that are over.
    pub(crate) fn is_returning(&self) -> bool {
        self.returning.load(Acquire) || !self.untold.lock().is_empty()
    }

    /// What is leased here of a limit and not spent.
    pub(crate) fn left(&self, plan: &Plan, leg: usize) -> u64 {
        plan.lease(leg).map_or(0, |lease| lease.left())
    }
}

impl Inner {
    /// Closes the lease of a counter, and tells the server what was left. True if there was something.
    pub(crate) async fn return_lease(&self, plan: &Plan, leg: usize, by: Instant) -> bool {
        let Some(lease) = plan.allowances.get(leg).and_then(|allowance| allowance.current.swap(None)) else {
            return false;
        };
        lease.close() > 0 && self.lower(lease, by).await
    }

    /// Closes a lease and gives back what was left. The last one to let go of it ends it, which tells the server, too.
    async fn release(&self, lease: Arc<Lease>) {
        if lease.close() > 0 && Arc::strong_count(&lease) > 1 {
            self.lower(lease, self.by()).await;
        }
    }

    /// Tells the server what was given back of a closed lease. The last one to let go of it ends it.
    async fn lower(&self, lease: Arc<Lease>, by: Instant) -> bool {
        lease.untold.store(false, Relaxed);
        let told = self.tell(&lease.ending(), 2.0, (0, 0), by).await.is_ok();
        if !told
            && !lease.untold.swap(true, AcqRel)
            && let Some(leasing) = &self.leasing
        {
            leasing.untold.lock().push(lease);
        }
        told
    }

    /// Gives back all leases: at a clean end.
    pub(crate) async fn return_leases(&self, by: Instant) {
        let Some(leasing) = &self.leasing else { return };
        let live = std::mem::take(&mut *leasing.live.lock());
        for (plan, leg) in live {
            // Before it is taken: the next one is listed again.
            plan.allowances[leg].listed.store(false, Relaxed);
            self.return_lease(&plan, leg, by).await;
        }
        let untold = std::mem::take(&mut *leasing.untold.lock());
        for lease in untold {
            self.lower(lease, by).await;
        }
    }

    /// The next lease of a counter, as large as what was spent of the last one asks for.
    async fn renew_lease(self: Arc<Self>, plan: Arc<Plan>, leg: usize) {
        let (Some(leasing), Some(allowance)) = (&self.leasing, plan.allowances.get(leg)) else { return };
        let asked = allowance.asked.load(Relaxed);
        let before = allowance.current.load_full();
        let want = match &before {
            Some(lease) => {
                // What half a life takes at the pace of the last one.
                let spent = u128::from(lease.granted.saturating_sub(lease.left()));
                let took = lease.since.elapsed().as_micros().max(1);
                let pace = spent * leasing.options.life.as_micros() / took / 2;
                u64::try_from(pace).unwrap_or(u64::MAX).max(4 * asked)
            }
            None => 16 * asked,
        };
        let single = plan.single(leg);
        if let Some(Granted { id, granted, rest, since, until }) = self.lease(&single, (asked, want)).await {
            let lease = Lease {
                left: AtomicU64::new(granted),
                granted,
                rest,
                low: granted / 2,
                since,
                until,
                id,
                plan: single,
                lives: Mutex::new(since + leasing.options.life + self.permit_ttl),
                back: AtomicU64::new(0),
                untold: AtomicBool::new(false),
                inner: Arc::downgrade(&self),
            };
            leasing.leases.fetch_add(1, Relaxed);
            let old = allowance.current.swap(Some(Arc::new(lease)));
            if !allowance.listed.swap(true, AcqRel) {
                leasing.live.lock().push((plan.clone(), leg));
            }
            // From here on the next one can be asked for.
            allowance.wanted.store(false, Relaxed);
            if let Some(old) = old {
                self.release(old).await;
            }
        } else {
            let pause = leasing.options.life.as_micros() as u64 / 32;
            allowance.pause.store(leasing.micros() + pause, Relaxed);
            allowance.wanted.store(false, Relaxed);
        }
    }

    /// Has the server charge a lease of one limit.
    async fn lease(&self, plan: &Arc<Plan>, (least, want): (u64, u64)) -> Option<Granted> {
        let options = self.leasing.as_ref()?.options;
        let id = self.ids.next(true).get();
        let mut unanswered = crate::limiter::Unanswered { inner: self, plan: plan.clone(), id: Some(id) };
        let since = Instant::now();
        let asked = self.ask_lease((plan, id), (least, want), options, since + self.link.deadline).await;
        if !asked.as_ref().is_err_and(crate::link::Failure::may_be_done) {
            unanswered.id = None;
        }
        let answer = asked.ok().filter(|answer| answer.status == crate::answer::Status::Done)?;
        let (granted, period) = answer.said.first().map(|said| (said.used as u64, said.more))?;
        // A quota's is over with its period.
        let rest = plan.legs.first()?.kind.rest(period, answer.now);
        let until = since + options.life.min(rest);
        Some(Granted { id, granted, rest: answer.totals.first().map_or(0, |left| *left as i64), since, until })
    }
}

/// What the server has charged for a lease: under which id, how much, what its limit has left beside that, and from when until when
/// it may be spent.
struct Granted {
    id: u64,
    granted: u64,
    rest: i64,
    since: Instant,
    until: Instant,
}

/// Leases what is wanted and gives back what is over, for as long as the limiter lives.
pub(crate) async fn keep(limiter: Weak<Inner>) {
    loop {
        let Some(inner) = limiter.upgrade() else { return };
        let Some(leasing) = &inner.leasing else { return };
        let life = leasing.options.life;
        tokio::select! {
            () = leasing.wake.notified() => {}
            () = tokio::time::sleep(life / 8) => {}
        }
        let wanted = std::mem::take(&mut *leasing.wanted.lock());
        for Wanted { plan, leg } in wanted {
            let inner = inner.clone();
            tokio::spawn(async move {
                inner.clone().renew_lease(plan, leg).await;
                if let Some(leasing) = &inner.leasing {
                    // Release: who finds that none is on its way finds what has come.
                    leasing.renewing.fetch_sub(1, AcqRel);
                }
            });
        }
        leasing.returning.store(true, Release);
        give_back(&inner, leasing, life).await;
        leasing.returning.store(false, Release);
    }
}

/// Leases whose time is over, and what was given back of closed ones.
async fn give_back(inner: &Inner, leasing: &Leasing, life: Duration) {
    let now = Instant::now();
    let mut over = Vec::new();
    leasing.live.lock().retain(|(plan, leg)| {
        let current = plan.allowances[*leg].current.load_full();
        let live = current.as_ref().is_some_and(|lease| now < lease.until);
        // Idle for half its life: nothing was taken.
        let idle = current.is_some_and(|lease| lease.left() == lease.granted && lease.since + life / 2 < now);
        if !live || idle {
            plan.allowances[*leg].listed.store(false, Relaxed);
            over.push((plan.clone(), *leg));
        }
        live && !idle
    });
    for (plan, leg) in over {
        if let Some(lease) = plan.allowances[leg].current.swap(None) {
            inner.release(lease).await;
        }
    }
    let untold = std::mem::take(&mut *leasing.untold.lock());
    for lease in untold {
        if Arc::strong_count(&lease) > 1 {
            inner.lower(lease, inner.by()).await;
        }
        // Otherwise it ends here, which tells the server.
    }
}
