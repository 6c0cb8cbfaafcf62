//! What a request asks for, and what it may cost.
//!
//! - `role`: what a value of a request is, by API and place;
//! - `reading`: what the request has said so far;
//! - `output`: the output bound, stated or ruled, as an estimate.

mod output;
mod reading;
mod role;

pub use output::OutputRule;

use crate::api::Api;
use crate::estimator::{Characters, Estimator};
use crate::json::Scanner;
use crate::usage::MOST;
use reading::Reading;

/// A body that is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It is not JSON, or not all of it.
    #[error("the request is not JSON: it goes wrong, or ends too early, before byte {at}; send one JSON object")]
    NotJson {
        /// Bytes that were read.
        at: u64,
    },
    /// It is JSON, but not one object.
    #[error("the request is not one JSON object; send an object with the fields of the API")]
    NotObject,
    /// It names its model more than once. Readers differ in which of them counts, so it could be decided on as a call to
    /// one model and answered by another. (Some go by a `Model` as well: case makes no difference in any field.)
    #[error("the request has the field \"model\" more than once; name one model")]
    ModelTwice,
}

/// How what is not plain text is counted in a request, in tokens. All of it is an estimate that the provider's own
/// figure replaces when the call is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputRules {
    /// Added to a conversation: 3 unless set, what OpenAI's cookbook gives for the beginning of the answer.
    pub per_request: u64,
    /// Added to each message: 4 unless set, what it gives for a message and its role.
    pub per_message: u64,
    /// An image, or something that is given by an address or an id: 1,200 unless set, the most that API Management
    /// counts for one.
    pub image: u64,
    /// An image of which the request says `"detail": "low"`: 85 unless set, as OpenAI counts most.
    pub low_detail_image: u64,
    /// Bytes of sound or film for a token, once decoded: 500 unless set, which is 32 tokens for a second of 128 kbit/s.
    pub audio_bytes_per_token: u64,
    /// Bytes of a file (a PDF, say) for a token, once decoded: 50 unless set, which is 2,000 tokens for a page of 100 kB.
    pub file_bytes_per_token: u64,
}

impl Default for InputRules {
    fn default() -> Self {
        InputRules {
            per_request: 3,
            per_message: 4,
            image: 1200,
            low_detail_image: 85,
            audio_bytes_per_token: 500,
            file_bytes_per_token: 50,
        }
    }
}

/// What a request asks for.
///
/// # Example
/// ```
/// use tokenweir_wire::{Api, Asked};
///
/// let body = br#"{"model":"gpt-4o","stream":true,"n":2,"max_completion_tokens":100,
///                 "messages":[{"role":"user","content":"Why is the sky blue?"}]}"#;
/// let asked = Asked::read(Api::ChatCompletions, body)?;
/// assert_eq!((asked.model.as_deref(), asked.stream), (Some("gpt-4o"), true));
/// assert_eq!((asked.input, asked.output), (5 + 4 + 3, Some(200)));
/// # Ok::<(), tokenweir_wire::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Asked {
    /// The API.
    pub api: Api,
    /// The model, where the body names it in at most 256 bytes, or the path does ([`Endpoint::read`](crate::Endpoint::read)).
    pub model: Option<String>,
    /// Whether the body asks for a stream.
    pub stream: bool,
    /// Whether it asks for the usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Input tokens, estimated.
    pub input: u64,
    /// How many answers there will be: `n`, `best_of` or `candidateCount`, for each of the prompts; at least 1.
    pub answers: u64,
    /// The most output tokens that the request allows, for all answers: the largest of `max_tokens`,
    /// `max_completion_tokens`, `max_output_tokens` and `maxOutputTokens`, times `answers`, at most 2^53. A number that is
    /// not whole is rounded up. `None` if it states none; 0 for embeddings.
    pub output: Option<u64>,
    /// The request refers to input that is not in its body (an earlier response, a conversation, cached content), so
    /// `input` is too low.
    pub input_elsewhere: bool,
}

impl Asked {
    /// A request of which a host knows by itself what it takes: one answer, no model, no stream.
    pub fn new(api: Api, input: u64, output: Option<u64>) -> Self {
        Asked {
            api,
            model: None,
            stream: false,
            include_usage: false,
            input,
            answers: 1,
            output,
            input_elsewhere: false,
        }
    }

    /// Reads a request, counting by the [characters rule](Characters) and the default [`InputRules`].
    ///
    /// # Errors
    /// [`RequestError`] if the body is not one JSON object, or names its model twice. Other fields that make no sense are
    /// the provider's to refuse.
    pub fn read(api: Api, body: &[u8]) -> Result<Self, RequestError> {
        let mut reader = RequestReader::new(api, InputRules::default(), Characters::default());
        reader.feed(body);
        reader.finish()
    }

    /// A request of which nothing is known but its length: a token for every four bytes of it, and no bound of the output.
    pub fn by_length(api: Api, bytes: u64) -> Self {
        Asked {
            api,
            model: None,
            stream: false,
            include_usage: false,
            input: bytes.div_ceil(4).min(MOST),
            answers: 1,
            output: (api == Api::Embeddings).then_some(0),
            input_elsewhere: false,
        }
    }

    /// What OpenAI's own tokens-per-minute limit takes for the request at arrival: the larger of input and output, not
    /// their sum.
    pub fn openai_charge(&self) -> u64 {
        self.input.max(self.output.unwrap_or(0))
    }
}

/// Reads a request chunk by chunk, in memory that stays below 8 KiB however long it is.
#[derive(Debug)]
pub struct RequestReader<E = Characters> {
    scanner: Scanner,
    reading: Reading<E>,
}

impl<E: Estimator> RequestReader<E> {
    /// A reader that counts text by `estimator` and the rest by `rules`.
    pub fn new(api: Api, rules: InputRules, estimator: E) -> Self {
        RequestReader { scanner: Scanner::new(), reading: Reading::new(api, rules, estimator) }
    }

    /// Takes the next chunk in; it may be cut anywhere.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.scanner.feed(chunk, &mut self.reading);
    }

    /// The request, all of which has come.
    ///
    /// # Errors
    /// [`RequestError`] if it is not one JSON object, or names its model twice.
    pub fn finish(self) -> Result<Asked, RequestError> {
        let RequestReader { scanner, reading } = self;
        if !scanner.has_ended() {
            return Err(RequestError::NotJson { at: scanner.offset() });
        }
        if !reading.whole.holds() {
            return Err(RequestError::NotObject);
        }
        if reading.models > 1 {
            return Err(RequestError::ModelTwice);
        }
        let answers = reading.answers.saturating_mul(reading.prompts()).min(MOST);
        let output = match reading.api {
            Api::Embeddings => Some(0),
            _ => reading.bound.map(|bound| bound.saturating_mul(answers).min(MOST)),
        };
        Ok(Asked {
            api: reading.api,
            stream: reading.stream,
            include_usage: reading.include_usage,
            input: reading.input(),
            answers,
            output,
            input_elsewhere: reading.elsewhere,
            model: reading.model,
        })
    }
}
