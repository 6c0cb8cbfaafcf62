//! The native module of the Python package `tokenweir`: it converts, calls the core and converts back.
//!
//! - `convert`: names, tokens, instants and waits between the two languages;
//! - `errors`: the core's errors as the package's exceptions (`tokenweir/_errors.py`);
//! - `clock`, `policy`, `limiter`, `route`, `permit`, `denial`, `view`, `record`, `snapshot`, `store`, `replay`: one for each room of the
//!   API;
//! - `issuer`: what a limiter and a route have in common, `spare`: objects for use again, `waiting`: who is told when a
//!   permit ends;
//! - `console`, `apim`: what `tokenweir.gateway` and `tokenweir.apim` are made of;
//! - `redis`: `tokenweir.redis`, limits that machines share on a server;
//! - `wire`: `tokenweir.wire`, what passes between a client and a model.
//!
//! Every class is frozen: its state is the core's atomics, so no call can find it borrowed, with or without a global
//! interpreter lock. The lock is kept where a call takes nanoseconds and released where it may wait: for a file, or for
//! another change of policy, or for a store.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokenweir::policy::{Meter, Mode, Until};
use tokenweir::{Event, LeftOutReason, Outcome};
use tokenweir_redis::By;
use tokenweir_wire::{Api, Dialect};

mod apim;
mod clock;
mod console;
mod convert;
mod denial;
mod errors;
mod issuer;
mod limiter;
mod permit;
mod plain;
mod policy;
mod record;
mod redis;
mod region;
mod replay;
mod route;
mod snapshot;
mod spare;
mod store;
mod value;
mod view;
mod waiting;
mod wire;

/// Every word that a field of few words may have, by class and field: what the stubs' Literals are tested against.
fn words(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let (meters, apis) = (Meter::ALL.map(Meter::as_str), Api::ALL.map(Api::as_str));
    let words = PyDict::new(py);
    words.set_item("Settlement.outcome", Outcome::ALL.map(Outcome::as_str))?;
    words.set_item("Record.event", Event::WORDS)?;
    words.set_item("LeftOut.reason", LeftOutReason::ALL.map(LeftOutReason::as_str))?;
    words.set_item("Limit.meter", meters)?;
    words.set_item("CounterUsage.meter", meters)?;
    words.set_item("Dialect.name", Dialect::ALL.map(Dialect::as_str))?;
    words.set_item("Endpoint.api", apis)?;
    words.set_item("Asked.api", apis)?;
    let by = By::ALL.map(By::as_str);
    words.set_item("RedisPermit.by", by)?;
    words.set_item("AsyncRedisPermit.by", by)?;
    words.set_item("RedisDenial.by", by)?;
    words.set_item("Unavailable.by", by)?;
    Ok(words)
}

/// Every word that a field of a value may have.
fn each_word() -> impl Iterator<Item = &'static str> {
    let mode = Mode::Enforce.as_str();
    let words = [mode, Mode::Shadow.as_str(), Until::Reached.as_str(), Until::Passed.as_str()];
    let (meters, apis) = (Meter::ALL.map(Meter::as_str), Api::ALL.map(Api::as_str));
    let reasons = LeftOutReason::ALL.map(LeftOutReason::as_str);
    let others = ["bucket", "window", "quota", "in_flight", "complete", "failed", "broken"];
    words
        .into_iter()
        .chain(meters)
        .chain(apis)
        .chain(reasons)
        .chain(others)
        .chain(Event::WORDS)
        .chain(By::ALL.map(By::as_str))
}

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
    use super::limiter::Limiter;
    #[pymodule_export]
    use super::permit::{Permit, Settlement};
    #[pymodule_export]
    use super::policy::{Limit, Policy};
    #[pymodule_export]
    use super::record::{Estimate, Record, RecordRing, Usage};
    #[pymodule_export]
    use super::redis::{
        AsyncRedisLimiter, AsyncRedisPermit, Bell, Call, Ended, OutageUse, RedisDenial, RedisLimiter, RedisPermit,
        RedisStats, Standing, Unavailable,
    };
    #[pymodule_export]
    use super::region::{RegionStatus, SharedRegion};
    #[pymodule_export]
    use super::replay::{Row, Rows, replay};
    #[pymodule_export]
    use super::route::Route;
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
        module.add("_WORDS", super::words(module.py())?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
