//! Instants and clocks.

use crate::convert::{not_whole, span, whole};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::sync::Arc;
use tokenweir::Clock;

/// The clock that a host has given.
pub fn given(clock: &Bound<'_, PyAny>) -> PyResult<Arc<dyn Clock>> {
    if let Ok(manual) = clock.cast::<ManualClock>() {
        Ok(manual.get().0.clone())
    } else if let Ok(coarse) = clock.cast::<CoarseClock>() {
        Ok(coarse.get().0.clone())
    } else if let Ok(system) = clock.cast::<SystemClock>() {
        Ok(system.get().0.clone())
    } else {
        let what = "clock is none of ours; give a SystemClock, a CoarseClock, a ManualClock or None";
        Err(PyTypeError::new_err(what))
    }
}

/// One reading of a clock: `Now(mono, wall)`, both in whole nanoseconds.
///
/// `mono` counts from an origin of the clock's own and is what buckets and windows run on (0 to 2**63 - 1). `wall` counts
/// from 1970-01-01T00:00:00Z, negative before it, and is what calendar quotas run on.
#[pyclass(frozen, eq, hash, module = "tokenweir")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Now(pub tokenweir::Now);

impl std::hash::Hash for Now {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.mono, self.0.wall).hash(state);
    }
}

#[pymethods]
impl Now {
    #[new]
    fn new(mono: &Bound<'_, PyAny>, wall: &Bound<'_, PyAny>) -> PyResult<Self> {
        let most = i64::MAX.unsigned_abs();
        let mono = whole("mono", mono, 0..=most)?;
        let wall = wall.extract().map_err(|error| not_whole("wall", wall, "from -2**63 to 2**63 - 1", error))?;
        Ok(Now(tokenweir::Now::new(mono, wall)))
    }

    /// The same number of nanoseconds since 1970 for both readings: recorded traffic has only one time line.
    #[staticmethod]
    fn at(nanos: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Now(tokenweir::Now::at(whole("nanos", nanos, 0..=i64::MAX.unsigned_abs())?)))
    }

    /// Monotonic nanoseconds.
    #[getter]
    fn mono(&self) -> u64 {
        self.0.mono
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    #[getter]
    fn wall(&self) -> i64 {
        self.0.wall
    }

    fn __repr__(&self) -> String {
        format!("Now(mono={}, wall={})", self.0.mono, self.0.wall)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, (u64, i64)) {
        (slf.get_type().into_any(), (slf.get().0.mono, slf.get().0.wall))
    }
}

/// The operating system's clocks, as a limiter reads them if it is given no other: `SystemClock(*, past=0.0)`.
///
/// `past` seconds is how far its monotonic reading goes back. Give a limiter that takes up a snapshot a clock with a past
/// of at least the longest window: what the window counted then leaves when it would have. It may be a timedelta.
/// ValueError if it is below 0.
#[pyclass(frozen, module = "tokenweir")]
pub struct SystemClock(pub Arc<tokenweir::SystemClock>);

#[pymethods]
impl SystemClock {
    #[new]
    #[pyo3(signature = (*, past=None), text_signature = "(*, past=0.0)")]
    fn new(past: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let past = past.map(|past| span("past", past)).transpose()?.unwrap_or_default();
        Ok(SystemClock(Arc::new(tokenweir::SystemClock::with_past(past))))
    }

    /// What it shows.
    fn now(&self) -> Now {
        Now(self.0.now())
    }

    fn __repr__(&self) -> String {
        let now = self.0.now();
        format!("<SystemClock at mono={} wall={}>", now.mono, now.wall)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a SystemClock: its origin is an instant of this process"))
    }
}

/// A clock that stands still until it is told otherwise, for tests and simulation: `ManualClock(start=None)`.
///
/// It starts at `start`, or with both readings 0. It may go backwards. Any thread may read and move it.
#[pyclass(frozen, module = "tokenweir")]
pub struct ManualClock(pub Arc<tokenweir::ManualClock>);

#[pymethods]
impl ManualClock {
    #[new]
    #[pyo3(signature = (start=None))]
    fn new(start: Option<&Bound<'_, Now>>) -> Self {
        let start = start.map_or_else(tokenweir::Now::default, |start| start.get().0);
        ManualClock(Arc::new(tokenweir::ManualClock::new(start)))
    }

    /// What it shows.
    fn now(&self) -> Now {
        Now(self.0.now())
    }

    /// Shows `now` from here on.
    fn set(&self, now: &Bound<'_, Now>) {
        self.0.set(now.get().0);
    }

    /// Moves both readings on by `seconds`, to the nearest nanosecond; or by a timedelta. ValueError if it is below 0.
    fn advance(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let nanos = span("seconds", seconds)?.as_nanos();
        self.0.advance(u64::try_from(nanos).unwrap_or(u64::MAX));
        Ok(())
    }

    fn __repr__(&self) -> String {
        let now = self.0.now();
        format!("ManualClock(Now(mono={}, wall={}))", now.mono, now.wall)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a ManualClock: it is shared with the limiter that reads it"))
    }
}

/// A clock that shows the instant of its last `tick()`: reading it costs next to nothing.
///
/// For hosts with a loop: tick once per turn. A bucket then refills late by at most the time between two ticks, and the
/// interval of a window is stretched by at most that. Counting stays exact.
#[pyclass(frozen, module = "tokenweir")]
pub struct CoarseClock(pub Arc<tokenweir::CoarseClock>);

#[pymethods]
impl CoarseClock {
    #[new]
    fn new() -> Self {
        CoarseClock(Arc::new(tokenweir::CoarseClock::new()))
    }

    /// Reads the system's clocks and shows that instant from now on. Any thread may call it.
    fn tick(&self) {
        self.0.tick();
    }

    /// What it shows.
    fn now(&self) -> Now {
        Now(self.0.now())
    }

    fn __repr__(&self) -> String {
        let now = self.0.now();
        format!("<CoarseClock at mono={} wall={}>", now.mono, now.wall)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a CoarseClock: it is shared with the limiter that reads it"))
    }
}
