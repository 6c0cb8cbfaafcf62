//! Names, tokens, instants and waits between Python and the core.

use crate::clock::Now;
use crate::errors::{estimate_too_large, raise};
use pyo3::exceptions::{PyOSError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDelta, PyDict, PyFloat, PyInt, PyMapping, PyMemoryView, PyString};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use tokenweir::{Key, Request};

/// The bytes of a name: text as UTF-8, where a surrogate escape stands for the byte that it escapes; or bytes.
#[inline]
pub fn bytes<'a>(what: &str, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    usual_bytes(value).map_or_else(|| unusual_bytes(what, value), Ok)
}

#[inline]
fn usual_bytes<'a>(value: &'a Bound<'_, PyAny>) -> Option<Cow<'a, [u8]>> {
    let text = value.cast::<PyString>().ok()?.to_str().ok()?;
    Some(Cow::Borrowed(text.as_bytes()))
}

#[cold]
fn unusual_bytes<'a>(what: &str, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = value.cast::<PyString>() {
        let Ok(bytes) = text.call_method1("encode", ("utf-8", "surrogateescape")) else {
            let shown = text.repr()?;
            return Err(PyValueError::new_err(format!(
                "{what} has half of a surrogate pair: {shown}; give text or bytes"
            )));
        };
        return Ok(Cow::Owned(bytes.extract()?));
    }
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(Cow::Borrowed(bytes.as_bytes())),
        Err(_) => Err(PyTypeError::new_err(format!("{what} is {}; give str or bytes", kind(value)?))),
    }
}

/// The bytes of a body or a chunk: bytes, bytearray or memoryview.
pub fn body<'a>(what: &str, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Cow::Owned(bytes.to_vec()));
    }
    if let Ok(view) = value.cast::<PyMemoryView>() {
        return Ok(Cow::Owned(view.call_method0("tobytes")?.extract()?));
    }
    Err(PyTypeError::new_err(format!("{what} is {}; give bytes", kind(value)?)))
}

/// The text of a name. Bytes that are not UTF-8 become surrogate escapes, as `os.fsdecode` does it, so that it can be
/// given back as it is.
pub fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(_) => Ok(PyBytes::new(py, bytes).call_method1("decode", ("utf-8", "surrogateescape"))?.cast_into()?),
    }
}

/// A whole number of tokens that a request is expected to take. One that is too large for the core is the error that the
/// core has for those that are too large.
pub fn tokens(what: &'static str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract().map_err(|error| {
        if is_huge(value) {
            return estimate_too_large(what, value);
        }
        not_tokens(what, value, error)
    })
}

/// A whole number of tokens that was reported, or `None`.
pub fn known(what: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    let reported = |value: &Bound<'_, PyAny>| {
        value.extract().map_err(|error| {
            if is_huge(value) {
                return raise(tokenweir::Error::UsageInvalid { reason: format!("{what} tokens are above 2^53") });
            }
            not_tokens(what, value, error)
        })
    };
    value.map(reported).transpose()
}

#[cold]
fn is_huge(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyInt>() && value.gt(0).unwrap_or(false)
}

#[cold]
fn not_tokens(what: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    not_whole(what, value, "of tokens from 0 to 2**53", error)
}

/// The exception of what is not a whole number as it should be.
#[cold]
pub fn not_whole(what: &str, value: &Bound<'_, PyAny>, range: &str, error: PyErr) -> PyErr {
    let py = value.py();
    if !error.is_instance_of::<PyOverflowError>(py) && !error.is_instance_of::<PyTypeError>(py) {
        return error;
    }
    if value.is_instance_of::<PyInt>() {
        return PyValueError::new_err(format!("{what} is {value}; give a whole number {range}"));
    }
    match kind(value) {
        Ok(kind) => PyTypeError::new_err(format!("{what} is {kind}; give a whole number as int, {range}")),
        Err(error) => error,
    }
}

/// How many there may be at most: a whole number, and not below the least.
pub fn count(what: &str, value: &Bound<'_, PyAny>, least: u64) -> PyResult<usize> {
    let number = whole(what, value, least..=i64::MAX.unsigned_abs())?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// A whole number within a range. What is not raises ValueError, a number that is not whole or finite too; TypeError for what is
/// no number.
pub fn whole(what: &str, value: &Bound<'_, PyAny>, range: RangeInclusive<u64>) -> PyResult<u64> {
    match value.extract::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        Err(error) if !value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyFloat>() => {
            let range = format!("from {} to {}", range.start(), range.end());
            Err(not_whole(what, value, &range, error))
        }
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(PyValueError::new_err(format!("{what} is {value}; give a whole number from {least} to {most}")))
        }
    }
}

pub fn kind(value: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(value.get_type().name()?.to_string())
}

/// A span of time, in seconds or as a timedelta.
pub fn span(what: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if let Ok(seconds) = value.extract() {
        return span_of(what, seconds);
    }
    if value.is_instance_of::<PyDelta>() {
        return span_of(what, value.call_method0("total_seconds")?.extract()?);
    }
    Err(PyTypeError::new_err(format!("{what} is {}; give seconds, or a timedelta", kind(value)?)))
}

/// A span of time in seconds.
pub fn span_of(what: &str, seconds: f64) -> PyResult<Duration> {
    // Beyond what a clock can show it is for ever.
    if seconds >= 1e10 {
        return Ok(Duration::from_secs(10_000_000_000));
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{what} is {seconds}; give seconds, 0 or more")))
}

/// Nanoseconds as seconds.
pub fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The instant that was given, if one was.
pub fn instant(now: Option<&Bound<'_, Now>>) -> Option<tokenweir::Now> {
    now.map(|now| now.get().0)
}

/// A file that cannot be read, as Python says it.
pub fn unreadable(path: &Path, error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        // Python chooses the class by the number: FileNotFoundError, PermissionError, ...
        Some(number) => {
            let full = error.to_string();
            let reason = full.split(" (os error ").next().unwrap_or(&full).to_owned();
            PyOSError::new_err((number, reason, path.to_string_lossy().into_owned()))
        }
        None => PyOSError::new_err(format!("{}: {error}", path.display())),
    }
}

/// Passes on a request as Python has it.
#[inline]
pub fn with_request<T>(
    project: &Bound<'_, PyAny>,
    deployment: &Bound<'_, PyAny>,
    keys: Option<&Bound<'_, PyAny>>,
    act: impl FnOnce(&Request<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let (project, deployment) = (bytes("project", project)?, bytes("deployment", deployment)?);
    match keys {
        None => act(&Request { project: &project, deployment: &deployment, keys: &[] }),
        Some(keys) => with_keys(keys, |keys| act(&Request { project: &project, deployment: &deployment, keys })),
    }
}

#[inline(never)]
fn with_keys<T>(keys: &Bound<'_, PyAny>, act: impl FnOnce(&[Key<'_>]) -> PyResult<T>) -> PyResult<T> {
    let pairs = pairs("keys", keys)?;
    let mut names: SmallVec<[&str; 8]> = SmallVec::new();
    let mut values: SmallVec<[Cow<'_, [u8]>; 8]> = SmallVec::new();
    for (name, value) in &pairs {
        let Ok(text) = name.cast::<PyString>() else {
            let (shown, kind) = (name.repr()?, kind(name)?);
            return Err(PyTypeError::new_err(format!("keys has the name {shown}, which is {kind}; give str")));
        };
        let Ok(name) = text.to_str() else {
            let shown = text.repr()?;
            return Err(PyValueError::new_err(format!("keys has the name {shown}, which is no text; give a name")));
        };
        names.push(name);
        let bytes = usual_bytes(value).map_or_else(|| unusual_bytes(&format!("keys[{name:?}]"), value), Ok)?;
        values.push(bytes);
    }
    let keys: SmallVec<[Key<'_>; 8]> = names.iter().zip(&values).map(|(name, value)| Key { name, value }).collect();
    act(&keys)
}

pub type Pairs<'py> = SmallVec<[(Bound<'py, PyAny>, Bound<'py, PyAny>); 8]>;

/// What a mapping holds.
pub fn pairs<'py>(what: &str, mapping: &Bound<'py, PyAny>) -> PyResult<Pairs<'py>> {
    if let Ok(dict) = mapping.cast::<PyDict>() {
        return Ok(dict.iter().collect());
    }
    let Ok(mapping) = mapping.cast::<PyMapping>() else {
        return Err(PyTypeError::new_err(format!("{what} is {}; give a mapping of names to values", kind(mapping)?)));
    };
    mapping.items()?.iter().map(|pair| pair.extract()).collect()
}

/// Parts of a scope and their values.
pub fn scope_of(what: &str, mapping: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Vec<u8>)>> {
    let pairs = pairs(what, mapping)?;
    pairs.iter().map(|(part, value)| Ok((part.extract()?, bytes(what, value)?.into_owned()))).collect()
}

/// Parts of a scope and their values, for Python.
pub fn scope_dict(py: Python<'_>, scope: &[(String, Vec<u8>)]) -> PyResult<Py<PyDict>> {
    let dict = PyDict::new(py);
    for (part, value) in scope {
        dict.set_item(part, text(py, value)?)?;
    }
    Ok(dict.unbind())
}

/// What each limit has left, for Python.
pub fn left_dict(py: Python<'_>, left: Vec<(String, i64)>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (limit, left) in left {
        dict.set_item(limit, left)?;
    }
    Ok(dict)
}
