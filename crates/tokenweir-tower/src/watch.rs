//! Watches one admitted call, and settles it however it ends.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::gateway::Completion;
use tokenweir::{Estimate, Usage};
use tokenweir_wire::{Api, Ended, Estimator, Framing, Measured, ResponseMeter};

use crate::admission::{Hold, spent_limit};
use crate::settings::{Cut, Failed, Settings};

type Meter = ResponseMeter<Arc<dyn Estimator + Send + Sync>>;

/// One call from its admission to its end. Dropped, it ends with what is known by then.
pub(crate) struct Watch {
    /// Taken when the call has ended.
    hold: Option<Box<dyn Hold>>,
    settings: Arc<Settings>,
    api: Option<Api>,
    charged: Estimate,
    /// Instants of the limiter's monotonic clock, in nanoseconds.
    began: u64,
    renewed: u64,
    answered: Option<Answered>,
}

/// What the service has answered, so far.
struct Answered {
    status: u16,
    framing: Framing,
    /// `None` where its bytes say nothing that could be read. Boxed: it is large, and a watch is moved.
    meter: Option<Box<Meter>>,
    output: u64,
    first: Option<Duration>,
    backend_status: Option<u16>,
}

impl Watch {
    pub(crate) fn new(hold: Box<dyn Hold>, api: Option<Api>, settings: Arc<Settings>) -> Self {
        let (charged, began) = (hold.charged(), hold.limiter().now().mono);
        Watch { hold: Some(hold), settings, api, charged, began, renewed: began, answered: None }
    }

    pub(crate) fn hold(&self) -> Option<&dyn Hold> {
        self.hold.as_deref()
    }

    /// The head of the response has come.
    pub(crate) fn answered(&mut self, head: &response::Parts) {
        let text = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let plain = text(CONTENT_ENCODING).is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"));
        let framing = Framing::of(text(CONTENT_TYPE));
        let estimator = self.settings.estimator.clone();
        let meter = self.api.filter(|_| plain).map(|api| Box::new(Meter::with_estimator(api, framing, estimator)));
        let status = head.status.as_u16();
        self.answered = Some(Answered { status, framing, meter, output: 0, first: None, backend_status: Some(status) });
    }

    /// How the response is framed, where its bytes are read.
    pub(crate) fn framing(&self) -> Option<Framing> {
        self.answered.as_ref().filter(|answered| answered.meter.is_some()).map(|answered| answered.framing)
    }

    /// Whether the response may be cut short.
    pub(crate) fn may_cut(&self) -> bool {
        let held = self.hold.as_ref().is_some_and(|hold| hold.permit().is_some());
        held && self.settings.cut != Cut::Never && self.framing() == Some(Framing::Events)
    }

    /// A piece of the response is passing. The name of the limit for which the stream is to be cut short.
    pub(crate) fn saw(&mut self, chunk: &[u8]) -> Option<String> {
        let (Some(hold), Some(answered)) = (self.hold.as_deref(), &mut self.answered) else { return None };
        if answered.first.is_none() && !chunk.is_empty() {
            answered.first = Some(since(self.began, hold));
        }
        let more = answered.meter.as_mut().map_or(0, |meter| meter.feed(chunk));
        answered.output = answered.output.saturating_add(more);
        if let Some(permit) = hold.permit() {
            if more > 0 {
                // Expired at worst: what was charged stands then.
                let observed = hold.limiter().observe(permit, 0, more);
                let beyond = answered.output > self.charged.output && answered.framing == Framing::Events;
                if beyond && self.settings.cut != Cut::Never && observed.is_ok_and(|observed| observed.spent) {
                    return spent_limit(hold, self.settings.cut);
                }
            }
            if since(self.renewed, hold) > self.settings.permit_ttl / 4 {
                self.renewed = hold.limiter().now().mono;
                let _ = hold.limiter().renew(permit, self.settings.permit_ttl);
            }
        }
        None
    }

    /// The call has ended, with what has passed by now.
    pub(crate) fn end(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        // Without an answer nothing is known, but that the provider may have been reached: the estimate stands.
        let Some(answered) = &self.answered else { return };
        let (usage, reasoning, estimated) = self.used(answered);
        let took = since(self.began, &*hold);
        hold.settle(&Completion {
            usage,
            estimated,
            reasoning,
            response_code: Some(answered.status),
            backend_response_code: answered.backend_status,
            backend_time: Some(took),
            first_token_time: answered.first.filter(|_| answered.framing == Framing::Events),
            ..Completion::default()
        });
    }

    /// The service failed without an answer.
    pub(crate) fn failed(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let usage = self.of_failed(Usage::UNKNOWN);
        let took = since(self.began, &*hold);
        hold.settle(&Completion { usage, backend_time: Some(took), ..Completion::default() });
    }

    /// The provider was never reached.
    pub(crate) fn cancel(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.cancel();
        }
    }

    /// What the call has used, by all that is known, with its reasoning tokens, and whether anything was counted here.
    fn used(&self, answered: &Answered) -> (Usage, Option<u64>, bool) {
        let failed = !(200..300).contains(&answered.status);
        let Some(measured) = answered.meter.as_ref().map(|meter| meter.measured()) else {
            let usage = if failed { self.of_failed(Usage::UNKNOWN) } else { Usage::UNKNOWN };
            return (usage, None, false);
        };
        let Measured { usage: tokens, estimated, ended, .. } = measured;
        let mut usage = Usage::from(tokens);
        if failed || (ended == Ended::Failed && usage.output.is_none()) {
            return (self.of_failed(usage), tokens.reasoning, false);
        }
        if ended == Ended::Broken && answered.framing == Framing::Json {
            // All of it had been produced when its first byte was sent. What has passed is the least that it can be.
            usage.output = usage.output.filter(|counted| *counted > self.charged.output);
        }
        (usage, tokens.reasoning, estimated && usage != Usage::UNKNOWN)
    }

    /// What a failed call has used: what it reports, and for the rest what the settings say.
    fn of_failed(&self, usage: Usage) -> Usage {
        match self.settings.failed {
            Failed::Estimate => usage,
            Failed::Nothing => Usage { input: usage.input.or(Some(0)), output: usage.output.or(Some(0)), ..usage },
        }
    }
}

/// How long ago by the limiter's clock.
fn since(then: u64, hold: &dyn Hold) -> Duration {
    Duration::from_nanos(hold.limiter().now().mono.saturating_sub(then))
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
