//! The limiter.

use crate::clock::{self, Now};
use crate::convert::{bytes, instant, scope_of, span, with_request};
use crate::errors::{bad_snapshot, raise};
use crate::issuer::Issuer;
use crate::permit::{Number, Settlement, usage};
use crate::policy::Policy;
use crate::record::{Callback, RecordRing};
use crate::route::{Route, estimate, granted};
use crate::snapshot::{self, Restored};
use crate::store::{QuotaStore, released};
use crate::view::{CounterUsage, Explanation, Peek, Stats, explanation, peeked, used};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;
use tokenweir::{StoreOptions, UsageFilter, WhenFull, WhenStoreFails};
use tokenweir_redb::Renewer;

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Every method may be called from any thread at once, and none waits, but for a store: with one, a call that needs a lease
/// waits for the disk, and other threads run meanwhile. In an event loop let leases be renewed in the background. Tokens are whole numbers; spans of time are
/// seconds. `now` is the instant of the call, for hosts that own the time; left out, the limiter's clock is read. Do not
/// mix the two on one limiter unless they tell the same time.
///
/// `store` is a QuotaStore: there the use of calendar quotas outlives the process. A lease is one part of `lease_part` (100)
/// of a quota's amount: what a killed process may at most leave behind as used beyond what it has used. `when_store_fails`:
/// "refuse" raises StoreError, "admit" decides by what is known in memory. Leases are renewed in a thread unless
/// `renew_in_background` is false. Make a limiter with a store after a fork, and `close()` it at the end.
#[pyclass(frozen, subclass, dict, weakref, module = "tokenweir")]
pub struct Limiter {
    issuer: Py<Issuer>,
}

impl Limiter {
    pub fn inner(&self) -> &tokenweir::Limiter {
        &self.issuer.get().limiter
    }

    /// Whether calls may wait for a store; see [`released`].
    pub fn waits(&self) -> bool {
        self.issuer.get().waits
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.issuer.get().close();
    }
}

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(signature = (policy, *, clock=None, observer=None, max_counters=None, max_routes=None, max_permits=None,
                        when_full=None, permit_ttl=None, max_histories=None, store=None, lease_part=None,
                        when_store_fails=None, renew_in_background=true))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        policy: &Bound<'_, Policy>,
        clock: Option<&Bound<'_, PyAny>>,
        observer: Option<&Bound<'_, PyAny>>,
        max_counters: Option<usize>,
        max_routes: Option<usize>,
        max_permits: Option<usize>,
        when_full: Option<&str>,
        permit_ttl: Option<f64>,
        max_histories: Option<usize>,
        store: Option<&Bound<'_, QuotaStore>>,
        lease_part: Option<u64>,
        when_store_fails: Option<&str>,
        renew_in_background: bool,
    ) -> PyResult<Self> {
        let py = policy.py();
        let mut builder = tokenweir::Limiter::builder(policy.get().0.clone());
        if let Some(clock) = clock {
            builder = builder.clock(clock::given(clock)?);
        }
        let mut callback = None;
        if let Some(observer) = observer {
            if let Ok(ring) = observer.cast::<RecordRing>() {
                builder = builder.observer(ring.get().0.clone());
            } else if observer.is_callable() {
                let told = Arc::new(Callback::new(observer.clone().unbind()));
                builder = builder.observer(told.clone());
                callback = Some(told);
            } else {
                return Err(PyTypeError::new_err("observer cannot be called; give a RecordRing or a callable"));
            }
        }
        let most = |what: &str, most: Option<usize>| match most {
            Some(0) => Err(PyValueError::new_err(format!("{what} is 0; give at least 1"))),
            most => Ok(most),
        };
        if let Some(most) = most("max_counters", max_counters)? {
            builder = builder.max_counters(most);
        }
        if let Some(most) = most("max_routes", max_routes)? {
            builder = builder.max_routes(most);
        }
        if let Some(most) = most("max_permits", max_permits)? {
            builder = builder.max_permits(most);
        }
        if let Some(most) = max_histories {
            builder = builder.max_histories(most);
        }
        match when_full {
            None => {}
            Some("deny") => builder = builder.when_full(WhenFull::Deny),
            Some("admit") => builder = builder.when_full(WhenFull::Admit),
            Some(other) => {
                return Err(PyValueError::new_err(format!("when_full is {other:?}; give \"deny\" or \"admit\"")));
            }
        }
        if let Some(ttl) = permit_ttl {
            builder = builder.permit_ttl(span("permit_ttl", ttl)?);
        }
        let options = store_options(lease_part, when_store_fails)?;
        let Some(store) = store.map(|store| store.get().take()).transpose()? else {
            let issuer = Issuer::of_limiter(builder.build(), None, callback);
            return Ok(Limiter { issuer: Py::new(py, issuer)? });
        };
        let inner = builder.store(store.clone(), options).build();
        let renewer = match renew_in_background {
            true => Renewer::start(&inner, &store)?,
            false => Renewer::without_thread(&inner, &store),
        };
        let issuer = Issuer::of_limiter(inner, Some(renewer), callback);
        Ok(Limiter { issuer: Py::new(py, issuer)? })
    }

    /// Renews the leases that are near their end, so that no request has to wait for the disk: now and then, by a host that has
    /// said `renew_in_background=False`. Returns how many were renewed, 0 without a store. Raises StoreError.
    fn renew_leases(&self) -> PyResult<usize> {
        released(self.waits(), || self.inner().renew_leases()).map_err(raise)
    }

    /// Gives back what is leased and not used, so that the store has exactly what is used. Requests that are admitted or
    /// settled afterwards lease anew. Raises StoreError.
    fn give_back_leases(&self) -> PyResult<()> {
        released(self.waits(), || self.inner().give_back_leases()).map_err(raise)
    }

    /// Ends what the limiter does with its store: stops the thread that renews leases, and gives them back, so that the file
    /// has exactly what is used. For a clean end; without a store it does nothing. Requests go on being decided, but wait for
    /// the disk themselves. Raises StoreError if it could not be recorded: then the file has at least what is used.
    fn close(&self) -> PyResult<()> {
        let Some(renewer) = self.issuer.get().take_renewer() else { return Ok(()) };
        released(true, || renewer.stop()).map_err(raise)
    }

    /// What the limiter's clock shows.
    fn now(&self) -> Now {
        Now(self.inner().now())
    }

    /// Decides whether a request may pass, and if so holds its estimate on every limit that it meets: on all or on none.
    ///
    /// `project` calls `deployment`; `keys` are further caller keys, such as `{"user": "u-17"}`. Each value is str or bytes
    /// and not empty. `input` and `output` are the tokens it is expected to take at most, 0 where that is not known.
    ///
    /// Returns a Permit, which is truthy, or a Denial, which is falsy. Raises RequestError if the request cannot be matched
    /// with the policy, CapacityError if there are too many open permits.
    #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None, now=None),
           text_signature = "($self, project, deployment, input=0, output=0, *, keys=None, now=None)")]
    fn admit<'py>(
        slf: &Bound<'py, Self>,
        project: &Bound<'py, PyAny>,
        deployment: &Bound<'py, PyAny>,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        keys: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let estimate = estimate(input, output)?;
        let inner = slf.get().inner();
        with_request(project, deployment, keys, |request| {
            let now = instant(now);
            let decision = released(slf.get().waits(), || match now {
                None => inner.admit(request, estimate),
                Some(now) => inner.admit_at(request, estimate, now),
            });
            Issuer::decided(slf.get().issuer.bind(slf.py()), decision)
        })
    }

    /// Admits as `admit` does, or raises Denied. For `with limiter.reserve(...) as permit:`, which ends the permit with the
    /// block: settle or cancel it before, or its estimate stands.
    #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None, now=None),
           text_signature = "($self, project, deployment, input=0, output=0, *, keys=None, now=None)")]
    fn reserve<'py>(
        slf: &Bound<'py, Self>,
        project: &Bound<'py, PyAny>,
        deployment: &Bound<'py, PyAny>,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        keys: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        granted(Self::admit(slf, project, deployment, input, output, keys, now)?)
    }

    /// Resolves who calls what once, for callers that come again: `route.admit(input, output)` skips the look-up. Raises
    /// RequestError, and CapacityError if there is no room for a counter that it needs.
    #[pyo3(signature = (project, deployment, *, keys=None, now=None))]
    fn route<'py>(
        slf: &Bound<'py, Self>,
        project: &Bound<'py, PyAny>,
        deployment: &Bound<'py, PyAny>,
        keys: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Route> {
        let inner = slf.get().inner();
        with_request(project, deployment, keys, |request| {
            let now = instant(now);
            let route = released(slf.get().waits(), || match now {
                None => inner.route(request),
                Some(now) => inner.route_at(request, now),
            });
            Route::new(slf, slf.get().issuer.bind(slf.py()), route.map_err(raise)?)
        })
    }

    /// Reports tokens more of a stream, by permit id; see Permit.observe.
    #[pyo3(signature = (id, input=None, output=None, *, now=None),
           text_signature = "($self, id, input=0, output=0, *, now=None)")]
    fn observe(
        &self,
        id: Number,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<bool> {
        self.issuer.get().observe(id.0, input, output, now)
    }

    /// Settles a permit by id; see Permit.settle.
    #[pyo3(signature = (id, input=None, output=None, *, cached_input=None, now=None))]
    fn settle<'py>(
        &self,
        py: Python<'py>,
        id: Number,
        input: Option<&Bound<'py, PyAny>>,
        output: Option<&Bound<'py, PyAny>>,
        cached_input: Option<&Bound<'py, PyAny>>,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let issuer = self.issuer.get();
        let settled = issuer.settle(id.0, usage(input, output, cached_input)?, now).map_err(raise)?;
        issuer.ended(py, &settled, None)
    }

    /// Cancels a permit by id; see Permit.cancel.
    #[pyo3(signature = (id, *, now=None))]
    fn cancel<'py>(
        &self,
        py: Python<'py>,
        id: Number,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let issuer = self.issuer.get();
        issuer.ended(py, &issuer.cancel(id.0, now).map_err(raise)?, None)
    }

    /// Ends a permit by id without a word of usage: its estimate stands. See Permit.abandon.
    #[pyo3(signature = (id, *, now=None))]
    fn abandon<'py>(
        &self,
        py: Python<'py>,
        id: Number,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, Settlement>> {
        let issuer = self.issuer.get();
        issuer.ended(py, &issuer.abandon(id.0, now).map_err(raise)?, None)
    }

    /// Lets a permit live for `ttl` seconds from now on, by id; see Permit.renew.
    #[pyo3(signature = (id, ttl, *, now=None))]
    fn renew(&self, id: Number, ttl: f64, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        self.issuer.get().renew(id.0, ttl, now)
    }

    /// What each enforced limit of an open permit has left, by limit name. Empty if the permit has ended.
    #[pyo3(signature = (id, *, now=None))]
    fn remaining<'py>(
        &self,
        py: Python<'py>,
        id: Number,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.issuer.get().remaining(py, id.0, now)
    }

    /// The shadow limits that would have refused an open permit's request. Empty if the permit has ended.
    fn shadow_refused(&self, id: Number) -> Vec<String> {
        self.inner().shadow_refused(id.0)
    }

    /// What would come of the request now. Nothing is taken. Raises RequestError.
    #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None, now=None),
           text_signature = "($self, project, deployment, input=0, output=0, *, keys=None, now=None)")]
    fn peek(
        slf: &Bound<'_, Self>,
        project: &Bound<'_, PyAny>,
        deployment: &Bound<'_, PyAny>,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        keys: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Peek> {
        let estimate = estimate(input, output)?;
        let inner = slf.get().inner();
        with_request(project, deployment, keys, |request| {
            let now = instant(now).unwrap_or_else(|| inner.now());
            let peek = released(slf.get().waits(), || inner.peek_at(request, estimate, now));
            peeked(slf.py(), peek.map_err(raise)?)
        })
    }

    /// Every limit of the policy: met by the request and how it stands, or skipped and why. Walks the whole policy. Raises
    /// RequestError.
    #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None, now=None),
           text_signature = "($self, project, deployment, input=0, output=0, *, keys=None, now=None)")]
    fn explain(
        slf: &Bound<'_, Self>,
        project: &Bound<'_, PyAny>,
        deployment: &Bound<'_, PyAny>,
        input: Option<&Bound<'_, PyAny>>,
        output: Option<&Bound<'_, PyAny>>,
        keys: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Explanation> {
        let estimate = estimate(input, output)?;
        let inner = slf.get().inner();
        with_request(project, deployment, keys, |request| {
            let now = instant(now).unwrap_or_else(|| inner.now());
            let explained = released(slf.get().waits(), || inner.explain_at(request, estimate, now));
            explanation(slf.py(), explained.map_err(raise)?)
        })
    }

    /// The counters, sorted by limit and key: only those of the limit of this name, and whose scope has these values
    /// (`{"project": "search"}`), where given. Walks all counters and open permits: for consoles, not for the path of a
    /// request.
    #[pyo3(signature = (limit=None, scope=None, *, now=None))]
    fn usage(
        slf: &Bound<'_, Self>,
        limit: Option<String>,
        scope: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Vec<CounterUsage>> {
        let scope = scope.map_or(Ok(Vec::new()), |scope| scope_of("scope", scope))?;
        let inner = slf.get().inner();
        let now = instant(now).unwrap_or_else(|| inner.now());
        let counters = inner.usage_at(&UsageFilter { limit, scope }, now);
        counters.into_iter().map(|counter| used(slf.py(), counter)).collect()
    }

    /// The policy in force.
    #[getter]
    fn policy(&self) -> Policy {
        Policy(self.inner().policy())
    }

    /// Puts another policy in force, from the next decision on. Consumption is kept where a limit's name and scope are; open
    /// permits settle against the counters that they charged. Traffic goes on meanwhile. Takes time in proportion to the
    /// number of live counters; other threads may run.
    #[pyo3(signature = (policy, *, now=None))]
    fn swap_policy(&self, py: Python<'_>, policy: &Bound<'_, Policy>, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        let (policy, now) = (policy.get().0.clone(), instant(now));
        // One change waits for another.
        let swapped = py.detach(|| match now {
            None => self.inner().swap_policy(policy),
            Some(now) => self.inner().swap_policy_at(policy, now),
        });
        swapped.map_err(raise)
    }

    /// The counters as JSON text, for `restore` in another process: after an upgrade, or on the next start.
    ///
    /// Each counter is as it was at some instant of the call; what open permits hold counts as spent. What is admitted later
    /// is not in it, so whoever writes one now and then loses, by a crash, what was admitted since. Takes time in proportion
    /// to the number of live counters and open permits; traffic goes on meanwhile, and other threads may run.
    #[pyo3(signature = (*, now=None))]
    fn snapshot(&self, py: Python<'_>, now: Option<&Bound<'_, Now>>) -> PyResult<String> {
        let now = instant(now).unwrap_or_else(|| self.inner().now());
        // A change of policy is waited for.
        py.detach(|| snapshot::text(&self.inner().snapshot_at(now)))
    }

    /// Takes up the counters of another limiter, before the first request: a counter that is in use already keeps what it
    /// has, and what is restored comes on top. `snapshot` is the text that `Limiter.snapshot` returned, as str or bytes.
    ///
    /// A counter is the same if its limit has the same name, scope, meter, algorithm and period; the others begin anew, and
    /// the Restored says which. What windows counted leaves when it would have if the limiter's clock has a past of the
    /// longest one: `SystemClock(past=86_400)`. Places of permits that were open are free again when those would have
    /// expired. It never allows more than the limiter that was saved would have. Raises SnapshotError, and takes up nothing
    /// then.
    #[pyo3(signature = (snapshot, *, now=None))]
    fn restore(&self, py: Python<'_>, snapshot: &Bound<'_, PyAny>, now: Option<&Bound<'_, Now>>) -> PyResult<Restored> {
        let document = bytes("snapshot", snapshot)?;
        let now = instant(now).unwrap_or_else(|| self.inner().now());
        let restored = py.detach(|| {
            let snapshot: tokenweir::Snapshot = serde_json::from_slice(&document)?;
            Ok(self.inner().restore_at(&snapshot, now))
        });
        snapshot::restored(py, restored.map_err(bad_snapshot)?)
    }

    /// The limiter's own figures. Walks the open permits.
    fn stats(&self) -> Stats {
        Stats::of(self.inner().stats())
    }

    /// Expires permits whose time is over and evicts counters at rest that nobody holds. This happens by itself when room is
    /// needed; a host may call it when it is idle.
    #[pyo3(signature = (*, now=None))]
    fn sweep(&self, now: Option<&Bound<'_, Now>>) {
        let now = instant(now);
        released(self.waits(), || match now {
            None => self.inner().sweep(),
            Some(now) => self.inner().sweep_at(now),
        });
    }

    fn __repr__(&self) -> String {
        let (policy, stats) = (self.inner().policy(), self.inner().stats());
        let (limits, counters, open) = (policy.limits().len(), stats.counters, stats.permits_open);
        format!("<Limiter: {limits} limits, {counters} counters, {open} open permits>")
    }

    fn __reduce__(&self) -> PyResult<()> {
        let reason =
            "cannot pickle a Limiter: its counters live in this process; build one per process from the policy";
        Err(PyTypeError::new_err(reason))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.issuer)
    }
}

fn store_options(lease_part: Option<u64>, when_it_fails: Option<&str>) -> PyResult<StoreOptions> {
    let mut options = StoreOptions::new();
    match lease_part {
        None => {}
        Some(0) => return Err(PyValueError::new_err("lease_part is 0; give at least 1")),
        Some(parts) => options = options.lease_part(parts),
    }
    match when_it_fails {
        None | Some("refuse") => Ok(options),
        Some("admit") => Ok(options.when_it_fails(WhenStoreFails::Admit)),
        Some(other) => {
            Err(PyValueError::new_err(format!("when_store_fails is {other:?}; give \"refuse\" or \"admit\"")))
        }
    }
}
