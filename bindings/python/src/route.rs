//! Routes, held for callers that come again.

use crate::clock::Now;
use crate::convert::{instant, tokens};
use crate::errors::refused;
use crate::issuer::Issuer;
use crate::limiter::Limiter;
use crate::permit::Permit;
use crate::store::released;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;

/// Who calls what, resolved: the quickest way to decide for callers that come again.
///
/// Any thread may use it. It keeps its counters in the table as long as it lives, and follows a change of policy by itself.
#[pyclass(frozen, weakref, module = "tokenweir")]
pub struct Route {
    inner: Arc<tokenweir::Route>,
    /// The project and the deployment.
    of: (Py<PyAny>, Py<PyAny>),
    issuer: Py<Issuer>,
    owner: Py<Limiter>,
}

impl Route {
    pub fn new(
        owner: &Bound<'_, Limiter>,
        of: &Bound<'_, Issuer>,
        (project, deployment): (&Bound<'_, PyAny>, &Bound<'_, PyAny>),
        inner: tokenweir::Route,
    ) -> PyResult<Self> {
        let inner = Arc::new(inner);
        let issuer = Py::new(of.py(), Issuer::of_route(of, inner.clone()))?;
        let of = (project.clone().unbind(), deployment.clone().unbind());
        Ok(Route { inner, of, issuer, owner: owner.clone().unbind() })
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.issuer.get().close();
    }
}

#[pymethods]
impl Route {
    /// Decides as Limiter.admit does.
    #[pyo3(signature = (input=None, output=None, *, now=None),
           text_signature = "($self, input=0, output=0, *, now=None)")]
    fn admit<'py>(
        slf: &Bound<'py, Self>,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let estimate = estimate(input, output)?;
        let (route, issuer, now) = (&slf.get().inner, slf.get().issuer.bind(slf.py()), instant(now));
        let decision = released(issuer.get().waits, || match now {
            None => route.admit(estimate),
            Some(now) => route.admit_at(estimate, now),
        });
        Issuer::decided(issuer, decision)
    }

    /// Admits, or raises Denied, as Limiter.reserve does.
    #[pyo3(signature = (input=None, output=None, *, now=None),
           text_signature = "($self, input=0, output=0, *, now=None)")]
    fn reserve<'py>(
        slf: &Bound<'py, Self>,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        granted(Self::admit(slf, input, output, now)?)
    }

    /// The limiter that it belongs to.
    #[getter]
    fn limiter(&self, py: Python<'_>) -> Py<Limiter> {
        self.owner.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<Route of {} to {}>", self.of.0.bind(py).repr()?, self.of.1.bind(py).repr()?))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a Route: its counters live in this process; make one per process"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.of.0)?;
        visit.call(&self.of.1)?;
        visit.call(&self.issuer)?;
        visit.call(&self.owner)
    }
}

/// What a request is expected to take.
pub fn estimate(input: Option<&Bound<'_, PyAny>>, output: Option<&Bound<'_, PyAny>>) -> PyResult<tokenweir::Estimate> {
    let expected = |what, value: Option<&Bound<'_, PyAny>>| value.map_or(Ok(0), |value| tokens(what, value));
    Ok(tokenweir::Estimate::new(expected("input", input)?, expected("output", output)?))
}

/// A permit, or the refusal raised.
pub fn granted(decision: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    if decision.is_instance_of::<Permit>() { Ok(decision) } else { Err(refused(decision.py(), decision)) }
}
