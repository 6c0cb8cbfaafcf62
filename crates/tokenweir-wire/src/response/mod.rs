//! Usage out of responses, as they pass.
//!
//! - `role`: what a value of a response is, by API and place;
//! - `reading`: what the documents so far say, and the figures in one vocabulary;
//! - this page: bodies and streams, and what they come to.

mod reading;
mod role;

use crate::api::Api;
use crate::estimator::{Characters, Estimator, tokens};
use crate::json::Scanner;
use crate::sse::{Events, Splitter};
use crate::usage::{Figure, MOST, TokenUsage};
use reading::Reading;

/// How the documents of a response stand in its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// JSON: one document, several one after the other, or a list of them (Gemini's stream without `alt=sse`).
    Json,
    /// Server-sent events.
    Events,
}

impl Framing {
    /// What a `Content-Type` says: events if it is `text/event-stream`, else JSON.
    pub fn of(content_type: Option<&str>) -> Self {
        let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if media_type.trim().eq_ignore_ascii_case("text/event-stream") { Framing::Events } else { Framing::Json }
    }
}

/// How a response ended, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// It said that it is over.
    Complete,
    /// It said that the call failed.
    Failed,
    /// It stopped in the middle.
    Broken,
}

/// What a response has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// The tokens: as the provider reported them, and where it did not, the output as it was counted. Settle with it:
    /// where a figure is unknown, what was estimated before the call stands.
    pub usage: TokenUsage,
    /// Whether input or output is not what the provider reported for the whole answer.
    pub estimated: bool,
    /// How the response ended.
    pub ended: Ended,
}

/// Reads the usage out of one response, chunk by chunk, and counts what it can see until then.
///
/// Chunks may be cut anywhere. Memory stays below 8 KiB whatever comes, and nothing that comes is an error: what cannot
/// be read is counted as text or left unknown, and the outcome says that it is an estimate. The bytes must be plain: a
/// host that passes on `Content-Encoding` must decode a copy, or keep the upstream from compressing.
///
/// Until a figure is reported, and after it where more text follows, output is counted by the [`Estimator`]. Text in
/// the answer, its thoughts where they are shown, and the arguments of calls count; images, sound and thoughts that
/// the provider keeps to itself cannot be counted, so a stream that breaks before its usage is under-estimated by
/// those.
///
/// # Example
/// ```
/// use tokenweir_wire::{Api, Ended, Framing, ResponseMeter};
///
/// let mut meter = ResponseMeter::new(Api::ChatCompletions, Framing::of(Some("text/event-stream")));
/// meter.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hello the");
/// meter.feed(b"re!\"}}]}\n\n");
/// assert_eq!(meter.output_so_far(), 3); // twelve characters
///
/// meter.feed(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
/// let measured = meter.measured();
/// assert_eq!((measured.usage.input, measured.usage.output), (Some(9), Some(4)));
/// assert_eq!((measured.estimated, measured.ended), (false, Ended::Complete));
/// ```
#[derive(Debug)]
pub struct ResponseMeter<E = Characters> {
    framing: Framing,
    splitter: Splitter,
    documents: Documents<E>,
    told: u64,
}

const DONE: &[u8] = b"[DONE]";

/// The documents of a response.
#[derive(Debug)]
struct Documents<E> {
    scanner: Scanner,
    reading: Reading<E>,
    /// How an event's data begins: OpenAI's last is no JSON but a word.
    head: [u8; DONE.len()],
    head_length: usize,
}

impl ResponseMeter {
    /// A meter for one response that counts by the [characters rule](Characters).
    pub fn new(api: Api, framing: Framing) -> Self {
        Self::with_estimator(api, framing, Characters::default())
    }
}

impl<E: Estimator> ResponseMeter<E> {
    /// A meter for one response that counts by `estimator`.
    pub fn with_estimator(api: Api, framing: Framing, estimator: E) -> Self {
        ResponseMeter {
            framing,
            splitter: Splitter::new(),
            documents: Documents {
                scanner: Scanner::new(),
                reading: Reading::new(api, estimator),
                head: [0; DONE.len()],
                head_length: 0,
            },
            told: 0,
        }
    }

    /// The same meter for an upstream whose reports each count what came since the one before. The providers this
    /// crate knows report from the beginning, each time, which is what a meter expects otherwise.
    pub fn with_delta_usage(mut self) -> Self {
        self.documents.reading.deltas = true;
        self
    }

    /// Takes the next chunk in. The output tokens that it adds to what earlier calls returned: what
    /// [`Permit::observe`](tokenweir::Permit::observe) wants to know.
    pub fn feed(&mut self, chunk: &[u8]) -> u64 {
        match self.framing {
            Framing::Json => self.documents.scanner.feed(chunk, &mut self.documents.reading),
            Framing::Events => self.splitter.feed(chunk, &mut self.documents),
        }
        let now = self.output_so_far();
        let more = now.saturating_sub(self.told);
        self.told += more;
        more
    }

    /// The output tokens that have been reported or counted so far.
    pub fn output_so_far(&self) -> u64 {
        self.measure().0.usage.output.unwrap_or(0)
    }

    /// What the response has used, if it ended here.
    ///
    /// A response in the background (OpenAI's Responses) goes on when nobody reads it: until its usage is reported, its
    /// output is unknown.
    pub fn measured(&self) -> Measured {
        let (mut measured, reported) = self.measure();
        if self.documents.reading.totals.background && !reported && measured.ended != Ended::Failed {
            measured.usage.output = None;
        }
        measured
    }

    /// What the response has used by what has passed, and whether its output was reported.
    fn measure(&self) -> (Measured, bool) {
        let Documents { scanner, reading, .. } = &self.documents;
        let totals = &reading.totals;
        let complete = match self.framing {
            Framing::Json => scanner.has_ended(),
            Framing::Events => totals.complete || self.documents.is_done(),
        };
        let bad = self.documents.bad_event(self.framing).filter(|_| !self.documents.may_be_done());
        let since = tokens(reading.text_with_open(bad));
        let mut usage = reading::usage(reading.api, &totals.figures);
        // A total that says more than the parts means that a part is not reported, or not within the other.
        let rest = match (usage.input, totals.figures.get(Figure::Total)) {
            (Some(input), Some(total)) if complete && since == 0 => total.checked_sub(input),
            _ => None,
        };
        let reported = usage.output.max(rest);
        let hidden = if reading.api == Api::GenerateContent { usage.reasoning.unwrap_or(0) } else { 0 };
        usage.output = match reported {
            Some(output) => Some(output.saturating_add(since).min(MOST)),
            None if totals.recognised => Some(hidden.saturating_add(since).min(MOST)),
            None => None,
        };
        let estimated = usage.input.is_none() || reported.is_none() || since > 0 || !complete;
        let ended = match (totals.failed, complete) {
            (true, _) => Ended::Failed,
            (false, true) => Ended::Complete,
            (false, false) => Ended::Broken,
        };
        (Measured { usage, estimated, ended }, reported.is_some())
    }
}

impl<E: Estimator> Documents<E> {
    /// Whether the event that is open, or was the last, is the word that ends OpenAI's streams.
    fn is_done(&self) -> bool {
        self.head[..self.head_length] == *DONE
    }

    /// Whether the event that is open may still become that word: a chunk ended within it.
    fn may_be_done(&self) -> bool {
        DONE.starts_with(&self.head[..self.head_length])
    }

    /// The bytes of the event that is open, if it is not JSON and has to be taken as text.
    fn bad_event(&self, framing: Framing) -> Option<u64> {
        (framing == Framing::Events && self.scanner.is_bad() && !self.is_done()).then(|| self.scanner.offset())
    }
}

impl<E: Estimator> Events for Documents<E> {
    fn data(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.head_length == 0 {
            bytes = bytes.trim_ascii_start();
        }
        let more = bytes.len().min(DONE.len() - self.head_length);
        self.head[self.head_length..][..more].copy_from_slice(&bytes[..more]);
        self.head_length += more;
        self.scanner.feed(bytes, &mut self.reading);
    }

    fn end(&mut self, has_data: bool) {
        if !has_data {
            return;
        }
        if self.is_done() {
            self.reading.totals.complete = true;
            self.reading.document = Default::default();
        } else if self.scanner.is_open() || self.scanner.is_bad() {
            self.reading.document_lost(self.bad_event(Framing::Events));
        }
        self.head_length = 0;
        self.scanner.reset();
    }
}
