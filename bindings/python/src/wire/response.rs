//! Responses.

use super::endpoint;
use crate::clock::Now;
use crate::convert::body;
use crate::permit::{Permit, Settlement};
use crate::value::{repr, value};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokenweir_wire::{Ended, Framing};

value! {
    /// The tokens of one call, as its provider reports them. None is unknown, not 0.
    ///
    /// The parts are within the wholes, whatever the provider's own habit.
    TokenUsage as "tokenweir.wire" {
        /// All input tokens.
        input: Option<u64>,
        /// Those of them that came from the provider's cache.
        cached_input: Option<u64>,
        /// Those of them that were written to the provider's cache.
        cache_write: Option<u64>,
        /// Those of them that are audio.
        audio_input: Option<u64>,
        /// All output tokens.
        output: Option<u64>,
        /// Those of them that are reasoning.
        reasoning: Option<u64>,
        /// Those of them that are audio.
        audio_output: Option<u64>,
    }
}

value! {
    /// What a response has used.
    Measured as "tokenweir.wire" {
        /// The tokens, as TokenUsage: as the provider reported them, and where it did not, the output as it was counted.
        usage: Py<TokenUsage>,
        /// Whether input or output is not what the provider reported for the whole answer.
        estimated: bool,
        /// How the response ended, by its own word: `complete`, `failed` (it said so) or `broken` (it stopped in the middle).
        ended: &'static str,
    }
}

/// Reads the usage out of one response, chunk by chunk, and counts what it can see until then: `ResponseMeter(path_or_api,
/// content_type=None, *, delta_usage=False)`.
///
/// `content_type` is the header's value: server-sent events if it is `text/event-stream`, else JSON. `delta_usage` is for
/// an upstream whose reports each count what came since the one before; no provider known does that. Chunks may be cut
/// anywhere; memory stays below 8 KiB whatever comes, and nothing that comes is an error. The bytes must be plain, not
/// compressed. Any thread may feed it, one after the other.
#[pyclass(frozen, module = "tokenweir.wire")]
pub struct ResponseMeter(Mutex<tokenweir_wire::ResponseMeter>);

impl ResponseMeter {
    fn meter(&self) -> MutexGuard<'_, tokenweir_wire::ResponseMeter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl ResponseMeter {
    #[new]
    #[pyo3(signature = (path_or_api, content_type=None, *, delta_usage=false))]
    fn new(path_or_api: &str, content_type: Option<&str>, delta_usage: bool) -> PyResult<Self> {
        let meter = tokenweir_wire::ResponseMeter::new(endpoint(path_or_api)?.api, Framing::of(content_type));
        Ok(ResponseMeter(Mutex::new(if delta_usage { meter.with_delta_usage() } else { meter })))
    }

    /// Takes the next chunk in. Returns the output tokens that it adds to what earlier calls returned: what Permit.observe
    /// wants to know.
    fn feed(&self, chunk: &Bound<'_, PyAny>) -> PyResult<u64> {
        let chunk = body("chunk", chunk)?;
        Ok(self.meter().feed(&chunk))
    }

    /// The output tokens that have been reported or counted so far.
    #[getter]
    fn output_so_far(&self) -> u64 {
        self.meter().output_so_far()
    }

    /// What the response has used, if it ends here.
    fn measured(&self, py: Python<'_>) -> PyResult<Measured> {
        let measured = self.meter().measured();
        let usage = measured.usage;
        let usage = TokenUsage {
            input: usage.input,
            cached_input: usage.cached_input,
            cache_write: usage.cache_write,
            audio_input: usage.audio_input,
            output: usage.output,
            reasoning: usage.reasoning,
            audio_output: usage.audio_output,
        };
        let ended = match measured.ended {
            Ended::Complete => "complete",
            Ended::Failed => "failed",
            // The crate may tell more apart than this package does.
            _ => "broken",
        };
        Ok(Measured { usage: Py::new(py, usage)?, estimated: measured.estimated, ended })
    }

    /// Settles a permit with what the response has used, if it ends here: where a figure is unknown, the estimate stands.
    /// Raises what Permit.settle raises.
    #[pyo3(signature = (permit, *, now=None))]
    fn settle<'py>(
        &self,
        permit: &Bound<'py, Permit>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let usage = self.meter().measured().usage;
        Permit::settle_by(permit, usage.into(), now)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["output_so_far"])
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle a ResponseMeter: it is in the middle of a response; pass on measured()",
        ))
    }
}

/// Withholds from a client the one chunk of a stream that it did not ask for, the one with the usage and no choices:
/// `UsageChunkFilter()`, for one stream.
///
/// All else passes as it came, to the byte, an event at a time: at most one is held back, and of that at most 4 KiB. Feed a
/// ResponseMeter with what the model sent, before this.
#[pyclass(frozen, module = "tokenweir.wire")]
pub struct UsageChunkFilter(Mutex<Option<tokenweir_wire::UsageChunkFilter>>);

impl UsageChunkFilter {
    fn filter(&self) -> MutexGuard<'_, Option<tokenweir_wire::UsageChunkFilter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl UsageChunkFilter {
    #[new]
    fn new() -> Self {
        UsageChunkFilter(Mutex::new(Some(tokenweir_wire::UsageChunkFilter::new())))
    }

    /// Takes the next chunk in, and returns what the client may have. ValueError after `finish`.
    fn feed<'py>(&self, chunk: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = body("chunk", chunk)?;
        let mut out = Vec::with_capacity(bytes.len());
        match &mut *self.filter() {
            Some(filter) => filter.feed(&bytes, &mut out),
            None => return Err(PyValueError::new_err("the stream is finished; make a filter for each stream")),
        }
        Ok(PyBytes::new(chunk.py(), &out))
    }

    /// The stream is over: what was held back of an event without an end. Nothing the second time.
    fn finish<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let mut out = Vec::new();
        if let Some(filter) = self.filter().take() {
            filter.finish(&mut out);
        }
        PyBytes::new(py, &out)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a UsageChunkFilter: it is in the middle of a stream"))
    }
}
