//! A gateway's console, by commands in JSON. `tokenweir/gateway.py` makes it what Python users see.

use crate::clock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokenweir::gateway::ConsoleOptions;

/// A console that takes a command as JSON text and answers with JSON text.
#[pyclass(frozen, module = "tokenweir._native")]
pub struct Console(tokenweir::gateway::Console);

#[pymethods]
impl Console {
    #[new]
    #[pyo3(signature = (options, clock=None))]
    fn new(options: &str, clock: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let options: ConsoleOptions = serde_json::from_str(options)
            .map_err(|error| PyValueError::new_err(format!("the options of the console are wrong: {error}")))?;
        let mut builder = tokenweir::gateway::Console::builder().options(&options);
        if let Some(clock) = clock {
            builder = builder.clock(clock::given(clock)?);
        }
        Ok(Console(builder.build()))
    }

    /// Carries out a command. One that administers waits for another.
    fn command(&self, py: Python<'_>, command: &str) -> String {
        py.detach(|| self.0.command(command))
    }
}
