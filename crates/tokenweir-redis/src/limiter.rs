//! The limiter whose counters are on the server.

use crate::answer::{Answer, Said, Status, remaining, standings};
use crate::builder::Builder;
use crate::decision::{By, Decision, Standing, Stats};
use crate::error::Error;
use crate::ids::Ids;
use crate::keeper;
use crate::lease::{self, Leasing};
use crate::link::{Failure, Link};
use crate::outage::{Outage, WhenAway, Without};
use crate::permit::{Detached, Ending, Permit};
use crate::plan::{Plan, Rules};
use crate::record;
use crate::script::Scripts;
use crate::server::Server;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokenweir::policy::{ScopePart, Tokens};
use tokenweir::{Estimate, PermitId, Policy, Request, elsewhere};

/// At most so many ends of permits wait for the server.
const MOST_WAITING: usize = 100_000;

pub(crate) struct Inner {
    pub(crate) link: Link,
    pub(crate) scripts: Scripts,
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) outage: Outage,
    pub(crate) waiting: Mutex<VecDeque<Ending>>,
    pub(crate) ids: Ids,
    pub(crate) permit_ttl: Duration,
    pub(crate) place_ttl: Option<Duration>,
    pub(crate) back_off: Duration,
    pub(crate) outages: AtomicU64,
    pub(crate) recoveries: AtomicU64,
    pub(crate) given_up: AtomicU64,
    /// Endings that the keeper is telling just now.
    pub(crate) telling: AtomicU64,
    /// Endings that are told once their permit's last call has an answer.
    pub(crate) behind: AtomicU64,
    pub(crate) leasing: Option<Leasing>,
    pub(crate) alone: usize,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) detached: Detached,
    prefix: String,
    slot_by: Option<ScopePart>,
    /// The process that made it.
    process: u32,
}

/// Decides which requests may pass over limits that many processes and machines share, holds their tokens, and settles them.
///
/// Cheap to clone; all clones are the same limiter. May be used from any task and thread at once. Every decision is one call of
/// one script on the server: all limits of the request or none, by the server's clock. No call waits longer than the deadline.
///
/// # Example
/// ```no_run
/// use tokenweir::{Estimate, Policy, Request, Usage};
/// use tokenweir_redis::{Decision, RedisLimiter, Server, WhenAway};
///
/// # async fn example(policy: Policy) -> Result<(), tokenweir_redis::Error> {
/// let server = Server::parse("rediss://gateway:secret@redis.example.com")?;
/// let limiter = RedisLimiter::builder(server, policy).when_away(WhenAway::LocalShare { per_mille: 100 }).connect().await?;
/// match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400)).await? {
///     Decision::Admitted(permit) => {
///         permit.settle(Usage::new(912, 77)).await?;
///     }
///     Decision::Denied { denied, .. } => println!("{} {:?}", denied.status(), denied.retry_after_seconds()),
///     Decision::Unavailable => println!("503"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisLimiter {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for RedisLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimiter").field("server", &self.inner.link.server).finish_non_exhaustive()
    }
}

fn local_of(policy: &Policy, when_away: WhenAway, ttl: Duration) -> Option<tokenweir::Limiter> {
    match when_away {
        WhenAway::LocalShare { per_mille } => {
            Some(tokenweir::Limiter::builder(policy.share(per_mille)).permit_ttl(ttl).build())
        }
        _ => None,
    }
}

impl Inner {
    pub(crate) fn start(builder: Builder) -> Result<Arc<Self>, Error> {
        let runtime =
            tokio::runtime::Handle::try_current().map_err(|error| Error::Runtime { reason: error.to_string() })?;
        let Builder {
            server,
            policy,
            deadline,
            permit_ttl,
            place_ttl,
            prefix,
            slot_by,
            when_away,
            back_off,
            leases,
            scripts,
            alone,
        } = builder;
        let local = local_of(&policy, when_away, permit_ttl);
        let rules = Rules::new(policy, &prefix, slot_by.clone(), local, (leases.is_some(), place_ttl))?;
        let inner = Arc::new(Inner {
            link: Link::new(server, deadline),
            scripts,
            rules: ArcSwap::from_pointee(rules),
            outage: Outage::new(when_away),
            waiting: Mutex::new(VecDeque::new()),
            ids: Ids::new(),
            permit_ttl,
            place_ttl,
            back_off,
            outages: AtomicU64::new(0),
            recoveries: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            telling: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            leasing: leases.map(Leasing::new),
            alone,
            runtime: runtime.clone(),
            detached: Detached::default(),
            prefix,
            slot_by,
            process: std::process::id(),
        });
        runtime.spawn(keeper::keep(Arc::downgrade(&inner)));
        if inner.leasing.is_some() {
            runtime.spawn(lease::keep(Arc::downgrade(&inner)));
        }
        Ok(inner)
    }

    pub(crate) fn by(&self) -> Instant {
        Instant::now() + self.link.deadline
    }

    /// Whether this process was forked from the one that made it: its runtime does not run here, and its locks may be held by
    /// threads that are not here.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Tells the server later, in the background.
    pub(crate) fn later(&self, ending: Ending) {
        if self.is_forked() {
            return;
        }
        if ending.record.as_ref().is_some_and(|record| record.is_unheard_of()) {
            return self.owe(&ending.plan, &ending.charges);
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST_WAITING {
            self.given_up.fetch_add(1, Relaxed);
            return;
        }
        waiting.push_back(ending);
        drop(waiting);
        self.link.wake.notify_one();
    }

    /// How many ends of permits the server is still to be told.
    fn untold(&self) -> usize {
        // Those behind a call first: from there they go to those that wait. Those that are being told change under the lock.
        let behind = self.behind.load(Acquire) as usize;
        let waiting = self.waiting.lock();
        behind + waiting.len() + self.telling.load(Relaxed) as usize
    }

    pub(crate) fn across_slots(&self) -> Error {
        let part = self.slot_by.as_ref().map(ToString::to_string).unwrap_or_default();
        Error::AcrossSlots { limit: "any".to_owned(), part }
    }

    pub(crate) fn why(&self) -> String {
        self.link.why.lock().clone()
    }

    pub(crate) fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(reason) => Error::Refused { reason },
            Failure::Late => Error::Away { reason: format!("no answer within {:?}", self.link.deadline) },
            Failure::Away | Failure::Broken => Error::Away { reason: self.why() },
            Failure::Busy(reason) => Error::Away { reason },
        }
    }
}

/// A request that the server may have admitted without anybody knowing: given back as if it had never been.
pub(crate) struct Unanswered<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) plan: Arc<Plan>,
    pub(crate) id: Option<u64>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let charges = vec![0; self.plan.legs.len()];
            self.inner.later(Ending { id, plan: self.plan.clone(), charges, record: None });
        }
    }
}

impl RedisLimiter {
    /// To be built for this server and policy.
    pub fn builder(server: Server, policy: Policy) -> Builder {
        Builder::new(server, policy)
    }

    /// Waits until the first attempt to reach the server has come to something, for up to a second.
    pub async fn tried(&self) {
        let until = Instant::now() + keeper::PATIENCE;
        while !self.inner.link.is_up() && self.inner.outages.load(Relaxed) == 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Decides on a request, in one call to the server, within the deadline.
    ///
    /// If the future is dropped before it is ready, what the server may have taken is given back.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::TooManyLimits`], [`Error::Refused`]. A server that is away is a decision, not an error.
    pub async fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Result<Decision, Error> {
        elsewhere::check_estimate(estimate)?;
        let inner = &*self.inner;
        let rules = inner.rules.load_full();
        let plan = rules.plan(request)?;
        let mut id = inner.ids.next(true);
        if plan.legs.is_empty() {
            return Ok(Decision::Admitted(self.permit_of(id, (rules, plan), estimate, By::NoLimit, Vec::new())));
        }
        let charges = plan.charges(&Tokens { input: estimate.input, cached_input: 0, output: estimate.output });
        if let Some(taken) = inner.leasing.as_ref().and_then(|leasing| leasing.take(&plan, &charges)) {
            let permit = self.permit_of(inner.ids.next(false), (rules, plan), estimate, By::Lease, Vec::new());
            return Ok(Decision::Admitted(permit.of_leases(taken)));
        }
        let by = inner.by();
        let mut returned = false;
        for _ in 0..3 {
            let mut unanswered = Unanswered { inner, plan: plan.clone(), id: Some(id.get()) };
            let answer = self.inner.decide(&plan, &charges, (id.get(), estimate), by).await;
            // Nothing was sent, or it was answered: nothing to give back.
            if !answer.as_ref().is_err_and(Failure::may_be_done) {
                unanswered.id = None;
            }
            match answer {
                Ok(Answer { status: Status::Done, mut said, .. }) => {
                    // What was used before this charge; it was made where it fits.
                    for (said, charge) in said.iter_mut().zip(&charges).filter(|(said, _)| said.fits) {
                        said.used += *charge as f64;
                    }
                    return Ok(Decision::Admitted(self.permit_of(id, (rules, plan), estimate, By::Server, said)));
                }
                // Not for what this process has leased itself.
                Ok(answer)
                    if answer.status == Status::Not
                        && !std::mem::replace(&mut returned, true)
                        && self.return_leases(&plan, &charges, &answer, by).await =>
                {
                    id = inner.ids.next(true);
                }
                Ok(answer) if answer.status == Status::Not => {
                    let denied = rules.denials.denied(standings(&plan, &charges, &answer));
                    let denied =
                        denied.ok_or_else(|| Error::Refused { reason: "it refused for no limit".to_owned() })?;
                    return Ok(Decision::Denied { denied: Box::new(denied), by: By::Server });
                }
                // Somebody's permit has this id: another one.
                Ok(answer) if answer.status == Status::Taken => id = inner.ids.next(true),
                Ok(_) => break,
                Err(Failure::Refused(reason)) => return Err(Error::Refused { reason }),
                Err(_) => break,
            }
        }
        self.without_server((rules, plan), request, estimate)
    }

    /// Gives back what is leased of the limits that refused a request, where that makes it fit. False if it does not.
    async fn return_leases(&self, plan: &Plan, charges: &[u64], answer: &Answer, by: Instant) -> bool {
        let Some(leasing) = &self.inner.leasing else { return false };
        let mut refusing = Vec::new();
        for (leg, (said, charge)) in answer.said.iter().zip(charges).enumerate().filter(|(_, (said, _))| !said.fits) {
            let kind = &plan.legs[leg].kind;
            let left = leasing.left(plan, leg);
            if left == 0 || remaining(kind, said).saturating_add_unsigned(left) < (*charge).max(1) as i64 {
                return false;
            }
            refusing.push(leg);
        }
        for leg in &refusing {
            if !self.inner.return_lease(plan, *leg, by).await {
                return false;
            }
        }
        !refusing.is_empty()
    }

    fn without_server(
        &self,
        (rules, plan): (Arc<Rules>, Arc<Plan>),
        request: &Request<'_>,
        estimate: Estimate,
    ) -> Result<Decision, Error> {
        let inner = &*self.inner;
        let id = inner.ids.next(false);
        Ok(match inner.outage.decide((&rules, &plan), request, estimate, id.get(), inner.permit_ttl)? {
            Without::Admitted => {
                let by = inner.outage.by();
                // The server may have come back in between, and nobody else would tell it.
                if inner.link.is_up() {
                    inner.link.wake.notify_one();
                }
                Decision::Admitted(self.permit_of(id, (rules, plan), estimate, by, Vec::new()))
            }
            Without::Denied(denied) => Decision::Denied { denied, by: By::LocalShare },
            Without::Nothing => Decision::Unavailable,
        })
    }

    fn permit_of(
        &self,
        id: PermitId,
        rules: (Arc<Rules>, Arc<Plan>),
        estimate: Estimate,
        by: By,
        said: Vec<Said>,
    ) -> Permit {
        Permit::new(self.inner.clone(), id, rules, estimate, by, said)
    }

    /// What each enforced limit has left for this request, as of now, and what was charged in all; takes nothing.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`], [`Error::Engine`].
    pub async fn remaining(&self, request: &Request<'_>) -> Result<Vec<Standing>, Error> {
        let inner = &*self.inner;
        let plan = inner.rules.load_full().plan(request)?;
        if plan.legs.is_empty() {
            return Ok(Vec::new());
        }
        let charges = vec![0; plan.legs.len()];
        let asked = (0, Estimate::default());
        let answer = inner.ask((&plan, &charges), asked, (2.0, inner.permit_ttl), inner.by()).await;
        let answer = answer.map_err(|failure| inner.error(failure))?;
        let legs = plan.legs.iter().zip(&answer.said).zip(&answer.totals).filter(|((leg, _), _)| leg.enforced);
        let standing = legs.map(|((leg, said), total)| Standing {
            limit: leg.name.to_string(),
            remaining: remaining(&leg.kind, said),
            charged_total: (!leg.kind.is_in_flight()).then_some(*total as u64),
        });
        Ok(standing.collect())
    }

    /// An open permit by its id, whichever process of the same server and prefix admitted it; one by [`By::Lease`] only in the
    /// process that admitted it, and once. Dropping it ends it. Of one that this process has detached the server is not asked:
    /// whether somebody else has ended it meanwhile, its own end will show.
    ///
    /// It settles against every counter that it was charged on, whatever policy this process has: with a limit that the policy
    /// lacks, or has with another amount, too. [`Permit::remaining`] and [`Permit::observe`] speak of limits of this policy only.
    ///
    /// # Errors
    /// [`Error::Engine`] with [`tokenweir::Error::PermitSettled`] if there is none of this id: it was ended, it has expired, or
    /// there never was one. [`Error::Away`], [`Error::Refused`]. [`Error::AcrossSlots`] where counters are spread over slots:
    /// then only [`permit_for`](RedisLimiter::permit_for) finds it.
    pub async fn permit(&self, id: PermitId) -> Result<Permit, Error> {
        if let Some(permit) = self.known(id) {
            return Ok(permit);
        }
        let rules = self.inner.rules.load_full();
        let tag = rules.one_tag().ok_or_else(|| self.inner.across_slots())?;
        self.find(id, rules, tag).await
    }

    /// [`permit`](RedisLimiter::permit) of this request, in any layout of slots.
    ///
    /// # Errors
    /// As [`permit`](RedisLimiter::permit).
    pub async fn permit_for(&self, id: PermitId, request: &Request<'_>) -> Result<Permit, Error> {
        if let Some(permit) = self.known(id) {
            return Ok(permit);
        }
        let rules = self.inner.rules.load_full();
        let tag = rules.tag(request);
        self.find(id, rules, tag).await
    }

    /// A permit that this process knows.
    fn known(&self, id: PermitId) -> Option<Permit> {
        let inner = &*self.inner;
        if let Some(permit) = inner.detached.take(self.inner.clone(), id) {
            return Some(permit);
        }
        let (rules, plan, estimate) = inner.outage.find(id.get())?;
        Some(self.permit_of(id, (rules, plan), estimate, inner.outage.by(), Vec::new()))
    }

    async fn find(&self, id: PermitId, rules: Arc<Rules>, tag: Vec<u8>) -> Result<Permit, Error> {
        let inner = &*self.inner;
        let key = crate::plan::permit_key(&tag, id.get());
        let mut command = redis::cmd("GET");
        command.arg(key);
        let Some(connection) = inner.link.connection() else { return Err(inner.error(Failure::Away)) };
        let mut connection = crate::server::Connection::clone(&connection);
        let value = inner.link.send(&mut connection, &command, inner.by()).await.map_err(|sent| match sent {
            crate::link::Sent::Failed(error) if !crate::link::is_away(&error) => {
                Error::Refused { reason: error.to_string() }
            }
            crate::link::Sent::Failed(error) => {
                inner.link.doubt();
                Error::Away { reason: error.to_string() }
            }
            crate::link::Sent::Late => {
                inner.link.doubt();
                inner.error(Failure::Late)
            }
        })?;
        let bytes = match value {
            redis::Value::BulkString(bytes) => bytes,
            redis::Value::Nil => return Err(tokenweir::Error::PermitSettled { id }.into()),
            other => return Err(Error::Refused { reason: format!("permit {} is {other:?}", id.get()) }),
        };
        let found = record::read(&bytes, &rules, tag);
        let found = found
            .ok_or_else(|| Error::Refused { reason: format!("what is kept of permit {} is not readable", id.get()) })?;
        let permit = self.permit_of(id, (rules, Arc::new(found.plan)), found.estimate, By::Server, Vec::new());
        permit.has_observed(found.observed);
        Ok(permit)
    }

    /// Puts another policy in force in this process: it applies to the next decision. Counters go on as
    /// [`Limiter::swap_policy`](tokenweir::Limiter::swap_policy) says; give every process the same policy.
    ///
    /// # Errors
    /// [`Error::AcrossSlots`]; the policy in force stays.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        let inner = &*self.inner;
        let before = inner.rules.load_full();
        let local = match (inner.outage.mode, &before.local) {
            (WhenAway::LocalShare { per_mille }, Some(local)) => {
                local.swap_policy(policy.share(per_mille))?;
                Some(local.clone())
            }
            (mode, _) => local_of(&policy, mode, inner.permit_ttl),
        };
        let how = (inner.leasing.is_some(), inner.place_ttl);
        let rules = Rules::new(policy, &inner.prefix, inner.slot_by.clone(), local, how)?;
        inner.rules.store(Arc::new(rules));
        Ok(())
    }

    /// The policy in force in this process.
    pub fn policy(&self) -> Policy {
        self.inner.rules.load().denials.policy().clone()
    }

    /// The limiter's own figures.
    pub fn stats(&self) -> Stats {
        let inner = &*self.inner;
        let up = inner.link.is_up();
        Stats {
            up,
            why: (!up).then(|| inner.why()),
            outages: inner.outages.load(Relaxed),
            recoveries: inner.recoveries.load(Relaxed),
            late: inner.link.late.load(Relaxed),
            denied_by_outage: inner.outage.denied.load(Relaxed),
            leases: inner.leasing.as_ref().map_or(0, |leasing| leasing.leases.load(Relaxed)),
            untold: inner.untold(),
            given_up: inner.given_up.load(Relaxed),
            without_server: inner.outage.uses(),
        }
    }

    /// Gives back what is leased, and waits until the server has been told of every permit that has ended, `patience` at the
    /// most: at a clean end. False if something is left untold; then the estimates of those permits stand.
    pub async fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            let leasing = self.inner.leasing.as_ref();
            let renewing = leasing.is_some_and(Leasing::is_renewing);
            self.inner.return_leases(until).await;
            let told = !renewing
                && !leasing.is_some_and(Leasing::is_returning)
                // Ends come to what is owed, and what was open without the server to the ends.
                && self.inner.untold() == 0
                && !self.inner.outage.is_pending()
                && self.inner.untold() == 0;
            if told || Instant::now() >= until {
                return told;
            }
            self.inner.link.wake.notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
