//! Who waits in an event loop for what permits hold: they are told when one ends. (`tokenweir/_limiter.py` lines them up.)

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use tokenweir::CounterKey;

/// A limiter's waiters. Where there are none, the end of a permit costs the look at one word.
#[derive(Default)]
pub struct Waiters {
    /// SeqCst: who has set it looks for room afterwards, and who has made room looks at it afterwards.
    any: AtomicBool,
    /// A weak reference, so that nothing has to be shown to the garbage collector.
    lines: Mutex<Option<Py<PyAny>>>,
}

impl Waiters {
    /// From here on the object of this weak reference is told, by its method `freed`; nobody if there is none.
    pub fn set(&self, lines: Option<Py<PyAny>>) {
        self.any.store(lines.is_some(), SeqCst);
        let before = std::mem::replace(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner), lines);
        drop(before);
    }

    /// Whether anybody waits.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.any.load(SeqCst)
    }

    /// Tells that these counters may have room; all of them, if it is not known which.
    #[cold]
    pub fn tell(&self, freed: Option<&[CounterKey]>) {
        // While the interpreter shuts down there is nobody to tell.
        let told = Python::try_attach(|py| {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|it| it.clone_ref(py));
            let Some(lines) = lines else { return };
            // A permit may be dropped while an exception is on its way; that one goes on afterwards.
            let pending = PyErr::take(py);
            if let Err(error) = tell(lines.bind(py), freed) {
                error.write_unraisable(py, None);
            }
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
        let _ = told;
    }
}

fn tell(lines: &Bound<'_, PyAny>, freed: Option<&[CounterKey]>) -> PyResult<()> {
    let py = lines.py();
    let lines = lines.call0()?;
    if !lines.is_none() {
        lines.call_method1("freed", (freed.map(|freed| for_python(py, freed)),))?;
    }
    Ok(())
}

/// Counters as `(limit, key)`.
pub fn for_python<'py>(py: Python<'py>, counters: &[CounterKey]) -> Vec<(String, Bound<'py, PyBytes>)> {
    counters.iter().map(|counter| (counter.limit.clone(), PyBytes::new(py, &counter.key))).collect()
}
