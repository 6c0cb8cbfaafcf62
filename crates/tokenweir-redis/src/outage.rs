//! What happens while the server is away, and the account of it.

use crate::decision::By;
use crate::plan::{Plan, Rules};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokenweir::policy::Tokens;
use tokenweir::{Denied, Estimate, PermitId, Request};

/// What is decided when the server does not answer within the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenAway {
    /// Nothing passes.
    #[default]
    Deny,
    /// Everything passes. What it takes is charged when the server is back; until then nothing bounds it.
    Allow,
    /// What a share of every limit has room for passes, decided in this process. `processes` that share a store admit at most
    /// `processes * max(1, amount * per_mille / 1000)` beside what the server has admitted: in a period of a quota, in a
    /// window, as the capacity and the refill of a bucket.
    LocalShare {
        /// Thousandths of every amount; 1 to 1000.
        per_mille: u32,
    },
}

/// How much of one limit was admitted without the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OutageUse {
    /// The limit's name.
    pub limit: String,
    /// Requests admitted since the limiter began.
    pub requests: u64,
    /// What they took, in units of the limit's meter; of those that still run, by their estimate.
    pub charged: u64,
    /// Of this, what the server has not been told yet.
    pub owed: u64,
}

/// At most so many permits are open without the server.
const MOST_OPEN: usize = 100_000;

/// A permit that the server does not know.
struct Held {
    rules: Arc<Rules>,
    plan: Arc<Plan>,
    estimate: Estimate,
    charges: Vec<u64>,
    local: Option<PermitId>,
    deadline: Instant,
    /// It is being made known to the server; whether it was renewed meanwhile, and what it came to.
    moving: bool,
    renewed: bool,
    ended: Option<Vec<u64>>,
}

/// What the server is to be charged of one counter.
#[derive(Clone)]
pub(crate) struct Owed {
    pub(crate) plan: Arc<Plan>,
    pub(crate) charge: u64,
    /// Under which the charge is known, so that it is made once.
    pub(crate) id: u64,
    /// A call that was to charge it went unanswered, and may be carried out yet.
    pub(crate) unsure: bool,
}

/// A permit on its way to the server.
pub(crate) struct Moving {
    pub(crate) id: u64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) estimate: Estimate,
    pub(crate) charges: Vec<u64>,
    pub(crate) left: Duration,
}

/// What has come of a permit while it was on its way to the server, for the server to be told.
pub(crate) enum Moved {
    Nothing,
    Ended(Vec<u64>),
    Renewed(Duration),
}

/// What came of asking without the server.
pub(crate) enum Without {
    Admitted,
    Denied(Box<Denied>),
    /// There is no room for another permit, or nothing may pass.
    Nothing,
}

/// What the server is to be charged, by the counter's key.
#[derive(Default)]
struct Debts {
    owed: HashMap<Vec<u8>, Owed>,
    /// So many are being told.
    telling: usize,
}

#[derive(Default)]
pub(crate) struct Outage {
    pub(crate) mode: WhenAway,
    open: Mutex<HashMap<u64, Held>>,
    owed: Mutex<Debts>,
    totals: Mutex<BTreeMap<Arc<str>, (u64, u64)>>,
    pub(crate) denied: AtomicU64,
}

impl Outage {
    pub(crate) fn new(mode: WhenAway) -> Self {
        Outage { mode, ..Outage::default() }
    }

    /// Who admits what is admitted without the server.
    pub(crate) fn by(&self) -> By {
        if self.mode == WhenAway::Allow { By::OutageAllowed } else { By::LocalShare }
    }

    /// Decides on a request without the server; what is admitted is open under `id`.
    pub(crate) fn decide(
        &self,
        (rules, plan): (&Arc<Rules>, &Arc<Plan>),
        request: &Request<'_>,
        estimate: Estimate,
        id: u64,
        ttl: Duration,
    ) -> Result<Without, tokenweir::Error> {
        let mut open = self.open.lock();
        let nothing = |outage: &Outage| {
            outage.denied.fetch_add(1, Relaxed);
            Ok(Without::Nothing)
        };
        if self.mode == WhenAway::Deny || open.len() >= MOST_OPEN {
            return nothing(self);
        }
        let local = match (&self.mode, &rules.local) {
            (WhenAway::LocalShare { .. }, Some(local)) => match local.admit(request, estimate)? {
                tokenweir::Decision::Admitted(permit) => Some(permit.into_id()),
                tokenweir::Decision::Denied(denied) => return Ok(Without::Denied(Box::new(denied))),
            },
            (WhenAway::Allow, _) => None,
            _ => return nothing(self),
        };
        let charges = plan.charges(&Tokens { input: estimate.input, cached_input: 0, output: estimate.output });
        self.count(plan, &charges, 1);
        let (rules, plan, deadline) = (rules.clone(), plan.clone(), Instant::now() + ttl);
        open.insert(
            id,
            Held { rules, plan, estimate, charges, local, deadline, moving: false, renewed: false, ended: None },
        );
        Ok(Without::Admitted)
    }

    fn count(&self, plan: &Plan, charges: &[u64], requests: u64) {
        let mut totals = self.totals.lock();
        for (leg, charge) in plan.legs.iter().zip(charges) {
            let total = totals.entry(leg.name.clone()).or_default();
            *total = (total.0 + requests, total.1.saturating_add(*charge));
        }
    }

    /// Ends a permit that the server does not know, with what it came to. False if there is none of this id.
    pub(crate) fn end(&self, id: u64, charges: &[u64]) -> bool {
        let mut open = self.open.lock();
        let Some(held) = open.get_mut(&id) else { return false };
        if held.moving {
            // Only the first end counts.
            held.ended.get_or_insert_with(|| charges.to_vec());
            return true;
        }
        if let Some(held) = open.remove(&id) {
            self.close(&held, charges);
        }
        true
    }

    fn close(&self, held: &Held, charges: &[u64]) {
        if let (Some(local), Some(limiter)) = (held.local, &held.rules.local) {
            // Whatever it came to, the local share was charged the estimate, and keeps it: it is the smaller bound.
            let _ = limiter.abandon(local);
        }
        let mut totals = self.totals.lock();
        for ((leg, was), is) in held.plan.legs.iter().zip(&held.charges).zip(charges) {
            let total = totals.entry(leg.name.clone()).or_default();
            total.1 = total.1.saturating_sub(*was).saturating_add(*is);
        }
        drop(totals);
        for (leg, charge) in charges.iter().enumerate() {
            self.owe(&held.plan, leg, *charge);
        }
    }

    /// The server is to be charged this of one limit, whatever is left there.
    pub(crate) fn owe(&self, plan: &Plan, leg: usize, charge: u64) {
        let Some(key) = plan.legs.get(leg).filter(|leg| !leg.kind.is_in_flight()).map(|leg| &leg.key) else { return };
        if charge == 0 {
            return;
        }
        let one = || Owed { plan: plan.single(leg), charge: 0, id: crate::ids::random() | 1, unsure: false };
        let mut owed = self.owed.lock();
        let entry = owed.owed.entry(key.clone()).or_insert_with(one);
        entry.charge = entry.charge.saturating_add(charge);
    }

    /// Whether anything is to be told to the server.
    pub(crate) fn is_pending(&self) -> bool {
        let owed = self.owed.lock();
        !owed.owed.is_empty() || owed.telling > 0 || !self.open.lock().is_empty()
    }

    /// Ends the permits whose time is over: their estimates stand.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut open = self.open.lock();
        let due: Vec<u64> =
            open.iter().filter(|(_, held)| !held.moving && held.deadline <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(held) = open.remove(&id) {
                self.close(&held, &held.charges);
            }
        }
    }

    /// Takes out what is owed. Each was [paid](Outage::has_paid) then, or is to be [put back](Outage::owe_again).
    pub(crate) fn take_owed(&self) -> Vec<(Vec<u8>, Owed)> {
        let mut debts = self.owed.lock();
        debts.telling += debts.owed.len();
        debts.owed.drain().collect()
    }

    pub(crate) fn has_paid(&self) {
        self.owed.lock().telling -= 1;
    }

    pub(crate) fn owe_again(&self, mut key: Vec<u8>, owed: Owed) {
        let mut debts = self.owed.lock();
        debts.telling -= 1;
        if owed.unsure {
            // It may have been made already: nothing is added to it, what comes meanwhile has an id of its own.
            key.truncate(owed.plan.legs.first().map_or(0, |leg| leg.key.len()));
            key.extend_from_slice(&owed.id.to_le_bytes());
            debts.owed.insert(key, owed);
        } else if let Some(other) = debts.owed.get_mut(&key) {
            other.charge = other.charge.saturating_add(owed.charge);
        } else {
            debts.owed.insert(key, owed);
        }
    }

    /// The open permits, to be made known to the server, each of which is to be [confirmed](Outage::moved).
    pub(crate) fn take_open(&self) -> Vec<Moving> {
        let now = Instant::now();
        let mut open = self.open.lock();
        let waiting = open.iter_mut().filter(|(_, held)| !held.moving);
        let moving = waiting.map(|(id, held)| {
            held.moving = true;
            let left = held.deadline.saturating_duration_since(now).max(Duration::from_millis(1));
            Moving { id: *id, plan: held.plan.clone(), estimate: held.estimate, charges: held.charges.clone(), left }
        });
        moving.collect()
    }

    /// The server knows this permit now, or does not. What has come of it meanwhile is for the server then.
    pub(crate) fn moved(&self, id: u64, known: bool) -> Moved {
        let mut open = self.open.lock();
        let Some(mut held) = open.remove(&id) else { return Moved::Nothing };
        if !known {
            match held.ended.take() {
                Some(charges) => self.close(&held, &charges),
                None => {
                    held.moving = false;
                    open.insert(id, held);
                }
            }
            return Moved::Nothing;
        }
        if let (Some(local), Some(limiter)) = (held.local, &held.rules.local) {
            let _ = limiter.abandon(local);
        }
        match held.ended {
            Some(charges) => Moved::Ended(charges),
            None if held.renewed => Moved::Renewed(held.deadline.saturating_duration_since(Instant::now())),
            None => Moved::Nothing,
        }
    }

    /// What a permit of this id is, while the server does not know it.
    pub(crate) fn find(&self, id: u64) -> Option<(Arc<Rules>, Arc<Plan>, Estimate)> {
        let open = self.open.lock();
        let held = open.get(&id).filter(|held| held.ended.is_none())?;
        Some((held.rules.clone(), held.plan.clone(), held.estimate))
    }

    /// Lets a permit live so long from now on.
    pub(crate) fn renew(&self, id: u64, ttl: Duration) -> bool {
        let mut open = self.open.lock();
        let held = open.get_mut(&id).filter(|held| held.ended.is_none());
        held.is_some_and(|held| {
            held.deadline = Instant::now() + ttl;
            held.renewed = held.moving;
            if let (Some(local), Some(limiter)) = (held.local, &held.rules.local) {
                let _ = limiter.renew(local, ttl);
            }
            true
        })
    }

    /// What was admitted, by limit.
    pub(crate) fn uses(&self) -> Vec<OutageUse> {
        let totals = self.totals.lock().clone();
        let mut owed: HashMap<Arc<str>, u64> = HashMap::new();
        for held in self.open.lock().values() {
            for (leg, charge) in held.plan.legs.iter().zip(&held.charges).filter(|(leg, _)| !leg.kind.is_in_flight()) {
                *owed.entry(leg.name.clone()).or_default() += charge;
            }
        }
        for one in self.owed.lock().owed.values() {
            if let Some(leg) = one.plan.legs.first() {
                *owed.entry(leg.name.clone()).or_default() += one.charge;
            }
        }
        let uses = totals.into_iter().map(|(limit, (requests, charged))| {
            let owed = owed.get(&limit).copied().unwrap_or(0);
            OutageUse { limit: limit.to_string(), requests, charged, owed }
        });
        uses.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_one_sum_until_a_call_for_it_goes_unanswered() {
        let text = "[[limit]]\nname = 'l'\nmeter = 'total'\namount = 9\nalgorithm = 'quota'\nperiod = 'never'";
        let policy = tokenweir::Policy::from_toml(text).expect("a policy");
        let rules = Rules::new(policy, "t", None, None, (false, None)).expect("rules");
        let plan = rules.plan(&Request::new("p", "d")).expect("a plan");
        let outage = Outage::default();
        let attempt = |unsure: bool| {
            let taken = outage.take_owed();
            for (key, mut owed) in taken {
                // What comes while it is being told.
                outage.owe(&plan, 0, 1);
                owed.unsure |= unsure;
                outage.owe_again(key, owed);
            }
        };
        let sums = || {
            let mut sums: Vec<_> = outage.owed.lock().owed.iter().map(|(key, owed)| (owed.charge, key.len())).collect();
            sums.sort_unstable();
            sums
        };
        let length = plan.legs[0].key.len();
        outage.owe(&plan, 0, 5);
        (0..100).for_each(|_| attempt(false));
        assert_eq!(sums(), [(105, length)], "one that takes nothing");
        attempt(true);
        assert_eq!(sums(), [(1, length), (105, length + 8)], "it may have been charged, and grows no more");
        (0..3).for_each(|_| attempt(false));
        assert_eq!(sums().iter().map(|sum| sum.1).max(), Some(length + 8));
        assert_eq!((sums().len(), sums().last().map(|sum| sum.0)), (2, Some(105)));
        assert!(outage.is_pending());
    }
}
