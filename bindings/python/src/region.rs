//! Shared regions: what the workers of one host have in common.

use crate::errors::bad_region;
use crate::policy::Policy;
use crate::value::value;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::path::PathBuf;
use tokenweir::{Limiter, LimiterBuilder};
use tokenweir_shared::{Attached, Layout};

/// Counters and permits that the worker processes of a host share, in a memory-mapped file, which is made if there is none,
/// readable and writable by its owner alone. Linux only. The file belongs in /dev/shm or /run.
///
/// On a region a limit counts once, not once for each worker: `Limiter(policy, region=region)` in each. A permit that one
/// worker was given is settled by its id in another. A worker may be killed at any instruction; what it was at is finished or
/// undone by the others. What is counted outlives the workers, but not a restart of the machine. All run the same release, as
/// the same user, with the same policy, which any of them may change (`Limiter.swap_policy`); at most 48 limiters are on a region.
///
/// `counters`, `callers` (project, deployment and caller keys), `permits` and `histories` are the most of each (16,384 of the first
/// three and 1,000 histories unless given), `key_bytes` and `caller_bytes` the longest key of a counter (128) and caller (256). They
/// are the same for everyone who opens the file. `policy_bytes` is the room for a policy, which is taken eight times; twice what
/// `policy` takes, and at least 65,536. Raises RegionError.
///
/// Limiters are not taken along by a fork: make them in the process that uses them. Every method may be called from any
/// thread at once.
#[pyclass(frozen, weakref, module = "tokenweir")]
pub struct SharedRegion(tokenweir_shared::SharedRegion);

impl SharedRegion {
    pub fn build(&self, builder: LimiterBuilder) -> PyResult<Limiter> {
        self.0.build(builder).map_err(bad_region)
    }
}

#[pymethods]
impl SharedRegion {
    #[new]
    #[pyo3(signature = (path, policy, *, counters=None, callers=None, permits=None, histories=None, key_bytes=None,
                        caller_bytes=None, policy_bytes=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        policy: &Bound<'_, Policy>,
        counters: Option<usize>,
        callers: Option<usize>,
        permits: Option<usize>,
        histories: Option<usize>,
        key_bytes: Option<usize>,
        caller_bytes: Option<usize>,
        policy_bytes: Option<usize>,
    ) -> PyResult<Self> {
        let set = |layout, given, set: fn(Layout, usize) -> Layout| match given {
            Some(most) => set(layout, most),
            None => layout,
        };
        let layout = set(Layout::of(&policy.get().0), counters, Layout::counters);
        let layout = set(layout, callers, Layout::callers);
        let layout = set(layout, permits, Layout::permits);
        let layout = set(layout, histories, Layout::histories);
        let layout = set(layout, key_bytes, Layout::key_bytes);
        let layout = set(layout, caller_bytes, Layout::caller_bytes);
        let layout = set(layout, policy_bytes, Layout::policy_bytes);
        // Its room is taken on a file system.
        let region = py.detach(|| tokenweir_shared::SharedRegion::open_or_create(&path, &layout));
        region.map(SharedRegion).map_err(bad_region)
    }

    /// The file's place, as it was given.
    #[getter]
    fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }

    /// The policy that it counts for; None if no limiter was made on it yet. Raises RegionError if it cannot be read.
    #[getter]
    fn policy(&self, py: Python<'_>) -> PyResult<Option<Policy>> {
        let policy = py.detach(|| self.0.policy());
        Ok(policy.map_err(bad_region)?.map(Policy))
    }

    /// What is in it. Reads the whole region.
    fn status(&self, py: Python<'_>) -> RegionStatus {
        let status = py.detach(|| self.0.status());
        let alive = |attached: &&Attached| attached.alive;
        RegionStatus {
            processes: status.attached.iter().filter(alive).map(|attached| attached.process).collect(),
            counters: status.counters,
            callers: status.callers,
            permits_open: status.permits_open,
            histories: status.histories,
            cleared_up: status.cleared_up,
            unsure_steps: status.unsure_steps,
            policies: status.policies,
        }
    }

    fn __repr__(&self) -> String {
        format!("<SharedRegion {}>", self.0.path().display())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "cannot pickle a SharedRegion: it is mapped in this process; open it where it is used",
        ))
    }
}

value! {
    /// What is in a SharedRegion.
    RegionStatus {
        /// The process of each limiter that is on it, as its own name space numbers it.
        processes: Vec<u32>,
        /// Counters.
        counters: usize,
        /// Callers that are known.
        callers: usize,
        /// Open permits.
        permits_open: usize,
        /// Buckets that keep a history.
        histories: usize,
        /// How many limiters have ended and been cleared up after.
        cleared_up: u64,
        /// How many steps that a process was at when it was killed may or may not have been made. Each may have left the charge of
        /// one request on one limit too much counted, never too little.
        unsure_steps: u64,
        /// How many policies have been in force, the present one included; 0: no limiter was made on it yet.
        policies: u64,
    }
}
