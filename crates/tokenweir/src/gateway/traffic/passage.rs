//! A call that passes, until it has ended; a refusal.

use std::fmt;
use std::time::Duration;

use super::call::Completion;
use super::gate::Gate;
use crate::apim::{Answer, Remaining};
use crate::clock::Now;
use crate::error::Error;
use crate::gateway::record::{CallOutcome, UsageRecord};
use crate::limiter::{Denied, Observed};
use crate::record::{Outcome, Settlement};
use crate::request::{Estimate, PermitId, Usage};

/// What ending a call came to, and its record.
pub(in crate::gateway) type Ended = (Result<Option<Settlement>, Error>, Option<Box<UsageRecord>>);

/// What a gate decides on a call.
#[must_use = "a call that passes is to be ended, and one that is refused is to be answered"]
#[derive(Debug)]
pub enum Verdict {
    /// It passes.
    Passed(Passage),
    /// It does not.
    Refused(RefusedCall),
}

impl Verdict {
    /// The passage, if it passes.
    pub fn passed(self) -> Option<Passage> {
        match self {
            Verdict::Passed(passage) => Some(passage),
            Verdict::Refused(_) => None,
        }
    }

    /// The refusal, if it is refused.
    pub fn refused(self) -> Option<RefusedCall> {
        match self {
            Verdict::Passed(_) => None,
            Verdict::Refused(refused) => Some(refused),
        }
    }
}

/// A call that was refused. It has been counted and recorded.
#[derive(Debug)]
pub struct RefusedCall {
    record: Box<UsageRecord>,
    answer: Option<Answer>,
    denied: Option<Box<Denied>>,
}

impl RefusedCall {
    pub(super) fn new(record: UsageRecord, answer: Option<Answer>, denied: Option<Denied>) -> Self {
        RefusedCall { record: Box::new(record), answer, denied: denied.map(Box::new) }
    }

    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.record.response_code.unwrap_or(403)
    }

    /// What to say.
    pub fn message(&self) -> &str {
        self.record.last_error.as_ref().map_or("", |error| &error.message)
    }

    /// Whole seconds to wait, if waiting helps.
    pub fn retry_after(&self) -> Option<u64> {
        self.record.retry_after
    }

    /// The answer as API Management words it, where the gate has its profile and a limit refused.
    pub fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    /// The body to answer with, in API Management's envelope, of type `application/json`.
    pub fn body(&self) -> String {
        match &self.answer {
            Some(answer) => answer.body(),
            None => serde_json::json!({ "statusCode": self.status(), "message": self.message() }).to_string(),
        }
    }

    /// What the limits said, if it was they who refused.
    pub fn denied(&self) -> Option<&Denied> {
        self.denied.as_deref()
    }

    /// Its record, as the observers have had it.
    pub fn record(&self) -> &UsageRecord {
        &self.record
    }
}

/// A call that passes. It is to be ended exactly once: settled with what is known of its end, or cancelled.
///
/// Dropped without a word, what it was charged stands, and its record says so. It belongs to no thread.
#[must_use = "dropping a passage ends its call without usage; settle or cancel it"]
pub struct Passage {
    gate: Gate,
    permit: Option<PermitId>,
    /// Taken when the call has ended.
    record: Option<Box<UsageRecord>>,
    began: Now,
    charged: Estimate,
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passage").field("permit", &self.permit).field("record", &self.record).finish_non_exhaustive()
    }
}

impl Passage {
    pub(super) fn new(
        gate: Gate,
        permit: Option<PermitId>,
        record: UsageRecord,
        began: Now,
        charged: Estimate,
    ) -> Self {
        Passage { gate, permit, record: Some(Box::new(record)), began, charged }
    }

    /// [`CallOutcome::Admitted`] or [`CallOutcome::Bypassed`].
    pub fn outcome(&self) -> CallOutcome {
        if self.permit.is_some() { CallOutcome::Admitted } else { CallOutcome::Bypassed }
    }

    /// The permit that holds its tokens; a call that bypasses has none.
    pub fn permit(&self) -> Option<PermitId> {
        self.permit
    }

    /// The host's id of the call, or the one that the gate made.
    pub fn correlation_id(&self) -> &str {
        self.record.as_ref().map_or("", |record| &record.correlation_id)
    }

    /// What of its estimate was charged when it was admitted.
    pub fn charged(&self) -> Estimate {
        self.charged
    }

    /// What its limits have left at `now`, for headers. On a stream: what was left before it was charged.
    pub fn remaining_at(&self, now: Now) -> Remaining {
        let Some(permit) = self.permit else { return Remaining::default() };
        let inner = &self.gate.inner;
        let streamed = self.record.as_ref().is_some_and(|record| record.streamed);
        let charged = if streamed { self.charged.input.saturating_add(self.charged.output) } else { 0 };
        let mut left = Vec::new();
        self.gate
            .permits()
            .each_left_at(permit, now, &mut |limit, remaining| left.push((limit.name().to_string(), remaining)));
        inner.remaining(&left, charged)
    }

    /// Reports tokens that a stream has brought; see [`Permit::observe`](crate::Permit::observe).
    ///
    /// # Errors
    /// As there. A call that bypasses is charged nothing.
    pub fn observe(&self, input: u64, output: u64) -> Result<Option<Observed>, Error> {
        self.observe_at(input, output, self.gate.now())
    }

    /// [`observe`](Passage::observe) at `now`.
    ///
    /// # Errors
    /// As [`observe`](Passage::observe).
    pub fn observe_at(&self, input: u64, output: u64, now: Now) -> Result<Option<Observed>, Error> {
        self.permit.map(|permit| self.gate.permits().observe_at(permit, input, output, now)).transpose()
    }

    /// Lets its permit live for `ttl` from `now` on.
    ///
    /// # Errors
    /// As [`Limiter::renew`](crate::Limiter::renew).
    pub fn renew_at(&self, ttl: Duration, now: Now) -> Result<(), Error> {
        self.permit.map_or(Ok(()), |permit| self.gate.permits().renew_at(permit, ttl, now))
    }

    /// Ends the call with what is known of its end. `None`: it bypassed, so there was nothing to settle.
    ///
    /// # Errors
    /// [`Error::UsageInvalid`], after which what was charged stands; [`Error::PermitSettled`] if the permit has expired.
    /// The call has ended and is recorded either way.
    pub fn settle(self, completion: &Completion<'_>) -> Result<Option<Settlement>, Error> {
        let now = self.gate.now();
        self.settle_at(completion, now)
    }

    /// [`settle`](Passage::settle) at `now`.
    ///
    /// # Errors
    /// As [`settle`](Passage::settle).
    pub fn settle_at(self, completion: &Completion<'_>, now: Now) -> Result<Option<Settlement>, Error> {
        self.settle_recorded(completion, now).0
    }

    /// As [`settle_at`](Passage::settle_at), with the record that observers have had.
    pub(in crate::gateway) fn settle_recorded(mut self, completion: &Completion<'_>, now: Now) -> Ended {
        if let Some(record) = &mut self.record {
            record.deployment_served = completion.deployment_served.map(str::to_owned);
            record.model_served = completion.model_served.map(str::to_owned);
            record.response_code = completion.response_code;
            record.backend_response_code = completion.backend_response_code;
            record.backend_time = completion.backend_time;
            record.first_token_time = completion.first_token_time;
        }
        let permits = self.gate.permits();
        let settled = self.permit.map(|permit| match permits.settle_at(permit, completion.usage, now) {
            Err(invalid @ Error::UsageInvalid { .. }) => {
                // The permit is open still: what it was charged stands.
                let stands = permits.abandon_at(permit, now);
                (stands.ok(), Err(invalid))
            }
            settled => (settled.clone().ok(), settled),
        });
        let usage = match &settled {
            Some((_, Err(Error::UsageInvalid { .. }))) => Usage::UNKNOWN,
            _ => completion.usage,
        };
        if let Some(record) = &mut self.record {
            (record.input, record.cached_input, record.output) = (usage.input, usage.cached_input, usage.output);
            record.reasoning = completion.reasoning;
            record.estimated = completion.estimated.then_some(true);
        }
        match settled {
            None => (Ok(None), self.end(None, now)),
            Some((settlement, result)) => {
                let record = self.end(settlement, now);
                (result.map(Some), record)
            }
        }
    }

    /// Ends a call that never reached the provider: nothing is charged for it.
    ///
    /// # Errors
    /// [`Error::PermitSettled`] if the permit has expired. The call has ended and is recorded either way.
    pub fn cancel(self) -> Result<Option<Settlement>, Error> {
        let now = self.gate.now();
        self.cancel_at(now)
    }

    /// [`cancel`](Passage::cancel) at `now`.
    ///
    /// # Errors
    /// As [`cancel`](Passage::cancel).
    pub fn cancel_at(self, now: Now) -> Result<Option<Settlement>, Error> {
        self.cancel_recorded(now).0
    }

    /// As [`cancel_at`](Passage::cancel_at), with the record that observers have had.
    pub(in crate::gateway) fn cancel_recorded(mut self, now: Now) -> Ended {
        let cancelled = self.permit.map(|permit| self.gate.permits().cancel_at(permit, now)).transpose();
        let record = self.end(cancelled.clone().ok().flatten(), now);
        (cancelled, record)
    }

    /// Completes the record and passes it on, once.
    fn end(&mut self, settlement: Option<Settlement>, now: Now) -> Option<Box<UsageRecord>> {
        let mut record = self.record.take()?;
        record.total_time = Duration::from_nanos(now.mono.saturating_sub(self.began.mono));
        record.ended = match (&settlement, self.permit) {
            (Some(settlement), _) => Some(settlement.outcome),
            // Its time was over before anyone ended it.
            (None, Some(_)) => Some(Outcome::Expired),
            (None, None) => None,
        };
        if let Some(settlement) = settlement {
            record.charged_input = Some(settlement.input);
            record.charged_output = Some(settlement.output);
            record.estimated = Some(settlement.estimated || record.estimated == Some(true));
        }
        self.gate.inner.tell(&record);
        Some(record)
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.record.is_some() {
            let now = self.gate.now();
            let ended = self.permit.and_then(|permit| self.gate.permits().abandon_at(permit, now).ok());
            self.end(ended, now);
        }
    }
}
