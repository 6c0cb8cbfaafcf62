//! `tokenweir.wire`: what passes between a client and a model, read and answered.
//!
//! - `request`: what a request asks for, and what to ask the model for besides;
//! - `response`: the usage out of a response as it passes;
//! - `exchange`: one call, with all of these, and the rules of how it ends;
//! - `dialect`: what a client is told;
//! - `upstream`: what a model says of its own limits.

mod dialect;
mod exchange;
mod request;
mod response;
mod upstream;

pub use dialect::{Dialect, Refused, ietf_headers};
pub use exchange::Exchange;
pub use request::{Asked, Endpoint, OutputRule, StreamUsage};
pub use response::{Measured, ResponseMeter, TokenUsage, UsageChunkFilter};
pub use upstream::{NamedLimit, UpstreamLimit, UpstreamLimits};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokenweir::Clock;
use tokenweir_wire::Api;

/// The endpoint of a path, or of the word for an API.
fn found(path_or_api: &str) -> Option<tokenweir_wire::Endpoint<'_>> {
    tokenweir_wire::Endpoint::of(path_or_api).or_else(|| Api::from_word(path_or_api).map(Into::into))
}

fn endpoint(path_or_api: &str) -> PyResult<tokenweir_wire::Endpoint<'_>> {
    found(path_or_api).ok_or_else(|| {
        let words = Api::ALL.map(Api::as_str).join(", ");
        let what = format!("{path_or_api:?} takes no tokens; give a path such as /v1/responses, or one of {words}");
        PyValueError::new_err(what)
    })
}

/// What the system's clock shows.
fn system_now() -> tokenweir::Now {
    tokenweir::SystemClock::new().now()
}
