//! The rules of a request's life for who keeps the counters somewhere else: a server that many machines share.
//!
//! [`Policy::resolve`] says which limits a request meets and what each is charged; this page says what goes in and what
//! comes out, so that a store of its own kind answers in the very words of the limiter.

use super::compiled::{Compiled, Identities};
use super::decision::{Denied, Observed};
use super::rule::Outlook;
use super::view::{CounterUsage, UsageFilter};
use super::{Limiter, admit, settle};
use crate::clock::Now;
use crate::counter::floors::Histories;
use crate::error::Error;
use crate::policy::{Algorithm, Limit, Policy, Tokens, decode_key};
use crate::record::{Outcome, Settlement};
use crate::request::{Estimate, PermitId, Request, Usage};
use crate::store::StoreError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Whoever has open permits, for those who only look after them: the watch over a response, a gate. [`Limiter`] does.
///
/// None of it waits for anybody else: a response's body and a destructor cannot. Whose counters are on a server does there
/// what it has to in the background, and says what is known by then.
pub trait Permits: Send + Sync {
    /// How long a permit lives that nobody settles or renews.
    fn permit_ttl(&self) -> Duration;

    /// Passes each enforced limit of an open permit and what it has left, as far as is known; nothing if the permit is gone.
    fn each_left_at(&self, id: PermitId, now: Now, see: &mut dyn FnMut(&Limit, i64));

    /// As [`Limiter::observe_at`].
    ///
    /// # Errors
    /// As there.
    fn observe_at(&self, id: PermitId, input: u64, output: u64, now: Now) -> Result<Observed, Error>;

    /// As [`Limiter::renew_at`].
    ///
    /// # Errors
    /// As there.
    fn renew_at(&self, id: PermitId, ttl: Duration, now: Now) -> Result<(), Error>;

    /// As [`Limiter::settle_at`].
    ///
    /// # Errors
    /// As there.
    fn settle_at(&self, id: PermitId, usage: Usage, now: Now) -> Result<Settlement, Error>;

    /// As [`Limiter::cancel_at`].
    ///
    /// # Errors
    /// As there.
    fn cancel_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error>;

    /// As [`Limiter::abandon_at`].
    ///
    /// # Errors
    /// As there.
    fn abandon_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error>;
}

impl Permits for Limiter {
    fn permit_ttl(&self) -> Duration {
        Limiter::permit_ttl(self)
    }

    fn each_left_at(&self, id: PermitId, now: Now, see: &mut dyn FnMut(&Limit, i64)) {
        self.each_remaining_at(id, now, see);
    }

    fn observe_at(&self, id: PermitId, input: u64, output: u64, now: Now) -> Result<Observed, Error> {
        Limiter::observe_at(self, id, input, output, now)
    }

    fn renew_at(&self, id: PermitId, ttl: Duration, now: Now) -> Result<(), Error> {
        Limiter::renew_at(self, id, ttl, now)
    }

    fn settle_at(&self, id: PermitId, usage: Usage, now: Now) -> Result<Settlement, Error> {
        Limiter::settle_at(self, id, usage, now)
    }

    fn cancel_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        Limiter::cancel_at(self, id, now)
    }

    fn abandon_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        Limiter::abandon_at(self, id, now)
    }
}

/// What observing showed, as whoever has the counter found it: see [`Observed::spent`].
pub fn observed(spent: bool) -> Observed {
    Observed { spent }
}

/// A counter of a limit, as whoever has it found it: `scope` as [`Applied::key`](crate::policy::Applied::key) has it, what is
/// used of it, and what was charged in all.
pub fn usage(limit: &Limit, scope: &[u8], (used, total): (u64, u64), resets_at: Option<Now>) -> CounterUsage {
    let amount = match limit.algorithm() {
        Algorithm::Bucket { burst, .. } => *burst,
        other => other.amount(),
    };
    CounterUsage {
        limit: limit.name().to_string(),
        meter: limit.meter(),
        scope: decode_key(limit.scope(), scope),
        amount,
        used,
        held: 0,
        remaining: i64::try_from(i128::from(amount) - i128::from(used)).unwrap_or(i64::MIN),
        resets_at,
        settled_total: total,
    }
}

/// What is decided on a request elsewhere.
#[derive(Debug)]
pub enum Decided {
    /// It may pass; its permit is open with whoever decided.
    Admitted(PermitId),
    /// It may not.
    Denied(Box<Denied>),
}

/// A decision that is on its way.
pub type Deciding<'a> = Pin<Box<dyn Future<Output = Result<Decided, Error>> + Send + 'a>>;

/// Counters that are somewhere else: on a server. For a gate, or a layer, that decides by them.
pub trait Counters: Permits {
    /// Decides on a request.
    ///
    /// # Errors
    /// As [`Limiter::admit`]; [`Error::Store`] if nobody can decide.
    fn admit<'a>(&'a self, request: &'a Request<'a>, estimate: Estimate) -> Deciding<'a>;

    /// Puts a policy in force: it applies to the next decision.
    ///
    /// # Errors
    /// If it cannot be: the policy before stays.
    fn put_in_force(&self, policy: Policy) -> Result<(), StoreError>;

    /// How the counters stood when they were last looked at. Waits for nobody.
    fn usage(&self, filter: &UsageFilter) -> Vec<CounterUsage>;
}

/// What one enforced limit says of a request, as whoever has its counter found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The limit's place in [`Policy::limits`].
    pub limit: usize,
    /// Whether the charge fits now.
    pub fits: bool,
    /// Whether the charge is larger than the whole limit.
    pub never_fits: bool,
    /// Amount less use; below 0 is debt.
    pub remaining: i64,
    /// Nanoseconds until it fits with no other traffic; `None` if no waiting helps.
    pub wait: Option<u64>,
}

/// Makes the denials of a policy. Cheap to clone; to be made once for each policy.
#[derive(Clone)]
pub struct Denials {
    compiled: Arc<Compiled>,
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials").finish_non_exhaustive()
    }
}

impl Denials {
    /// Those of `policy`.
    pub fn new(policy: Policy) -> Self {
        let mut identities = Identities::new(Arc::new(Histories::new(0)), None);
        Denials { compiled: Arc::new(identities.compile(policy, 0)) }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.compiled.policy
    }

    /// The denial that these limits come to; `None` if none of them refuses. A limit that the policy does not have is
    /// passed over.
    pub fn denied(&self, standings: impl IntoIterator<Item = Standing>) -> Option<Denied> {
        let mut denied = Denied::new(self.compiled.clone());
        for Standing { limit, fits, never_fits, remaining, wait } in standings {
            if let Some(rule) = self.compiled.rules.get(limit) {
                denied.push(limit, rule.status(), &Outlook { fits, never_fits, remaining, wait });
            }
        }
        denied.is_refusal().then_some(denied)
    }
}

/// Whether an estimate can be charged.
///
/// # Errors
/// [`Error::EstimateTooLarge`].
pub fn check_estimate(estimate: Estimate) -> Result<(), Error> {
    admit::check(estimate)
}

/// What a permit comes to that ends so, with the tokens to charge in [`Settlement`]. `charged`: the tokens it has been
/// charged for so far, the estimate or, where it is more, what was observed. Only [`Outcome::Settled`] looks at `usage`.
///
/// # Errors
/// [`Error::UsageInvalid`].
pub fn settlement(id: PermitId, outcome: Outcome, charged: Estimate, usage: &Usage) -> Result<Settlement, Error> {
    if outcome == Outcome::Settled {
        settle::validate(usage)?;
    }
    let (tokens, estimated) = settle::comes_to(outcome, (charged.input, charged.output), usage);
    let Tokens { input, cached_input, output } = tokens;
    Ok(Settlement { id, outcome, input, cached_input, output, estimated })
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;

    fn denials() -> Denials {
        let limit =
            |name: &str, more: &str| format!("[[limit]]\nname = '{name}'\nmeter = 'total'\namount = 10\n{more}\n");
        let text = limit("rate", "algorithm = 'bucket'\nper = '1m'")
            + &limit("month", "algorithm = 'quota'\nperiod = 'monthly'");
        Denials::new(Policy::from_toml(&text).unwrap())
    }

    #[test]
    fn a_denial_is_told_as_the_limiter_tells_it() {
        let fits = Standing { limit: 0, fits: true, never_fits: false, remaining: 3, wait: Some(0) };
        let refuses = Standing { limit: 1, fits: false, never_fits: false, remaining: -2, wait: Some(1_500_000_000) };
        assert!(denials().denied([fits]).is_none());
        let denied = denials().denied([fits, refuses]).expect("refused");
        assert_eq!((denied.status(), denied.limit(), denied.retry_after_seconds()), (403, "month", Some(2)));
        assert_eq!(denied.remaining(), [("rate".to_owned(), 3), ("month".to_owned(), -2)]);
        assert_eq!(denied.refusals().count(), 1);
        assert!(denials().denied([Standing { limit: 7, ..refuses }]).is_none());
    }

    #[test]
    fn a_settlement_is_what_the_limiter_would_make_of_it() {
        let id = PermitId::new(5).expect("not 0");
        let come_to = |outcome, usage| settlement(id, outcome, Estimate::new(900, 400), &usage);
        let settled = come_to(Outcome::Settled, Usage { input: None, ..Usage::new(0, 77) }).unwrap();
        assert_eq!((settled.input, settled.output, settled.estimated), (900, 77, true));
        let cancelled = come_to(Outcome::Cancelled, Usage::UNKNOWN).unwrap();
        assert_eq!((cancelled.input, cancelled.output, cancelled.estimated), (0, 0, false));
        assert!(come_to(Outcome::Settled, Usage::new(1, 1).with_cached(2)).is_err());
    }
}
