//! What a model says of its own limits.

use super::system_now;
use crate::clock::Now;
use crate::convert::{Pairs, bytes, instant, pairs};
use crate::value::value;
use pyo3::prelude::*;
use pyo3::types::PyMapping;
use std::time::Duration;

value! {
    /// One limit as a model's provider reports it. What it does not say is None.
    UpstreamLimit as "tokenweir.wire" {
        /// Its amount.
        limit: Option<u64>,
        /// What is left of it.
        remaining: Option<u64>,
        /// Seconds until it is replenished.
        reset: Option<f64>,
    }
}

value! {
    /// A limit of the IETF draft's headers, by its name.
    NamedLimit as "tokenweir.wire" {
        /// The name that the upstream gives it.
        name: String,
        /// What it counts, where the upstream says so; requests unless it does.
        unit: Option<String>,
        /// The seconds that its amount is for.
        window: Option<f64>,
        /// How it stands, as UpstreamLimit.
        limit: Py<UpstreamLimit>,
    }
}

value! {
    /// What the headers of one response say of the upstream's limits: those of OpenAI, Azure OpenAI, Anthropic, API
    /// Management's AI gateway tier and the IETF draft, whichever are there.
    UpstreamLimits as "tokenweir.wire" {
        /// Requests, as UpstreamLimit; so the others.
        requests: Py<UpstreamLimit>,
        /// Tokens of either kind.
        tokens: Py<UpstreamLimit>,
        /// Input tokens (Anthropic).
        input_tokens: Py<UpstreamLimit>,
        /// Output tokens (Anthropic).
        output_tokens: Py<UpstreamLimit>,
        /// Tokens of the caller's project (OpenAI).
        project_tokens: Py<UpstreamLimit>,
        /// What a quota of tokens has left (the AI gateway tier).
        quota_tokens: Py<UpstreamLimit>,
        /// Limits by name (IETF), as NamedLimit; at most 16.
        named: Vec<Py<NamedLimit>>,
        /// Seconds to wait, on a refusal: `retry-after-ms`, else `retry-after`.
        retry_after: Option<f64>,
    }
    {
        /// Reads the headers of a response: a mapping, or pairs of name and value, each str or bytes; names in any case. A
        /// header that cannot be read is as if it were not there. `now` is when it came, for hosts that own the time.
        #[staticmethod]
        #[pyo3(signature = (headers, *, now=None))]
        fn of(headers: &Bound<'_, PyAny>, now: Option<&Bound<'_, Now>>) -> PyResult<Self> {
            let py = headers.py();
            let found: Pairs<'_> = if headers.cast::<PyMapping>().is_ok() {
                pairs("headers", headers)?
            } else {
                headers.try_iter()?.map(|pair| pair?.extract()).collect::<PyResult<_>>()?
            };
            let mut read = Vec::with_capacity(found.len());
            for (name, value) in &found {
                let (name, value) = (bytes("a header's name", name)?, bytes("a header's value", value)?);
                if let (Ok(name), Ok(value)) = (std::str::from_utf8(&name), std::str::from_utf8(&value)) {
                    read.push((name.to_owned(), value.to_owned()));
                }
            }
            let now = instant(now).unwrap_or_else(system_now);
            let each = read.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let seen = tokenweir_wire::UpstreamLimits::of(each, now);
            let named = seen.named.into_iter().map(|named| {
                let limit = limit(py, named.limit)?;
                let window = named.window.map(|window| window.as_secs_f64());
                Py::new(py, NamedLimit { name: named.name, unit: named.unit, window, limit })
            });
            Ok(UpstreamLimits {
                named: named.collect::<PyResult<_>>()?,
                requests: limit(py, seen.requests)?,
                tokens: limit(py, seen.tokens)?,
                input_tokens: limit(py, seen.input_tokens)?,
                output_tokens: limit(py, seen.output_tokens)?,
                project_tokens: limit(py, seen.project_tokens)?,
                quota_tokens: limit(py, seen.quota_tokens)?,
                retry_after: seen.retry_after.map(|wait| wait.as_secs_f64()),
            })
        }
    }
}

fn limit(py: Python<'_>, limit: tokenweir_wire::UpstreamLimit) -> PyResult<Py<UpstreamLimit>> {
    let reset = limit.reset.as_ref().map(Duration::as_secs_f64);
    Py::new(py, UpstreamLimit { limit: limit.limit, remaining: limit.remaining, reset })
}
