//! An empty method: the floor under every call from Python into Rust.

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
}

/// The module.
#[pymodule(gil_used = false)]
mod floor {
    #[pymodule_export]
    use super::Floor;
}
