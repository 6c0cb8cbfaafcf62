//! What issues permits and ends them: the inside of a limiter, or of a route.

use crate::clock::Now;
use crate::convert::{instant, known, left_dict, span};
use crate::denial::Denial;
use crate::errors::raise;
use crate::permit::{Permit, Settlement};
use crate::record::Callback;
use crate::spare::Spares;
use crate::store::released;
use crate::waiting::Waiters;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::{Arc, Mutex, PoisonError};
use tokenweir::{Decision, PermitId};
use tokenweir_redb::Renewer;

type Ended = Result<tokenweir::Settlement, tokenweir::Error>;

/// What a Limiter or a Route is made of, and what permits hold of it: it lives until the last of them is gone.
#[pyclass(frozen, module = "tokenweir._native")]
pub struct Issuer {
    pub limiter: tokenweir::Limiter,
    /// Whether the limiter has a store: calls may wait for it, and release the interpreter's lock.
    pub waits: bool,
    route: Option<Arc<tokenweir::Route>>,
    /// A route's limiter.
    of: Option<Py<Issuer>>,
    /// Until it is closed.
    renewer: Mutex<Option<Renewer>>,
    callback: Option<Arc<Callback>>,
    spares: Mutex<Spares>,
    pub waiters: Arc<Waiters>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        if let Some(renewer) = self.renewer.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            released(true, || drop(renewer));
        }
    }
}

impl Issuer {
    pub fn of_limiter(limiter: tokenweir::Limiter, renewer: Option<Renewer>, callback: Option<Arc<Callback>>) -> Self {
        let (waits, renewer) = (renewer.is_some(), Mutex::new(renewer));
        let waiters = Arc::default();
        Issuer { limiter, waits, route: None, of: None, renewer, callback, spares: Mutex::default(), waiters }
    }

    /// Of a route: settling by it needs no look-up.
    pub fn of_route(limiter: &Bound<'_, Issuer>, route: Arc<tokenweir::Route>) -> Self {
        let of = limiter.get();
        Issuer {
            limiter: of.limiter.clone(),
            waits: of.waits,
            route: Some(route),
            of: Some(limiter.clone().unbind()),
            renewer: Mutex::default(),
            callback: None,
            spares: Mutex::default(),
            waiters: of.waiters.clone(),
        }
    }

    /// What renews the leases, for whoever closes the limiter; once.
    pub fn take_renewer(&self) -> Option<Renewer> {
        self.renewer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps no spare permits from now on, because they hold it: its owner is gone.
    pub fn close(&self) {
        let spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner).close();
        drop(spares);
    }

    /// What the observer raised in this call that no call may swallow.
    #[inline(always)]
    pub fn interrupted(&self) -> Option<PyErr> {
        let of = self.of.as_ref().map_or(self, Py::get);
        if of.callback.is_some() { Callback::interruption() } else { None }
    }

    /// A decision, for Python.
    #[inline(always)]
    pub fn decided<'py>(
        issuer: &Bound<'py, Self>,
        decision: Result<Decision<'_>, tokenweir::Error>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(interruption) = issuer.get().interrupted() {
            if let Ok(Decision::Admitted(permit)) = decision {
                // Nobody gets it, so no request goes out.
                let _ = issuer.get().cancel(permit.into_id(), None);
                let _ = issuer.get().interrupted();
            }
            return Err(interruption);
        }
        match decision {
            Ok(Decision::Admitted(permit)) => Self::permit(issuer, permit.into_id()),
            Ok(Decision::Denied(denied)) => Ok(Bound::new(issuer.py(), Denial(denied))?.into_any()),
            Err(error) => Err(raise(error)),
        }
    }

    #[inline(always)]
    fn permit<'py>(issuer: &Bound<'py, Self>, id: PermitId) -> PyResult<Bound<'py, PyAny>> {
        let py = issuer.py();
        let spare = issuer.get().spares.try_lock().ok().and_then(|mut spares| spares.permit(py));
        if let Some(permit) = spare {
            permit.get().begin(id);
            return Ok(permit.into_any());
        }
        // Should there be no memory for the object, it is dropped, and the permit with it.
        Ok(Bound::new(py, Permit::new(issuer.clone().unbind(), id))?.into_any())
    }

    /// How a permit ended, for Python; and the permit is of use again, once nobody holds it.
    #[inline(always)]
    pub fn ended<'py>(
        &self,
        py: Python<'py>,
        settlement: &tokenweir::Settlement,
        permit: Option<&Bound<'py, Permit>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        if let Some(interruption) = self.interrupted() {
            return Err(interruption);
        }
        let spare = self.spares.try_lock().ok().and_then(|mut spares| {
            if let Some(permit) = permit {
                spares.keep(permit);
            }
            spares.settlement(py)
        });
        if let Some(spare) = spare {
            spare.get().set(settlement);
            return Ok(spare);
        }
        let made = Bound::new(py, Settlement::of(settlement))?;
        let before = self.spares.try_lock().ok().and_then(|mut spares| spares.lend(&made));
        drop(before);
        Ok(made)
    }

    /// Ends a permit, and tells who waits for what it held.
    #[inline(always)]
    fn end(&self, id: PermitId, end: impl FnOnce() -> Ended + Send) -> Ended {
        if !self.waiters.any() {
            return released(self.waits, end);
        }
        let held = self.limiter.counters_held(id);
        let ended = released(self.waits, end);
        if ended.is_ok() {
            self.waiters.tell(Some(&held));
        }
        ended
    }

    #[inline(always)]
    pub fn settle(&self, id: PermitId, usage: tokenweir::Usage, now: Option<&Bound<'_, Now>>) -> Ended {
        let now = instant(now);
        self.end(id, || match (&self.route, now) {
            (Some(route), None) => route.settle(id, usage),
            (Some(route), Some(now)) => route.settle_at(id, usage, now),
            (None, None) => self.limiter.settle(id, usage),
            (None, Some(now)) => self.limiter.settle_at(id, usage, now),
        })
    }

    pub fn cancel(&self, id: PermitId, now: Option<&Bound<'_, Now>>) -> Ended {
        let now = instant(now);
        self.end(id, || match (&self.route, now) {
            (Some(route), None) => route.cancel(id),
            (Some(route), Some(now)) => route.cancel_at(id, now),
            (None, None) => self.limiter.cancel(id),
            (None, Some(now)) => self.limiter.cancel_at(id, now),
        })
    }

    pub fn abandon(&self, id: PermitId, now: Option<&Bound<'_, Now>>) -> Ended {
        let now = instant(now);
        self.end(id, || match now {
            None => self.limiter.abandon(id),
            Some(now) => self.limiter.abandon_at(id, now),
        })
    }

    pub fn observe(
        &self,
        id: PermitId,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<bool> {
        let (input, output) = (known("input", input)?.unwrap_or(0), known("output", output)?.unwrap_or(0));
        let now = instant(now);
        let observed = released(self.waits, || match now {
            None => self.limiter.observe(id, input, output),
            Some(now) => self.limiter.observe_at(id, input, output, now),
        });
        observed.map(|observed| observed.spent).map_err(raise)
    }

    pub fn renew(&self, id: PermitId, ttl: &Bound<'_, PyAny>, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        let ttl = span("ttl", ttl)?;
        let renewed = match instant(now) {
            None => self.limiter.renew(id, ttl),
            Some(now) => self.limiter.renew_at(id, ttl, now),
        };
        renewed.map_err(raise)
    }

    /// What each enforced limit of an open permit has left.
    pub fn remaining<'py>(
        &self,
        py: Python<'py>,
        id: PermitId,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        left_dict(py, self.limiter.remaining_at(id, instant(now).unwrap_or_else(|| self.limiter.now())))
    }
}

#[pymethods]
impl Issuer {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.of)?;
        if let Some(callback) = &self.callback {
            callback.traverse(&visit)?;
        }
        // What is not shown, because it is being changed, counts as held from outside.
        self.spares.try_lock().map_or(Ok(()), |spares| spares.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(callback) = &self.callback {
            callback.clear();
        }
        self.close();
    }
}
