//! Policies, read from what operators write.

use crate::convert::unreadable;
use crate::errors::invalid_policy;
use crate::value::value;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::path::PathBuf;
use tokenweir::PolicyError;

value! {
    /// One limit of a policy.
    Limit {
        /// Its name, which is its identity.
        name: String,
        /// What it counts: `requests`, `input`, `output`, `total`, `cost` (micro-units) or `in_flight`.
        meter: &'static str,
        /// How: `bucket`, `window`, `quota` or `in_flight`.
        algorithm: &'static str,
        /// How much it allows, in units of its meter.
        amount: u64,
        /// By what it counts: `project`, `deployment`, `key:` and a name. Empty: one counter for all.
        scope: Vec<String>,
        /// `enforce`, or `shadow`: it only reports what it would have done.
        mode: &'static str,
        /// For how long a request that is charged nothing at admission passes: until use has `reached` the amount, or until
        /// it has `passed` it (windows and quotas only).
        until: &'static str,
        /// The limit that it stands in for where it matches, or None.
        overrides: Option<String>,
        /// Whether a request that lacks a caller key of its scope is an error, instead of none of its business.
        require: bool,
    }
}

impl Limit {
    fn of(limit: &tokenweir::policy::Limit) -> Self {
        Limit {
            name: limit.name().to_string(),
            meter: limit.meter().as_str(),
            algorithm: limit.algorithm().as_str(),
            amount: limit.algorithm().amount(),
            scope: limit.scope().iter().map(ToString::to_string).collect(),
            mode: limit.mode().as_str(),
            until: limit.until().as_str(),
            overrides: limit.overrides().map(str::to_owned),
            require: limit.require(),
        }
    }
}

/// A valid policy: limits and prices, in the order of the document. It cannot be changed.
///
/// Read one with `Policy.from_file`, `from_toml`, `from_json` or `from_dict`. Each raises PolicyError with everything that
/// is wrong, by line and limit, with the remedy.
#[pyclass(frozen, module = "tokenweir")]
pub struct Policy(pub tokenweir::Policy);

#[pymethods]
impl Policy {
    /// Reads TOML text. Raises PolicyError.
    #[staticmethod]
    fn from_toml(text: &str) -> PyResult<Self> {
        tokenweir::Policy::from_toml(text).map(Policy).map_err(invalid_policy)
    }

    /// Reads JSON text. Raises PolicyError.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        tokenweir::Policy::from_json(text).map(Policy).map_err(invalid_policy)
    }

    /// Takes the same tables and lists as Python values: `{"limit": [{"name": "tpm", ...}]}`. Raises PolicyError; TypeError and
    /// ValueError for what is no value of a policy, by its place in the document.
    #[staticmethod]
    fn from_dict(document: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::from_json(&crate::plain::json(document)?)
    }

    /// Reads a file whose name ends in `.toml` or `.json`. Raises PolicyError, which names the file and the line; OSError if
    /// it cannot be read; ValueError if its name has another ending.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let parse: fn(&str) -> Result<tokenweir::Policy, PolicyError> = match path.extension().and_then(|e| e.to_str())
        {
            Some("toml") => tokenweir::Policy::from_toml,
            Some("json") => tokenweir::Policy::from_json,
            _ => {
                let name = path.display();
                return Err(PyValueError::new_err(format!("{name} is named neither .toml nor .json; rename it")));
            }
        };
        let read = py.detach(|| std::fs::read(&path)).map_err(|error| unreadable(&path, &error))?;
        let text = String::from_utf8(read)
            .map_err(|_| PyValueError::new_err(format!("{} is not UTF-8; save it as UTF-8 text", path.display())))?;
        parse(&text).map(Policy).map_err(|error| invalid_policy(error.with_file(path.display().to_string())))
    }

    /// Its limits, in order.
    #[getter]
    fn limits(&self) -> Vec<Limit> {
        self.0.limits().iter().map(Limit::of).collect()
    }

    /// The limit of this name; None if it has none.
    fn limit(&self, name: &str) -> Option<Limit> {
        self.0.limit(name).map(Limit::of)
    }

    /// The caller keys that its limits look at, sorted, without `key:`. A request may leave all others out.
    #[getter]
    fn key_names(&self) -> Vec<String> {
        self.0.key_names().iter().map(|name| name.to_string()).collect()
    }

    fn __len__(&self) -> usize {
        self.0.limits().len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        let shown: Vec<String> = self.0.limits().iter().take(5).map(|limit| format!("{:?}", limit.name())).collect();
        let more = if self.0.limits().len() > shown.len() { ", ..." } else { "" };
        format!("<Policy of {} limits: {}{more}>", self.0.limits().len(), shown.join(", "))
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a Policy: pass on the text or file that it was read from"))
    }
}
