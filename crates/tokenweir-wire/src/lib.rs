//! LLM provider dialects for tokenweir.

#![forbid(unsafe_code)]

mod api;
mod estimator;
mod json;
mod response;
mod sse;
mod usage;

pub use api::{Api, Endpoint};
#[cfg(feature = "bpe")]
pub use estimator::Bpe;
pub use estimator::{Characters, Estimator};
pub use response::{Ended, Framing, Measured, ResponseMeter};
pub use usage::TokenUsage;
