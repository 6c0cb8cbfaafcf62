//! The core's errors as the package's exceptions, which are written in Python (`tokenweir/_errors.py`).

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tokenweir::region::RegionError;
use tokenweir::{Error, PolicyError};

/// The exception of an error of the core.
#[cold]
pub fn raise(error: Error) -> PyErr {
    Python::attach(|py| {
        let built = match &error {
            Error::Policy(policy) => exception(py, "PolicyError", &error).and_then(|made| {
                made.setattr("problems", problems(py, policy)?)?;
                made.setattr("file", policy.file())?;
                Ok(made)
            }),
            Error::UsageInvalid { .. } => exception(py, "UsageError", &error),
            Error::PermitSettled { .. } | Error::PermitUnknown { .. } => exception(py, "PermitError", &error),
            Error::PermitsExhausted { .. } | Error::TableFull { .. } => exception(py, "CapacityError", &error),
            Error::Store(_) => exception(py, "StoreError", &error),
            Error::Region(RegionError::KeyTooLong { .. } | RegionError::TooManyLimits { .. }) => {
                exception(py, "RequestError", &error)
            }
            Error::Region(_) => exception(py, "RegionError", &error),
            _ => exception(py, "RequestError", &error),
        };
        built.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of an estimate that is too large for the core to be told of.
#[cold]
pub fn estimate_too_large(what: &'static str, value: &Bound<'_, PyAny>) -> PyErr {
    let error = Error::EstimateTooLarge { what, tokens: u64::MAX };
    let said = error.to_string().replace(&u64::MAX.to_string(), &value.to_string());
    let made = coded(value.py(), "RequestError", &said, error.code(), error.name());
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// The exception of a policy that was refused.
pub fn invalid_policy(error: PolicyError) -> PyErr {
    raise(Error::Policy(error))
}

/// The exception of a trace that cannot be read or decided on.
#[cold]
pub fn bad_trace(error: tokenweir_replay::Error) -> PyErr {
    Python::attach(|py| {
        let made = coded(py, "TraceError", &error, error.code(), error.name()).and_then(|made| {
            made.setattr("line", error.line())?;
            if let tokenweir_replay::Error::Request { source, .. } = &error {
                made.setattr("__cause__", raise(source.clone()).into_value(py))?;
            }
            Ok(made)
        });
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

// The codes from 1000 on are those of C (`bindings/c/src/code.rs`).

/// The exception of a quota file that cannot be had.
#[cold]
pub fn bad_quota_file(error: tokenweir_redb::QuotaFileError) -> PyErr {
    Python::attach(|py| {
        let made = coded(py, "QuotaFileError", &error, error.code(), error.name());
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a shared region that cannot be had, or that a limiter cannot be made on.
#[cold]
pub fn bad_region(error: tokenweir_shared::SharedError) -> PyErr {
    Python::attach(|py| {
        let made = coded(py, "RegionError", &error, error.code(), error.name());
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a limiter on Redis that cannot be had, or of a call of it.
#[cold]
pub fn bad_redis(error: tokenweir_redis::Error) -> PyErr {
    let class = match error {
        tokenweir_redis::Error::Engine(error) => return raise(error),
        tokenweir_redis::Error::TooManyLimits { .. } => "RequestError",
        _ => "RedisError",
    };
    Python::attach(|py| {
        let made = coded(py, class, &error, error.code(), error.name());
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a permit's object that was detached from it.
#[cold]
pub fn detached(id: tokenweir::PermitId) -> PyErr {
    let error = Error::PermitSettled { id };
    let said =
        format!("permit {} was detached from this object; find it by its id with the limiter's permit()", id.get());
    Python::attach(|py| {
        let made = coded(py, "PermitError", &said, error.code(), error.name());
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a snapshot that cannot be read.
#[cold]
pub fn bad_snapshot(error: serde_json::Error) -> PyErr {
    Python::attach(|py| {
        let said = format!("the snapshot is not valid: {error}; give the text that Limiter.snapshot returned");
        let made = coded(py, "SnapshotError", &said, 1006, "SNAPSHOT_INVALID");
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a request's body that cannot be read.
#[cold]
pub fn bad_body(error: tokenweir_wire::RequestError) -> PyErr {
    Python::attach(|py| {
        let made = coded(py, "BodyError", &error, 1007, "BODY_INVALID");
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of policy documents of API Management that were refused.
#[cold]
pub fn not_imported(error: tokenweir_apim::ImportError) -> PyErr {
    Python::attach(|py| {
        let made = class(py, "ApimError").and_then(|class| class.call1((error.to_string(),)));
        let made = made.and_then(|made| {
            let class = class(py, "ApimProblem")?;
            let problem = |p: &tokenweir_apim::Problem| class.call1((&p.file, p.line, p.code, &p.message, &p.remedy));
            made.setattr("problems", error.problems().iter().map(problem).collect::<PyResult<Vec<_>>>()?)?;
            Ok(made)
        });
        made.map_or_else(|failed| failed, PyErr::from_value)
    })
}

/// The exception of a refusal, where the caller asked for a permit or nothing.
#[cold]
pub fn refused(py: Python<'_>, denial: Bound<'_, PyAny>) -> PyErr {
    let made = class(py, "Denied").and_then(|class| class.call1((denial,)));
    made.map_or_else(|failed| failed, PyErr::from_value)
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = ERRORS.get_or_try_init(py, || py.import("tokenweir._errors").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

fn exception<'py>(py: Python<'py>, class: &str, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    coded(py, class, error, error.code(), error.name())
}

/// An exception with the code and the name that all languages share.
fn coded<'py>(
    py: Python<'py>,
    name: &str,
    error: &impl ToString,
    code: u16,
    code_name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let made = class(py, name)?.call1((error.to_string(),))?;
    made.setattr("code", code)?;
    made.setattr("name", code_name)?;
    Ok(made)
}

fn problems<'py>(py: Python<'py>, error: &PolicyError) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let class = class(py, "Problem")?;
    let problem = |p: &tokenweir::policy::Problem| class.call1((p.line, p.limit.as_deref(), &p.message, &p.remedy));
    error.problems().iter().map(problem).collect()
}
