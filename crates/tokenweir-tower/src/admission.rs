//! Who decides: a limiter, or the gate of a gateway.

use tokenweir::apim::Answer;
use tokenweir::gateway::{Call, Completion, Gate, Passage, RefusedCall, Verdict};
use tokenweir::{Decision, Denied, Error, Estimate, Limiter, Now, PermitId};
use tokenweir_wire::{Dialect, Standing};

/// Decides on calls. [`Limiter`] and [`Gate`] do.
pub trait Admission: Send + Sync + 'static {
    /// The limiter with the counters: what an estimate of the output is cut to.
    fn limiter(&self) -> &Limiter;

    /// Decides on a call at `now`, and if it may pass holds its estimate.
    ///
    /// # Errors
    /// As [`Limiter::admit`].
    fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Admitted, Error>;
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

    /// Passes the names (in lower case) and values of the headers that say how its limits stand at `now`.
    fn each_header(&self, dialect: Dialect, now: Now, each: &mut dyn FnMut(&str, &str)) {
        if let Some(permit) = self.permit() {
            dialect.each_header(&Standing::rates_of_permit(self.limiter(), permit, now), now, each);
        }
    }

    /// How its limits stand at `now`; nothing if it bypasses them.
    fn standings(&self, now: Now) -> Vec<Standing> {
        self.permit().map(|permit| Standing::of_permit(self.limiter(), permit, now)).unwrap_or_default()
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

    fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Admitted, Error> {
        let estimate = call.estimate.unwrap_or_default();
        call.with_request(|request| {
            Ok(match Limiter::admit_at(self, request, estimate, now)? {
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

    fn settle_at(mut self: Box<Self>, completion: &Completion<'_>, now: Now) {
        if let Some(permit) = self.permit
            && !matches!(self.limiter.settle_at(permit, completion.usage, now), Err(Error::UsageInvalid { .. }))
        {
            // Settled, or expired before: either way it has ended. A usage that cannot be leaves it open, to be dropped.
            self.permit = None;
        }
    }

    fn cancel_at(mut self: Box<Self>, now: Now) {
        if let Some(permit) = self.permit.take() {
            // It has expired at worst; then it has ended.
            let _ = self.limiter.cancel_at(permit, now);
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

    fn admit_at(&self, call: &Call<'_>, now: Now) -> Result<Admitted, Error> {
        Ok(match Gate::admit_at(self, call, now)? {
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

    fn each_header(&self, dialect: Dialect, now: Now, each: &mut dyn FnMut(&str, &str)) {
        match (self.gate.profile(), self.permit()) {
            (Some(profile), _) => {
                for (name, value) in profile.headers(self.passage.remaining_at(now), None) {
                    each(&name.to_ascii_lowercase(), &value.to_string());
                }
            }
            (None, Some(permit)) => {
                dialect.each_header(&Standing::rates_of_permit(self.limiter(), permit, now), now, each);
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
