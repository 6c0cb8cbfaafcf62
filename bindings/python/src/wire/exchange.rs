//! One admitted call, from its admission to its end.

use super::dialect::Dialect;
use super::endpoint;
use crate::clock::Now;
use crate::convert::{body, instant};
use crate::permit::Permit;
use crate::record::Estimate;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokenweir::{PermitId, Usage};
use tokenweir_wire::{CallRules, Characters, Cut, Failed, Passed, ResponseHead, ResponseWatch, Unanswered};

/// Follows one admitted call of which the request is sent: `Exchange(path_or_api, permit, estimate, *, cut="quota",
/// failed="nothing", unanswered="estimate", now=None)`. It says what of the response goes to the client, observes it on its
/// way, keeps the permit alive, cuts a stream short whose limits are spent, and says by what to settle the permit, which
/// stays the host's to do. ValueError for a word that is not known.
///
/// `estimate` is what was charged. `cut`: which limits cut a stream that has used more than that (`never`, `quota`, `any`);
/// `failed`: what a call counts that is answered with an error (`nothing`, `estimate`); `unanswered`: one that never is
/// (`estimate`, `input`, `nothing`). Any thread may use it, one after the other.
#[pyclass(frozen, module = "tokenweir.wire")]
pub struct Exchange {
    limiter: tokenweir::Limiter,
    state: Mutex<State>,
}

#[allow(clippy::large_enum_variant)]
enum State {
    Sent(tokenweir_wire::Exchange),
    Answered(ResponseWatch<Characters>),
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, now: Option<&Bound<'_, Now>>) -> tokenweir::Now {
        instant(now).unwrap_or_else(|| self.limiter.now())
    }
}

fn word<T>(what: &str, given: &str, found: Option<T>, words: &str) -> PyResult<T> {
    found.ok_or_else(|| PyValueError::new_err(format!("{what} is {given:?}; give one of {words}")))
}

#[pymethods]
impl Exchange {
    #[new]
    #[pyo3(signature = (path_or_api, permit, estimate, *, cut="quota", failed="nothing", unanswered="estimate", now=None))]
    fn new(
        path_or_api: &str,
        permit: &Bound<'_, Permit>,
        estimate: &Bound<'_, Estimate>,
        cut: &str,
        failed: &str,
        unanswered: &str,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Self> {
        let rules = CallRules::new(
            word("cut", cut, Cut::from_word(cut), "never, quota, any")?,
            word("failed", failed, Failed::from_word(failed), "nothing, estimate")?,
            word("unanswered", unanswered, Unanswered::from_word(unanswered), "estimate, input, nothing")?,
        );
        let limiter = permit.get().limiter().clone();
        let id = PermitId::new(permit.getattr("id")?.extract()?);
        let estimate = estimate.get();
        let charged = tokenweir::Estimate::new(estimate.input, estimate.output);
        let now = instant(now).unwrap_or_else(|| limiter.now());
        let exchange = tokenweir_wire::Exchange::new(Some(endpoint(path_or_api)?.api), charged, id, rules, now);
        Ok(Exchange { limiter, state: Mutex::new(State::Sent(exchange)) })
    }

    /// Whether the permit has expired before the answer came, so that the answer would be had for the estimate, whatever it
    /// says: 504 is for the client then.
    #[pyo3(signature = (*, now=None))]
    fn has_expired(&self, now: Option<&Bound<'_, Now>>) -> bool {
        let now = self.now(now);
        match &mut *self.state() {
            State::Sent(exchange) => exchange.has_expired(&self.limiter, now),
            State::Answered(_) => false,
        }
    }

    /// The head of the answer has come. `dialect`: in whose words its client is told why a stream ends; `withhold_usage`: the
    /// usage at the end of a stream was asked for, and not by the client. ValueError the second time.
    #[pyo3(signature = (status, content_type=None, content_encoding=None, *, dialect, withhold_usage=false))]
    fn answered(
        &self,
        status: u16,
        content_type: Option<&str>,
        content_encoding: Option<&str>,
        dialect: &Bound<'_, Dialect>,
        withhold_usage: bool,
    ) -> PyResult<()> {
        let mut state = self.state();
        let State::Sent(exchange) = &*state else {
            return Err(PyValueError::new_err("the call has been answered; make an Exchange for each call"));
        };
        let head = ResponseHead { status, content_type, content_encoding };
        let watch = exchange.clone().answered(head, dialect.get().0, withhold_usage, Characters::default());
        *state = State::Answered(watch);
        Ok(())
    }

    /// Whether what goes to the client is as long as what comes, unless the permit expires.
    #[getter]
    fn keeps_length(&self) -> bool {
        match &*self.state() {
            State::Sent(_) => true,
            State::Answered(watch) => watch.keeps_length(),
        }
    }

    /// The next piece of the response has come; `last`: no more will. Returns the bytes for the client, and whether the
    /// response ends with them though it has not come to its end.
    #[pyo3(signature = (piece, *, last=false, now=None))]
    fn passes<'py>(
        &self,
        py: Python<'py>,
        piece: &Bound<'py, PyAny>,
        last: bool,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        let bytes = body("piece", piece)?;
        let now = self.now(now);
        // A limiter with a store may wait for it.
        let passed = py.detach(|| match &mut *self.state() {
            State::Sent(_) => None,
            State::Answered(watch) => Some(watch.passes(&bytes, last, &self.limiter, now)),
        });
        match passed {
            Some(Passed::Whole) => Ok((PyBytes::new(py, &bytes), false)),
            Some(Passed::Part(part)) => Ok((PyBytes::new(py, &part), false)),
            Some(Passed::Last(part)) => Ok((PyBytes::new(py, &part), true)),
            None => Err(PyValueError::new_err("the head of the answer comes first; call answered() with it")),
        }
    }

    /// By what the call is settled if it ends here, as Permit.settle takes it: input, output and cached input, None where the
    /// estimate stands. `unanswered`: it was sent, and there will be no answer.
    #[pyo3(signature = (*, unanswered=false))]
    fn used(&self, unanswered: bool) -> (Option<u64>, Option<u64>, Option<u64>) {
        // The times that a record would have are not told.
        let now = tokenweir::Now::new(0, 0);
        let usage = match &*self.state() {
            State::Sent(exchange) if unanswered => exchange.unanswered(now).usage,
            State::Sent(_) => Usage::UNKNOWN,
            State::Answered(watch) => watch.completion(now).usage,
        };
        (usage.input, usage.output, usage.cached_input)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle an Exchange: it is in the middle of a call"))
    }
}
