//! The calls of the scripts.

use crate::answer::{Answer, Status};
use crate::lease::Leases;
use crate::limiter::Inner;
use crate::link::Failure;
use crate::numbers::{Numbers, number};
use crate::permit::Ending;
use crate::plan::Plan;
use crate::record;
use std::time::{Duration, Instant};
use tokenweir::Estimate;

impl Inner {
    /// Asks the server to decide.
    pub(crate) async fn ask(
        &self,
        (plan, charges): (&Plan, &[u64]),
        (id, estimate): (u64, Estimate),
        (mode, ttl): (f64, Duration),
        by: Instant,
    ) -> Result<Answer, Failure> {
        let permit = plan.permit_key(id);
        let keys = keys(&permit, plan);
        let record = record::write(plan, estimate);
        // Milliseconds; a second longer than the permit, for the clocks' sake.
        let lives = (ttl.as_millis() + 1000).to_string();
        let head = [ttl.as_micros() as f64, mode, plan.legs.len() as f64];
        loop {
            let numbers = plan.numbers(&head, charges, self.link.server_now());
            let args = [numbers.bytes(), &id.to_le_bytes(), &record, lives.as_bytes()];
            let answer = self.link.run(&self.scripts.admit, &keys, &args, by).await?;
            let answer = self.read(&answer, plan.legs.len())?;
            if answer.status != Status::OtherPeriod || Instant::now() >= by {
                return Ok(answer);
            }
        }
    }

    /// Asks the server for a lease of one limit.
    pub(crate) async fn ask_lease(
        &self,
        (plan, id): (&Plan, u64),
        (least, want): (u64, u64),
        leases: Leases,
        by: Instant,
    ) -> Result<Answer, Failure> {
        let permit = plan.permit_key(id);
        let keys = keys(&permit, plan);
        let record = record::write(plan, Estimate::default());
        // The requests that take from it end later.
        let ttl = leases.life + self.permit_ttl;
        let lives = (ttl.as_millis() + 1000).to_string();
        let head = [ttl.as_micros() as f64, 4.0, 1.0];
        loop {
            let numbers = plan.lease_numbers(&head, (least, want, leases.part), self.link.server_now());
            let args = [numbers.bytes(), &id.to_le_bytes(), &record, lives.as_bytes()];
            let answer = self.link.run(&self.scripts.admit, &keys, &args, by).await?;
            let answer = self.read(&answer, 1)?;
            if answer.status != Status::OtherPeriod || Instant::now() >= by {
                return Ok(answer);
            }
        }
    }

    fn read(&self, bytes: &[u8], limits: usize) -> Result<Answer, Failure> {
        let answer = Answer::read(bytes, limits)
            .ok_or_else(|| Failure::Refused("what a script answered is not readable".to_owned()))?;
        self.link.seen(answer.now);
        Ok(answer)
    }

    /// Tells the server what a permit came to.
    pub(crate) async fn tell(
        &self,
        ending: &Ending,
        mode: f64,
        observed: (u64, u64),
        by: Instant,
    ) -> Result<Answer, Failure> {
        self.settle(&ending.plan, &[(ending.id, &ending.charges)], mode, observed, by).await
    }

    /// The same of several permits, which are ended. Of several, `totals` is the status of each.
    pub(crate) async fn settle(
        &self,
        plan: &Plan,
        permits: &[(u64, &[u64])],
        mode: f64,
        observed: (u64, u64),
        by: Instant,
    ) -> Result<Answer, Failure> {
        let limits = plan.legs.len();
        let (own, ids): (Vec<_>, Vec<_>) =
            permits.iter().map(|(id, _)| (plan.permit_key(*id), id.to_le_bytes())).unzip();
        let keys: Vec<&[u8]> = own.iter().map(|key| &**key).chain(plan.legs.iter().map(|leg| &*leg.key)).collect();
        let head = [mode, limits as f64, permits.len() as f64, observed.0 as f64, observed.1 as f64];
        loop {
            let mut numbers = plan.numbers(&head, &vec![0; limits], self.link.server_now());
            permits.iter().flat_map(|(_, charges)| *charges).for_each(|charge| numbers.push(number(*charge)));
            let args: Vec<&[u8]> = std::iter::once(numbers.bytes()).chain(ids.iter().map(|id| &id[..])).collect();
            let answer = self.link.run(&self.scripts.settle, &keys, &args, by).await?;
            let answer = self.read(&answer, if permits.len() == 1 { limits } else { 0 })?;
            if answer.status != Status::OtherPeriod || Instant::now() >= by {
                return Ok(answer);
            }
        }
    }

    /// Lets a permit live for so long from now on, if anything is said of that, and hold its places. False if there is none.
    pub(crate) async fn renew(&self, plan: &Plan, id: u64, ttl: Option<Duration>) -> Result<bool, Failure> {
        let permit = plan.permit_key(id);
        let keys = keys(&permit, plan);
        let head = [ttl.map_or(0.0, |ttl| ttl.as_micros().max(1) as f64), plan.legs.len() as f64];
        let mut numbers = Numbers::with_capacity(head.len() + plan.legs.len());
        numbers.extend(&head);
        plan.legs.iter().for_each(|leg| numbers.push(number(leg.kind.held())));
        let args = [numbers.bytes(), &id.to_le_bytes()];
        let answer = self.link.run(&self.scripts.renew, &keys, &args, self.by()).await?;
        Ok(self.read(&answer, 0)?.status == Status::Done)
    }
}

fn keys<'a>(permit: &'a [u8], plan: &'a Plan) -> Vec<&'a [u8]> {
    std::iter::once(permit).chain(plan.legs.iter().map(|leg| &*leg.key)).collect()
}
