//! What all parts of a limiter share: the clock, the policy in force, the tables, and how a route is found or made.

use super::compiled::{Compiled, Identities};
use super::decision::Denied;
use super::keeper::Keeper;
use super::route::{Caller, Leg, Resolved, Routes};
use super::rule::Rule;
use super::shared::{Shared, Unmade};
use super::slab::Slab;
use crate::clock::{Clock, Now};
use crate::counter::floors::Histories;
use crate::error::Error;
use crate::policy::{Mode, Policy};
use crate::record::Observer;
use crate::region::{Layout, Memory, RegionError};
use crate::request::Request;
use crate::sync::{
    AtomicU64, AtomicUsize, Mutex,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use crate::table::{Counter, Counters, Hold, Pins, hasher};
use arc_swap::{ArcSwap, ArcSwapOption};
use smallvec::SmallVec;
use std::collections::HashSet;
use std::sync::Arc;

/// What a new key gets when every counter is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// Requests that would need a new counter are denied.
    #[default]
    Deny,
    /// They pass, as far as that limit is concerned, uncounted.
    Admit,
}

pub(crate) struct Core {
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) when_full: WhenFull,
    /// Nanoseconds after which an unsettled permit expires.
    pub(crate) permit_ttl: u64,
    pub(crate) max_permits: usize,
    pub(crate) compiled: ArcSwap<Compiled>,
    /// The policy that was last about to come into force, put here before any of its rules did.
    coming: ArcSwapOption<Compiled>,
    /// The generation of `compiled`, to be compared on every call.
    pub(crate) generation: AtomicU64,
    /// Held only by those who change the policy.
    pub(super) identities: Mutex<Identities>,
    pub(crate) counters: Counters,
    pub(crate) histories: Arc<Histories>,
    pub(crate) routes: Routes,
    pub(crate) slab: Slab,
    /// No permit expires before this instant (monotonic).
    pub(crate) next_expiry: AtomicU64,
    /// No use looking through many open permits again before this instant, unless somebody waits for a place.
    pub(crate) look_after: AtomicU64,
    /// Grows with every roll-back begun or ended: a refusal that met one is tried once more.
    pub(crate) roll_backs: AtomicU64,
    /// No use looking for counters at rest before this instant (monotonic).
    sweep_after: AtomicU64,
    evict_phase: AtomicUsize,
    pub(crate) refused_full: AtomicU64,
    pub(crate) admitted_full: AtomicU64,
    /// Where there is a store.
    pub(crate) keeper: Option<Keeper>,
    /// Where counters and permits are in a region.
    pub(crate) shared: Option<Shared>,
}

/// How long, at most, a sweep that found nothing at rest is believed: pins are let go without a word.
const SWEEP_BELIEVED: u64 = 100_000_000;

/// What looking for a route came to.
pub(crate) enum Found<T> {
    /// What was done with the route.
    Route(T),
    /// There is no room for a counter it needs.
    Full(Box<Denied>),
}

/// What a new limiter is made of.
pub(crate) struct Parts {
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) when_full: WhenFull,
    pub(crate) permit_ttl: u64,
    pub(crate) max_permits: usize,
    pub(crate) max_counters: usize,
    pub(crate) max_histories: usize,
    pub(crate) max_routes: usize,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) policy_of_region: bool,
}

impl Core {
    pub(crate) fn new(policy: Policy, parts: Parts) -> Self {
        let histories = Arc::new(Histories::new(parts.max_histories));
        let lease_part = parts.keeper.as_ref().map(Keeper::lease_part);
        let mut identities = Identities::new(histories, lease_part);
        let compiled = identities.compile(policy, parts.clock.mono());
        Self::with(compiled, identities, parts, None)
    }

    /// One whose counters and permits are in a region.
    pub(crate) fn in_region(
        policy: &Policy,
        mut parts: Parts,
        memory: Arc<dyn Memory>,
        layout: &Layout,
    ) -> Result<Self, Error> {
        if parts.keeper.is_some() {
            return Err(RegionError::WithStore.into());
        }
        let (shared, compiled) = Shared::new(memory, layout, policy, parts.policy_of_region)?;
        parts.max_permits = layout.permits;
        parts.max_counters = layout.counters;
        parts.max_histories = layout.histories;
        parts.max_routes = layout.callers;
        // The region keeps them.
        let identities = Identities::new(shared.histories.clone(), None);
        let core = Self::with(compiled, identities, parts, Some(shared));
        if let Some(shared) = &core.shared {
            core.sit_down(shared, core.clamped(None));
        }
        Ok(core)
    }

    fn with(compiled: Compiled, identities: Identities, parts: Parts, shared: Option<Shared>) -> Self {
        let histories = identities.histories().clone();
        let random = hasher().hash_one(compiled.generation);
        let slab = match &shared {
            Some(shared) => Slab::shared(shared.slots(), shared.first()),
            None => Slab::new(parts.max_permits, random),
        };
        Core {
            clock: parts.clock,
            observer: parts.observer,
            when_full: parts.when_full,
            permit_ttl: parts.permit_ttl,
            max_permits: parts.max_permits,
            generation: AtomicU64::new(compiled.generation),
            compiled: ArcSwap::from_pointee(compiled),
            coming: ArcSwapOption::empty(),
            identities: Mutex::new(identities),
            counters: Counters::new(parts.max_counters),
            histories,
            routes: Routes::new(parts.max_routes),
            slab,
            // In a region another word says so: this one lets everybody look there.
            next_expiry: AtomicU64::new(if shared.is_some() { 0 } else { u64::MAX }),
            look_after: AtomicU64::new(0),
            roll_backs: AtomicU64::new(0),
            sweep_after: AtomicU64::new(0),
            evict_phase: AtomicUsize::new(0),
            refused_full: AtomicU64::new(0),
            admitted_full: AtomicU64::new(0),
            keeper: parts.keeper,
            shared,
        }
    }

    /// Whether this process may use what it has of a region; from now on it goes by the region's policy.
    #[inline]
    pub(crate) fn check_region(&self) -> Result<(), Error> {
        match &self.shared {
            Some(shared) => Ok(self.check_shared(shared)?),
            None => Ok(()),
        }
    }

    /// The caller's time or the clock's, both readings.
    pub(crate) fn clamped(&self, now: Option<Now>) -> Now {
        clamp(now.unwrap_or_else(|| self.clock.now()))
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// The time, as far as a route needs it: without quotas nobody looks at the wall clock.
    #[inline]
    pub(crate) fn time(&self, now: Option<Now>, route: &Resolved) -> Now {
        match now {
            Some(now) => clamp(now),
            None if route.wants_wall || self.observer.is_some() => clamp(self.clock.now()),
            None => Now::new(self.clock.mono().min(i64::MAX as u64), 0),
        }
    }

    /// Does something with the route of a request, which is pinned meanwhile. `newest`: the route under the newest
    /// policy, also while its number is not out yet. Whoever found another route stale asks for that one, so as not to
    /// wait for the one who changes the policy.
    #[inline]
    pub(crate) fn find<T>(
        &self,
        request: &Request<'_>,
        newest: bool,
        now: Option<Now>,
        act: impl Fn(&Arc<Resolved>) -> T,
    ) -> Result<Found<T>, Error> {
        match self.known(request, newest, &act) {
            Some(done) => Ok(Found::Route(done)),
            None => self.find_anew(request, now, act),
        }
    }

    /// Brings a counter that was made under an older policy under the newest one, also while that is only just coming
    /// into force: an older rule may not do it any more, and nobody waits for the one who changes the policy.
    fn bring_along(&self, counter: &Counter) {
        let adopted = |compiled: &Compiled| match compiled.rule_of(counter.identity) {
            Some(rule) => rule.adopt(&counter.state).is_ok(),
            None => true,
        };
        if let Some(shared) = &self.shared {
            // The newest one is the region's.
            while self.check_shared(shared).is_ok() && !adopted(&self.compiled.load()) {}
            return;
        }
        // Neither will do only if another change has begun in between.
        while !adopted(&self.compiled.load()) && !self.coming.load().as_ref().is_none_or(|coming| adopted(coming)) {}
    }

    /// Does something with the route of a request, if it is known.
    #[inline]
    pub(crate) fn known<T>(
        &self,
        request: &Request<'_>,
        newest: bool,
        act: impl FnMut(&Arc<Resolved>) -> T,
    ) -> Option<T> {
        if request.keys.is_empty() && !newest {
            return self.routes.with(Caller::new(request, &[]), self.generation(), act);
        }
        if request.keys.len() > 1 && has_twice(request) {
            return None;
        }
        // Which keys matter, and in which order, is the policy's to say: its generation, not the newest.
        let compiled = self.compiled.load();
        let caller = Caller::new(request, compiled.policy.key_names());
        self.routes.with(caller, compiled.generation, act)
    }

    #[inline(never)]
    fn find_anew<T>(
        &self,
        request: &Request<'_>,
        now: Option<Now>,
        act: impl Fn(&Arc<Resolved>) -> T,
    ) -> Result<Found<T>, Error> {
        Ok(match self.resolve(request, self.clamped(now))? {
            Found::Route(route) => {
                let done = act(&route);
                route.pins.unpin();
                Found::Route(done)
            }
            Found::Full(denied) => Found::Full(denied),
        })
    }

    /// Makes the route of a request, pinned for the caller.
    pub(crate) fn resolve(&self, request: &Request<'_>, now: Now) -> Result<Found<Arc<Resolved>>, Error> {
        self.check_region()?;
        self.resolve_under(&self.compiled.load_full(), request, self.when_full, now)
    }

    /// The same under this policy, with this answer where there is no room for a counter.
    pub(super) fn resolve_under(
        &self,
        compiled: &Arc<Compiled>,
        request: &Request<'_>,
        when_full: WhenFull,
        now: Now,
    ) -> Result<Found<Arc<Resolved>>, Error> {
        let resolution = compiled.policy.resolve(request)?;
        if let Some(shared) = &self.shared {
            shared.check_limits(resolution.applied.len())?;
        }
        let mut met: Vec<(Leg, Arc<Counter>)> = Vec::with_capacity(resolution.applied.len());
        let mut complete = true;
        for applied in &resolution.applied {
            let identity = compiled.identities[applied.limit];
            let enforced = compiled.policy.limits()[applied.limit].mode() == Mode::Enforce;
            let counter = match self.counter(compiled, applied.limit, &applied.key, now) {
                Ok(counter) => counter,
                Err(failed) => {
                    met.iter().for_each(|(_, counter)| counter.pins.unpin());
                    return Err(failed);
                }
            };
            let Some(counter) = counter else {
                if enforced && when_full == WhenFull::Deny {
                    met.iter().for_each(|(_, counter)| counter.pins.unpin());
                    self.refused_full.fetch_add(1, Relaxed);
                    let wait = self.next_room(now);
                    let denied = Denied::full(compiled.clone(), applied.limit, wait);
                    return Ok(Found::Full(Box::new(denied)));
                }
                self.admitted_full.fetch_add(1, Relaxed);
                complete = false;
                if let Some(shared) = &self.shared {
                    // Every process has the same limits for a caller, so that receipts are of the same ones.
                    let counter = self.counters.apart(identity, &applied.key, shared.absent());
                    met.push((Leg { limit: applied.limit, charge: applied.charge, enforced: false }, counter));
                }
                continue;
            };
            met.push((Leg { limit: applied.limit, charge: applied.charge, enforced }, counter));
        }
        let is_newest = match &self.shared {
            Some(shared) => {
                // Whoever changes the policy sees the counters, or is seen to.
                fence();
                shared.is_in_force(compiled)
            }
            None => compiled.generation == self.generation(),
        };
        if !is_newest {
            // The change of policy may have walked the counters before these were among them.
            met.iter().for_each(|(_, counter)| self.bring_along(counter));
        }
        met.sort_by_key(|(leg, _)| compiled.identities[leg.limit]);
        let (legs, counters): (Vec<Leg>, SmallVec<_>) = met.into_iter().unzip();
        let key = Caller::new(request, compiled.policy.key_names()).key();
        let caller_hold = match self.caller(&key, now) {
            Ok(hold) => hold.map(Box::new),
            Err(failed) => {
                counters.iter().for_each(|counter: &Arc<Counter>| counter.pins.unpin());
                return Err(failed);
            }
        };
        let route = Arc::new(Resolved {
            has_places: legs.iter().any(|leg| compiled.rules[leg.limit].is_in_flight()),
            kept: legs.iter().any(|leg| compiled.rules[leg.limit].kept().is_some()),
            wants_wall: legs.iter().any(|leg| compiled.rules[leg.limit].is_quota()),
            legs: compiled.shared(legs),
            counters,
            pins: Pins::new(),
            key,
            caller_hold,
            index: AtomicUsize::new(0),
            compiled: compiled.clone(),
        });
        let pinned = route.pins.pin();
        debug_assert!(pinned, "nobody else has seen it");
        if !self.routes.register(&route) {
            self.sweep(now, true);
            if !self.routes.register(&route) {
                route.counters.iter().for_each(|counter| counter.pins.unpin());
                return Err(Error::TableFull { limit: String::new(), budget: self.routes.budget() });
            }
        }
        if let Some(shared) = &self.shared {
            shared.register(&route);
        }
        if complete && (is_newest || self.shared.is_none()) {
            self.routes.publish(&route);
        } else {
            // Not to be found again: the next request of this key may find room; and none is admitted under an older policy.
            route.pins.retire();
        }
        Ok(Found::Route(route))
    }

    /// The counter of a limit and a key, pinned for the caller; none if there is no room, also after a sweep.
    pub(super) fn counter(
        &self,
        compiled: &Compiled,
        limit: usize,
        key: &[u8],
        now: Now,
    ) -> Result<Option<Arc<Counter>>, Error> {
        let (rule, identity) = (&compiled.rules[limit], compiled.identities[limit]);
        let name = compiled.policy.limits()[limit].name();
        if let Some(counter) = self.known_counter(rule, name, identity, key)? {
            return Ok(Some(counter));
        }
        if !self.sweep(now, false) {
            return Ok(None);
        }
        self.known_counter(rule, name, identity, key)
    }

    /// The same, without a sweep.
    pub(super) fn known_counter(
        &self,
        rule: &Rule,
        limit: &str,
        identity: u32,
        key: &[u8],
    ) -> Result<Option<Arc<Counter>>, Error> {
        let fresh = || match (&self.keeper, rule.kept(), &self.shared) {
            (_, _, Some(shared)) => shared.counter(limit, identity, key, rule),
            (Some(keeper), Some((_, kept)), None) => keeper.recorded(kept, key).map_err(Unmade::Store),
            _ => Ok(rule.fresh()),
        };
        match self.counters.pin(identity, key, fresh) {
            Ok(counter) => Ok(counter),
            Err(Unmade::Full) => Ok(None),
            Err(Unmade::Store(failed)) => Err(Error::from(failed)),
            Err(Unmade::Region(error)) => Err(Error::from(error)),
        }
    }

    /// The record of a caller, if permits are in a region.
    fn caller(&self, key: &[u8], now: Now) -> Result<Option<Hold>, Error> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let failed = |unmade| match unmade {
            Unmade::Region(error) => Error::from(error),
            _ => Error::TableFull { limit: String::new(), budget: shared.layout.callers },
        };
        match shared.caller(key) {
            Err(Unmade::Full) => {
                self.sweep(now, true);
                shared.caller(key).map(Some).map_err(failed)
            }
            held => held.map(Some).map_err(failed),
        }
    }

    /// When room for a new counter may be looked for again, from `now` on, in nanoseconds.
    fn next_room(&self, now: Now) -> u64 {
        self.sweep_after.load(Relaxed).saturating_sub(now.mono).max(1)
    }

    /// Makes room: ends what has expired, and evicts what nobody holds and what is at rest. Not more often than it can
    /// be of use, unless it must. Whether it ran.
    pub(crate) fn sweep(&self, now: Now, must: bool) -> bool {
        let after = self.sweep_after.load(Relaxed);
        if !must && now.mono < after && after - now.mono <= SWEEP_BELIEVED {
            return false;
        }
        if let Some(shared) = &self.shared
            && shared.check().is_ok()
        {
            self.clear_up(shared, now, true);
        }
        self.expire(now, true);
        let compiled = self.compiled.load();
        // A counter whose limit is not in the policy for now goes on by the limit's last rule: it may come back.
        let rests = |counter: &Counter| compiled.rule_of(counter.identity)?.rests(&counter.state, now).ok().flatten();
        let crowded = self.routes.live() >= self.routes.budget();
        let phase = self.evict_phase.fetch_add(1, Relaxed) % 2;
        let held: HashSet<u64> = self.slab.held_routes().collect();
        self.routes.evict(&held, |route| {
            (crowded && route.index.load(Relaxed) % 2 == phase)
                || route.is_stale(compiled.generation)
                || route.counters.iter().any(|counter| rests(counter) == Some(0))
        });
        self.collect();
        if crowded && self.routes.live() >= self.routes.budget() {
            self.routes.evict(&held, |_| true);
            self.collect();
        }
        self.counters.evict(|counter| rests(counter) == Some(0));
        if let Some(shared) = &self.shared {
            shared.evict(self, &compiled, now);
        }
        let mut soonest = SWEEP_BELIEVED;
        if self.shared.as_ref().map_or(self.counters.live() >= self.counters.budget(), Shared::is_full) {
            self.counters.each(|counter| soonest = soonest.min(rests(counter).unwrap_or(SWEEP_BELIEVED)));
        } else {
            soonest = 0;
        }
        self.sweep_after.store(now.mono.saturating_add(soonest), Relaxed);
        true
    }

    /// Frees retired routes, and with them their counters, as far as nobody holds them.
    fn collect(&self) {
        let gone = |route: &Arc<Resolved>| {
            if let Some(shared) = &self.shared {
                shared.unregister(route);
            }
        };
        self.routes.collect(|| self.slab.held_routes(), gone);
    }

    /// Puts another policy in force, as of `now`.
    pub(crate) fn swap(&self, policy: Policy, now: Option<Now>) -> Result<(), Error> {
        if let Some(shared) = &self.shared {
            return self.swap_in_region(shared, &policy, now);
        }
        let mut identities = self.identities.lock();
        let now = self.clamped(now);
        let compiled = Arc::new(identities.compile(policy, now.mono));
        self.coming.store(Some(compiled.clone()));
        compiled.rules.iter().for_each(Rule::put_in_force);
        self.compiled.store(compiled.clone());
        // Release: whoever sees the new generation finds the new policy.
        self.generation.store(compiled.generation, Release);
        // Every bucket is brought under its new rule before the next change of policy, so that none is ever more than
        // one behind; those in use are brought there by their next charge as well, whichever comes first.
        let mut counted = HashSet::new();
        self.counters.each(|counter| {
            counted.insert(counter.identity);
            if let Some(rule) = compiled.rule_of(counter.identity) {
                // Nobody else changes the policy meanwhile: this rule is the newest.
                let _ = rule.adopt(&counter.state);
            }
        });
        identities.retain(&compiled, &counted);
        self.drop_stale_routes();
        Ok(())
    }

    /// Frees the routes of older policies, as far as nobody holds them.
    pub(super) fn drop_stale_routes(&self) {
        let generation = self.generation();
        self.routes.evict(&HashSet::new(), |route| route.is_stale(generation));
        self.collect();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.close();
        }
    }
}

/// Monotonic time ends at 2^63 - 1: what is counted from it stays within a word.
#[inline]
pub(crate) fn clamp(now: Now) -> Now {
    Now::new(now.mono.min(i64::MAX as u64), now.wall)
}

/// Whether a caller key is given twice; requests have few.
fn has_twice(request: &Request<'_>) -> bool {
    request.keys.iter().enumerate().any(|(at, key)| request.keys[..at].iter().any(|other| other.name == key.name))
}
