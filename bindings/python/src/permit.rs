//! What an admitted request holds.

use crate::clock::Now;
use crate::convert::known;
use crate::errors::raise;
use crate::issuer::Issuer;
use crate::value::{reduce, repr};
use pyo3::PyTraverseError;
use pyo3::PyVisit;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokenweir::{Outcome, PermitId};

/// How a permit ended.
///
/// `outcome` is `settled`, `cancelled`, `dropped` or `expired`; `input`, `cached_input` and `output` are the tokens that
/// were charged in the end, cached ones within `input`; `estimated` says that a part of this is the estimate, because the
/// usage was absent.
#[pyclass(frozen, eq, module = "tokenweir")]
#[derive(Default)]
pub struct Settlement {
    // They are set once for whoever it is given to; see `spare`.
    id: AtomicU64,
    /// Position in `Outcome::ALL`.
    outcome: AtomicUsize,
    input: AtomicU64,
    cached_input: AtomicU64,
    output: AtomicU64,
    estimated: AtomicBool,
}

impl Settlement {
    pub fn of(settlement: &tokenweir::Settlement) -> Self {
        let made = Settlement::default();
        made.set(settlement);
        made
    }

    #[inline(always)]
    pub fn set(&self, settlement: &tokenweir::Settlement) {
        self.id.store(settlement.id.get(), Relaxed);
        self.outcome.store(settlement.outcome as usize, Relaxed);
        self.input.store(settlement.input, Relaxed);
        self.cached_input.store(settlement.cached_input, Relaxed);
        self.output.store(settlement.output, Relaxed);
        self.estimated.store(settlement.estimated, Relaxed);
    }
}

impl PartialEq for Settlement {
    fn eq(&self, other: &Self) -> bool {
        let tokens = |of: &Self| (of.input(), of.cached_input(), of.output(), of.estimated());
        self.id() == other.id() && self.outcome() == other.outcome() && tokens(self) == tokens(other)
    }
}

const FIELDS: [&str; 6] = ["id", "outcome", "input", "cached_input", "output", "estimated"];

#[pymethods]
impl Settlement {
    /// The permit's id.
    #[getter]
    fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    /// `settled`, `cancelled`, `dropped` or `expired`.
    #[getter]
    fn outcome(&self) -> &'static str {
        Outcome::ALL[self.outcome.load(Relaxed)].as_str()
    }

    /// Input tokens that were charged in the end, cached ones included.
    #[getter]
    fn input(&self) -> u64 {
        self.input.load(Relaxed)
    }

    /// Of these, how many the provider served from its cache.
    #[getter]
    fn cached_input(&self) -> u64 {
        self.cached_input.load(Relaxed)
    }

    /// Output tokens that were charged in the end.
    #[getter]
    fn output(&self) -> u64 {
        self.output.load(Relaxed)
    }

    /// Whether a part of this is the estimate, because the usage was absent.
    #[getter]
    fn estimated(&self) -> bool {
        self.estimated.load(Relaxed)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &FIELDS)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        reduce(slf.as_any(), &FIELDS)
    }

    #[staticmethod]
    fn _unpickled(fields: (u64, String, u64, u64, u64, bool)) -> PyResult<Self> {
        let (id, outcome, input, cached_input, output, estimated) = fields;
        let known = Outcome::ALL.iter().position(|known| known.as_str() == outcome.as_str());
        let outcome = known
            .ok_or_else(|| PyValueError::new_err(format!("{outcome:?} is no outcome of this version of tokenweir")))?;
        Ok(Settlement {
            id: id.into(),
            outcome: outcome.into(),
            input: input.into(),
            cached_input: cached_input.into(),
            output: output.into(),
            estimated: estimated.into(),
        })
    }
}

/// What an admitted request holds until it is settled, exactly once. It is truthy.
///
/// Settle it with what the provider reported, or cancel it if the request never got there. As a context manager, or when
/// it is collected, a permit that is still open ends without a word: its estimate counts as used. `detach()` hands it over
/// to whoever settles by id. Any thread may use it.
#[pyclass(frozen, module = "tokenweir")]
pub struct Permit {
    issuer: Py<Issuer>,
    /// It is another one when the object is used again; see `spare`.
    id: AtomicU64,
    /// Whether it is still this object that has to end it.
    ours: AtomicBool,
}

impl Permit {
    pub fn new(issuer: Py<Issuer>, id: PermitId) -> Self {
        Permit { issuer, id: AtomicU64::new(id.get()), ours: AtomicBool::new(true) }
    }

    /// Uses the object for another permit: nobody holds it.
    #[inline]
    pub fn begin(&self, id: PermitId) {
        self.id.store(id.get(), Relaxed);
        self.ours.store(true, Relaxed);
    }

    #[inline]
    fn permit(&self) -> PermitId {
        const NOBODYS: PermitId = match PermitId::new(u64::MAX) {
            Some(id) => id,
            None => panic!("above 0"),
        };
        PermitId::new(self.id.load(Relaxed)).unwrap_or(NOBODYS)
    }

    /// The limiter that issued it.
    pub fn limiter(&self) -> &tokenweir::Limiter {
        &self.issuer.get().limiter
    }

    /// What each enforced limit of its request has left; nothing if it has ended.
    pub fn left(&self, now: tokenweir::Now) -> Vec<(String, i64)> {
        self.limiter().remaining_at(self.permit(), now)
    }

    #[inline(always)]
    pub fn settle_by<'py>(
        slf: &Bound<'py, Self>,
        usage: tokenweir::Usage,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let permit = slf.get();
        Self::ended(slf, permit.issuer.get().settle(permit.permit(), usage, now))
    }

    /// What ended it.
    #[inline(always)]
    fn ended<'py>(
        slf: &Bound<'py, Self>,
        ended: Result<tokenweir::Settlement, tokenweir::Error>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let permit = slf.get();
        match ended {
            Ok(settlement) => {
                permit.ours.store(false, Relaxed);
                permit.issuer.get().ended(slf.py(), &settlement, Some(slf))
            }
            Err(error) => {
                if matches!(error, tokenweir::Error::PermitSettled { .. }) {
                    permit.ours.store(false, Relaxed);
                }
                Err(raise(error))
            }
        }
    }

    /// Ends it without a word, if that is still to be done. What the observer raised then that no call may swallow.
    fn let_go(&self) -> PyResult<()> {
        if self.ours.swap(false, Relaxed) {
            // An expired permit has been settled already; there is nobody to tell.
            let _ = self.issuer.get().abandon(self.permit(), None);
            if let Some(interruption) = self.issuer.get().interrupted() {
                return Err(interruption);
            }
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Err(interruption) = self.let_go() {
            // Nothing can be raised where an object is freed: Python says it as it does of `__del__`.
            Python::attach(|py| interruption.write_unraisable(py, None));
        }
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
        self.permit().get()
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
        self.issuer.get().observe(self.permit(), input, output, now)
    }

    /// Settles the permit with what the provider reported, in whole tokens; `cached_input` are those of the input that came
    /// from the provider's cache. What is None or left out is unknown, and its estimate stands; it is not 0.
    ///
    /// What was held beyond the usage is given back, what was used beyond the estimate is charged. Raises UsageError, after
    /// which the permit is still open, and PermitError if it has ended before.
    #[pyo3(signature = (input=None, output=None, *, cached_input=None, now=None))]
    fn settle<'py>(
        slf: &Bound<'py, Self>,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        cached_input: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        Self::settle_by(slf, usage(input, output, cached_input)?, now)
    }

    /// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
    /// request. Raises PermitError if it has ended before.
    #[pyo3(signature = (*, now=None))]
    fn cancel<'py>(slf: &Bound<'py, Self>, now: Option<&Bound<'py, Now>>) -> PyResult<Bound<'py, Settlement>> {
        Self::ended(slf, slf.get().issuer.get().cancel(slf.get().permit(), now))
    }

    /// Ends the permit without a word of usage: its estimate stands. Raises PermitError if it has ended before.
    #[pyo3(signature = (*, now=None))]
    fn abandon<'py>(slf: &Bound<'py, Self>, now: Option<&Bound<'py, Now>>) -> PyResult<Bound<'py, Settlement>> {
        Self::ended(slf, slf.get().issuer.get().abandon(slf.get().permit(), now))
    }

    /// Lets the permit live for `ttl` from now on, in seconds or as a timedelta, for streams longer than the limiter's
    /// `permit_ttl`. Raises PermitError if it has ended, ValueError if `ttl` is below 0.
    #[pyo3(signature = (ttl, *, now=None))]
    fn renew(&self, ttl: &Bound<'_, PyAny>, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        self.issuer.get().renew(self.permit(), ttl, now)
    }

    /// Hands the permit over to whoever settles it by id: from here on this object lets it live. Returns the id.
    fn detach(&self) -> u64 {
        self.ours.store(false, Relaxed);
        self.permit().get()
    }

    /// What each enforced limit of the request has left, by limit name; below 0 is debt. Empty if the permit has ended.
    #[pyo3(signature = (*, now=None))]
    fn remaining<'py>(&self, py: Python<'py>, now: Option<&Bound<'py, Now>>) -> PyResult<Bound<'py, PyDict>> {
        self.issuer.get().remaining(py, self.permit(), now)
    }

    /// The shadow limits that would have refused the request. They were not charged for it. Empty if the permit has ended.
    fn shadow_refused(&self) -> Vec<String> {
        self.limiter().shadow_refused(self.permit())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Ends the permit without a word, unless it has ended or was detached.
    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.let_go()
    }

    fn __repr__(&self) -> String {
        let state = match (self.limiter().is_open(self.permit()), self.ours.load(Relaxed)) {
            (true, true) => "open",
            (true, false) => "detached",
            (false, _) => "ended",
        };
        format!("<Permit {} {state}>", self.permit().get())
    }

    fn __reduce__(&self) -> PyResult<()> {
        let reason = "cannot pickle a Permit: what it holds lives in this process; detach() it and settle by id here";
        Err(PyTypeError::new_err(reason))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.issuer)
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
