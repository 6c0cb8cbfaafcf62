//! What an admitted request holds.

use crate::clock::Now;
use crate::convert::{instant, known, left_dict, span, tokens};
use crate::errors::raise;
use crate::limiter::{Limiter, Route};
use crate::store::released;
use crate::value::repr;
use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokenweir::PermitId;

/// Who issued a permit.
pub enum Issuer {
    Limiter(Py<Limiter>),
    /// Settling by a held route needs no look-up.
    Route(Py<Route>),
}

impl Issuer {
    fn limiter(&self) -> &tokenweir::Limiter {
        match self {
            Issuer::Limiter(limiter) => &limiter.get().inner,
            Issuer::Route(route) => &route.get().limiter,
        }
    }

    /// Whether it has a store; see [`released`].
    fn waits(&self) -> bool {
        match self {
            Issuer::Limiter(limiter) => limiter.get().waits,
            Issuer::Route(route) => route.get().waits,
        }
    }

    /// It, and whether it waits.
    fn party(&self) -> Party<'_> {
        (self.limiter(), self.waits())
    }

    fn settle(&self, id: PermitId, usage: tokenweir::Usage, now: Option<tokenweir::Now>) -> Ended {
        released(self.waits(), || match (self, now) {
            (Issuer::Route(route), None) => route.get().inner.settle(id, usage),
            (Issuer::Route(route), Some(now)) => route.get().inner.settle_at(id, usage, now),
            (Issuer::Limiter(limiter), None) => limiter.get().inner.settle(id, usage),
            (Issuer::Limiter(limiter), Some(now)) => limiter.get().inner.settle_at(id, usage, now),
        })
    }

    fn cancel(&self, id: PermitId, now: Option<tokenweir::Now>) -> Ended {
        released(self.waits(), || match (self, now) {
            (Issuer::Route(route), None) => route.get().inner.cancel(id),
            (Issuer::Route(route), Some(now)) => route.get().inner.cancel_at(id, now),
            (Issuer::Limiter(limiter), None) => limiter.get().inner.cancel(id),
            (Issuer::Limiter(limiter), Some(now)) => limiter.get().inner.cancel_at(id, now),
        })
    }
}

/// A limiter, and whether its calls may wait for a store.
type Party<'a> = (&'a tokenweir::Limiter, bool);

type Ended = Result<tokenweir::Settlement, tokenweir::Error>;

/// How a permit ended.
///
/// `outcome` is `settled`, `cancelled`, `dropped` or `expired`; `input`, `cached_input` and `output` are the tokens that
/// were charged in the end, cached ones within `input`; `estimated` says that a part of this is the estimate, because the
/// usage was absent.
#[pyclass(frozen, eq, module = "tokenweir")]
#[derive(PartialEq)]
pub struct Settlement(pub tokenweir::Settlement);

#[pymethods]
impl Settlement {
    /// The permit's id.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id.get()
    }

    /// `settled`, `cancelled`, `dropped` or `expired`.
    #[getter]
    fn outcome(&self) -> &'static str {
        self.0.outcome.as_str()
    }

    /// Input tokens that were charged in the end, cached ones included.
    #[getter]
    fn input(&self) -> u64 {
        self.0.input
    }

    /// Of these, how many the provider served from its cache.
    #[getter]
    fn cached_input(&self) -> u64 {
        self.0.cached_input
    }

    /// Output tokens that were charged in the end.
    #[getter]
    fn output(&self) -> u64 {
        self.0.output
    }

    /// Whether a part of this is the estimate, because the usage was absent.
    #[getter]
    fn estimated(&self) -> bool {
        self.0.estimated
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["id", "outcome", "input", "cached_input", "output", "estimated"])
    }
}

/// What an admitted request holds until it is settled, exactly once. It is truthy.
///
/// Settle it with what the provider reported, or cancel it if the request never got there. As a context manager, or when
/// it is collected, a permit that is still open ends without a word: its estimate counts as used. `detach()` hands it over
/// to whoever settles by id. Any thread may use it.
#[pyclass(frozen, weakref, module = "tokenweir")]
pub struct Permit {
    issuer: Issuer,
    id: PermitId,
    /// Whether it is still this object that has to end it.
    ours: AtomicBool,
}

impl Permit {
    pub fn new(issuer: Issuer, id: PermitId) -> Self {
        Permit { issuer, id, ours: AtomicBool::new(true) }
    }

    /// The limiter that issued it.
    pub fn limiter(&self) -> &tokenweir::Limiter {
        self.issuer.limiter()
    }

    /// What each enforced limit of its request has left; nothing if it has ended.
    pub fn left(&self, now: tokenweir::Now) -> Vec<(String, i64)> {
        self.limiter().remaining_at(self.id, now)
    }

    pub fn settle_by(&self, usage: tokenweir::Usage, now: Option<tokenweir::Now>) -> PyResult<Settlement> {
        self.ended(self.issuer.settle(self.id, usage, now))
    }

    /// What ended it.
    fn ended(&self, ended: Ended) -> PyResult<Settlement> {
        match ended {
            Ok(settlement) => {
                self.ours.store(false, Relaxed);
                Ok(Settlement(settlement))
            }
            Err(error) => {
                if matches!(error, tokenweir::Error::PermitSettled { .. }) {
                    self.ours.store(false, Relaxed);
                }
                Err(raise(error))
            }
        }
    }

    /// Ends it without a word, if that is still to be done.
    fn let_go(&self) {
        if self.ours.swap(false, Relaxed) {
            // An expired permit has been settled already; there is nobody to tell.
            let _ = abandon(self.issuer.party(), self.id, None);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[pymethods]
impl Permit {
    /// True.
    #[getter]
    fn admitted(&self) -> bool {
        true
    }

    fn __bool__(&self) -> bool {
        true
    }

    /// The permit's id: the same permit, by number.
    #[getter]
    fn id(&self) -> u64 {
        self.id.get()
    }

    /// Reports `input` and `output` tokens more that a stream has brought; what goes beyond the estimate is charged at once.
    ///
    /// Returns whether a limit of the request has nothing left or is in debt: a runaway stream may be cut short then.
    /// Raises PermitError if the permit has ended, UsageError if the sum is beyond 2**53.
    #[pyo3(signature = (input=None, output=None, *, now=None),
           text_signature = "($self, input=0, output=0, *, now=None)")]
    fn observe(
        &self,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<bool> {
        observe(self.issuer.party(), self.id, input, output, now)
    }

    /// Settles the permit with what the provider reported, in whole tokens; `cached_input` are those of the input that came
    /// from the provider's cache. What is None or left out is unknown, and its estimate stands; it is not 0.
    ///
    /// What was held beyond the usage is given back, what was used beyond the estimate is charged. Raises UsageError, after
    /// which the permit is still open, and PermitError if it has ended before.
    #[pyo3(signature = (input=None, output=None, *, cached_input=None, now=None))]
    fn settle(
        &self,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        cached_input: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Settlement> {
        self.settle_by(usage(input, output, cached_input)?, instant(now))
    }

    /// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
    /// request. Raises PermitError if it has ended before.
    #[pyo3(signature = (*, now=None))]
    fn cancel(&self, now: Option<&Bound<'_, Now>>) -> PyResult<Settlement> {
        self.ended(self.issuer.cancel(self.id, instant(now)))
    }

    /// Ends the permit without a word of usage: its estimate stands. Raises PermitError if it has ended before.
    #[pyo3(signature = (*, now=None))]
    fn abandon(&self, now: Option<&Bound<'_, Now>>) -> PyResult<Settlement> {
        self.ended(abandon(self.issuer.party(), self.id, now))
    }

    /// Lets the permit live for `ttl` seconds from now on, for streams longer than the limiter's `permit_ttl`. Raises
    /// PermitError if it has ended.
    #[pyo3(signature = (ttl, *, now=None))]
    fn renew(&self, ttl: f64, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        renew(self.issuer.limiter(), self.id, ttl, now)
    }

    /// Hands the permit over to whoever settles it by id: from here on this object lets it live. Returns the id.
    fn detach(&self) -> u64 {
        self.ours.store(false, Relaxed);
        self.id.get()
    }

    /// What each enforced limit of the request has left, by limit name; below 0 is debt. Empty if the permit has ended.
    #[pyo3(signature = (*, now=None))]
    fn remaining<'py>(&self, py: Python<'py>, now: Option<&Bound<'py, Now>>) -> PyResult<Bound<'py, PyDict>> {
        remaining(py, self.issuer.limiter(), self.id, now)
    }

    /// The shadow limits that would have refused the request. They were not charged for it. Empty if the permit has ended.
    fn shadow_refused(&self) -> Vec<String> {
        self.issuer.limiter().shadow_refused(self.id)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Ends the permit without a word, unless it has ended or was detached.
    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.let_go();
    }

    fn __repr__(&self) -> String {
        let state = if self.ours.load(Relaxed) { "open" } else { "ended or detached" };
        format!("<Permit {} {state}>", self.id.get())
    }

    fn __reduce__(&self) -> PyResult<()> {
        let reason = "cannot pickle a Permit: what it holds lives in this process; detach() it and settle by id here";
        Err(PyTypeError::new_err(reason))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.issuer {
            Issuer::Limiter(limiter) => visit.call(limiter),
            Issuer::Route(route) => visit.call(route),
        }
    }
}

/// What a provider reported.
pub fn usage(
    input: Option<&Bound<'_, PyAny>>,
    output: Option<&Bound<'_, PyAny>>,
    cached_input: Option<&Bound<'_, PyAny>>,
) -> PyResult<tokenweir::Usage> {
    Ok(tokenweir::Usage {
        input: known("input", input)?,
        cached_input: known("cached_input", cached_input)?,
        output: known("output", output)?,
    })
}

/// The id of a permit, by its number.
pub struct Number(pub PermitId);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(number: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number = number.to_owned();
        let id = number.extract().ok().and_then(PermitId::new).map(Number);
        id.ok_or_else(|| {
            PyValueError::new_err(format!("{number} is no permit id; use the id that an admission returned"))
        })
    }
}

pub fn observe(
    (limiter, waits): Party<'_>,
    id: PermitId,
    input: Option<&Bound<'_, PyAny>>,
    output: Option<&Bound<'_, PyAny>>,
    now: Option<&Bound<'_, Now>>,
) -> PyResult<bool> {
    let more = |what, value: Option<&Bound<'_, PyAny>>| value.map_or(Ok(0), |value| tokens(what, value));
    let (input, output) = (more("input", input)?, more("output", output)?);
    let now = instant(now);
    let observed = released(waits, || match now {
        None => limiter.observe(id, input, output),
        Some(now) => limiter.observe_at(id, input, output, now),
    });
    observed.map(|observed| observed.spent).map_err(raise)
}

pub fn abandon((limiter, waits): Party<'_>, id: PermitId, now: Option<&Bound<'_, Now>>) -> Ended {
    let now = instant(now);
    released(waits, || match now {
        None => limiter.abandon(id),
        Some(now) => limiter.abandon_at(id, now),
    })
}

pub fn renew(limiter: &tokenweir::Limiter, id: PermitId, ttl: f64, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
    let ttl = span("ttl", ttl)?;
    let renewed = match instant(now) {
        None => limiter.renew(id, ttl),
        Some(now) => limiter.renew_at(id, ttl, now),
    };
    renewed.map_err(raise)
}

pub fn remaining<'py>(
    py: Python<'py>,
    limiter: &tokenweir::Limiter,
    id: PermitId,
    now: Option<&Bound<'_, Now>>,
) -> PyResult<Bound<'py, PyDict>> {
    left_dict(py, limiter.remaining_at(id, instant(now).unwrap_or_else(|| limiter.now())))
}
