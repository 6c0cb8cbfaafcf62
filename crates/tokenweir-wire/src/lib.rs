//! LLM provider dialects for tokenweir.

#![forbid(unsafe_code)]

mod api;
mod dialect;
mod estimator;
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
pub use request::{Asked, InputRules, OutputRule, RequestError, RequestReader};
pub use response::{Ended, Framing, Measured, ResponseMeter};
pub use standing::Standing;
pub use stream_options::{StreamUsage, UsageChunkFilter};
pub use upstream::{NamedLimit, UpstreamLimit, UpstreamLimits};
pub use usage::TokenUsage;
