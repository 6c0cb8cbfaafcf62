//! Counters that outlive the process: taken as a document, and taken up by a fresh limiter.
//!
//! Whatever is uncertain errs to the strict side.

mod document;

pub use document::Snapshot;

use super::compiled::Compiled;
use super::core::Core;
use super::route::{Caller, Leg, Resolved, charge_of};
use super::rule::Rule;
use super::slab::NOT_CHARGED;
use crate::clock::Now;
use crate::counter::bucket;
use crate::policy::{Algorithm, ChargeRule, Limit, Mode, decode_key, encode_key};
use crate::request::{Estimate, Request};
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use crate::table::{Counter, Pins, State};
use document::{Balance, Counted, KeyPart, Open, SavedAlgorithm, SavedCounter, SavedLimit, Used, Version, Written};
use smallvec::smallvec;
use std::collections::HashMap;
use std::sync::Arc;

/// What came of a [`Snapshot`] that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Restored {
    /// Counters that were taken up.
    pub counters: usize,
    /// Counters that were not: they begin anew.
    pub left_out: Vec<LeftOut>,
}

/// Counters of one limit that a restored limiter begins anew, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// The limit's name.
    pub limit: String,
    /// How many counters.
    pub counters: usize,
    /// Why.
    pub reason: LeftOutReason,
}

/// Why counters begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// The policy has no limit of this name.
    NoSuchLimit,
    /// The limit counts something else now: its meter, scope, algorithm or period (a window's sub-windows included) has
    /// changed.
    Changed,
    /// A store keeps the limit's use: it is read there.
    Kept,
    /// The region has the counter already, and has counted since; or it is of permits in flight, which a region does not take
    /// up.
    Shared,
    /// The limiter has no room for the counter, or for the permits that hold its places: build it with larger
    /// `max_counters`, `max_routes` or `max_permits`.
    NoRoom,
}

impl Snapshot {
    /// What comes of it where all counters are left out for one reason.
    pub(crate) fn left_out(&self, reason: LeftOutReason) -> Restored {
        let each = self.0.limits.iter().map(|saved| (saved.name.clone(), saved.algorithm.counters()));
        let left_out = each.filter(|(_, counters)| *counters > 0);
        let left_out = left_out.map(|(limit, counters)| LeftOut { limit, counters, reason }).collect();
        Restored { counters: 0, left_out }
    }
}

impl LeftOutReason {
    /// All of them.
    pub const ALL: [LeftOutReason; 5] = [
        LeftOutReason::NoSuchLimit,
        LeftOutReason::Changed,
        LeftOutReason::Kept,
        LeftOutReason::Shared,
        LeftOutReason::NoRoom,
    ];

    /// The word for other languages: `no_such_limit`, `changed`, `kept`, `shared` or `no_room`.
    pub const fn as_str(self) -> &'static str {
        match self {
            LeftOutReason::NoSuchLimit => "no_such_limit",
            LeftOutReason::Changed => "changed",
            LeftOutReason::Kept => "kept",
            LeftOutReason::Shared => "shared",
            LeftOutReason::NoRoom => "no_room",
        }
    }
}

/// What open permits hold of a counter.
#[derive(Default)]
struct Held {
    charges: u64,
    /// When those that are not over expire, in monotonic nanoseconds.
    until: Vec<u64>,
}

impl SavedLimit {
    /// The limit, still without counters.
    fn of(limit: &Limit, rule: &Rule) -> Self {
        let algorithm = match limit.algorithm() {
            Algorithm::Bucket { amount, per, burst } => {
                let unit = if let Rule::Bucket(rule) = rule { rule.unit() } else { 0 };
                SavedAlgorithm::Bucket { per: *per, amount: *amount, burst: *burst, unit, counters: Vec::new() }
            }
            Algorithm::Window { per, sub_windows, .. } => {
                SavedAlgorithm::Window { per: *per, sub_windows: *sub_windows, counters: Vec::new() }
            }
            Algorithm::Quota { period, .. } => {
                SavedAlgorithm::Quota { period: period.to_string(), counters: Vec::new() }
            }
            Algorithm::InFlight { .. } => SavedAlgorithm::InFlight { counters: Vec::new() },
        };
        SavedLimit {
            name: limit.name().to_string(),
            meter: limit.meter().to_string(),
            scope: limit.scope().iter().map(ToString::to_string).collect(),
            algorithm,
        }
    }

    /// Whether counters that were saved of this limit are counters of `limit`: the same name, and nothing of what makes
    /// a counter another one has changed.
    fn is_of(&self, limit: &Limit) -> bool {
        let scope = || limit.scope().iter().map(ToString::to_string);
        let same = match (&self.algorithm, limit.algorithm()) {
            (SavedAlgorithm::Bucket { per, .. }, Algorithm::Bucket { per: now, .. }) => per == now,
            (
                SavedAlgorithm::Window { per, sub_windows, .. },
                Algorithm::Window { per: now, sub_windows: parts, .. },
            ) => (per, sub_windows) == (now, parts),
            (SavedAlgorithm::Quota { period, .. }, Algorithm::Quota { period: now, .. }) => *period == now.to_string(),
            (SavedAlgorithm::InFlight { .. }, Algorithm::InFlight { .. }) => true,
            _ => false,
        };
        same && self.meter == limit.meter().as_str() && scope().eq(self.scope.iter().cloned())
    }
}

impl Core {
    pub(crate) fn snapshot(&self, now: Now) -> Snapshot {
        self.under_one_policy(|| self.snapshot_now(now))
    }

    fn snapshot_now(&self, now: Now) -> Snapshot {
        let now = self.clamped(Some(now));
        if let Some(shared) = &self.shared {
            self.know_all(shared, now);
        }
        // No change of policy by this process until this is done: every counter is under the rule by which it is read.
        let _steady = self.identities.lock();
        let compiled = self.compiled.load_full();
        let held = self.held(now);
        let limits = compiled.policy.limits();
        let mut saved: Vec<SavedLimit> =
            limits.iter().zip(&compiled.rules).map(|(limit, rule)| SavedLimit::of(limit, rule)).collect();
        self.counters.each(|counter| {
            if let Some(limit) = compiled.limit_of(counter.identity) {
                let key = decode_key(limits[limit].scope(), &counter.key);
                let key = key.into_iter().map(|(_, value)| KeyPart(value)).collect();
                let held = held.get(&Arc::as_ptr(counter));
                save(&mut saved[limit].algorithm, counter, key, &compiled.rules[limit], held, now);
            }
        });
        saved.retain(|limit| limit.algorithm.counters() > 0);
        Snapshot(Written { version: Version(Snapshot::VERSION), taken_at: now.wall, limits: saved })
    }

    /// What open permits hold of each counter.
    fn held(&self, now: Now) -> HashMap<*const Counter, Held> {
        let mut held: HashMap<*const Counter, Held> = HashMap::new();
        self.each_open(|seen, route| {
            let (slot, observed) = (seen.slot, self.slab.observed(seen.slot));
            let input = slot.input().load(Relaxed).max(observed.0);
            let output = slot.output().load(Relaxed).max(observed.1);
            let deadline = slot.deadline().load(Relaxed);
            for (at, (leg, counter)) in route.each().enumerate() {
                if self.slab.receipt_of(seen, at).load(Relaxed) != NOT_CHARGED {
                    let held = held.entry(std::ptr::from_ref(counter)).or_default();
                    held.charges = held.charges.saturating_add(charge_of(leg, input, output));
                    held.until.extend((deadline > now.mono).then_some(deadline));
                }
            }
        });
        held
    }

    pub(crate) fn restore(&self, snapshot: &Snapshot, now: Now) -> Restored {
        let now = self.clamped(Some(now));
        // A process that may not use its region takes nothing up either.
        let _ = self.check_region();
        let compiled = self.compiled.load_full();
        let limits = compiled.policy.limits();
        let by_name: HashMap<&str, usize> =
            limits.iter().enumerate().map(|(at, limit)| (&**limit.name(), at)).collect();
        let mut restored = Restored::default();
        for saved in &snapshot.0.limits {
            let all = saved.algorithm.counters();
            let mut left_out = |counters: usize, reason: LeftOutReason| {
                if counters > 0 {
                    restored.left_out.push(LeftOut { limit: saved.name.clone(), counters, reason });
                }
            };
            match by_name.get(&*saved.name).map(|limit| (*limit, &limits[*limit])) {
                None => left_out(all, LeftOutReason::NoSuchLimit),
                Some((_, limit)) if !saved.is_of(limit) => left_out(all, LeftOutReason::Changed),
                Some((limit, _)) if compiled.rules[limit].kept().is_some() => left_out(all, LeftOutReason::Kept),
                Some((limit, _)) => {
                    let taken = self.take_up(&compiled, limit, &saved.algorithm, snapshot.0.taken_at, now);
                    left_out(taken.shared, LeftOutReason::Shared);
                    left_out(all - taken.counters - taken.shared, LeftOutReason::NoRoom);
                    restored.counters += taken.counters;
                }
            }
        }
        restored
    }

    /// Takes up the counters of one limit, which are its own.
    fn take_up(
        &self,
        compiled: &Arc<Compiled>,
        limit: usize,
        saved: &SavedAlgorithm,
        taken_at: i64,
        now: Now,
    ) -> Taken {
        // A wall clock that stepped back says nothing of how much time has gone by: none, then.
        let elapsed = u64::try_from(i128::from(now.wall) - i128::from(taken_at)).unwrap_or(0);
        // When what was to happen at this wall time happens on this process's monotonic clock, if it is still to come.
        let due = |wall: i64| {
            let after = u64::try_from(i128::from(wall) - i128::from(taken_at)).unwrap_or(0);
            after.checked_sub(elapsed).filter(|rest| *rest > 0).map(|rest| now.mono.saturating_add(rest))
        };
        let place = Place { core: self, compiled, limit, now };
        match (saved, &compiled.rules[limit]) {
            (SavedAlgorithm::Bucket { amount, burst, unit, counters, .. }, Rule::Bucket(_)) => {
                place.each(counters, |counter, Balance { balance }| {
                    let saved = bucket::Saved { balance: *balance, unit: *unit, capacity: *burst, rate: *amount };
                    // This process does not change the policy meanwhile, so the newest rule is not stale: another may.
                    let _steady = self.identities.lock();
                    let taken_up = || match self.compiled.load().rule_of(counter.identity) {
                        Some(rule) => rule.take_up_bucket(&counter.state, &saved, elapsed, now).is_ok(),
                        None => true,
                    };
                    while !taken_up() && self.shared.is_some() && self.check_region().is_ok() {}
                    true
                })
            }
            (SavedAlgorithm::Window { counters, .. }, rule @ Rule::Window(..)) => {
                place.each(counters, |counter, Counted { counted }| {
                    let still = counted.iter().filter_map(|(leaves, amount)| Some((due(*leaves)?, *amount)));
                    still.for_each(|(leaves, amount)| rule.take_up_window(&counter.state, leaves, amount));
                    true
                })
            }
            (SavedAlgorithm::Quota { counters, .. }, rule @ Rule::Quota(_)) => {
                place.each(counters, |counter, Used { period_start, used }| {
                    rule.take_up_quota(&counter.state, *period_start, *used);
                    true
                })
            }
            // In a region permits are of callers, and who they were is not saved. Its own are in it still.
            (SavedAlgorithm::InFlight { counters }, Rule::InFlight(_)) if self.shared.is_some() => {
                Taken { counters: 0, shared: counters.len() }
            }
            (SavedAlgorithm::InFlight { counters }, Rule::InFlight(_)) => {
                place.each(counters, |counter, Open { until }| {
                    let still: Vec<u64> = until.iter().filter_map(|until| due(*until)).collect();
                    counter.settled().fetch_add((until.len() - still.len()) as u64, Relaxed);
                    still.is_empty() || place.hold(counter, &still)
                })
            }
            // The rule is made of the limit that the counters were compared with.
            _ => Taken::default(),
        }
    }
}

/// Adds a counter to what is saved of its limit, unless it is as good as new.
fn save(saved: &mut SavedAlgorithm, counter: &Counter, key: Vec<KeyPart>, rule: &Rule, held: Option<&Held>, now: Now) {
    fn push<S>(to: &mut Vec<SavedCounter<S>>, key: Vec<KeyPart>, settled: u64, is_new: bool, state: S) {
        if settled > 0 || !is_new {
            to.push(SavedCounter { key, settled, state });
        }
    }
    let wall_of = |mono: u64| {
        let wall = i128::from(now.wall) + i128::from(mono) - i128::from(now.mono);
        wall.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    };
    let spent = counter.settled().load(Relaxed).saturating_add(held.map_or(0, |held| held.charges));
    let state = &counter.state;
    match (saved, rule) {
        (SavedAlgorithm::Bucket { counters, .. }, Rule::Bucket(_)) => {
            // Stale only if another process has changed the policy: then it is all done again.
            if let Some(bucket) = rule.save_bucket(state, now) {
                let is_full = bucket.is_full();
                push(counters, key, spent, is_full, Balance { balance: bucket.balance });
            }
        }
        (SavedAlgorithm::Window { counters, .. }, Rule::Window(..)) => {
            let counted = rule.save_window(state, now).into_iter().flatten();
            let counted: Vec<_> = counted.map(|(leaves, amount)| (wall_of(leaves), amount)).collect();
            push(counters, key, spent, counted.is_empty(), Counted { counted });
        }
        (SavedAlgorithm::Quota { counters, .. }, Rule::Quota(_)) => {
            // The newest period of all: whatever the clock shows, a period that is over is not to be begun again.
            if let Some((used, period_start)) = rule.save_quota(state) {
                push(counters, key, spent, used == 0 && period_start == i64::MIN, Used { period_start, used });
            }
        }
        (SavedAlgorithm::InFlight { counters }, Rule::InFlight(_)) => {
            let until: Vec<_> = held.into_iter().flat_map(|held| &held.until).map(|until| wall_of(*until)).collect();
            // Each is settled when it is over.
            push(counters, key, spent.saturating_sub(until.len() as u64), until.is_empty(), Open { until });
        }
        _ => {}
    }
}

/// More than any process settles: a document may say anything, and totals are added to.
const SETTLED_MOST: u64 = 1 << 62;

/// How many counters of a limit were taken up, and how many a region has already.
#[derive(Default)]
struct Taken {
    counters: usize,
    shared: usize,
}

/// Where counters are taken up: one limit of a policy.
struct Place<'a> {
    core: &'a Core,
    compiled: &'a Arc<Compiled>,
    limit: usize,
    now: Now,
}

impl Place<'_> {
    /// Finds or makes each counter and passes it on with its state; how many there was room for. What a region's counter has
    /// counted is newer than what was saved of it.
    fn each<S>(&self, saved: &[SavedCounter<S>], take_up: impl Fn(&Arc<Counter>, &S) -> bool) -> Taken {
        let mut taken = Taken::default();
        for saved in saved {
            let key = encode_key(saved.key.iter().map(|part| &*part.0));
            // Of a limit that a store keeps nothing is taken up. A key that a region has no room for has none.
            let counter = self.core.counter(self.compiled, self.limit, &key, self.now);
            let Some(counter) = counter.ok().flatten() else { continue };
            if self.core.shared.is_some() && !self.is_new(&counter) {
                taken.shared += 1;
            } else {
                taken.counters += usize::from(take_up(&counter, &saved.state));
                counter.settled().fetch_add(saved.settled.min(SETTLED_MOST), Relaxed);
            }
            counter.pins.unpin();
        }
        taken
    }

    /// Whether nothing was ever charged to it, as far as can be seen.
    fn is_new(&self, counter: &Counter) -> bool {
        let (rule, state) = (&self.compiled.rules[self.limit], &counter.state);
        counter.settled().load(Relaxed) == 0
            && rule.save_bucket(state, self.now).is_none_or(|bucket| bucket.is_full())
            && rule.save_window(state, self.now).is_none_or(|counted| counted.is_empty())
            && rule.save_quota(state).is_none_or(|quota| quota == (0, i64::MIN))
    }

    /// Takes a place for each of these permits of another process, as a permit that nobody has the id of and that expires
    /// when that one would have. False if there is no room for one of them.
    fn hold(&self, counter: &Arc<Counter>, until: &[u64]) -> bool {
        let (core, limit) = (self.core, &self.compiled.policy.limits()[self.limit]);
        let Some(charge) = ChargeRule::compile(limit, None, b"") else { return false };
        let leg = Leg { limit: self.limit, charge, enforced: limit.mode() == Mode::Enforce };
        // Observers are told of its expiry by what the scope says of the caller.
        let scope = decode_key(limit.scope(), &counter.key);
        let value = |part: &str| scope.iter().find(|(name, _)| name == part).map_or(&b""[..], |(_, value)| value);
        let request = Request::new(value("project"), value("deployment"));
        let route = Arc::new(Resolved {
            compiled: self.compiled.clone(),
            legs: self.compiled.shared(vec![leg]),
            counters: smallvec![counter.clone()],
            pins: Pins::new(),
            key: Caller::new(&request, &[]).key(),
            index: AtomicUsize::new(0),
            caller_hold: None,
            wants_wall: false,
            has_places: true,
            kept: false,
        });
        counter.pins.pin_again();
        let pinned = route.pins.pin();
        debug_assert!(pinned, "nobody else has seen it");
        if !core.routes.register(&route) {
            core.sweep(self.now, true);
            if !core.routes.register(&route) {
                counter.pins.unpin();
                return false;
            }
        }
        // Nobody finds it by its key: from here on only its permits hold it.
        route.pins.retire();
        let all = until.iter().all(|until| self.hold_one(&route, counter, *until));
        route.pins.unpin();
        all
    }

    fn hold_one(&self, route: &Resolved, counter: &Counter, until: u64) -> bool {
        let (State::InFlight(places), Some(claimed)) = (&counter.state, self.core.slab.claim(1)) else { return false };
        // Also where the limit is lower by now.
        places.charge(u64::MAX);
        claimed.slot.receipts()[0].store(0, Relaxed);
        let id = self.core.open(route, claimed, Estimate::default(), self.now);
        // Only a limiter whose permits live for no time at all has ended it already.
        let _ = self.core.renew(id, until - self.now.mono, Some(self.now));
        true
    }
}
