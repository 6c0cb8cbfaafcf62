//! Values that a call gives out: read-only, with a `repr` that shows every field.

use pyo3::prelude::*;

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
            $($($methods)*)?
        }
    };
}
pub(crate) use value;

/// `Name(field=value, ...)`.
pub fn repr(value: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let shown = fields.iter().map(|field| Ok(format!("{field}={}", value.getattr(*field)?.repr()?)));
    let shown: Vec<String> = shown.collect::<PyResult<_>>()?;
    Ok(format!("{}({})", value.get_type().name()?, shown.join(", ")))
}
