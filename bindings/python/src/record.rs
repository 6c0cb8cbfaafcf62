//! Decisions and settlements for who watches: by polling, or as they happen.

use crate::clock::Now;
use crate::convert::{count, text};
use crate::denial::Denial;
use crate::permit::Settlement;
use crate::value::value;
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use tokenweir::{Decided, Event, Observer, Settled};

value! {
    /// The tokens that the host expected a request to take.
    Estimate {
        /// Input (prompt) tokens.
        input: u64,
        /// The most output tokens.
        output: u64,
    }
}

value! {
    /// The tokens that the host reported of a request. None is unknown, not 0.
    Usage {
        /// Input tokens, the cached ones included.
        input: Option<u64>,
        /// Input tokens that the provider served from its cache.
        cached_input: Option<u64>,
        /// Output tokens.
        output: Option<u64>,
    }
}

value! {
    /// A decision or a settlement.
    Record {
        /// `admitted`, `denied` or `settled`.
        event: &'static str,
        /// When, as Now.
        at: Now,
        /// The project that called.
        project: Py<PyString>,
        /// The deployment that it called.
        deployment: Py<PyString>,
        /// What the host expected it to take, as Estimate.
        estimate: Py<Estimate>,
        /// The permit's id; None of what was denied.
        permit: Option<u64>,
        /// Whether a shadow limit would have refused what was admitted.
        shadow_refused: bool,
        /// The refusal, if it was denied.
        denial: Option<Py<Denial>>,
        /// How the permit ended, if it was settled.
        settlement: Option<Py<Settlement>>,
        /// What the host reported, if it was settled, as Usage.
        usage: Option<Py<Usage>>,
    }
}

impl Record {
    fn new(
        py: Python<'_>,
        at: tokenweir::Now,
        (project, deployment): (&[u8], &[u8]),
        estimate: tokenweir::Estimate,
        event: Event,
    ) -> PyResult<Self> {
        let estimate = Estimate { input: estimate.input, output: estimate.output };
        let mut record = Record {
            event: event.as_str(),
            at: Now(at),
            project: text(py, project)?.unbind(),
            deployment: text(py, deployment)?.unbind(),
            estimate: Py::new(py, estimate)?,
            permit: None,
            shadow_refused: false,
            denial: None,
            settlement: None,
            usage: None,
        };
        match event {
            Event::Admitted { permit, shadow_refused } => {
                record.permit = Some(permit.get());
                record.shadow_refused = shadow_refused;
            }
            Event::Denied(denied) => {
                record.denial = Some(Py::new(py, Denial(denied))?);
            }
            Event::Settled { settlement, usage } => {
                record.permit = Some(settlement.id.get());
                record.settlement = Some(Py::new(py, Settlement::of(&settlement))?);
                let tokenweir::Usage { input, cached_input, output } = usage;
                record.usage = Some(Py::new(py, Usage { input, cached_input, output })?);
            }
            // The core may learn of more events than this package shows the particulars of.
            _ => {}
        }
        Ok(record)
    }
}

/// Decisions and settlements for whoever polls: `RecordRing(capacity)`, given to a Limiter as its observer.
///
/// Writing never waits for a reader. When the ring is full the newest record is dropped and `lost` counts it. Any number of
/// threads decide and any number poll; a permit's decision comes before its settlement. It takes about 400 bytes for each
/// record, at once; the capacity is rounded up to a power of two, from 2 to 2**20.
#[pyclass(frozen, module = "tokenweir")]
pub struct RecordRing(pub Arc<tokenweir::RecordRing>);

#[pymethods]
impl RecordRing {
    #[new]
    fn new(capacity: &Bound<'_, PyAny>) -> PyResult<Self> {
        let capacity = count("capacity", capacity, 0)?;
        Ok(RecordRing(Arc::new(tokenweir::RecordRing::new(capacity))))
    }

    /// The oldest record that nobody has read yet; None if there is none.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        let record = |record: tokenweir::Record| {
            Record::new(py, record.at, (record.project(), record.deployment()), record.estimate, record.event.clone())
        };
        self.0.poll().map(record).transpose()
    }

    /// How many records it holds at most.
    #[getter]
    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// How many records were dropped because it was full.
    #[getter]
    fn lost(&self) -> u64 {
        self.0.lost()
    }

    fn __repr__(&self) -> String {
        format!("<RecordRing of {}: {} lost>", self.0.capacity(), self.0.lost())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a RecordRing: a limiter of this process writes it"))
    }
}

thread_local! {
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// A callable that is told of everything, on the thread that did it.
pub struct Callback(Mutex<Option<Py<PyAny>>>);

impl Callback {
    pub fn new(callable: Py<PyAny>) -> Self {
        Callback(Mutex::new(Some(callable)))
    }

    /// Shows the callable to the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(callable) => visit.call(&*callable),
            Err(_) => Ok(()),
        }
    }

    /// Lets go of it: the limiter is garbage.
    pub fn clear(&self) {
        let callable = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(callable);
    }

    /// What the callable has raised on this thread that is no Exception: whoever has called the limiter gets it.
    pub fn interruption() -> Option<PyErr> {
        RAISED.with(|raised| raised.borrow_mut().take())
    }

    fn tell(&self, at: tokenweir::Now, requested: tokenweir::Requested<'_>, event: Event) {
        // While the interpreter shuts down there is nobody to tell.
        let told = Python::try_attach(|py| {
            let callable = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|c| c.clone_ref(py));
            let Some(callable) = callable else { return };
            // A permit may be dropped while an exception is on its way; that one goes on afterwards.
            let pending = PyErr::take(py);
            let names = (requested.project, requested.deployment);
            let record = Record::new(py, at, names, requested.estimate, event);
            if let Err(error) = record.and_then(|record| callable.call1(py, (record,))) {
                if error.is_instance_of::<PyException>(py) {
                    error.write_unraisable(py, Some(callable.bind(py)));
                } else {
                    // Ctrl-C, or an exit: the call in which it came raises it.
                    RAISED.with(|raised| *raised.borrow_mut() = Some(error));
                }
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
        let _ = told;
    }
}

impl Observer for Callback {
    fn decided(&self, decided: &Decided<'_>) {
        if let Some(permit) = decided.permit {
            let event = Event::Admitted { permit, shadow_refused: decided.shadow_refused };
            self.tell(decided.at, decided.requested, event);
        } else if let Some(denied) = decided.denied {
            self.tell(decided.at, decided.requested, Event::Denied(denied.clone()));
        }
    }

    fn settled(&self, settled: &Settled<'_>) {
        let event = Event::Settled { settlement: *settled.settlement, usage: settled.usage };
        self.tell(settled.at, settled.requested, event);
    }
}
