//! What comes of a snapshot that is restored.

use crate::errors::bad_snapshot;
use crate::value::value;
use pyo3::prelude::*;

value! {
    /// What came of a snapshot that was restored.
    Restored {
        /// How many counters were taken up.
        counters: usize,
        /// Those that were not, as LeftOut: they begin anew.
        left_out: Vec<Py<LeftOut>>,
    }
}

value! {
    /// Counters of one limit that a restored limiter begins anew, and why.
    LeftOut {
        /// The limit's name.
        limit: String,
        /// How many counters.
        counters: usize,
        /// `no_such_limit`: the policy has none of this name. `changed`: its meter, scope, algorithm or period is another.
        /// `kept`: a store has it. `shared`: a region has it. `no_room`: build the limiter with larger `max_counters`, `max_routes` or `max_permits`.
        reason: &'static str,
    }
}

/// The document.
pub fn text(snapshot: &tokenweir::Snapshot) -> PyResult<String> {
    serde_json::to_string(snapshot).map_err(bad_snapshot)
}

pub fn restored(py: Python<'_>, restored: tokenweir::Restored) -> PyResult<Restored> {
    let left_out = restored
        .left_out
        .into_iter()
        .map(|left| Py::new(py, LeftOut { limit: left.limit, counters: left.counters, reason: left.reason.as_str() }));
    Ok(Restored { counters: restored.counters, left_out: left_out.collect::<PyResult<_>>()? })
}
