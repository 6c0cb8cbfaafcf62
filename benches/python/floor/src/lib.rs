//! Empty methods: the floor under every call from Python into Rust.

use pyo3::prelude::*;

/// Nothing.
#[pyclass(frozen)]
struct Floor;

#[pymethods]
impl Floor {
    #[new]
    fn new() -> Self {
        Floor
    }

    /// Does nothing.
    fn nothing(&self) {}

    /// Takes what an admission takes, and does nothing.
    #[pyo3(signature = (input=None, output=None, *, now=None))]
    fn taking(&self, input: Option<u64>, output: Option<u64>, now: Option<&Bound<'_, PyAny>>) {
        let _ = (input, output, now);
    }
}

/// The module.
#[pymodule(gil_used = false)]
mod floor {
    #[pymodule_export]
    use super::Floor;
}
