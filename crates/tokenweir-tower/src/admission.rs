//! Who decides: a limiter, or the gate of a gateway.

use std::fmt;
use std::sync::Arc;
use tokenweir::apim::Answer;
use tokenweir::elsewhere::{Counters, Decided, Permits};
use tokenweir::gateway::{Call, Completion, Gate, Passage, RefusedCall, Verdict};
use tokenweir::store::StoreError;
use tokenweir::{Denied, Error, Estimate, Limiter, Now, PermitId, Policy};
use tokenweir_wire::{Dialect, Standing};

/// Decides on calls. [`Limiter`], [`Gate`] and [`OnServer`] do.
pub trait Admission: Send + Sync + 'static {
    /// A limiter with the policy in force: what an estimate of the output is cut to, and what tells the time.
    fn limiter(&self) -> &Limiter;

    /// Decides on a call at `now`, and if it may pass holds its estimate.
    ///
    /// # Errors
    /// As [`Limiter::admit`]; [`Error::Store`] if nobody can decide.
    fn admit_at(&self, call: &Call<'_>, now: Now) -> impl Future<Output = Result<Admitted, Error>> + Send;
}

/// What is decided on a call.
pub enum Admitted {
    /// It may pass.
    Passed(Box<dyn Hold>),
    /// It may not.
    Refused(Refusal),
}

/// Why a call may not pass.
#[derive(Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Its limits refuse.
    Denied(Box<Denied>),
    /// They do, and the answer is worded already: with these headers.
    Answered(Box<Answer>, Vec<(String, u64)>),
    /// Something else does: the status and the reason.
    Other(u16, String),
}

/// What an admitted call holds, until it is ended: settled or cancelled. Dropped, its estimate stands.
pub trait Hold: Send + Sync {
    /// What the clock shows.
    fn now(&self) -> Now;

    /// Whoever has its permit.
    fn permits(&self) -> &dyn Permits;

    /// Its permit; a call that bypasses the limits has none.
    fn permit(&self) -> Option<PermitId>;

    /// What was charged at admission.
    fn charged(&self) -> Estimate;

    /// Passes the names (in lower case) and values of the headers that say how its limits stand at `now`.
    fn each_header(&self, dialect: Dialect, now: Now, each: &mut dyn FnMut(&str, &str)) {
        if let Some(permit) = self.permit() {
            dialect.each_header(&Standing::rates_of_permit(self.permits(), permit, now), now, each);
        }
    }

    /// How its limits stand at `now`; nothing if it bypasses them.
    fn standings(&self, now: Now) -> Vec<Standing> {
        self.permit().map(|permit| Standing::of_permit(self.permits(), permit, now)).unwrap_or_default()
    }

    /// Ends the call at `now` with what is known of its end.
    fn settle_at(self: Box<Self>, completion: &Completion<'_>, now: Now);

    /// Ends a call that never reached the provider.
    fn cancel_at(self: Box<Self>, now: Now);
}

impl Admission for Limiter {
    fn limiter(&self) -> &Limiter {
        self
    }

    async fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Admitted, Error> {
        let charged = call.estimate.unwrap_or_default();
        let decided = call.with_request(|request| Limiter::admit_at(self, request, charged, now))?.into();
        Ok(Held::of(decided, self, None, charged))
    }
}

/// Decides by counters that are on a server.
///
/// Headers tell what limits had left when the server last said, and nothing where it was not asked (leases). What a stream brings
/// beyond its estimate is charged in the background, and whether a limit is spent is known when the server has answered: a
/// stream is cut a round trip later than by a limiter in memory.
#[derive(Clone)]
pub struct OnServer {
    limiter: Limiter,
    counters: Arc<dyn Counters>,
}

impl fmt::Debug for OnServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnServer").finish_non_exhaustive()
    }
}

impl OnServer {
    /// By `counters`, with this policy, which is put in force.
    ///
    /// # Errors
    /// If it cannot be: the reason.
    pub fn new(counters: Arc<dyn Counters>, policy: Policy) -> Result<Self, StoreError> {
        counters.put_in_force(policy.clone())?;
        Ok(OnServer { limiter: Limiter::new(policy), counters })
    }

    /// Puts another policy in force: it applies to the next decision.
    ///
    /// # Errors
    /// If it cannot be: the reason; the policy before stays.
    pub fn swap_policy(&self, policy: Policy) -> Result<(), Error> {
        self.counters.put_in_force(policy.clone())?;
        self.limiter.swap_policy(policy)
    }
}

impl Admission for OnServer {
    fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    async fn admit_at(&self, call: &Call<'_>, _now: Now) -> Result<Admitted, Error> {
        let charged = call.estimate.unwrap_or_default();
        let keys = call.request_keys();
        let decided = self.counters.admit(&call.request(&keys), charged).await?;
        Ok(Held::of(decided, &self.limiter, Some(&self.counters), charged))
    }
}

/// What a call holds of a limiter.
struct Held {
    limiter: Limiter,
    /// Where its permit is, if that is not the limiter.
    elsewhere: Option<Arc<dyn Counters>>,
    /// Taken when it has ended.
    permit: Option<PermitId>,
    charged: Estimate,
}

impl Held {
    fn of(decided: Decided, limiter: &Limiter, elsewhere: Option<&Arc<dyn Counters>>, charged: Estimate) -> Admitted {
        match decided {
            Decided::Admitted(permit) => {
                let (limiter, elsewhere) = (limiter.clone(), elsewhere.cloned());
                Admitted::Passed(Box::new(Held { limiter, elsewhere, permit: Some(permit), charged }))
            }
            Decided::Denied(denied) => Admitted::Refused(Refusal::Denied(denied)),
        }
    }
}

impl Hold for Held {
    fn now(&self) -> Now {
        self.limiter.now()
    }

    fn permits(&self) -> &dyn Permits {
        match &self.elsewhere {
            Some(elsewhere) => &**elsewhere,
            None => &self.limiter,
        }
    }

    fn permit(&self) -> Option<PermitId> {
        self.permit
    }

    fn charged(&self) -> Estimate {
        self.charged
    }

    fn settle_at(mut self: Box<Self>, completion: &Completion<'_>, now: Now) {
        if let Some(permit) = self.permit
            && !matches!(self.permits().settle_at(permit, completion.usage, now), Err(Error::UsageInvalid { .. }))
        {
            // Settled, or expired before: either way it has ended. A usage that cannot be leaves it open, to be dropped.
            self.permit = None;
        }
    }

    fn cancel_at(mut self: Box<Self>, now: Now) {
        if let Some(permit) = self.permit.take() {
            // It has expired at worst; then it has ended.
            let _ = self.permits().cancel_at(permit, now);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // As above.
            let _ = self.permits().abandon_at(permit, self.limiter.now());
        }
    }
}

impl Admission for Gate {
    fn limiter(&self) -> &Limiter {
        Gate::limiter(self)
    }

    async fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Admitted, Error> {
        Ok(match self.decide_at(call, now).await? {
            Verdict::Passed(passage) => Admitted::Passed(Box::new(Passing { gate: self.clone(), passage })),
            Verdict::Refused(refused) => Admitted::Refused(refusal(self, &refused)),
        })
    }
}

fn refusal(gate: &Gate, refused: &RefusedCall) -> Refusal {
    match (refused.answer(), gate.profile(), refused.denied()) {
        (Some(answer), Some(profile), _) => Refusal::Answered(answer.clone().into(), answer.headers(profile)),
        (_, _, Some(denied)) => Refusal::Denied(denied.clone().into()),
        _ => Refusal::Other(refused.status(), refused.message().to_owned()),
    }
}

/// A call that passes a gate.
struct Passing {
    gate: Gate,
    passage: Passage,
}

impl Hold for Passing {
    fn now(&self) -> Now {
        self.gate.now()
    }

    fn permits(&self) -> &dyn Permits {
        self.gate.permits()
    }

    fn permit(&self) -> Option<PermitId> {
        self.passage.permit()
    }

    fn charged(&self) -> Estimate {
        self.passage.charged()
    }

    fn each_header(&self, dialect: Dialect, now: Now, each: &mut dyn FnMut(&str, &str)) {
        match (self.gate.profile(), self.permit()) {
            (Some(profile), _) => {
                for (name, value) in profile.headers(self.passage.remaining_at(now), None) {
                    each(&name.to_ascii_lowercase(), &value.to_string());
                }
            }
            (None, Some(permit)) => {
                dialect.each_header(&Standing::rates_of_permit(self.permits(), permit, now), now, each);
            }
            (None, None) => {}
        }
    }

    fn settle_at(self: Box<Self>, completion: &Completion<'_>, now: Now) {
        // It has ended and is recorded, whatever comes of it.
        let _ = self.passage.settle_at(completion, now);
    }

    fn cancel_at(self: Box<Self>, now: Now) {
        let _ = self.passage.cancel_at(now);
    }
}
