//! Values that a call gives out: read-only, with a `repr` that shows every field. They can be pickled, if what they hold can.

use pyo3::PyTypeCheck;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

/// A read-only class whose `repr` shows its fields. Further methods stand in braces after it; `as` and a module after its
/// name, where that is not `tokenweir`.
macro_rules! value {
    (
        $(#[$meta:meta])*
        $name:ident { $($(#[$about:meta])* $field:ident: $kind:ty,)* }
        $({ $($methods:tt)* })?
    ) => {
        crate::value::value! {
            $(#[$meta])*
            $name as "tokenweir" { $($(#[$about])* $field: $kind,)* }
            $({ $($methods)* })?
        }
    };
    (
        $(#[$meta:meta])*
        $name:ident as $module:literal { $($(#[$about:meta])* $field:ident: $kind:ty,)* }
        $({ $($methods:tt)* })?
    ) => {
        $(#[$meta])*
        #[pyo3::pyclass(frozen, get_all, module = $module)]
        pub struct $name { $($(#[$about])* pub $field: $kind,)* }

        #[pyo3::pymethods]
        impl $name {
            fn __repr__(slf: &pyo3::Bound<'_, Self>) -> pyo3::PyResult<String> {
                crate::value::repr(slf.as_any(), &[$(stringify!($field)),*])
            }
            fn __reduce__<'py>(slf: &pyo3::Bound<'py, Self>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                crate::value::reduce(slf.as_any(), &[$(stringify!($field)),*])
            }

            #[staticmethod]
            fn _unpickled(fields: &pyo3::Bound<'_, pyo3::types::PyTuple>) -> pyo3::PyResult<Self> {
                let mut fields = fields.iter();
                Ok($name { $($field: crate::value::next(&mut fields)?),* })
            }
            $($($methods)*)?
        }
    };
}
pub(crate) use value;

/// What a field of a value is, taken from Python: a value that was pickled is made anew.
pub trait Field: Sized {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self>;
}

macro_rules! fields {
    ($($kind:ty),*) => {
        $(impl Field for $kind {
            fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                value.extract()
            }
        })*
    };
}
fields!(bool, u16, u64, i64, usize, f64, String, Vec<String>, Vec<(String, String)>, Vec<u8>, Vec<u32>);

impl Field for &'static str {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text = value.cast::<PyString>()?.to_str()?;
        let word = crate::each_word().find(|word| *word == text);
        word.ok_or_else(|| PyValueError::new_err(format!("{text:?} is no word of this version of tokenweir")))
    }
}

/// Classes of this module that are held by value.
macro_rules! classes {
    ($($class:ty),*) => {
        $(impl Field for $class {
            fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                Ok(value.cast::<$class>()?.get().clone())
            }
        })*
    };
}
classes!(crate::clock::Now, crate::wire::Dialect);

impl<T: PyTypeCheck> Field for Py<T> {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(value.cast::<T>()?.clone().unbind())
    }
}

impl<T: PyTypeCheck> Field for Vec<Py<T>> {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        value.try_iter()?.map(|one| Py::of(&one?)).collect()
    }
}

impl<T: Field> Field for Option<T> {
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::of(value).map(Some) }
    }
}

/// The next field of those that were kept.
pub fn next<'py, T: Field>(fields: &mut impl Iterator<Item = Bound<'py, PyAny>>) -> PyResult<T> {
    let missing = || PyValueError::new_err("the value has fewer fields than this version of tokenweir gives it");
    T::of(&fields.next().ok_or_else(missing)?)
}

/// For `pickle` and `copy`: the class and its fields, from which `tokenweir/_pickled.py` makes it anew.
pub fn reduce<'py>(value: &Bound<'py, PyAny>, fields: &[&str]) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let mut parts = vec![value.get_type().into_any()];
    for field in fields {
        parts.push(value.getattr(*field)?);
    }
    let restored = py.import("tokenweir._pickled")?.getattr("restored")?;
    Ok((restored, PyTuple::new(py, parts)?).into_pyobject(py)?.into_any())
}

/// `Name(field=value, ...)`.
pub fn repr(value: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let shown = fields.iter().map(|field| Ok(format!("{field}={}", value.getattr(*field)?.repr()?)));
    let shown: Vec<String> = shown.collect::<PyResult<_>>()?;
    Ok(format!("{}({})", value.get_type().name()?, shown.join(", ")))
}
