//! The native module of the Python package `tokenweir`: it converts, calls the core and converts back.
//!
//! - `convert`: names, tokens, instants and waits between the two languages;
//! - `errors`: the core's errors as the package's exceptions (`tokenweir/_errors.py`);
//! - `clock`, `policy`, `limiter`, `permit`, `denial`, `view`, `record`, `snapshot`, `store`, `replay`: one for each room of the API;
//! - `console`, `apim`: what `tokenweir.gateway` and `tokenweir.apim` are made of;
//! - `wire`: `tokenweir.wire`, what passes between a client and a model.
//!
//! Every class is frozen: its state is the core's atomics, so no call can find it borrowed, with or without a global
//! interpreter lock. The lock is kept where a call takes nanoseconds and released where it may wait: for a file, or for
//! another change of policy, or for a store.

use pyo3::prelude::*;

mod apim;
mod clock;
mod console;
mod convert;
mod denial;
mod errors;
mod limiter;
mod permit;
mod policy;
mod record;
mod replay;
mod snapshot;
mod store;
mod value;
mod view;
mod wire;

/// The engine. Import `tokenweir`, which has everything that is in here.
#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::apim::import_apim;
    #[pymodule_export]
    use super::clock::{CoarseClock, ManualClock, Now, SystemClock};
    #[pymodule_export]
    use super::console::Console;
    #[pymodule_export]
    use super::denial::{Denial, Refusal};
    #[pymodule_export]
    use super::limiter::{Limiter, Route};
    #[pymodule_export]
    use super::permit::{Permit, Settlement};
    #[pymodule_export]
    use super::policy::{Limit, Policy};
    #[pymodule_export]
    use super::record::{Estimate, Record, RecordRing, Usage};
    #[pymodule_export]
    use super::replay::{Row, Rows, replay};
    #[pymodule_export]
    use super::snapshot::{LeftOut, Restored};
    #[pymodule_export]
    use super::store::{QuotaFile, QuotaRecord, QuotaStore};
    #[pymodule_export]
    use super::view::{CounterUsage, ExplainedLimit, Explanation, LimitView, Peek, SkippedLimit, Stats};
    #[pymodule_export]
    use super::wire::{
        Asked, Dialect, Endpoint, Exchange, Measured, NamedLimit, OutputRule, Refused, ResponseMeter, StreamUsage,
        TokenUsage, UpstreamLimit, UpstreamLimits, UsageChunkFilter, ietf_headers,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
