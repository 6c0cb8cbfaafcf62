//! What an admission comes to: a permit, or a denial that says everything about itself.

use super::compiled::Compiled;
use super::core::Core;
use super::route::Resolved;
use super::rule::Outlook;
use crate::clock::Now;
use crate::error::Error;
use crate::record::Settlement;
use crate::request::{PermitId, Usage};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether a request may pass.
#[must_use = "an admitted request holds its tokens until its permit is settled"]
#[derive(Debug)]
pub enum Decision<'a> {
    /// It may, and this holds its estimated tokens.
    Admitted(Permit<'a>),
    /// It may not; nothing was taken. (By value, not boxed: refusing must not allocate.)
    Denied(Denied),
}

impl<'a> Decision<'a> {
    /// The permit, if it was admitted.
    pub fn admitted(self) -> Option<Permit<'a>> {
        match self {
            Decision::Admitted(permit) => Some(permit),
            Decision::Denied(_) => None,
        }
    }

    /// The denial, if it was denied.
    pub fn denied(self) -> Option<Denied> {
        match self {
            Decision::Admitted(_) => None,
            Decision::Denied(denied) => Some(denied),
        }
    }

    /// Whether it was admitted.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Decision::Admitted(_))
    }
}

/// What an admitted request holds until it is settled, exactly once.
///
/// Dropped without a word it counts as used up: the estimate stands. Settle by value, or detach with
/// [`into_id`](Permit::into_id) and settle by id from any thread. A permit that nobody settles expires
/// ([`LimiterBuilder::permit_ttl`](crate::LimiterBuilder::permit_ttl)).
#[must_use = "dropping a permit counts its estimate as used; settle or cancel it"]
pub struct Permit<'a> {
    core: &'a Core,
    /// The route, where the caller holds it; otherwise it is looked up.
    held: Option<&'a Resolved>,
    id: PermitId,
    open: bool,
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("id", &self.id.get()).finish_non_exhaustive()
    }
}

/// What observing a stream showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// An enforced limit of the request has nothing left, or is in debt: a runaway stream may be cut short.
    pub spent: bool,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(crate) fn new(core: &'a Core, held: Option<&'a Resolved>, id: PermitId) -> Self {
        Permit { core, held, id, open: true }
    }
}

impl Permit<'_> {
    /// The permit's id: the same permit, by number.
    pub fn id(&self) -> PermitId {
        self.id
    }

    /// Detaches the permit: from here on only the id settles it.
    pub fn into_id(mut self) -> PermitId {
        self.open = false;
        self.id
    }

    /// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate is charged
    /// at once.
    ///
    /// # Errors
    /// [`Error::PermitSettled`] if the permit has expired.
    pub fn observe(&self, input: u64, output: u64) -> Result<Observed, Error> {
        self.core.observe(self.id, input, output, None)
    }

    /// [`observe`](Permit::observe) at `now`.
    ///
    /// # Errors
    /// As [`observe`](Permit::observe).
    pub fn observe_at(&self, input: u64, output: u64, now: Now) -> Result<Observed, Error> {
        self.core.observe(self.id, input, output, Some(now))
    }

    /// Settles the permit with what the provider reported: what was held beyond it is given back, what was used
    /// beyond the estimate is charged.
    ///
    /// # Errors
    /// [`Error::UsageInvalid`], after which the estimate stands; [`Error::PermitSettled`] if the permit has expired.
    #[inline]
    pub fn settle(mut self, usage: Usage) -> Result<Settlement, Error> {
        let settled = self.core.settle(self.id, self.held, &usage, None);
        self.open = settled.is_err();
        settled
    }

    /// [`settle`](Permit::settle) at `now`.
    ///
    /// # Errors
    /// As [`settle`](Permit::settle).
    #[inline]
    pub fn settle_at(mut self, usage: Usage, now: Now) -> Result<Settlement, Error> {
        let settled = self.core.settle(self.id, self.held, &usage, Some(now));
        self.open = settled.is_err();
        settled
    }

    /// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count
    /// as a request.
    ///
    /// # Errors
    /// [`Error::PermitSettled`] if the permit has expired.
    pub fn cancel(mut self) -> Result<Settlement, Error> {
        self.open = false;
        self.core.cancel(self.id, self.held, None)
    }

    /// [`cancel`](Permit::cancel) at `now`.
    ///
    /// # Errors
    /// As [`cancel`](Permit::cancel).
    pub fn cancel_at(mut self, now: Now) -> Result<Settlement, Error> {
        self.open = false;
        self.core.cancel(self.id, self.held, Some(now))
    }

    /// What each enforced limit of the request has left at `now`, by limit name; below 0 is debt.
    pub fn remaining_at(&self, now: Now) -> Vec<(String, i64)> {
        self.core.remaining(self.id, now)
    }

    /// [`remaining_at`](Permit::remaining_at) by the limiter's clock.
    pub fn remaining(&self) -> Vec<(String, i64)> {
        self.remaining_at(self.core.clock.now())
    }

    /// The shadow limits that would have refused the request. They were not charged for it.
    pub fn shadow_refused(&self) -> Vec<String> {
        self.core.shadow_refused(self.id)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.open {
            // An expired permit has been settled already; there is nobody to tell.
            let _ = self.core.abandon(self.id, self.held, None);
        }
    }
}

/// What one enforced limit says of a request that was refused. (Whole words: a denial is handed on by value, and parts
/// of words that have just been written are slow to copy.)
#[derive(Debug, Clone, Copy)]
struct Said {
    /// The limit's index, its status, and the flags below.
    what: u64,
    remaining: i64,
    /// Nanoseconds; the largest number if no waiting helps.
    wait: u64,
}

const STATUS_SHIFT: u32 = 32;
const FITS: u64 = 1 << 48;
const NEVER_FITS: u64 = 1 << 49;
/// There is no room for a counter of this limit.
const FULL: u64 = 1 << 50;

impl Said {
    fn limit(&self) -> usize {
        self.what as u32 as usize
    }

    fn status(&self) -> u16 {
        (self.what >> STATUS_SHIFT) as u16
    }

    fn is(&self, flag: u64) -> bool {
        self.what & flag != 0
    }

    fn wait(&self) -> Option<u64> {
        (self.wait != u64::MAX).then_some(self.wait)
    }
}

/// A refusal, with every limit that refused.
#[derive(Debug, Clone)]
#[must_use = "a denial says when to come back"]
pub struct Denied {
    compiled: Arc<Compiled>,
    said: SmallVec<[Said; 4]>,
}

/// One limit's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal<'a> {
    /// The limit's name.
    pub limit: &'a str,
    /// 429 for a rate, 403 for a quota.
    pub status: u16,
    /// Nanoseconds after which, with no other traffic, this limit admits the request; not an instant earlier does it.
    /// `None` if no waiting helps: see `never_fits`, or it is a total that never resets.
    pub retry_after: Option<u64>,
    /// The charge is larger than the whole limit: no waiting helps.
    pub never_fits: bool,
    /// What the limit has left; below 0 is debt.
    pub remaining: i64,
    /// The largest charge that would fit now.
    pub fits_now: u64,
}

impl Denied {
    #[inline]
    pub(crate) fn new(compiled: Arc<Compiled>) -> Self {
        Denied { compiled, said: SmallVec::new() }
    }

    /// There is no room for a counter of this limit.
    pub(crate) fn full(compiled: Arc<Compiled>, limit: usize, wait: u64) -> Self {
        let mut denied = Denied::new(compiled);
        let status = denied.compiled.rules[limit].status();
        denied.push(limit, status, &Outlook { fits: false, never_fits: false, remaining: 0, wait: Some(wait) });
        denied.said.iter_mut().for_each(|said| said.what |= FULL);
        denied
    }

    /// Adds what an enforced limit says.
    pub(crate) fn push(&mut self, limit: usize, status: u16, outlook: &Outlook) {
        let fits = if outlook.fits { FITS } else { 0 };
        let never_fits = if outlook.never_fits { NEVER_FITS } else { 0 };
        // A policy has fewer than 2^32 limits.
        let what = limit as u64 | u64::from(status) << STATUS_SHIFT | fits | never_fits;
        self.said.push(Said { what, remaining: outlook.remaining, wait: outlook.wait.unwrap_or(u64::MAX) });
    }

    /// Whether any limit refuses.
    pub(crate) fn is_refusal(&self) -> bool {
        self.refused().next().is_some()
    }

    fn refused(&self) -> impl DoubleEndedIterator<Item = &Said> {
        self.said.iter().filter(|said| !said.is(FITS))
    }

    fn name(&self, said: &Said) -> &str {
        self.compiled.policy.limits()[said.limit()].name()
    }

    /// The refusal that a host shows: one that never fits outranks all, then the longest wait.
    fn shown(&self) -> Option<&Said> {
        // `max_by_key` takes the last of equals; the first one named in the policy is meant.
        self.refused().rev().max_by_key(|said| (said.is(NEVER_FITS), said.wait))
    }

    /// The HTTP status to answer with: 429 for a rate, 403 for a quota.
    pub fn status(&self) -> u16 {
        self.shown().map_or(429, Said::status)
    }

    /// The name of the limit that decided.
    pub fn limit(&self) -> &str {
        self.shown().map_or("", |said| self.name(said))
    }

    /// Whether the request is larger than a whole limit, so that no waiting helps.
    pub fn never_fits(&self) -> bool {
        self.refused().any(|said| said.is(NEVER_FITS))
    }

    /// The wait after which, with no other traffic, the request is admitted: not an instant earlier is it. `None` if
    /// no waiting helps.
    pub fn retry_after(&self) -> Option<Duration> {
        self.shown().and_then(Said::wait).map(Duration::from_nanos)
    }

    /// [`retry_after`](Denied::retry_after) in whole seconds, rounded up, as the `Retry-After` header has it.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.shown().and_then(Said::wait).map(|wait| wait.div_ceil(1_000_000_000))
    }

    /// Whether it was refused because there is no room for another counter, not because a limit is used up.
    pub fn table_full(&self) -> bool {
        self.said.iter().any(|said| said.is(FULL))
    }

    /// Every limit that refused.
    pub fn refusals(&self) -> impl Iterator<Item = Refusal<'_>> {
        self.refused().map(|said| Refusal {
            limit: self.name(said),
            status: said.status(),
            retry_after: said.wait(),
            never_fits: said.is(NEVER_FITS),
            remaining: said.remaining,
            fits_now: said.remaining.max(0) as u64,
        })
    }

    /// What each enforced limit of the request has left, by limit name; below 0 is debt.
    pub fn remaining(&self) -> Vec<(String, i64)> {
        self.said.iter().map(|said| (self.name(said).to_owned(), said.remaining)).collect()
    }
}
