//! The limiter.

use crate::clock::{self, Now};
use crate::convert::{bytes, count, instant, scope_of, span, whole, with_request};
use crate::errors::{bad_snapshot, raise};
use crate::issuer::Issuer;
use crate::permit::{Number, Settlement, usage};
use crate::policy::Policy;
use crate::record::{Callback, RecordRing};
use crate::region::SharedRegion;
use crate::route::{Route, estimate, granted};
use crate::snapshot::{self, Restored};
use crate::store::{QuotaStore, released};
use crate::view::{CounterUsage, Explanation, Peek, Stats, explanation, peeked, used};
use crate::waiting;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{PyTraverseError, PyVisit};
use std::sync::Arc;
use tokenweir::region::RegionError;
use tokenweir::{StoreOptions, UsageFilter, WhenFull, WhenStoreFails};
use tokenweir_redb::Renewer;

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Every method may be called from any thread at once, and none waits, but for a store: with one, a call that needs a lease
/// waits for the disk, and other threads run meanwhile. In an event loop let leases be renewed in the background. Tokens are
/// whole numbers; spans of time are seconds. `now` is the instant of the call, for hosts that own the time; left out, the
/// limiter's clock is read. Do not mix the two on one limiter unless they tell the same time.
///
/// All arguments but the policy are by keyword, and None is the default:
///
/// - `clock`: where the time comes from; a SystemClock. Set a ManualClock to its beginning first.
/// - `observer`: a RecordRing, or a callable that is told a Record of everything, on the thread that did it; nobody. An
///   Exception that it raises goes to `sys.unraisablehook`. What is none, such as KeyboardInterrupt, is raised by the call in
///   which it came, after the decision or settlement: a permit that was just admitted is cancelled then. (Where an object
///   is freed, it goes to `sys.unraisablehook` as well.)
/// - `max_counters`: the most counters that may live at once, 1 or more; 100,000. About 18 bytes each are taken at once.
/// - `max_routes`: the most callers (project, deployment and keys) that are kept resolved, 1 to 2**24; as many as counters, or
///   65,536 if that is more.
/// - `max_permits`: the most permits that may be open at once, 1 to 2**24; 2**20. One more raises CapacityError.
/// - `when_full`: what a new caller gets when every counter is in use: "deny", or "admit"; "deny".
/// - `permit_ttl`: after how long a permit expires that nobody ends or renews, in seconds or as a timedelta; 600 seconds.
/// - `max_histories`: the most buckets that may keep a history of their deficit, 12 KiB each, 0 or more; 5,000. One without
///   gives back less.
/// - `store`: a QuotaStore, where the use of calendar quotas outlives the process; none. Make a limiter with a store after a
///   fork, and `close()` it at the end.
/// - `lease_part`: a lease is one part of so many of a quota's amount, 1 or more; 100. It is what a killed process may at
///   most leave behind as used beyond what it has used.
/// - `when_store_fails`: "refuse" raises StoreError, "admit" decides by what is known in memory; "refuse".
/// - `renew_in_background`: whether leases are renewed in a thread; true.
/// - `region`: a SharedRegion, whose counters and permits the limiter shares with those of other processes; none. Its time is
///   the host's, it has no store, and how much room there is the region says. Make it after a fork: in a child it raises
///   RegionError.
/// - `policy_of_region`: whether the limiter takes the policy that its region counts for already, if that is another one; false,
///   which raises RegionError then.
///
/// Raises ValueError for a number or a word that is out of range and TypeError for what is of another kind, by the name of the
/// argument; ValueError for a store that was given to another limiter before; StoreError if there can be no thread for it.
#[pyclass(frozen, subclass, dict, weakref, module = "tokenweir")]
pub struct Limiter {
    /// Always there; an option because the interpreter may collect garbage between making the object, whose memory is zeros
    /// then, and filling it: it makes the object's dict in between.
    issuer: Option<Py<Issuer>>,
}

impl Limiter {
    fn of(py: Python<'_>, issuer: Issuer) -> PyResult<Self> {
        Ok(Limiter { issuer: Some(Py::new(py, issuer)?) })
    }

    #[inline(always)]
    fn issuer(&self) -> &Py<Issuer> {
        self.issuer.as_ref().expect("a limiter that was made")
    }

    pub fn inner(&self) -> &tokenweir::Limiter {
        &self.issuer().get().limiter
    }

    /// There may be room in any counter.
    fn room(&self) {
        let waiters = &self.issuer().get().waiters;
        if waiters.any() {
            waiters.tell(None);
        }
    }

    /// Whether calls may wait for a store; see [`released`].
    pub fn waits(&self) -> bool {
        self.issuer().get().waits
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if let Some(issuer) = &self.issuer {
            issuer.get().close();
        }
    }
}

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(signature = (policy, *, clock=None, observer=None, max_counters=None, max_routes=None, max_permits=None,
                        when_full=None, permit_ttl=None, max_histories=None, store=None, lease_part=None,
                        when_store_fails=None, renew_in_background=true, region=None, policy_of_region=false))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    fn new(
        policy: &Bound<'_, Policy>,
        clock: Option<&Bound<'_, PyAny>>,
        observer: Option<&Bound<'_, PyAny>>,
        max_counters: Option<&Bound<'_, PyAny>>,
        max_routes: Option<&Bound<'_, PyAny>>,
        max_permits: Option<&Bound<'_, PyAny>>,
        when_full: Option<&str>,
        permit_ttl: Option<&Bound<'_, PyAny>>,
        max_histories: Option<&Bound<'_, PyAny>>,
        store: Option<&Bound<'_, QuotaStore>>,
        lease_part: Option<&Bound<'_, PyAny>>,
        when_store_fails: Option<&str>,
        renew_in_background: bool,
        region: Option<&Bound<'_, SharedRegion>>,
        policy_of_region: bool,
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
        if let Some(most) = max_counters {
            builder = builder.max_counters(count("max_counters", most, 1)?);
        }
        if let Some(most) = max_routes {
            builder = builder.max_routes(count("max_routes", most, 1)?);
        }
        if let Some(most) = max_permits {
            builder = builder.max_permits(count("max_permits", most, 1)?);
        }
        if let Some(most) = max_histories {
            builder = builder.max_histories(count("max_histories", most, 0)?);
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
        if let Some(region) = region {
            if store.is_some() {
                return Err(raise(RegionError::WithStore.into()));
            }
            if clock.is_some() {
                return Err(PyValueError::new_err(
                    "a clock is given for a limiter on a region; leave it out, the time is the host's",
                ));
            }
            let builder = builder.policy_of_region(policy_of_region);
            let issuer = Issuer::of_limiter(region.get().build(builder)?, None, callback);
            return Self::of(py, issuer);
        }
        let Some(store) = store.map(|store| store.get().take()).transpose()? else {
            let issuer = Issuer::of_limiter(builder.build(), None, callback);
            return Self::of(py, issuer);
        };
        let inner = builder.store(store.clone(), options).build();
        let renewer = match renew_in_background {
            true => Renewer::start(&inner, &store)?,
            false => Renewer::without_thread(&inner, &store),
        };
        let issuer = Issuer::of_limiter(inner, Some(renewer), callback);
        Self::of(py, issuer)
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
        let Some(renewer) = self.issuer().get().take_renewer() else { return Ok(()) };
        released(true, || renewer.stop()).map_err(raise)
    }

    /// What the limiter's clock shows.
    fn now(&self) -> Now {
        Now(self.inner().now())
    }

    /// Decides whether a request may pass, and if so holds its estimate on every limit that it meets: on all or on none.
    ///
    /// `project` calls `deployment`; `keys` are further caller keys, such as `{"user": "u-17"}`. Each value is str or bytes
    /// and not empty. `input` and `output` are the tokens it is expected to take at most, 0 (or None) where that is not known.
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
            Issuer::decided(slf.get().issuer().bind(slf.py()), decision)
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
            let route = route.map_err(raise)?;
            Route::new(slf, slf.get().issuer().bind(slf.py()), (project, deployment), route)
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
        self.issuer().get().observe(id.0, input, output, now)
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
        let issuer = self.issuer().get();
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
        let issuer = self.issuer().get();
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
        let issuer = self.issuer().get();
        issuer.ended(py, &issuer.abandon(id.0, now).map_err(raise)?, None)
    }

    /// Lets a permit live for `ttl` from now on, in seconds or as a timedelta, by id; see Permit.renew.
    #[pyo3(signature = (id, ttl, *, now=None))]
    fn renew(&self, id: Number, ttl: &Bound<'_, PyAny>, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        self.issuer().get().renew(id.0, ttl, now)
    }

    /// What each enforced limit of an open permit has left, by limit name. Empty if the permit has ended.
    #[pyo3(signature = (id, *, now=None))]
    fn remaining<'py>(
        &self,
        py: Python<'py>,
        id: Number,
        now: Option<&Bound<'py, Now>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        self.issuer().get().remaining(py, id.0, now)
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
    /// request. Raises ValueError for a limit that the policy in force has not, and for a part of a scope by which none of these
    /// limits counts.
    #[pyo3(signature = (limit=None, scope=None, *, now=None))]
    fn usage(
        slf: &Bound<'_, Self>,
        limit: Option<String>,
        scope: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Vec<CounterUsage>> {
        let inner = slf.get().inner();
        let filter = filter(&inner.policy(), limit, scope)?;
        let now = instant(now).unwrap_or_else(|| inner.now());
        let counters = inner.usage_at(&filter, now);
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
    ///
    /// On a region it is in force for all its limiters, each of which goes by it from its next call on; a permit is settled by the
    /// policy that it was admitted under, in whichever process. If it is in force already nothing happens, so that all workers may
    /// be told of a new file. Raises RegionError, with nothing changed, if the policy or one of its counters is too large for the
    /// region, permits are open that were admitted under seven other policies, another process has been changing the policy for
    /// five seconds, or this one was forked off.
    #[pyo3(signature = (policy, *, now=None))]
    fn swap_policy(&self, py: Python<'_>, policy: &Bound<'_, Policy>, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        let (policy, now) = (policy.get().0.clone(), instant(now));
        // One change waits for another.
        let swapped = py.detach(|| match now {
            None => self.inner().swap_policy(policy),
            Some(now) => self.inner().swap_policy_at(policy, now),
        });
        self.room();
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
    fn sweep(&self, now: Option<&Bound<'_, Now>>) -> PyResult<()> {
        let now = instant(now);
        released(self.waits(), || match now {
            None => self.inner().sweep(),
            Some(now) => self.inner().sweep_at(now),
        });
        self.room();
        self.issuer().get().interrupted().map_or(Ok(()), Err)
    }

    /// The counters that a request may be refused by, as `(limit, key)`: who shares one has the same key.
    #[pyo3(signature = (project, deployment, keys))]
    fn _counters(
        slf: &Bound<'_, Self>,
        project: &Bound<'_, PyAny>,
        deployment: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(String, Py<PyBytes>)>> {
        let inner = slf.get().inner();
        with_request(project, deployment, keys, |request| {
            let counters = released(slf.get().waits(), || inner.counters_of(request)).map_err(raise)?;
            Ok(waiting::for_python(slf.py(), &counters).into_iter().map(|(limit, key)| (limit, key.unbind())).collect())
        })
    }

    /// From here on the object of this weak reference is told when a permit ends, and nobody if it is None.
    fn _tell_when_freed(&self, lines: Option<Py<PyAny>>) {
        self.issuer().get().waiters.set(lines);
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

/// A filter of counters, which names what the policy has.
pub fn filter(
    policy: &tokenweir::Policy,
    limit: Option<String>,
    scope: Option<&Bound<'_, PyAny>>,
) -> PyResult<UsageFilter> {
    let scope = scope.map_or(Ok(Vec::new()), |scope| scope_of("scope", scope))?;
    let limits = match &limit {
        None => policy.limits(),
        Some(name) => match policy.limit(name) {
            Some(limit) => std::slice::from_ref(limit),
            None => return Err(PyValueError::new_err(format!("the policy has no limit {name:?}; see policy.limits"))),
        },
    };
    for (part, _) in &scope {
        if !limits.iter().any(|limit| limit.scope().iter().any(|known| known.to_string() == *part)) {
            let what = limit
                .as_ref()
                .map_or_else(|| "no limit counts".to_owned(), |name| format!("limit {name:?} does not count"));
            let how = "give project, deployment, or key: and a name, as the limit's scope has it";
            return Err(PyValueError::new_err(format!("{what} by {part:?}; {how}")));
        }
    }
    Ok(UsageFilter { limit, scope })
}

fn store_options(lease_part: Option<&Bound<'_, PyAny>>, when_it_fails: Option<&str>) -> PyResult<StoreOptions> {
    let mut options = StoreOptions::new();
    if let Some(parts) = lease_part {
        options = options.lease_part(whole("lease_part", parts, 1..=i64::MAX.unsigned_abs())?);
    }
    match when_it_fails {
        None | Some("refuse") => Ok(options),
        Some("admit") => Ok(options.when_it_fails(WhenStoreFails::Admit)),
        Some(other) => {
            Err(PyValueError::new_err(format!("when_store_fails is {other:?}; give \"refuse\" or \"admit\"")))
        }
    }
}
