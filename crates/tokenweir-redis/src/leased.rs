//! What a permit by leases is charged: what it took from them, and what a stream brought beyond that.
//!
//! What its leases do not have the server is charged while the stream runs, all of it under one record, which is another than the
//! permit's id would find. The record grows with the stream and is settled with the permit, so less usage gives that back, too, and
//! with each answer the server says what the limits have left.

use crate::answer::{Answer, Status};
use crate::keeper::REMEMBERED;
use crate::lease::Taken;
use crate::limiter::Inner;
use crate::link::Failure;
use crate::permit::{Ending, Raise};
use crate::plan::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};
use tokenweir::Estimate;

/// The server's record of what a permit was charged beyond its leases.
#[derive(Debug)]
pub(crate) struct Record {
    id: u64,
    /// The server has it, or had it. Otherwise it may have it.
    there: AtomicBool,
}

/// The charges of a permit by leases, in the order of its limits.
#[derive(Default)]
pub(crate) struct Leased {
    taken: Vec<Taken>,
    /// What the server is to have charged beyond them.
    beyond: Vec<u64>,
    record: Option<Arc<Record>>,
}

impl Leased {
    pub(crate) fn new(taken: Vec<Taken>) -> Self {
        let beyond = vec![0; taken.len()];
        Leased { taken, beyond, record: None }
    }

    /// Brings it to these charges: more is taken from the leases as far as they have it, less goes back to whoever was charged
    /// last, the server or the leases. Whether the server is to be charged more.
    pub(crate) fn come_to(&mut self, charges: &[u64]) -> bool {
        let mut grown = false;
        for ((taken, beyond), charge) in self.taken.iter_mut().zip(&mut self.beyond).zip(charges) {
            let has = taken.charge + *beyond;
            if *charge <= has {
                let unused = has - charge;
                let of_server = unused.min(*beyond);
                *beyond -= of_server;
                taken.give_back(unused - of_server);
                taken.charge -= unused - of_server;
            } else {
                let more = charge - has;
                let some = taken.lease.take_some(more);
                taken.charge += some;
                *beyond += more - some;
                grown |= some < more;
            }
        }
        grown
    }

    /// What the server is to have charged by now, while the permit goes on.
    pub(crate) fn raise(&mut self, inner: &Inner, plan: &Arc<Plan>) -> Ending {
        let new = || Arc::new(Record { id: inner.ids.next(true).get(), there: AtomicBool::new(false) });
        self.ending(plan, self.record.clone().unwrap_or_else(new))
    }

    fn ending(&mut self, plan: &Arc<Plan>, record: Arc<Record>) -> Ending {
        self.record = Some(record.clone());
        Ending { id: record.id, plan: plan.clone(), charges: self.beyond.clone(), record: Some(record) }
    }

    /// What the server is to be told at the end, if it was ever told of this permit. Otherwise it is owed what it is to charge,
    /// together with what other permits owe.
    pub(crate) fn end(&mut self, inner: &Inner, plan: &Arc<Plan>) -> End {
        if let Some(record) = self.record.take() {
            return End::Tell(self.ending(plan, record));
        }
        if self.beyond.iter().all(|beyond| *beyond == 0) {
            return End::Nothing;
        }
        self.beyond.iter().enumerate().for_each(|(leg, beyond)| inner.outage.owe(plan, leg, *beyond));
        inner.link.wake.notify_one();
        End::Owed
    }

    /// Where the server has a record of it.
    pub(crate) fn on_server(&self) -> Option<u64> {
        self.record.as_ref().filter(|record| record.there.load(Acquire)).map(|record| record.id)
    }

    /// What each limit had left when it was last leased from, with what is left of that.
    pub(crate) fn left(&self, plan: &Plan) -> Vec<i64> {
        let legs = self.taken.iter().enumerate();
        legs.map(|(leg, taken)| plan.lease(leg).unwrap_or_else(|| taken.lease.clone()).remaining()).collect()
    }
}

/// What is to be told at the end of a permit by leases.
pub(crate) enum End {
    Nothing,
    /// In the background, together with others.
    Owed,
    Tell(Ending),
}

impl Inner {
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
        if record.there.load(Acquire) {
            return Ok(None);
        }
        let mut answer = self.ask((plan, charges), (*id, Estimate::default()), (1.0, ttl), by).await?;
        if matches!(answer.status, Status::Done | Status::Taken) {
            record.there.store(true, Release);
        }
        // What was used before this charge.
        answer.said.iter_mut().zip(charges).for_each(|(said, charge)| said.used += *charge as f64);
        Ok((answer.status != Status::Taken).then_some(answer))
    }

    /// Ends a permit's record of what it was charged beyond its leases, of which the server may not have heard: it is charged then,
    /// and remembers that it was.
    pub(crate) async fn make_or_end(&self, record: &Record, ending: &Ending, by: Instant) -> Result<Status, Failure> {
        match self.make(record, ending, REMEMBERED, by).await? {
            Some(made) => Ok(made.status),
            None => Ok(self.tell(ending, 0.0, (0, 0), by).await?.status),
        }
    }
}
