//! LLM provider dialects for tokenweir: what a call may cost, what it did cost, and what its client is told.
//!
//! It knows the requests and responses of OpenAI (Chat Completions, Responses, Completions, Embeddings), Azure OpenAI,
//! Anthropic Messages, Gemini and Vertex. It has no HTTP stack, no runtime and no thread: a host hands it bytes and gets
//! values. Whatever the bytes are, memory is bounded, nothing panics, and what is not known is `None` or marked as an
//! estimate.
//!
//! - before the call: [`Asked`], what a request asks for and may cost, counted by an [`Estimator`]; [`OutputRule`], what
//!   is held where it states no bound; [`StreamUsage`], so that a stream ends with its usage;
//! - while it runs and after: [`ResponseMeter`], the usage out of a body or a stream, as it passes; [`UsageChunkFilter`],
//!   which keeps from a client the chunk that it did not ask for; [`Exchange`], all of this for one admitted call, with the
//!   rules of how it ends;
//! - to the client: [`Dialect`], headers and errors in the words of its API; [`ietf_headers`];
//! - from the upstream: [`UpstreamLimits`], what it says of its own limits.
//!
//! # Example
//! ```
//! use tokenweir::{Decision, Limiter, Policy, Request};
//! use tokenweir_wire::{Dialect, Endpoint, Framing, OutputRule, ResponseMeter, StreamUsage, Asked};
//!
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name      = "project tpm"
//!     meter     = "total"
//!     algorithm = "bucket"
//!     amount    = 10_000
//!     per       = "1m"
//!     scope     = ["project", "deployment"]
//! "#)?;
//! let limiter = Limiter::new(policy);
//!
//! let endpoint = Endpoint::of("/v1/chat/completions").ok_or("not an endpoint that takes tokens")?;
//! let body = br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"When is high water?"}]}"#;
//! let asked = Asked::read(endpoint.api, body)?;
//! let request = Request::new("search", asked.model.as_deref().unwrap_or("unknown"));
//! let estimate = asked.estimate(&OutputRule::tokens(1024), &limiter, &request)?;
//! match limiter.admit(&request, estimate)? {
//!     Decision::Denied(denied) => {
//!         let refused = Dialect::OpenAi.refused(&denied, &limiter.policy(), limiter.now());
//!         println!("{} {:?} {}", refused.status, refused.headers, refused.body);
//!     }
//!     Decision::Admitted(permit) => {
//!         let sent = StreamUsage::of(endpoint.api, body)?.ask(body).into_owned();
//!         // Send it, and as the response comes:
//! #       let chunks = [
//! #           &b"data: {\"choices\":[{\"delta\":{\"content\":\"At noon.\"},\"finish_reason\":\"stop\"}]}\n\n"[..],
//! #           b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
//! #       ];
//! #       assert!(sent.starts_with(b"{\"stream_options\""));
//!         let mut meter = ResponseMeter::new(endpoint.api, Framing::of(Some("text/event-stream")));
//!         for chunk in chunks {
//!             if permit.observe(0, meter.feed(chunk))?.spent {
//!                 // A limit has nothing left: a host may cut the stream here.
//!             }
//!         }
//!         let measured = meter.measured();
//! #       assert!(!measured.estimated);
//!         permit.settle(measured.usage.into())?;
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod api;
mod dialect;
mod estimator;
mod exchange;
mod json;
mod request;
mod response;
mod sse;
mod standing;
mod stream_options;
pub mod times;
mod upstream;
mod usage;

pub use api::{Api, Endpoint};
pub use dialect::{ApimHeaders, Dialect, Header, Refused, ietf_headers};
#[cfg(feature = "bpe")]
pub use estimator::Bpe;
pub use estimator::{Characters, Estimator};
pub use exchange::{CallRules, Cut, Exchange, Failed, Passed, ResponseHead, ResponseWatch, Unanswered};
pub use request::{Asked, InputRules, OutputRule, RequestError, RequestReader};
pub use response::{Ended, Framing, Measured, ResponseMeter};
pub use standing::Standing;
pub use stream_options::{StreamUsage, UsageChunkFilter};
pub use upstream::{NamedLimit, UpstreamLimit, UpstreamLimits};
pub use usage::TokenUsage;
