//! Python's tables, lists and words as JSON text, of documents that are read as such.

use crate::convert::{kind, pairs};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

/// Deeper than any document is; one that holds itself is.
const DEEPEST: usize = 32;

/// The document as JSON. TypeError or ValueError names the place of what has no form in it.
pub fn json(document: &Bound<'_, PyAny>) -> PyResult<String> {
    let mut text = String::new();
    write(document, &mut Vec::new(), &mut text)?;
    Ok(text)
}

fn write(value: &Bound<'_, PyAny>, place: &mut Vec<String>, text: &mut String) -> PyResult<()> {
    if place.len() > DEEPEST {
        return Err(PyValueError::new_err(format!("{} is nested too deep for a policy", shown(place))));
    }
    if value.is_none() {
        text.push_str("null");
    } else if let Ok(value) = value.cast::<PyBool>() {
        text.push_str(if value.is_true() { "true" } else { "false" });
    } else if let Ok(word) = value.cast::<PyString>() {
        let Ok(word) = word.to_str() else {
            return Err(PyValueError::new_err(format!(
                "{} is {}, which is no value of a policy: half of a surrogate pair is no text",
                shown(place),
                word.repr()?
            )));
        };
        quote(word, text);
    } else if value.is_instance_of::<PyInt>() {
        // By int's own: a subclass may show itself as it likes.
        text.push_str(&value.py().get_type::<PyInt>().call_method1("__repr__", (value,))?.extract::<String>()?);
    } else if let Ok(number) = value.cast::<PyFloat>() {
        let number = number.value();
        if !number.is_finite() {
            return Err(PyValueError::new_err(format!(
                "{} is {number}, which is no value of a policy; give a number",
                shown(place)
            )));
        }
        text.push_str(&format!("{number:?}"));
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        text.push('[');
        for (at, one) in value.try_iter()?.enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            within(&one?, format!("[{at}]"), place, text)?;
        }
        text.push(']');
    } else if value.cast::<PyMapping>().is_ok() {
        text.push('{');
        for (at, (name, one)) in pairs(&shown(place), value)?.iter().enumerate() {
            let Some(name) = name.cast::<PyString>().ok().and_then(|name| name.to_str().ok()) else {
                let name = name.repr()?;
                return Err(PyTypeError::new_err(format!("{} has the name {name}; give text", shown(place))));
            };
            text.push_str(if at == 0 { "" } else { "," });
            quote(name, text);
            text.push(':');
            within(one, format!(".{name}"), place, text)?;
        }
        text.push('}');
    } else {
        return Err(PyTypeError::new_err(format!(
            "{} is {}, which is no value of a policy; give a word, a number, a list or a table",
            shown(place),
            kind(value)?
        )));
    }
    Ok(())
}

fn within(value: &Bound<'_, PyAny>, step: String, place: &mut Vec<String>, text: &mut String) -> PyResult<()> {
    place.push(step);
    write(value, place, text)?;
    place.pop();
    Ok(())
}

fn quote(word: &str, text: &mut String) {
    text.push_str(&serde_json::Value::from(word).to_string());
}

/// `limit[0].amount`.
fn shown(place: &[String]) -> String {
    match place.concat() {
        place if place.is_empty() => "the document".to_owned(),
        place => place.trim_start_matches('.').to_owned(),
    }
}
