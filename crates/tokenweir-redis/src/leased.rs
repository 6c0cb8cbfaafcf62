//! What a permit by leases is charged: what it took from them, and what a stream brought beyond that.
//!
//! More than the lease that admitted it has is taken from later ones of the same counter. What none has the server is charged
//! while the stream runs, all of it under one record, which is another than the permit's id would find. The record grows with the
//! stream and is settled with the permit, so less usage gives that back, too, and with each answer the server says what the limits
//! have left.

use crate::answer::{Answer, Status};
use crate::lease::{Lease, Taken};
use crate::limiter::Inner;
use crate::link::Failure;
use crate::permit::{Ending, Raise};
use crate::plan::Plan;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Release, Ordering::SeqCst,
};
use std::time::{Duration, Instant};
use tokenweir::Estimate;

/// The server's record of what a permit was charged beyond its leases.
#[derive(Debug)]
pub(crate) struct Record {
    id: u64,
    /// The server was asked to make it, and may have it.
    asked: AtomicBool,
    /// So many calls that make it are on their way, or went unanswered and may be carried out yet.
    unanswered: AtomicU32,
    /// The server has it, or had it.
    there: AtomicBool,
    /// How long it is to live, if that was said while it was not known to be there.
    until: Mutex<Option<Instant>>,
}

/// The charges of a permit by leases, in the order of its limits.
#[derive(Default)]
pub(crate) struct Leased {
    legs: Vec<Leg>,
    record: Option<Arc<Record>>,
}

/// What one limit is charged.
pub(crate) struct Leg {
    /// From the lease that admitted it.
    taken: Taken,
    /// From later ones.
    later: Vec<Taken>,
    /// What the server is to have charged beyond them.
    beyond: u64,
}

/// A stream takes from so many leases of one limit at most: each of them has a record on the server until the stream has ended.
const MOST_LEASES: usize = 64;

impl Leg {
    pub(crate) fn new(taken: Taken) -> Self {
        Leg { taken, later: Vec::new(), beyond: 0 }
    }

    /// Gives all of it back.
    pub(crate) fn cancel(&mut self) {
        self.shrink(self.charge());
    }

    /// Takes `more` from the leases, as far as they have it. Whether the server is to be charged the rest.
    fn grow(&mut self, mut more: u64, current: Option<Arc<Lease>>) -> bool {
        let last = self.later.last_mut().unwrap_or(&mut self.taken);
        more -= last.take_some(more);
        // Otherwise it is closed, as all before it are.
        if let Some(lease) = current.filter(|current| more > 0 && !Arc::ptr_eq(current, &last.lease))
            && self.later.len() < MOST_LEASES
        {
            let mut taken = Taken { lease, charge: 0 };
            more -= taken.take_some(more);
            if taken.charge > 0 {
                self.later.push(taken);
            }
        }
        self.beyond += more;
        more > 0
    }

    /// Gives back what is not used to whoever was charged last: the server, then the leases.
    fn shrink(&mut self, mut unused: u64) {
        let of_server = unused.min(self.beyond);
        self.beyond -= of_server;
        unused -= of_server;
        for taken in std::iter::once(&mut self.taken).chain(&mut self.later).rev() {
            let back = unused.min(taken.charge);
            taken.give_back(back);
            taken.charge -= back;
            unused -= back;
        }
    }

    fn charge(&self) -> u64 {
        self.taken.charge + self.later.iter().map(|taken| taken.charge).sum::<u64>() + self.beyond
    }
}

impl Leased {
    pub(crate) fn new(legs: Vec<Leg>) -> Self {
        Leased { legs, record: None }
    }

    /// Brings it to these charges. Whether the server is to be charged more.
    pub(crate) fn come_to(&mut self, charges: &[u64], plan: &Plan) -> bool {
        let mut grown = false;
        for (at, (leg, charge)) in self.legs.iter_mut().zip(charges).enumerate() {
            match charge.checked_sub(leg.charge()) {
                Some(0) => {}
                Some(more) => grown |= leg.grow(more, plan.lease(at)),
                None => leg.shrink(leg.charge() - charge),
            }
        }
        grown
    }

    fn beyond(&self) -> Vec<u64> {
        self.legs.iter().map(|leg| leg.beyond).collect()
    }

    /// What the server is to have charged by now, while the permit goes on.
    pub(crate) fn raise(&mut self, inner: &Inner, plan: &Arc<Plan>) -> Ending {
        let record = self.record.clone().unwrap_or_else(|| Arc::new(Record::new(inner.ids.next(true).get())));
        self.ending(plan, record)
    }

    fn ending(&mut self, plan: &Arc<Plan>, record: Arc<Record>) -> Ending {
        self.record = Some(record.clone());
        Ending { id: record.id, plan: plan.clone(), charges: self.beyond(), record: Some(record) }
    }

    /// What the server is to be told at the end, if it was ever told of this permit. Otherwise it is owed what it is to charge,
    /// together with what other permits owe.
    pub(crate) fn end(&mut self, inner: &Inner, plan: &Arc<Plan>) -> End {
        if let Some(record) = self.record.take() {
            return End::Tell(self.ending(plan, record));
        }
        if self.legs.iter().all(|leg| leg.beyond == 0) {
            return End::Nothing;
        }
        inner.owe(plan, &self.beyond());
        End::Owed
    }

    /// The permit lives until then, as does what it took from leases: the record of which the server is to be told so, too. One
    /// that is on its way there is told afterwards.
    pub(crate) fn renew(&self, until: Instant) -> Option<u64> {
        let taken = self.legs.iter().flat_map(|leg| std::iter::once(&leg.taken).chain(&leg.later));
        taken.filter(|taken| taken.charge > 0).for_each(|taken| taken.lease.renew(until));
        let record = self.record.as_ref()?;
        *record.until.lock() = Some(until);
        record.there.load(SeqCst).then_some(record.id)
    }

    /// What each limit had left when it was last leased from, with what is left of that.
    pub(crate) fn left(&self, plan: &Plan) -> Vec<i64> {
        let last = |leg: &Leg| leg.later.last().unwrap_or(&leg.taken).lease.clone();
        let leases = self.legs.iter().enumerate().map(|(at, leg)| plan.lease(at).unwrap_or_else(|| last(leg)));
        leases.map(|lease| lease.remaining()).collect()
    }
}

/// What is to be told at the end of a permit by leases.
pub(crate) enum End {
    Nothing,
    /// In the background, together with others.
    Owed,
    Tell(Ending),
}

impl Record {
    fn new(id: u64) -> Self {
        let no = || AtomicBool::new(false);
        Record { id, asked: no(), unanswered: AtomicU32::new(0), there: no(), until: Mutex::new(None) }
    }

    /// The server cannot have it.
    pub(crate) fn is_unheard_of(&self) -> bool {
        !self.asked.load(Acquire)
    }
}

impl Inner {
    /// The server is to be charged this, together with what others owe.
    pub(crate) fn owe(&self, plan: &Plan, charges: &[u64]) {
        charges.iter().enumerate().for_each(|(leg, charge)| self.outage.owe(plan, leg, *charge));
        self.link.wake.notify_one();
    }

    /// Tells the server what a permit that goes on is charged by now.
    pub(crate) async fn raise(&self, raise: &Raise, by: Instant) -> Result<Answer, Failure> {
        if let Some(record) = &raise.ending.record
            && let Some(made) = self.make(record, &raise.ending, raise.ttl, by).await?
        {
            return Ok(made);
        }
        self.tell(&raise.ending, 1.0, raise.observed, by).await
    }

    /// Has the server make the record of what a permit was charged beyond its leases. `None`: it has it already, with whatever it
    /// was told first.
    pub(crate) async fn make(
        &self,
        record: &Record,
        Ending { id, plan, charges, .. }: &Ending,
        ttl: Duration,
        by: Instant,
    ) -> Result<Option<Answer>, Failure> {
        if record.there.load(SeqCst) {
            return Ok(None);
        }
        if !self.link.is_up() {
            return Err(Failure::Away);
        }
        record.asked.store(true, Release);
        record.unanswered.fetch_add(1, AcqRel);
        let asked = self.ask((plan, charges), (*id, Estimate::default()), (1.0, ttl), by).await;
        if !asked.as_ref().is_err_and(Failure::may_be_done) {
            record.unanswered.fetch_sub(1, AcqRel);
        }
        let mut answer = asked?;
        if matches!(answer.status, Status::Done | Status::Taken) {
            record.there.store(true, SeqCst);
            let until = record.until.lock().take();
            if let Some(until) = until {
                let rest = until.saturating_duration_since(Instant::now());
                // If that cannot be told, it is renewed as the permit is the next time.
                let _ = self.renew(plan, *id, Some(rest)).await;
            }
        }
        // What was used before this charge.
        answer.said.iter_mut().zip(charges).for_each(|(said, charge)| said.used += *charge as f64);
        Ok((answer.status != Status::Taken).then_some(answer))
    }

    /// Ends a permit's record of what it was charged beyond its leases. If a call may be carried out yet that makes it, the server is to
    /// remember that it has been, so that it is charged once.
    pub(crate) async fn make_or_end(&self, record: &Record, ending: &Ending, by: Instant) -> Result<Status, Failure> {
        if let Some(made) = self.make(record, ending, self.permit_ttl, by).await?
            && made.status != Status::Done
        {
            return Ok(made.status);
        }
        let mode = if record.unanswered.load(Acquire) > 0 { 3.0 } else { 0.0 };
        Ok(self.tell(ending, mode, (0, 0), by).await?.status)
    }
}
