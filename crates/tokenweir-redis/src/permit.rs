//! What an admitted request holds, until it is settled.

use crate::answer::{Answer, Said, Status, remaining};
use crate::decision::{By, Standing};
use crate::error::Error;
use crate::leased::{self, End, Leased, Record};
use crate::limiter::Inner;
use crate::link::Failure;
use crate::open::Excess;
use crate::plan::{Leg, Plan, Rules};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokenweir::policy::Tokens;
use tokenweir::{Estimate, Outcome, PermitId, Settlement, Usage, elsewhere};

/// The end of a permit, as the server is told: what each limit came to.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) id: u64,
    pub(crate) plan: Arc<Plan>,
    pub(crate) charges: Vec<u64>,
    /// Of what a permit was charged beyond its leases, its record, which the server may not have yet.
    pub(crate) record: Option<Arc<Record>>,
}

/// What a permit that goes on is charged by now, as the server is told.
#[derive(Debug)]
pub(crate) struct Raise {
    /// As if it ended with this.
    pub(crate) ending: Ending,
    pub(crate) observed: (u64, u64),
    /// How long a record lives that is made for it.
    pub(crate) ttl: Duration,
}

/// What settling came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The settlement.
    pub settlement: Settlement,
    /// Whether the server has it. Otherwise it is told in the background, and if it is away as soon as it is back: if that is
    /// before the permit expires, after which the estimate stands.
    pub told: bool,
}

/// What observing a stream showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// An enforced limit of the request that counts tokens had nothing left, or was in debt, when the server last said.
    pub spent: bool,
}

/// What an admitted request holds until it is settled, exactly once.
///
/// Dropped without a word it counts as used up: the estimate stands, and in-flight places are free, both in the background.
/// [`into_id`](Permit::into_id) detaches it, and any process finds it again
/// ([`RedisLimiter::permit`](crate::RedisLimiter::permit)). Of several that end one permit, the first does.
#[must_use = "dropping a permit counts its estimate as used; settle or cancel it"]
pub struct Permit {
    inner: Arc<Inner>,
    id: PermitId,
    rules: Arc<Rules>,
    plan: Arc<Plan>,
    estimate: Estimate,
    observed: Mutex<(u64, u64)>,
    by: By,
    said: Mutex<Vec<Said>>,
    open: bool,
    /// What it is charged by leases, and beyond them.
    leased: Mutex<Leased>,
    /// How long it lives, if that is not `permit_ttl`.
    until: Mutex<Option<Instant>>,
}

/// Detached permits: those by leases, which nobody else knows, and of the others as many as there is room for, of which the
/// server need not be asked.
#[derive(Default)]
pub(crate) struct Detached(Mutex<ById>);

#[derive(Default)]
struct ById {
    kept: HashMap<u64, Kept>,
    looked: Option<Instant>,
}

/// At most so many are kept that the server knows as well.
const MOST_KEPT: usize = 100_000;

/// The time between two looks for those whose time is over.
const LOOK: Duration = Duration::from_millis(100);

struct Kept {
    rules: Arc<Rules>,
    plan: Arc<Plan>,
    estimate: Estimate,
    observed: (u64, u64),
    by: By,
    said: Vec<Said>,
    leased: Leased,
    until: Instant,
}

impl Detached {
    /// The permit of this id, for whoever asks first.
    pub(crate) fn take(&self, inner: Arc<Inner>, id: PermitId) -> Option<Permit> {
        let kept = match self.0.lock().kept.entry(id.get()) {
            Entry::Occupied(kept) if Instant::now() < kept.get().until => kept.remove(),
            _ => return None,
        };
        let permit = Permit::new(inner, id, (kept.rules, kept.plan), kept.estimate, kept.by, kept.said);
        permit.has_observed(kept.observed);
        *permit.until.lock() = Some(kept.until);
        *permit.leased.lock() = kept.leased;
        Some(permit)
    }

    /// Forgets those whose time is over: what they are charged stands.
    pub(crate) fn expire(&self, inner: &Inner) {
        let now = Instant::now();
        let mut ids = self.0.lock();
        if ids.looked.is_none_or(|looked| looked + LOOK <= now) {
            ids.looked = Some(now);
            let over: Vec<Kept> = ids.kept.extract_if(|_, kept| kept.until <= now).map(|(_, kept)| kept).collect();
            drop(ids);
            for mut kept in over {
                if let End::Tell(ending) = kept.leased.end(inner, &kept.plan) {
                    inner.later(ending);
                }
            }
        }
    }

    fn keep(&self, id: PermitId, kept: Kept) {
        let mut ids = self.0.lock();
        if kept.by == By::Lease || ids.kept.len() < MOST_KEPT {
            ids.kept.insert(id.get(), kept);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("id", &self.id.get()).field("by", &self.by).finish_non_exhaustive()
    }
}

impl Permit {
    pub(crate) fn new(
        inner: Arc<Inner>,
        id: PermitId,
        (rules, plan): (Arc<Rules>, Arc<Plan>),
        estimate: Estimate,
        by: By,
        said: Vec<Said>,
    ) -> Self {
        let (observed, said) = (Mutex::new((0, 0)), Mutex::new(said));
        let (leased, until) = (Mutex::default(), Mutex::new(None));
        Permit { inner, id, rules, plan, estimate, observed, by, said, open: true, leased, until }
    }

    pub(crate) fn of_leases(mut self, legs: Vec<leased::Leg>) -> Self {
        *self.leased.get_mut() = Leased::new(legs);
        self
    }

    pub(crate) fn has_observed(&self, observed: (u64, u64)) {
        *self.observed.lock() = observed;
    }

    /// The permit's id, for any process of the same server and prefix.
    pub fn id(&self) -> PermitId {
        self.id
    }

    /// Detaches the permit: from here on only the id finds it.
    pub fn into_id(mut self) -> PermitId {
        self.open = false;
        if self.inner.is_forked() {
            return self.id;
        }
        let (said, leased) = (std::mem::take(self.said.get_mut()), std::mem::take(self.leased.get_mut()));
        let until = self.until.get_mut().unwrap_or_else(|| Instant::now() + self.inner.permit_ttl);
        let (rules, plan, observed) = (self.rules.clone(), self.plan.clone(), *self.observed.get_mut());
        let kept = Kept { rules, plan, estimate: self.estimate, observed, by: self.by, said, leased, until };
        self.inner.detached.keep(self.id, kept);
        self.id()
    }

    /// Who admitted it.
    pub fn by(&self) -> By {
        self.by
    }

    /// What each enforced limit had left when the server last said, this permit's charge taken; by leases, and before the server
    /// was asked for more, what it had left when it was last leased from, with what is left of that. Nothing where the server was
    /// not asked.
    pub fn remaining(&self) -> Vec<Standing> {
        let standing =
            |(leg, remaining): (&Leg, i64)| Standing { limit: leg.name.to_string(), remaining, charged_total: None };
        let said = self.said.lock();
        if said.is_empty() && self.by == By::Lease {
            // All limits of such a request are enforced.
            let left = self.leased.lock().left(&self.plan);
            return self.plan.legs.iter().zip(left).map(standing).collect();
        }
        let legs = self.plan.legs.iter().zip(&*said).filter(|(leg, _)| leg.enforced);
        legs.map(|(leg, said)| standing((leg, remaining(&leg.kind, said)))).collect()
    }

    /// The shadow limits that would have refused the request. They were not charged for it.
    pub fn shadow_refused(&self) -> Vec<String> {
        let said = self.said.lock();
        let legs = self.plan.legs.iter().zip(&*said).filter(|(leg, said)| !leg.enforced && !said.fits);
        legs.map(|(leg, _)| leg.name.to_string()).collect()
    }

    /// What it is charged for so far.
    fn charged(&self) -> Estimate {
        let observed = *self.observed.lock();
        Estimate::new(self.estimate.input.max(observed.0), self.estimate.output.max(observed.1))
    }

    fn charges_of(&self, tokens: Estimate) -> Vec<u64> {
        self.plan.charges(&Tokens { input: tokens.input, cached_input: 0, output: tokens.output })
    }

    /// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate, and beyond what leases
    /// have, is charged at once, by one call to the server; within it nobody is asked, so what was observed within it is known to
    /// this permit and not to one that is found by the same id. If the server does not answer, the excess is charged when the
    /// permit ends.
    ///
    /// # Errors
    /// [`Error::Engine`] with [`tokenweir::Error::PermitSettled`] if the permit has ended, or with
    /// [`tokenweir::Error::UsageInvalid`]; [`Error::Refused`].
    pub async fn observe(&self, input: u64, output: u64) -> Result<Observed, Error> {
        if let Some(raise) = self.adds(input, output)? {
            match self.inner.raise(&raise, self.inner.by()).await {
                Ok(Answer { status: Status::Not, .. }) => {
                    return Err(tokenweir::Error::PermitSettled { id: self.id() }.into());
                }
                Ok(Answer { status: Status::Done, said, .. }) => *self.said.lock() = said,
                Err(Failure::Refused(reason)) => return Err(Error::Refused { reason }),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(Observed { spent: self.is_spent() })
    }

    /// As [`observe`](Permit::observe), for whoever cannot wait: what goes beyond the estimate is told the server in the
    /// background, one call at a time for all that has come meanwhile.
    pub(crate) fn observe_later(
        &self,
        input: u64,
        output: u64,
        excess: &Arc<Excess>,
    ) -> Result<bool, tokenweir::Error> {
        if excess.is_gone() {
            return Err(tokenweir::Error::PermitSettled { id: self.id() });
        }
        self.has_been_told(excess);
        if let Some(raise) = self.adds(input, output)? {
            excess.tell(&self.inner, raise);
        }
        Ok(self.is_spent())
    }

    /// Whether the server knows it: it was admitted there, or made known to it after an outage.
    fn is_with_server(&self) -> bool {
        match self.by {
            By::Server => true,
            By::OutageAllowed | By::LocalShare => self.inner.outage.find(self.id.get()).is_none(),
            By::Lease | By::NoLimit | By::OutageDenied => false,
        }
    }

    /// Takes up what the server has said in the background.
    pub(crate) fn has_been_told(&self, excess: &Excess) {
        if let Some(said) = excess.said() {
            *self.said.lock() = said;
        }
    }

    /// Adds tokens that a stream has brought. What the server is to be told of that, if anything.
    fn adds(&self, input: u64, output: u64) -> Result<Option<Raise>, tokenweir::Error> {
        let before = self.charges_of(self.charged());
        let observed = {
            let mut observed = self.observed.lock();
            let next = (observed.0.saturating_add(input), observed.1.saturating_add(output));
            // Checked as a usage is, since it becomes one.
            let usage = Usage::new(next.0, next.1);
            elsewhere::settlement(self.id(), Outcome::Settled, self.estimate, &usage)?;
            *observed = next;
            next
        };
        if self.inner.is_forked() {
            return Ok(None);
        }
        let ending = if self.by == By::Lease {
            let mut leased = self.leased.lock();
            // Looked at under the lock: it never comes to less than before.
            let charges = self.charges_of(self.charged());
            let grown = leased.come_to(&charges, &self.plan);
            if !grown && charges != before {
                let mut said = self.said.lock();
                let grew = |(leg, said): (usize, &Said)| {
                    charges[leg] != before[leg] || remaining(&self.plan.legs[leg].kind, said) > 0
                };
                if said.iter().enumerate().all(grew) {
                    // The limits have something again, whatever the server said.
                    said.clear();
                }
            }
            (grown && self.inner.link.is_up()).then(|| leased.raise(&self.inner, &self.plan))
        } else {
            let charges = self.charges_of(self.charged());
            (charges != before && self.is_with_server()).then(|| self.ending(charges))
        };
        let ttl = || match *self.until.lock() {
            Some(until) => until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            None => self.inner.permit_ttl,
        };
        Ok(ending.map(|ending| Raise { ending, observed, ttl: ttl() }))
    }

    fn ending(&self, charges: Vec<u64>) -> Ending {
        Ending { id: self.id.get(), plan: self.plan.clone(), charges, record: None }
    }

    /// Whether an enforced limit that counts tokens had nothing left when the server last said.
    fn is_spent(&self) -> bool {
        let said = self.said.lock();
        let legs = self.plan.legs.iter().zip(&*said).filter(|(leg, _)| leg.enforced && !leg.charge.is_per_request());
        legs.into_iter().any(|(leg, said)| remaining(&leg.kind, said) <= 0)
    }

    /// Settles the permit with what the provider reported: what was held beyond it is given back, what was used beyond the
    /// estimate is charged.
    ///
    /// # Errors
    /// [`Error::Engine`] with [`tokenweir::Error::UsageInvalid`], after which the estimate stands, or with
    /// [`tokenweir::Error::PermitSettled`]; [`Error::Refused`].
    pub async fn settle(self, usage: Usage) -> Result<Ended, Error> {
        self.end(Outcome::Settled, &usage).await
    }

    /// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
    /// request.
    ///
    /// # Errors
    /// As [`settle`](Permit::settle).
    pub async fn cancel(self) -> Result<Ended, Error> {
        self.end(Outcome::Cancelled, &Usage::UNKNOWN).await
    }

    async fn end(mut self, outcome: Outcome, usage: &Usage) -> Result<Ended, Error> {
        let (settlement, end) = self.comes_to(outcome, usage)?;
        let told = match end {
            End::Nothing => true,
            End::Owed => false,
            End::Tell(ending) => match (Untold { inner: &self.inner, ending: Some(ending) }).tell().await {
                // Whatever record it was.
                Err(Error::Engine(tokenweir::Error::PermitSettled { .. })) => {
                    return Err(tokenweir::Error::PermitSettled { id: self.id }.into());
                }
                told => told?,
            },
        };
        Ok(Ended { settlement, told })
    }

    /// Ends the permit, for whoever cannot wait: the server is told in the background. After an error it is open still.
    pub(crate) fn end_later(
        &mut self,
        outcome: Outcome,
        usage: &Usage,
        excess: &Excess,
    ) -> Result<Settlement, tokenweir::Error> {
        let (settlement, end) = self.comes_to(outcome, usage)?;
        match end {
            End::Tell(ending) if ending.record.is_some() => excess.end(&self.inner, ending),
            // Whoever drops what is untold has it told.
            End::Tell(ending) => drop(Untold { inner: &self.inner, ending: Some(ending) }),
            End::Nothing | End::Owed => {}
        }
        Ok(settlement)
    }

    /// What ending it so comes to, and what the server has to be told of that: nothing, if leases have it.
    fn comes_to(&mut self, outcome: Outcome, usage: &Usage) -> Result<(Settlement, End), tokenweir::Error> {
        let settlement = elsewhere::settlement(self.id(), outcome, self.charged(), usage)?;
        let Settlement { input, cached_input, output, .. } = settlement;
        let charges = match outcome {
            Outcome::Cancelled => vec![0; self.plan.legs.len()],
            _ => self.plan.charges(&Tokens { input, cached_input, output }),
        };
        Ok((settlement, self.over(charges)))
    }

    /// Ends it with these charges here; what is left to be told.
    fn over(&mut self, charges: Vec<u64>) -> End {
        self.open = false;
        if self.by == By::Lease {
            let leased = self.leased.get_mut();
            leased.come_to(&charges, &self.plan);
            leased.end(&self.inner, &self.plan)
        } else if self.plan.legs.is_empty() {
            End::Nothing
        } else {
            End::Tell(self.ending(charges))
        }
    }

    /// The id of the record that the server is to let live until then, if it has one.
    fn renewed(&self, until: Instant) -> Option<u64> {
        match self.by {
            By::Lease => self.leased.lock().renew(until),
            By::NoLimit => None,
            _ => Some(self.id.get()),
        }
    }

    /// Lets the permit live for `ttl` from now on, for streams longer than the builder's `permit_ttl`, and hold its places in
    /// flight for the builder's `place_ttl`.
    ///
    /// # Errors
    /// [`Error::Engine`] with [`tokenweir::Error::PermitSettled`] if it has ended; [`Error::Away`], [`Error::Refused`].
    pub async fn renew(&self, ttl: Duration) -> Result<(), Error> {
        if self.inner.outage.renew(self.id.get(), ttl) {
            return Ok(());
        }
        let renewed = match self.renewed(Instant::now() + ttl) {
            Some(id) => self.inner.renew(&self.plan, id, Some(ttl)).await,
            None => Ok(true),
        };
        match renewed {
            Ok(true) => {
                *self.until.lock() = Some(Instant::now() + ttl);
                Ok(())
            }
            Ok(false) => Err(tokenweir::Error::PermitSettled { id: self.id() }.into()),
            Err(failure) => Err(self.inner.error(failure)),
        }
    }

    /// As [`renew`](Permit::renew), for whoever cannot wait: what the server says is known the next time.
    pub(crate) fn renew_later(&self, ttl: Duration, excess: &Arc<Excess>) -> Result<(), tokenweir::Error> {
        if excess.is_gone() {
            return Err(tokenweir::Error::PermitSettled { id: self.id() });
        }
        *self.until.lock() = Some(Instant::now() + ttl);
        if !self.inner.is_forked()
            && !self.inner.outage.renew(self.id.get(), ttl)
            && let Some(id) = self.renewed(Instant::now() + ttl)
        {
            let (inner, plan, excess) = (self.inner.clone(), self.plan.clone(), excess.clone());
            self.inner.runtime.spawn(async move {
                if let Ok(false) = inner.renew(&plan, id, Some(ttl)).await {
                    excess.has_gone();
                }
            });
        }
        Ok(())
    }

    /// What the server is to be told of to hold the permit's places; nothing if it has none there.
    pub(crate) fn places(&self) -> Option<(Arc<Plan>, u64)> {
        let holds = self.plan.legs.iter().any(|leg| leg.kind.is_in_flight());
        (holds && self.is_with_server()).then(|| (self.plan.clone(), self.id.get()))
    }

    /// The policy that it was admitted by.
    pub fn policy(&self) -> &tokenweir::Policy {
        self.rules.denials.policy()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a process that was forked off, it is the other one's permit.
        if self.open && !self.inner.is_forked() {
            let charges = self.charges_of(self.charged());
            if let End::Tell(ending) = self.over(charges) {
                // Dropped here, the ending goes to whoever has the permit.
                drop(Untold { inner: &self.inner, ending: Some(ending) });
            }
        }
    }
}

/// An ending that somebody has to be told of: whoever drops it leaves that to the background.
struct Untold<'a> {
    inner: &'a Arc<Inner>,
    ending: Option<Ending>,
}

impl Untold<'_> {
    /// Tells whoever has the permit. False if it is to be told later.
    async fn tell(&mut self) -> Result<bool, Error> {
        let Some(ending) = &self.ending else { return Ok(true) };
        if self.inner.outage.end(ending.id, &ending.charges) {
            self.inner.link.wake.notify_one();
            self.ending = None;
            return Ok(false);
        }
        let by = self.inner.by();
        match self.inner.end(ending, by).await {
            Ok(Status::Done) => {
                self.ending = None;
                Ok(true)
            }
            Ok(Status::Not) => {
                let id = PermitId::new(ending.id);
                self.ending = None;
                Err(id.map_or(Error::Refused { reason: "a permit has no id".to_owned() }, |id| {
                    tokenweir::Error::PermitSettled { id }.into()
                }))
            }
            Err(Failure::Refused(reason)) => {
                self.ending = None;
                Err(Error::Refused { reason })
            }
            // Dropped, it is told later.
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            if self.inner.outage.end(ending.id, &ending.charges) {
                self.inner.link.wake.notify_one();
            } else {
                self.inner.later(ending);
            }
        }
    }
}
