//! Who decides: a limiter, or the gate of a gateway.

use tokenweir::apim::Answer;
use tokenweir::gateway::{Call, Completion, Gate, Passage, RefusedCall, Verdict};
use tokenweir::policy::{Algorithm, Meter};
use tokenweir::{Decision, Denied, Error, Estimate, Limiter, PermitId};
use tokenweir_wire::{Dialect, Header, Standing};

use crate::settings::Cut;

/// Decides on calls. [`Limiter`] and [`Gate`] do.
pub trait Admission: Send + Sync + 'static {
    /// The limiter with the counters: what an estimate of the output is cut to.
    fn limiter(&self) -> &Limiter;

    /// Decides on a call, and if it may pass holds its estimate.
    ///
    /// # Errors
    /// As [`Limiter::admit`].
    fn admit(&self, call: &Call<'_>) -> Result<Admitted, Error>;
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
    /// The limiter that it holds of.
    fn limiter(&self) -> &Limiter;

    /// Its permit; a call that bypasses the limits has none.
    fn permit(&self) -> Option<PermitId>;

    /// What was charged at admission.
    fn charged(&self) -> Estimate;

    /// Headers that say how its limits stand.
    fn headers(&self, dialect: Dialect) -> Vec<Header> {
        dialect.headers(&self.standings(), self.limiter().now())
    }

    /// How its limits stand; nothing if it bypasses them.
    fn standings(&self) -> Vec<Standing> {
        let (limiter, now) = (self.limiter(), self.limiter().now());
        let left = self.permit().map(|permit| limiter.remaining_at(permit, now)).unwrap_or_default();
        Standing::of(&limiter.policy(), &left, now)
    }

    /// Ends the call with what is known of its end.
    fn settle(self: Box<Self>, completion: &Completion<'_>);

    /// Ends a call that never reached the provider.
    fn cancel(self: Box<Self>);
}

/// The limit that is spent, of those that cut a stream short.
pub(crate) fn spent_limit(hold: &dyn Hold, cut: Cut) -> Option<String> {
    let (limiter, permit) = (hold.limiter(), hold.permit()?);
    let policy = limiter.policy();
    let mut left = limiter.remaining_at(permit, limiter.now()).into_iter();
    let cuts = |name: &str, left: i64| {
        let Some(limit) = policy.limit(name) else { return false };
        let counts_tokens = !matches!(limit.meter(), Meter::Requests | Meter::InFlight);
        let is_quota = matches!(limit.algorithm(), Algorithm::Quota { .. });
        left <= 0 && counts_tokens && (is_quota || cut == Cut::Any)
    };
    left.find(|(name, left)| cuts(name, *left)).map(|(name, _)| name)
}

impl Admission for Limiter {
    fn limiter(&self) -> &Limiter {
        self
    }

    fn admit(&self, call: &Call<'_>) -> Result<Admitted, Error> {
        let estimate = call.estimate.unwrap_or_default();
        call.with_request(|request| {
            Ok(match Limiter::admit(self, request, estimate)? {
                Decision::Admitted(permit) => {
                    let permit = permit.into_id();
                    Admitted::Passed(Box::new(Held { limiter: self.clone(), permit: Some(permit), charged: estimate }))
                }
                Decision::Denied(denied) => Admitted::Refused(Refusal::Denied(denied.into())),
            })
        })
    }
}

/// What a call holds of a limiter.
struct Held {
    limiter: Limiter,
    /// Taken when it has ended.
    permit: Option<PermitId>,
    charged: Estimate,
}

impl Hold for Held {
    fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    fn permit(&self) -> Option<PermitId> {
        self.permit
    }

    fn charged(&self) -> Estimate {
        self.charged
    }

    fn settle(mut self: Box<Self>, completion: &Completion<'_>) {
        if let Some(permit) = self.permit
            && !matches!(self.limiter.settle(permit, completion.usage), Err(Error::UsageInvalid { .. }))
        {
            // Settled, or expired before: either way it has ended. A usage that cannot be leaves it open, to be dropped.
            self.permit = None;
        }
    }

    fn cancel(mut self: Box<Self>) {
        if let Some(permit) = self.permit.take() {
            // It has expired at worst; then it has ended.
            let _ = self.limiter.cancel(permit);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // As above.
            let _ = self.limiter.abandon(permit);
        }
    }
}

impl Admission for Gate {
    fn limiter(&self) -> &Limiter {
        Gate::limiter(self)
    }

    fn admit(&self, call: &Call<'_>) -> Result<Admitted, Error> {
        Ok(match Gate::admit(self, call)? {
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
    fn limiter(&self) -> &Limiter {
        self.gate.limiter()
    }

    fn permit(&self) -> Option<PermitId> {
        self.passage.permit()
    }

    fn charged(&self) -> Estimate {
        self.passage.charged()
    }

    fn headers(&self, dialect: Dialect) -> Vec<Header> {
        match self.gate.profile() {
            Some(profile) => {
                let remaining = self.passage.remaining_at(self.gate.now());
                let named = profile.headers(remaining, None).into_iter();
                named.map(|(name, value)| (name.to_ascii_lowercase().into(), value.to_string())).collect()
            }
            None => dialect.headers(&self.standings(), self.gate.now()),
        }
    }

    fn settle(self: Box<Self>, completion: &Completion<'_>) {
        // It has ended and is recorded, whatever comes of it.
        let _ = self.passage.settle(completion);
    }

    fn cancel(self: Box<Self>) {
        let _ = self.passage.cancel();
    }
}
