//! Refusals.

use crate::convert::{left_dict, seconds};
use crate::policy::Policy;
use crate::value::value;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A refusal, with every limit that refused. It is falsy; nothing was taken.
///
/// The limit that is shown is one that the request never fits, if there is one, else the one with the longest wait.
#[pyclass(frozen, subclass, module = "tokenweir")]
pub struct Denial(pub tokenweir::Denied);

value! {
    /// One limit's refusal.
    Refusal {
        /// The limit's name.
        limit: String,
        /// 429 for a rate, 403 for a quota.
        status: u16,
        /// Nanoseconds after which, with no other traffic, this limit admits the request, or None.
        retry_after_ns: Option<u64>,
        /// The charge is larger than the whole limit: no waiting helps.
        never_fits: bool,
        /// What the limit has left; below 0 is debt.
        remaining: i64,
        /// The largest charge that would fit now.
        fits_now: u64,
    }
    {
        /// Seconds after which, with no other traffic, this limit admits the request. None if no waiting helps.
        #[getter]
        fn retry_after(&self) -> Option<f64> {
            self.retry_after_ns.map(seconds)
        }
    }
}

#[pymethods]
impl Denial {
    /// False.
    #[getter]
    fn admitted(&self) -> bool {
        false
    }

    fn __bool__(&self) -> bool {
        false
    }

    /// The HTTP status to answer with: 429 for a rate, 403 for a quota.
    #[getter]
    fn status(&self) -> u16 {
        self.0.status()
    }

    /// The name of the limit that decided.
    #[getter]
    fn limit(&self) -> &str {
        self.0.limit()
    }

    /// Whether the request is larger than a whole limit, so that no waiting helps.
    #[getter]
    fn never_fits(&self) -> bool {
        self.0.never_fits()
    }

    /// Seconds after which, with no other traffic, the request is admitted, and not before. None if no waiting helps.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        self.retry_after_ns().map(seconds)
    }

    /// `retry_after` in whole nanoseconds, exact.
    #[getter]
    pub fn retry_after_ns(&self) -> Option<u64> {
        self.0.retry_after().map(|wait| wait.as_nanos() as u64)
    }

    /// `retry_after` in whole seconds, rounded up, as the `Retry-After` header has it.
    #[getter]
    fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after_seconds()
    }

    /// Whether it was refused because there is no room for another counter, not because a limit is used up.
    #[getter]
    fn table_full(&self) -> bool {
        self.0.table_full()
    }

    /// Every limit that refused.
    #[getter]
    fn refusals(&self) -> Vec<Refusal> {
        let refusal = |refusal: tokenweir::Refusal<'_>| Refusal {
            limit: refusal.limit.to_owned(),
            status: refusal.status,
            retry_after_ns: refusal.retry_after,
            never_fits: refusal.never_fits,
            remaining: refusal.remaining,
            fits_now: refusal.fits_now,
        };
        self.0.refusals().map(refusal).collect()
    }

    /// The policy that it was decided by.
    #[getter]
    fn policy(&self) -> Policy {
        Policy(self.0.policy().clone())
    }

    /// What each enforced limit of the request has left, by limit name; below 0 is debt.
    #[getter]
    fn remaining<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        left_dict(py, self.0.remaining())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        crate::value::repr(slf.as_any(), &["status", "limit", "retry_after", "never_fits", "remaining"])
    }

    /// `limit "tpm" is used up; retry in 1.5 s`: a sentence for logs and answers.
    fn __str__(&self) -> String {
        let limit = self.0.limit();
        match self.0.retry_after() {
            _ if self.0.table_full() => format!("no room for another counter of limit {limit:?}"),
            _ if self.0.never_fits() => format!("the request is larger than the whole of limit {limit:?}"),
            Some(wait) => format!("limit {limit:?} is used up; retry in {:.3} s", wait.as_secs_f64()),
            None => format!("limit {limit:?} is used up and never resets"),
        }
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a Denial: pass on its status, limit and retry_after"))
    }
}
