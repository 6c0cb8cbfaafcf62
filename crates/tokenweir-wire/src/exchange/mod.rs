//! One admitted call, from its admission to its end: what to observe, when to cut its stream short, what to settle it by.
//!
//! - `rules`: what an operator decides;
//! - `events`: where a stream of events can be cut, and what its client is told then;
//! - this page: a request that has been sent, and its response as it passes.

mod events;
mod rules;

pub use rules::{CallRules, Cut, Failed, Unanswered};

use crate::api::Api;
use crate::dialect::Dialect;
use crate::estimator::Estimator;
use crate::response::{Ended, Framing, Measured, ResponseMeter};
use crate::stream_options::UsageChunkFilter;
use events::Tail;
use std::time::Duration;
use tokenweir::elsewhere::Permits;
use tokenweir::gateway::Completion;
use tokenweir::{Estimate, Now, PermitId, Usage};

/// A call that has been admitted and sent, and not been answered yet.
///
/// It has no I/O and holds nothing: whoever has the permit says what happens, does what it is told, and ends the permit
/// itself, exactly once.
///
/// | what happens | by what the call is settled |
/// |---|---|
/// | it never reached the provider | nothing: cancel the permit |
/// | the client leaves before there is an answer | the estimate: drop the permit without a word |
/// | no answer comes | [`Exchange::unanswered`] |
/// | an answer comes | [`ResponseWatch::completion`], whenever it ends |
///
/// # Example
/// ```
/// use tokenweir::{Decision, Estimate, Limiter, Policy, Request, Usage};
/// use tokenweir_wire::{Api, CallRules, Characters, Dialect, Exchange, Passed, ResponseHead};
///
/// let policy = Policy::from_toml(r#"
///     [[limit]]
///     name = "project tpm"
///     meter = "total"
///     algorithm = "bucket"
///     amount = 10_000
///     per = "1m"
/// "#)?;
/// let limiter = Limiter::new(policy);
/// let (request, estimate) = (Request::new("search", "gpt-4o"), Estimate::new(9, 100));
/// let Decision::Admitted(permit) = limiter.admit(&request, estimate)? else { return Ok(()) };
///
/// let rules = CallRules::default();
/// let exchange = Exchange::new(Some(Api::ChatCompletions), estimate, Some(permit.id()), rules, limiter.now());
/// // Send the request, and when the head of its answer has come:
/// let head = ResponseHead { status: 200, content_type: Some("text/event-stream"), content_encoding: None };
/// let mut watch = exchange.answered(head, Dialect::OpenAi, false, Characters::default());
/// # let pieces = [
/// #     &b"data: {\"choices\":[{\"delta\":{\"content\":\"At noon.\"},\"finish_reason\":\"stop\"}]}\n\n"[..],
/// #     b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
/// # ];
/// for piece in pieces {
///     match watch.passes(piece, false, &limiter, limiter.now()) {
///         Passed::Whole => { /* send `piece` on */ }
///         Passed::Part(_bytes) => { /* send these on instead */ }
///         Passed::Last(_bytes) => break, // send these on, and end the response there
///     }
/// }
/// let completion = watch.completion(limiter.now());
/// assert_eq!(completion.usage, Usage::new(11, 3));
/// permit.settle(completion.usage)?;
/// # Ok::<(), tokenweir::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Exchange {
    api: Option<Api>,
    charged: Estimate,
    rules: CallRules,
    began: u64,
    life: Life,
}

/// A permit that is kept alive.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// `None` if there is none, or somebody else has ended it.
    permit: Option<PermitId>,
    /// When it was last begun anew: nanoseconds of the monotonic clock.
    renewed: u64,
}

impl Life {
    /// Renews the permit once a quarter of its life is over. Whether it has expired.
    fn has_expired(&mut self, permits: &dyn Permits, now: Now) -> bool {
        let Some(permit) = self.permit else { return false };
        let (gone, ttl) = (Duration::from_nanos(now.mono.saturating_sub(self.renewed)), permits.permit_ttl());
        if gone <= ttl / 4 {
            return false;
        }
        match permits.renew_at(permit, ttl, now) {
            Ok(()) => self.renewed = now.mono,
            Err(_) if gone >= ttl => return true,
            // Somebody else has ended it, who knows why.
            Err(_) => self.permit = None,
        }
        false
    }
}

/// What of a response's head says how to read it: the status and the values of two headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: u16,
    /// `content-type`.
    pub content_type: Option<&'a str>,
    /// `content-encoding`. What is compressed is not read, and its call is settled by the estimate.
    pub content_encoding: Option<&'a str>,
}

impl Exchange {
    /// A call that is about to be sent. `api` is that of its bodies, `None` where nothing of them is to be read; `charged`
    /// what was charged at its admission; `permit` its permit, `None` if it bypasses the limits; `began` when it was
    /// admitted.
    pub fn new(api: Option<Api>, charged: Estimate, permit: Option<PermitId>, rules: CallRules, began: Now) -> Self {
        Exchange { api, charged, rules, began: began.mono, life: Life { permit, renewed: began.mono } }
    }

    /// Whether its permit has expired before the answer came: what is answered now would be had for the estimate,
    /// whatever it says. (A permit lives for [`Limiter::permit_ttl`](tokenweir::Limiter::permit_ttl): longer than any upstream may take to begin.) Calls
    /// of which nothing is read are settled by the estimate anyhow, and have not.
    pub fn has_expired(&mut self, permits: &dyn Permits, now: Now) -> bool {
        self.life.has_expired(permits, now) && self.api.is_some()
    }

    /// It was sent, and there will be no answer: by what it is settled.
    pub fn unanswered(&self, now: Now) -> Completion<'static> {
        let nothing = Some(0);
        let usage = match self.rules.unanswered {
            Unanswered::Estimate => Usage::UNKNOWN,
            Unanswered::Input => Usage { output: nothing, ..Usage::UNKNOWN },
            Unanswered::Nothing => Usage { input: nothing, output: nothing, ..Usage::UNKNOWN },
        };
        Completion { usage, backend_time: Some(self.since(now)), ..Completion::default() }
    }

    /// The head of the answer has come. `dialect`: in whose words its client is told why a stream ends;
    /// `withhold_usage`: the usage at the end of a stream was asked for, and not by the client.
    pub fn answered<E: Estimator>(
        self,
        head: ResponseHead<'_>,
        dialect: Dialect,
        withhold_usage: bool,
        estimator: E,
    ) -> ResponseWatch<E> {
        let framing = Framing::of(head.content_type);
        let plain = head.content_encoding.is_none_or(|coding| coding.trim().eq_ignore_ascii_case("identity"));
        let meter = self.api.filter(|_| plain).map(|api| ResponseMeter::with_estimator(api, framing, estimator));
        let filter = (withhold_usage && meter.is_some() && framing == Framing::Events).then(Box::default);
        ResponseWatch {
            exchange: self,
            dialect,
            status: head.status,
            framing,
            meter,
            output: 0,
            first: None,
            filter,
            tail: Tail::default(),
            cutting: None,
        }
    }

    fn since(&self, now: Now) -> Duration {
        Duration::from_nanos(now.mono.saturating_sub(self.began))
    }

    /// What a failed call has used: what it reports, and for the rest what the rules say.
    fn of_failed(&self, usage: Usage) -> Usage {
        match self.rules.failed {
            Failed::Estimate => usage,
            Failed::Nothing => Usage { input: usage.input.or(Some(0)), output: usage.output.or(Some(0)), ..usage },
        }
    }
}

/// The response of an admitted call as it passes to its client.
#[derive(Debug)]
pub struct ResponseWatch<E> {
    exchange: Exchange,
    dialect: Dialect,
    status: u16,
    framing: Framing,
    /// `None` where its bytes say nothing that could be read.
    meter: Option<ResponseMeter<E>>,
    output: u64,
    /// How long its first piece took.
    first: Option<Duration>,
    /// Keeps from the client what it did not ask for.
    filter: Option<Box<UsageChunkFilter>>,
    tail: Tail,
    cutting: Option<Cutting>,
}

/// A stream that is cut at the next end of an event.
#[derive(Debug)]
struct Cutting {
    limit: String,
    is_quota: bool,
    /// Bytes that have passed since.
    waited: usize,
    /// Whether the stream has said that it is over.
    ended: bool,
}

/// What of a piece of a response goes to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// All of it.
    Whole,
    /// These bytes in its stead.
    Part(Vec<u8>),
    /// These bytes, and the response ends there.
    Last(Vec<u8>),
}

impl<E: Estimator> ResponseWatch<E> {
    /// So many bytes pass at most after the limits are spent, while the end of an event is waited for. A stream whose event
    /// does not end by then is cut inside it: what a client has of it is no event.
    pub const MOST_WAITED: usize = 64 * 1024;

    /// Whether it is a stream of events that is read.
    pub fn is_stream(&self) -> bool {
        self.meter.is_some() && self.framing == Framing::Events
    }

    /// Whether what goes to the client is as long as what comes, unless its permit expires.
    pub fn keeps_length(&self) -> bool {
        self.filter.is_none() && !self.may_cut()
    }

    fn may_cut(&self) -> bool {
        self.exchange.life.permit.is_some() && self.exchange.rules.cut != Cut::Never && self.is_stream()
    }

    /// The next piece has come; `last`: it is the last, as far as is known, so that the end comes right behind it. What it
    /// brings beyond the estimate is charged, the permit is kept alive, and where that comes to an end or a limit is spent,
    /// so does the response.
    pub fn passes(&mut self, piece: &[u8], last: bool, permits: &dyn Permits, now: Now) -> Passed {
        if self.exchange.life.has_expired(permits, now) && self.meter.is_some() {
            // Nothing more would be counted.
            return self.has_expired();
        }
        if self.first.is_none() && !piece.is_empty() {
            self.first = Some(self.exchange.since(now));
        }
        let more = self.observe(piece, last, permits, now);
        let ends_by_itself = self.ends_by_itself(more);
        let filtered = self.filter.as_mut().map(|filter| {
            let mut passed = Vec::with_capacity(piece.len());
            filter.feed(piece, &mut passed);
            passed
        });
        let passed = filtered.as_deref().unwrap_or(piece);
        if let Some(cutting) = self.cutting.as_mut().filter(|_| !ends_by_itself) {
            if let Some(end) = self.tail.last_end(passed) {
                let message = format!(
                    "Limit {:?} is spent, and the request has used more than its estimate: the stream ends here.",
                    cutting.limit
                );
                let event = events::spent(self.exchange.api, self.dialect, cutting.is_quota, &message);
                return Passed::Last([&passed[..end], event.as_bytes()].concat());
            }
            let room = Self::MOST_WAITED.saturating_sub(cutting.waited);
            if passed.len() > room {
                return Passed::Last(passed[..room].to_vec());
            }
            cutting.waited += passed.len();
        }
        if self.framing == Framing::Events {
            self.tail.pass(passed);
        }
        match filtered {
            Some(mut passed) => {
                if last {
                    passed.append(&mut self.rest());
                }
                Passed::Part(passed)
            }
            None => Passed::Whole,
        }
    }

    /// Whether a stream that would be cut has said that it is over: what follows is its usage and its end. Should text follow
    /// nevertheless, it was not.
    fn ends_by_itself(&mut self, more: u64) -> bool {
        let (Some(cutting), Some(meter)) = (&mut self.cutting, &self.meter) else { return false };
        if meter.measured().ended != Ended::Complete || cutting.ended && more > 0 {
            return false;
        }
        cutting.ended = true;
        true
    }

    /// Takes a piece in, and observes what it brings: the output tokens more.
    fn observe(&mut self, piece: &[u8], last: bool, permits: &dyn Permits, now: Now) -> u64 {
        let more = self.meter.as_mut().map_or(0, |meter| meter.feed(piece));
        self.output = self.output.saturating_add(more);
        let (Some(permit), false, true) = (self.exchange.life.permit, last, more > 0) else { return more };
        // An error: a sum that cannot be, or somebody else has ended the permit. What was charged stands.
        let Ok(observed) = permits.observe_at(permit, 0, more, now) else { return more };
        let beyond = self.output > self.exchange.charged.output;
        if observed.spent && beyond && self.cutting.is_none() && self.may_cut() {
            let limit = self.exchange.rules.cut.spent_limit(permits, permit, now);
            self.cutting = limit.map(|(limit, is_quota)| Cutting { limit, is_quota, waited: 0, ended: false });
        }
        more
    }

    fn has_expired(&self) -> Passed {
        // What a client has of an event that has begun is none.
        if self.framing == Framing::Json || !self.tail.is_between_events() {
            return Passed::Last(Vec::new());
        }
        let message = "The response stood still for so long that its permit has expired: it ends here.";
        Passed::Last(events::expired(self.exchange.api, self.dialect, message).into_bytes())
    }

    /// The response is over: what was held back of it, for the client.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Some(filter) = self.filter.take() {
            filter.finish(&mut rest);
        }
        rest
    }

    /// By what the call is settled if its response ends here: with its own end, broken off, or left by its client.
    pub fn completion(&self, now: Now) -> Completion<'static> {
        let (usage, reasoning, estimated) = self.used();
        Completion {
            usage,
            estimated,
            reasoning,
            response_code: Some(self.status),
            backend_response_code: Some(self.status),
            backend_time: Some(self.exchange.since(now)),
            first_token_time: self.first.filter(|_| self.framing == Framing::Events),
            ..Completion::default()
        }
    }

    /// What has been used by all that is known, the reasoning tokens in it, and whether anything was counted here.
    fn used(&self) -> (Usage, Option<u64>, bool) {
        let failed = !(200..300).contains(&self.status);
        let Some(measured) = self.meter.as_ref().map(ResponseMeter::measured) else {
            let usage = if failed { self.exchange.of_failed(Usage::UNKNOWN) } else { Usage::UNKNOWN };
            return (usage, None, false);
        };
        let Measured { usage: tokens, estimated, ended, .. } = measured;
        let mut usage = Usage::from(tokens);
        if failed || (ended == Ended::Failed && usage.output.is_none()) {
            return (self.exchange.of_failed(usage), tokens.reasoning, false);
        }
        if ended == Ended::Broken && self.framing == Framing::Json {
            // All of it had been produced when its first byte was sent. What has passed is the least that it can be.
            usage.output = usage.output.filter(|counted| *counted > self.exchange.charged.output);
        } else if usage.output.is_none() {
            // Likewise of a response that goes on in the background.
            usage.output = Some(self.output).filter(|counted| *counted > self.exchange.charged.output);
        }
        (usage, tokens.reasoning, estimated && usage != Usage::UNKNOWN)
    }
}
