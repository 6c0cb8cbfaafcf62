//! The limiter: a policy, its counters and a clock, put together into decisions.
//!
//! - `route`: who calls what, resolved once to the counters it meets;
//! - `rule`: one limit at present and what it does to a counter's words;
//! - `compiled`: a policy as rules, and what stays the same when it changes;
//! - `core`: the shared state, and how routes and room are made;
//! - `admit`, `settle`: a request's life; `slab`: the open permits; `owner`: numbers for threads, which have slots of
//!   their own;
//! - `shared`: counters and permits that are in a region which processes share;
//! - `keeper`: what is used of quotas, recorded in a store in advance;
//! - `elsewhere`: the same decisions, told of counters that are kept somewhere else;
//! - `decision`: permits and denials; `view`: looking without taking; `snapshot`: counters that outlive the process.
//!
//! Once a route exists, admitting and settling on it takes no lock, and allocates nothing but a bucket's history, once.

mod admit;
mod compiled;
mod core;
mod decision;
pub mod elsewhere;
mod keeper;
mod owner;
mod route;
mod rule;
mod settle;
mod shared;
mod slab;
mod snapshot;
mod view;

#[cfg(all(test, loom))]
mod loom_models;

pub use self::core::WhenFull;
pub use decision::{Decision, Denied, Observed, Permit, Refusal};
pub use keeper::{StoreOptions, WhenStoreFails};
pub(crate) use shared::{kept_policy, open_permits};
pub use snapshot::{LeftOut, LeftOutReason, Restored, Snapshot};
pub use view::{CounterKey, CounterUsage, ExplainedLimit, Explanation, LimitView, Peek, Stats, UsageFilter};

use self::admit::Quick;
use self::core::{Core, Found, Parts, clamp};
use self::keeper::Keeper;
use crate::clock::{Clock, Now, SystemClock};
use crate::error::Error;
use crate::policy::{Limit, Policy};
use crate::record::{Observer, Settlement};
use crate::region::{Layout, Memory};
use crate::request::{Estimate, Key, PermitId, Request, Usage};
use crate::store::{CounterName, Store};
use arc_swap::ArcSwapOption;
use route::Resolved;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Decides which requests may pass, holds their tokens and settles them.
///
/// Cheap to clone; all clones are the same limiter. Every method may be called from any thread at once. Each that
/// depends on time has a twin ending in `_at` that takes the time from the caller; the others read the limiter's
/// clock. Do not mix the two on one limiter unless they tell the same time.
#[derive(Clone)]
pub struct Limiter {
    core: Arc<Core>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("stats", &self.core.stats()).finish_non_exhaustive()
    }
}

/// How a [`Limiter`] is to be built.
pub struct LimiterBuilder {
    policy: Policy,
    parts: Parts,
    max_routes: Option<usize>,
}

impl fmt::Debug for LimiterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimiterBuilder")
            .field("max_counters", &self.parts.max_counters)
            .field("max_permits", &self.parts.max_permits)
            .finish_non_exhaustive()
    }
}

impl LimiterBuilder {
    /// Where the time comes from; [`SystemClock`] unless set. Buckets count their refill from what it shows when the
    /// limiter is built: set a [`ManualClock`](crate::ManualClock) to the beginning first.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.parts.clock = Box::new(clock);
        self
    }

    /// Who is told of every decision and settlement; nobody unless set.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.parts.observer = Some(observer);
        self
    }

    /// The most counters that may live at once; 100,000 unless set, at least 1. The table is sized for it from the
    /// first (about 18 bytes each), up to a million.
    pub fn max_counters(mut self, most: usize) -> Self {
        self.parts.max_counters = most.max(1);
        self
    }

    /// The most buckets that may keep a history of their deficit at once; 5,000 unless set, which is 60 MiB: one takes
    /// 12 KiB, from the bucket's first return among overlapping calls on, or once more than 1/32 of it is in use.
    ///
    /// By its history a bucket gives tokens back as if they had never been taken. One that goes without gives back what
    /// is left of the charge after all that was refilled since, as if nobody else had used it: never more, often less,
    /// the less the longer the call lasted. A history goes with its counter, when that is evicted; a host with more busy
    /// buckets than this may call [`sweep`](Limiter::sweep) when it is idle. 0: no bucket keeps one.
    pub fn max_histories(mut self, most: usize) -> Self {
        self.parts.max_histories = most;
        self
    }

    /// The most routes (distinct project, deployment and caller keys) that are kept resolved; as many as counters, or
    /// 65,536 if that is more, unless set; at most 2^24. Idle ones make room for new ones; when all are held by open
    /// permits or handles, one more is an error, [`Error::TableFull`].
    pub fn max_routes(mut self, most: usize) -> Self {
        self.max_routes = Some(most.clamp(1, 1 << 24));
        self
    }

    /// The most permits that may be open at once; 2^20 unless set, at most 2^24. One more is an error,
    /// [`Error::PermitsExhausted`]. Memory (128 bytes each) is taken as it is needed. From 4,096 on, 512 of them are kept
    /// for the first 64 threads that admit, 8 each.
    pub fn max_permits(mut self, most: usize) -> Self {
        self.parts.max_permits = most.clamp(1, 1 << 24);
        self
    }

    /// What a new key gets when every counter is in use; [`WhenFull::Deny`] unless set.
    pub fn when_full(mut self, answer: WhenFull) -> Self {
        self.parts.when_full = answer;
        self
    }

    /// How long a permit lives unless it is settled or renewed; 10 minutes unless set. Afterwards its in-flight
    /// places are free and its estimate stands as used.
    pub fn permit_ttl(mut self, ttl: Duration) -> Self {
        self.parts.permit_ttl = nanos(ttl);
        self
    }

    /// Where the use of calendar quotas is kept so that it outlives the process; nowhere unless set. See [`Store`].
    pub fn store(mut self, store: Arc<dyn Store>, options: StoreOptions) -> Self {
        self.parts.keeper = Some(Keeper::new(store, options));
        self
    }

    /// On a region that counts for another policy already, the limiter takes that one; otherwise it is refused
    /// ([`RegionError::OtherPolicy`](crate::region::RegionError)), so that a worker which starts with an old file does not
    /// undo a change. Nothing to a limiter that is on none.
    pub fn policy_of_region(mut self, whichever: bool) -> Self {
        self.parts.policy_of_region = whichever;
        self
    }

    /// The limiter, with its counters and permits in a region: see [`region`](crate::region), and the crate
    /// `tokenweir-shared`, which maps one. How many of everything there may be is the layout's to say. The clock must be the
    /// same in all processes.
    ///
    /// # Errors
    /// [`Error::Region`] if the region counts for another policy (see [`policy_of_region`](LimiterBuilder::policy_of_region)),
    /// has no room for its counters or for the policy, or cannot have a store.
    pub fn build_in_region(self, memory: Arc<dyn Memory>, layout: &Layout) -> Result<Limiter, Error> {
        let core = Core::in_region(&self.policy, self.parts, memory, layout)?;
        Ok(Limiter { core: Arc::new(core) })
    }

    /// The limiter.
    pub fn build(self) -> Limiter {
        let mut parts = self.parts;
        parts.max_routes = self.max_routes.unwrap_or(parts.max_counters.max(1 << 16)).clamp(1, 1 << 24);
        Limiter { core: Arc::new(Core::new(self.policy, parts)) }
    }
}

/// Nanoseconds of a duration, at most what a clock can show.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Limiter {
    /// A limiter on the system's clock with everything else as [`builder`](Limiter::builder) has it.
    pub fn new(policy: Policy) -> Self {
        Self::builder(policy).build()
    }

    /// A limiter to be configured.
    pub fn builder(policy: Policy) -> LimiterBuilder {
        LimiterBuilder {
            policy,
            parts: Parts {
                clock: Box::new(SystemClock::new()),
                observer: None,
                when_full: WhenFull::default(),
                permit_ttl: nanos(Duration::from_secs(600)),
                max_permits: 1 << 20,
                max_counters: 100_000,
                max_histories: 5_000,
                max_routes: 0,
                keeper: None,
                policy_of_region: false,
            },
            max_routes: None,
        }
    }

    /// What the limiter's clock shows.
    pub fn now(&self) -> Now {
        self.core.clock.now()
    }

    /// Decides whether a request may pass, and if so holds its estimate on every limit it meets: on all or on none.
    ///
    /// # Errors
    /// [`Error::Request`] if the request cannot be matched with the policy, [`Error::EstimateTooLarge`],
    /// [`Error::PermitsExhausted`], [`Error::TableFull`]. A refusal is not an error but [`Decision::Denied`].
    #[inline]
    pub fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Result<Decision<'_>, Error> {
        let mut denied = None;
        match self.core.admit_quickly(request, estimate, None, &mut denied) {
            Quick::Admitted(id) => Ok(Decision::Admitted(Permit::new(&self.core, None, id))),
            quick => match denied {
                Some(denied) => Ok(Decision::Denied(denied)),
                None => self.core.admit_thoroughly(request, estimate, None, quick),
            },
        }
    }

    /// [`admit`](Limiter::admit) at `now`.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    #[inline]
    pub fn admit_at(&self, request: &Request<'_>, estimate: Estimate, now: Now) -> Result<Decision<'_>, Error> {
        let mut denied = None;
        match self.core.admit_quickly(request, estimate, Some(now), &mut denied) {
            Quick::Admitted(id) => Ok(Decision::Admitted(Permit::new(&self.core, None, id))),
            quick => match denied {
                Some(denied) => Ok(Decision::Denied(denied)),
                None => self.core.admit_thoroughly(request, estimate, Some(now), quick),
            },
        }
    }

    /// What would come of the request now. Nothing is taken.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    pub fn peek(&self, request: &Request<'_>, estimate: Estimate) -> Result<Peek, Error> {
        self.core.peek(request, estimate, self.now())
    }

    /// [`peek`](Limiter::peek) at `now`.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    pub fn peek_at(&self, request: &Request<'_>, estimate: Estimate, now: Now) -> Result<Peek, Error> {
        self.core.peek(request, estimate, now)
    }

    /// Every limit of the policy: met by the request and how it stands, or skipped and why. Walks the whole policy.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    pub fn explain(&self, request: &Request<'_>, estimate: Estimate) -> Result<Explanation, Error> {
        self.core.explain(request, estimate, self.now())
    }

    /// [`explain`](Limiter::explain) at `now`.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    pub fn explain_at(&self, request: &Request<'_>, estimate: Estimate, now: Now) -> Result<Explanation, Error> {
        self.core.explain(request, estimate, now)
    }

    /// Resolves who calls what once, for reuse. The handle keeps its counters from being evicted, and follows a
    /// change of policy by itself.
    ///
    /// # Errors
    /// [`Error::Request`] if the request cannot be matched with the policy; [`Error::TableFull`] if there is no room
    /// for a counter it needs.
    pub fn route(&self, request: &Request<'_>) -> Result<Route, Error> {
        self.route_now(request, None)
    }

    /// [`route`](Limiter::route) at `now`.
    ///
    /// # Errors
    /// As [`route`](Limiter::route).
    pub fn route_at(&self, request: &Request<'_>, now: Now) -> Result<Route, Error> {
        self.route_now(request, Some(now))
    }

    fn route_now(&self, request: &Request<'_>, now: Option<Now>) -> Result<Route, Error> {
        self.core.check_region()?;
        let request = Owned::new(request);
        let resolved = request.resolve(&self.core, now)?;
        Ok(Route { core: self.core.clone(), request, resolved, newer: ArcSwapOption::empty() })
    }

    /// Reports tokens more of a stream, by permit id; see [`Permit::observe`].
    ///
    /// # Errors
    /// [`Error::PermitSettled`], [`Error::PermitUnknown`], [`Error::UsageInvalid`].
    pub fn observe(&self, id: PermitId, input: u64, output: u64) -> Result<Observed, Error> {
        self.core.observe(id, input, output, None)
    }

    /// [`observe`](Limiter::observe) at `now`.
    ///
    /// # Errors
    /// As [`observe`](Limiter::observe).
    pub fn observe_at(&self, id: PermitId, input: u64, output: u64, now: Now) -> Result<Observed, Error> {
        self.core.observe(id, input, output, Some(now))
    }

    /// Settles a permit by id; see [`Permit::settle`].
    ///
    /// # Errors
    /// [`Error::PermitSettled`], [`Error::PermitUnknown`], [`Error::UsageInvalid`]; nothing has changed then.
    pub fn settle(&self, id: PermitId, usage: Usage) -> Result<Settlement, Error> {
        self.core.settle(id, None, &usage, None)
    }

    /// [`settle`](Limiter::settle) at `now`.
    ///
    /// # Errors
    /// As [`settle`](Limiter::settle).
    pub fn settle_at(&self, id: PermitId, usage: Usage, now: Now) -> Result<Settlement, Error> {
        self.core.settle(id, None, &usage, Some(now))
    }

    /// Cancels a permit by id: the request never reached the provider; see [`Permit::cancel`].
    ///
    /// # Errors
    /// [`Error::PermitSettled`], [`Error::PermitUnknown`]; nothing has changed then.
    pub fn cancel(&self, id: PermitId) -> Result<Settlement, Error> {
        self.core.cancel(id, None, None)
    }

    /// [`cancel`](Limiter::cancel) at `now`.
    ///
    /// # Errors
    /// As [`cancel`](Limiter::cancel).
    pub fn cancel_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        self.core.cancel(id, None, Some(now))
    }

    /// Ends a permit by id without a word of usage: the estimate stands, as when a [`Permit`] is dropped.
    ///
    /// # Errors
    /// [`Error::PermitSettled`], [`Error::PermitUnknown`]; nothing has changed then.
    pub fn abandon(&self, id: PermitId) -> Result<Settlement, Error> {
        self.core.abandon(id, None, None)
    }

    /// [`abandon`](Limiter::abandon) at `now`.
    ///
    /// # Errors
    /// As [`abandon`](Limiter::abandon).
    pub fn abandon_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        self.core.abandon(id, None, Some(now))
    }

    /// Ends the open permits of a process that has ended, by the number that the system knew it by, as if they had been
    /// dropped: their estimates stand and their in-flight places are free. How many. Without a region there are none.
    ///
    /// For whoever started that process, has waited for its end, and knows that nobody settles what it had open; otherwise
    /// they expire.
    ///
    /// # Errors
    /// [`Error::Region`] in a process that was forked off this limiter's.
    pub fn abandon_process(&self, process: u32) -> Result<usize, Error> {
        self.abandon_processes(|other| other == process)
    }

    /// [`abandon_process`](Limiter::abandon_process) of all processes that have `gone`: for whoever comes after all of them were
    /// killed. It is asked of the process that each open permit was admitted by.
    ///
    /// # Errors
    /// As [`abandon_process`](Limiter::abandon_process).
    pub fn abandon_processes(&self, gone: impl Fn(u32) -> bool) -> Result<usize, Error> {
        self.core.abandon_processes(gone)
    }

    /// Lets a permit live for `ttl` from now on, for streams longer than the builder's `permit_ttl`.
    ///
    /// # Errors
    /// [`Error::PermitSettled`], [`Error::PermitUnknown`].
    pub fn renew(&self, id: PermitId, ttl: Duration) -> Result<(), Error> {
        self.core.renew(id, nanos(ttl), None)
    }

    /// [`renew`](Limiter::renew) at `now`.
    ///
    /// # Errors
    /// As [`renew`](Limiter::renew).
    pub fn renew_at(&self, id: PermitId, ttl: Duration, now: Now) -> Result<(), Error> {
        self.core.renew(id, nanos(ttl), Some(now))
    }

    /// What each enforced limit of an open permit has left at `now`, by limit name; nothing if the permit is gone.
    pub fn remaining_at(&self, id: PermitId, now: Now) -> Vec<(String, i64)> {
        self.core.remaining(id, now)
    }

    /// [`remaining_at`](Limiter::remaining_at) without an allocation: passes each enforced limit and what it has left.
    pub fn each_remaining_at(&self, id: PermitId, now: Now, see: impl FnMut(&Limit, i64)) {
        self.core.each_remaining(id, now, see);
    }

    /// How long a permit lives that nobody settles or renews: what the limiter was built with.
    pub fn permit_ttl(&self) -> Duration {
        Duration::from_nanos(self.core.permit_ttl)
    }

    /// The shadow limits that would have refused an open permit's request, by name; nothing if the permit is gone.
    pub fn shadow_refused(&self, id: PermitId) -> Vec<String> {
        self.core.shadow_refused(id)
    }

    /// Whether a permit is neither settled nor expired by the limiter's clock.
    pub fn is_open(&self, id: PermitId) -> bool {
        self.core.is_open(id)
    }

    /// The counters of the enforced limits that a request meets: for hosts that let callers wait in line. Nothing if there
    /// is no room for one of them.
    ///
    /// # Errors
    /// As [`admit`](Limiter::admit).
    pub fn counters_of(&self, request: &Request<'_>) -> Result<Vec<CounterKey>, Error> {
        self.core.counters_of(request, self.now())
    }

    /// The counters of the enforced limits that an open permit holds something of; nothing if the permit is gone.
    pub fn counters_held(&self, id: PermitId) -> Vec<CounterKey> {
        self.core.counters_held(id)
    }

    /// The counters, by limit and key. Walks all counters and open permits: for consoles, not for the request path.
    pub fn usage(&self, filter: &UsageFilter) -> Vec<CounterUsage> {
        self.core.usage(filter, self.now())
    }

    /// [`usage`](Limiter::usage) at `now`.
    pub fn usage_at(&self, filter: &UsageFilter, now: Now) -> Vec<CounterUsage> {
        self.core.usage(filter, now)
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        // A process that may not use its region any more has the last one that it went by.
        let _ = self.core.check_region();
        self.core.compiled.load().policy.clone()
    }

    /// Puts another policy in force: it applies to the next decision. Consumption is kept where a limit's name and
    /// scope are (section 5 of the contract); open permits settle against the counters they charged.
    ///
    /// Traffic goes on meanwhile. Takes time in proportion to the number of live counters.
    ///
    /// On a region it is in force for every process once this returns: each goes by it from its next call on, and a permit is
    /// settled by the policy that it was admitted under, in whichever process. If it is in force already nothing happens, so
    /// that all workers may be told of a new file.
    ///
    /// # Errors
    /// None without a region. On one, [`Error::Region`] with nothing changed: the policy or a counter of it is too large for the
    /// region, permits are open that were admitted under seven other policies, another process has been changing the policy for
    /// five seconds, or this process was forked off.
    pub fn swap_policy(&self, policy: Policy) -> Result<(), Error> {
        self.core.swap(policy, None)
    }

    /// [`swap_policy`](Limiter::swap_policy) at `now`.
    ///
    /// # Errors
    /// As [`swap_policy`](Limiter::swap_policy).
    pub fn swap_policy_at(&self, policy: Policy, now: Now) -> Result<(), Error> {
        self.core.swap(policy, Some(now))
    }

    /// The counters, to be taken up by the limiter of another process with [`restore`](Limiter::restore): after an upgrade,
    /// or on a host's next start.
    ///
    /// Each counter is as it was at some instant of the call; what open permits hold counts as spent. What is admitted
    /// later is not in it: whoever writes one now and then loses, by a crash, what was admitted since. Limits that the
    /// policy in force does not have are left out, and so are counters as good as new of which nothing was ever settled.
    ///
    /// Traffic goes on meanwhile, and a change of policy waits. Takes time in proportion to the number of live counters
    /// and open permits.
    ///
    /// # Example
    /// ```
    /// use tokenweir::{Estimate, Limiter, Policy, Request, Snapshot, SystemClock};
    /// use std::time::Duration;
    ///
    /// let policy = Policy::from_toml(r#"
    ///     [[limit]]
    ///     name = "day"
    ///     meter = "total"
    ///     algorithm = "window"
    ///     amount = 1_000_000
    ///     per = "24h"
    ///     scope = ["project"]
    /// "#)?;
    /// let before = Limiter::new(policy.clone());
    /// before.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400))?;
    /// let document = serde_json::to_string(&before.snapshot())?;
    ///
    /// // In another process. Its clock has a past of at least the longest window, so that what was counted before it
    /// // began leaves when it would have.
    /// let clock = SystemClock::with_past(Duration::from_secs(24 * 3600));
    /// let after = Limiter::builder(policy).clock(clock).build();
    /// let snapshot: Snapshot = serde_json::from_str(&document)?;
    /// let restored = after.restore(&snapshot);
    /// assert_eq!((restored.counters, restored.left_out.len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot(self.now())
    }

    /// [`snapshot`](Limiter::snapshot) at `now`.
    pub fn snapshot_at(&self, now: Now) -> Snapshot {
        self.core.snapshot(now)
    }

    /// Takes up the counters of another limiter, before the first request: a counter that is in use already keeps what it
    /// has, and what is restored comes on top.
    ///
    /// A counter is the same if its limit has the same name, scope, meter, algorithm and period; others begin anew and are
    /// reported. It never allows more than the one that was saved would, but for one unit of a bucket's line (at most 6 ns of
    /// refill, or one token where a token takes less):
    ///
    /// - a bucket has its balance, and what the wall time since then has refilled. Of a limit whose amount or burst has
    ///   changed the slower refill and the lower brim count, since nobody knows when it changed;
    /// - what a window counted leaves when it would have, or at the end of the sub-window in which it would have. What
    ///   would be before the beginning of the limiter's monotonic clock counts as charged at its beginning, so give the
    ///   clock a past of the longest window ([`SystemClock::with_past`]);
    /// - a quota has its newest period and the use in it, so that no clock re-opens one that is over;
    /// - an in-flight limit has the places of the permits that were open. They are free again when those would have
    ///   expired; until then they are open permits of this limiter, of which nobody has the id. An observer is told of
    ///   their expiry with the project and the deployment, where the scope has them.
    ///
    /// In a region only counters that have not counted yet are taken up, and none of permits in flight: what a region has is
    /// newer, and its permits are in it still.
    ///
    /// Quotas that a store keeps are left to it, unless [`StoreOptions::take_up`] is set.
    ///
    /// The wall clock is believed, but for one that stepped back: then no time has gone by. Returns of permits that were
    /// open are lost with their process.
    pub fn restore(&self, snapshot: &Snapshot) -> Restored {
        self.core.restore(snapshot, self.now())
    }

    /// [`restore`](Limiter::restore) at `now`.
    pub fn restore_at(&self, snapshot: &Snapshot, now: Now) -> Restored {
        self.core.restore(snapshot, now)
    }

    /// Reads what the [`Store`] has of these counters, so that views have them before their first requests. Those of limits that the policy
    /// does not have are passed over; it ends where there is no room for more. Returns how many counters it is; 0 without a store.
    ///
    /// # Errors
    /// [`Error::Store`] if one cannot be read.
    pub fn recall<'a>(&self, counters: impl IntoIterator<Item = CounterName<'a>>) -> Result<usize, Error> {
        self.core.recall(counters, self.now())
    }

    /// Renews the leases that are near their end, so that no request has to wait for the store: to be called when the
    /// [`Store`] is told that one is, or now and then. Returns how many were renewed; 0 without a store.
    ///
    /// # Errors
    /// [`Error::Store`] if they could not be recorded; they are as before, and the next call tries them again.
    pub fn renew_leases(&self) -> Result<usize, Error> {
        self.core.renew_leases().map_err(Error::from)
    }

    /// Gives back what is leased and not used, so that the store has exactly what is used: at a clean end. Requests that
    /// are admitted or settled afterwards lease anew. Walks all counters.
    ///
    /// # Errors
    /// [`Error::Store`] if it could not be recorded: then the store has at least what is used.
    pub fn give_back_leases(&self) -> Result<(), Error> {
        self.core.give_back_leases().map_err(Error::from)
    }

    /// The limiter's own figures. Walks the open permits.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Expires permits whose time is over and evicts counters at rest that nobody holds. This happens by itself when
    /// room is needed; a host may call it when it is idle.
    pub fn sweep(&self) {
        self.sweep_at(self.now());
    }

    /// [`sweep`](Limiter::sweep) at `now`.
    pub fn sweep_at(&self, now: Now) {
        self.core.sweep(self.core.clamped(Some(now)), true);
    }
}

/// A request kept for being resolved again under another policy.
#[derive(Debug)]
struct Owned {
    project: Vec<u8>,
    deployment: Vec<u8>,
    keys: Vec<(String, Vec<u8>)>,
}

impl Owned {
    fn new(request: &Request<'_>) -> Self {
        Owned {
            project: request.project.into(),
            deployment: request.deployment.into(),
            keys: request.keys.iter().map(|key| (key.name.into(), key.value.into())).collect(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let keys: SmallVec<[Key<'_>; 8]> = self.keys.iter().map(|(name, value)| Key { name, value }).collect();
        act(&Request { project: &self.project, deployment: &self.deployment, keys: &keys })
    }

    /// The request's route, pinned.
    fn resolve(&self, core: &Core, now: Option<Now>) -> Result<Arc<Resolved>, Error> {
        let found = self.with(|request| {
            core.find(request, true, now, |route| {
                route.pins.pin_again();
                route.clone()
            })
        })?;
        match found {
            Found::Route(route) => Ok(route),
            Found::Full(denied) => {
                Err(Error::TableFull { limit: denied.limit().to_owned(), budget: core.counters.budget() })
            }
        }
    }
}

/// Who calls what, resolved: the quickest way to decide for callers that come again.
///
/// May be used from any thread at once. It keeps its counters in the table as long as it lives.
pub struct Route {
    core: Arc<Core>,
    request: Owned,
    resolved: Arc<Resolved>,
    /// The route under the newest policy, once one has come into force.
    newer: ArcSwapOption<Resolved>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Route {
    /// Decides as [`Limiter::admit`] does.
    ///
    /// # Errors
    /// As [`Limiter::admit`].
    #[inline]
    pub fn admit(&self, estimate: Estimate) -> Result<Decision<'_>, Error> {
        let now = self.core.time(None, &self.resolved);
        self.decide(estimate, now, None)
    }

    /// [`admit`](Route::admit) at `now`.
    ///
    /// # Errors
    /// As [`Limiter::admit`].
    #[inline]
    pub fn admit_at(&self, estimate: Estimate, now: Now) -> Result<Decision<'_>, Error> {
        self.decide(estimate, clamp(now), Some(now))
    }

    /// Settles a permit by id, as [`Limiter::settle`] does. Any permit of the limiter will do; one that was admitted on
    /// this handle since the last change of policy is settled without looking its route up.
    ///
    /// # Errors
    /// As [`Limiter::settle`].
    #[inline]
    pub fn settle(&self, id: PermitId, usage: Usage) -> Result<Settlement, Error> {
        self.core.settle(id, Some(&self.resolved), &usage, None)
    }

    /// [`settle`](Route::settle) at `now`.
    ///
    /// # Errors
    /// As [`Limiter::settle`].
    #[inline]
    pub fn settle_at(&self, id: PermitId, usage: Usage, now: Now) -> Result<Settlement, Error> {
        self.core.settle(id, Some(&self.resolved), &usage, Some(now))
    }

    /// Cancels a permit by id, as [`Limiter::cancel`] does and [`settle`](Route::settle) describes.
    ///
    /// # Errors
    /// As [`Limiter::cancel`].
    #[inline]
    pub fn cancel(&self, id: PermitId) -> Result<Settlement, Error> {
        self.core.cancel(id, Some(&self.resolved), None)
    }

    /// [`cancel`](Route::cancel) at `now`.
    ///
    /// # Errors
    /// As [`Limiter::cancel`].
    #[inline]
    pub fn cancel_at(&self, id: PermitId, now: Now) -> Result<Settlement, Error> {
        self.core.cancel(id, Some(&self.resolved), Some(now))
    }

    /// Decides at `now`, which is `given` by the caller or the clock's.
    #[inline]
    fn decide(&self, estimate: Estimate, now: Now, given: Option<Now>) -> Result<Decision<'_>, Error> {
        let mut denied = None;
        match self.core.held_quickly(&self.resolved, estimate, now, &mut denied) {
            Quick::Admitted(id) => Ok(Decision::Admitted(Permit::new(&self.core, Some(&self.resolved), id))),
            quick => match denied {
                Some(denied) => Ok(Decision::Denied(denied)),
                None => self.decide_thoroughly(estimate, now, given, quick),
            },
        }
    }

    /// What the quick way has not settled.
    #[inline(never)]
    fn decide_thoroughly(
        &self,
        estimate: Estimate,
        now: Now,
        given: Option<Now>,
        quick: Quick,
    ) -> Result<Decision<'_>, Error> {
        match self.core.held_thoroughly(&self.resolved, estimate, now, quick)? {
            Some(decision) => Ok(decision),
            None => self.decide_anew(estimate, given),
        }
    }

    /// The policy has changed since the handle was made: the route under the new one is found by key, as a request
    /// would find it, and remembered so that its counters stay.
    #[cold]
    fn decide_anew(&self, estimate: Estimate, now: Option<Now>) -> Result<Decision<'_>, Error> {
        let newer = self.newer.load();
        if newer.as_ref().is_none_or(|newer| newer.is_stale(self.core.generation()))
            && let Ok(resolved) = self.request.resolve(&self.core, now)
            && let Some(before) = self.newer.swap(Some(resolved))
        {
            before.pins.unpin();
        }
        self.request.with(|request| self.core.admit_thoroughly(request, estimate, now, Quick::Unsure))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.resolved.pins.unpin();
        if let Some(newer) = self.newer.swap(None) {
            newer.pins.unpin();
        }
    }
}
