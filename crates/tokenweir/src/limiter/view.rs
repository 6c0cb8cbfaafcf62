//! Looking without taking: peek, explain, the usage of every counter, and the limiter's own figures.

use super::admit::check;
use super::core::{Core, Found};
use super::decision::Denied;
use super::keeper::Keeper;
use super::route::{Leg, Resolved, charge_of};
use super::rule::Outlook;
use super::shared::Shared;
use super::slab::NOT_CHARGED;
use crate::clock::Now;
use crate::error::Error;
use crate::policy::{Limit, Meter, Mode, SkipReason, decode_key};
use crate::request::{Estimate, PermitId, Request};
use crate::sync::Ordering::Relaxed;
use crate::table::Counter;
use std::collections::HashMap;
use std::sync::Arc;

/// What one limit says of a request, without taking anything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitView {
    /// The limit's name.
    pub limit: String,
    /// Whether it refuses, or only reports what it would have done.
    pub mode: Mode,
    /// What the request would take from it, in units of its meter.
    pub charge: u64,
    /// The limit's amount; a bucket's capacity.
    pub amount: u64,
    /// What it has left; below 0 is debt.
    pub remaining: i64,
    /// Whether the charge fits now.
    pub fits: bool,
    /// Whether the charge is larger than the whole limit.
    pub never_fits: bool,
    /// Nanoseconds until it fits with no other traffic: 0 if it does, `None` if no waiting helps.
    pub wait: Option<u64>,
}

/// What would come of a request, as of now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Peek {
    /// Whether it would be admitted.
    pub admitted: bool,
    /// The denial it would get.
    pub denied: Option<Denied>,
    /// What each of its limits says, in the order in which they are charged.
    pub limits: Vec<LimitView>,
}

/// One limit that a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedLimit {
    /// What it says of the request.
    pub view: LimitView,
    /// The counter: each part of the limit's scope with its value.
    pub scope: Vec<(String, Vec<u8>)>,
}

/// Every limit of the policy: met by the request, or skipped, and why.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Explanation {
    /// Whether the request would be admitted.
    pub admitted: bool,
    /// The limits that it meets.
    pub applied: Vec<ExplainedLimit>,
    /// The others, by name, with the reason.
    pub skipped: Vec<(String, SkipReason)>,
}

/// Which counters to view; what is not set matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only counters of the limit of this name.
    pub limit: Option<String>,
    /// Only counters whose scope has these values: part (`project`, `deployment`, `key:user`) and value.
    pub scope: Vec<(String, Vec<u8>)>,
}

impl UsageFilter {
    /// Whether it matches a counter.
    pub fn matches(&self, counter: &CounterUsage) -> bool {
        self.limit.as_ref().is_none_or(|name| *name == counter.limit)
            && self.scope.iter().all(|wanted| counter.scope.contains(wanted))
    }
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterUsage {
    /// The limit's name.
    pub limit: String,
    /// Its meter: what the numbers below count.
    pub meter: Meter,
    /// Each part of the limit's scope with its value.
    pub scope: Vec<(String, Vec<u8>)>,
    /// The limit's amount; a bucket's capacity.
    pub amount: u64,
    /// What counts now, held estimates included: a bucket's deficit, what is charged in the window or the period, the
    /// places taken.
    pub used: u64,
    /// What open permits hold of it, as they were charged; a bucket or a window may have let go of a part since.
    pub held: u64,
    /// `amount` less `used`; below 0 is debt.
    pub remaining: i64,
    /// When it will be as good as new with no other traffic: the bucket full, the window empty, the period over.
    /// `None`: never by the passing of time alone.
    pub resets_at: Option<Now>,
    /// The sum of all settled charges since the counter began.
    pub settled_total: u64,
}

/// The limiter's own figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Live counters.
    pub counters: usize,
    /// How many there may be.
    pub max_counters: usize,
    /// Counters evicted, at rest, since the limiter began.
    pub evicted: u64,
    /// Requests denied because there was no room for a counter.
    pub refused_full: u64,
    /// Limits passed over because there was no room for a counter ([`WhenFull::Admit`](crate::WhenFull::Admit)).
    pub admitted_full: u64,
    /// Routes that are resolved.
    pub routes: usize,
    /// Open permits.
    pub permits_open: usize,
    /// Buckets that keep a history of their deficit, 12 KiB each.
    pub histories: usize,
    /// How many may. Once as many do, further ones go without and give back less; see
    /// [`LimiterBuilder::max_histories`](crate::LimiterBuilder::max_histories).
    pub max_histories: usize,
    /// How often the store of quotas has failed.
    pub store_failures: u64,
}

/// A counter, by what tells it from all others: whoever shares it has the same key. For hosts that let callers line up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct CounterKey {
    /// The limit's name.
    pub limit: String,
    /// The values of its scope, encoded.
    pub key: Vec<u8>,
}

fn enforced(route: &Resolved) -> Vec<CounterKey> {
    let enforced = route.each().filter(|(leg, _)| leg.enforced);
    enforced
        .map(|(leg, counter)| CounterKey { limit: route.name(leg).to_string(), key: counter.key.to_vec() })
        .collect()
}

impl Core {
    fn view(&self, route: &Resolved, leg: &Leg, counter: &Counter, estimate: Estimate, now: Now) -> LimitView {
        let charge = charge_of(leg, estimate.input, estimate.output);
        let state = &counter.state;
        let due = now.mono >= self.next_expiry.load(Relaxed);
        let seen = self.current(route, leg, counter, |rule| {
            let outlook = rule.outlook(state, charge, now, due, || self.deadlines(counter))?;
            Ok((rule.amount(), outlook))
        });
        let nothing = Outlook { fits: true, never_fits: false, remaining: 0, wait: Some(0) };
        let (amount, outlook) = seen.unwrap_or((0, nothing));
        LimitView {
            limit: route.name(leg).to_string(),
            mode: if leg.enforced { Mode::Enforce } else { Mode::Shadow },
            charge,
            amount,
            remaining: outlook.remaining,
            fits: outlook.fits,
            never_fits: outlook.never_fits,
            wait: outlook.wait,
        }
    }

    pub(crate) fn peek(&self, request: &Request<'_>, estimate: Estimate, now: Now) -> Result<Peek, Error> {
        check(estimate)?;
        let now = self.clamped(Some(now));
        loop {
            self.check_region()?;
            let found = self.find(request, true, Some(now), |route| {
                let limits = route.each().map(|(leg, counter)| self.view(route, leg, counter, estimate, now)).collect();
                (limits, self.denied(route, estimate, now))
            })?;
            let (limits, denied) = match found {
                Found::Route(seen) => seen,
                Found::Full(denied) => {
                    return Ok(Peek { admitted: false, denied: Some(*denied), limits: Vec::new() });
                }
            };
            // A policy swapped in meanwhile: look anew.
            let Ok(denied) = denied else { continue };
            let denied = denied.is_refusal().then_some(denied);
            return Ok(Peek { admitted: denied.is_none(), denied, limits });
        }
    }

    pub(crate) fn explain(&self, request: &Request<'_>, estimate: Estimate, now: Now) -> Result<Explanation, Error> {
        self.check_region()?;
        let compiled = self.compiled.load_full();
        let resolution = compiled.policy.explain(request)?;
        let limits = compiled.policy.limits();
        let peek = self.peek(request, estimate, now)?;
        let mut applied = Vec::with_capacity(resolution.applied.len());
        for one in &resolution.applied {
            let limit = &limits[one.limit];
            // Absent if the policy has just changed, or there is no room for its counter.
            if let Some(view) = peek.limits.iter().find(|view| *view.limit == **limit.name()) {
                applied.push(ExplainedLimit { view: view.clone(), scope: decode_key(limit.scope(), &one.key) });
            }
        }
        let name = |limit: &Limit| limit.name().to_string();
        let skipped = resolution.skipped.into_iter().map(|skip| (name(&limits[skip.limit]), skip.reason)).collect();
        Ok(Explanation { admitted: peek.admitted, applied, skipped })
    }

    /// The counters that a request would be refused by: nothing if there is no room for one of them.
    pub(crate) fn counters_of(&self, request: &Request<'_>, now: Now) -> Result<Vec<CounterKey>, Error> {
        self.check_region()?;
        match self.find(request, true, Some(now), |route| enforced(route))? {
            Found::Route(counters) => Ok(counters),
            Found::Full(_) => Ok(Vec::new()),
        }
    }

    /// Those that an open permit was admitted by: nothing if it is gone.
    pub(crate) fn counters_held(&self, id: PermitId) -> Vec<CounterKey> {
        self.visit(id, None, |_, route, _| Ok(enforced(route))).unwrap_or_default()
    }

    pub(crate) fn is_open(&self, id: PermitId) -> bool {
        self.visit(id, None, |_, _, _| Ok(())).is_ok()
    }

    pub(crate) fn usage(&self, filter: &UsageFilter, now: Now) -> Vec<CounterUsage> {
        self.under_one_policy(|| self.usage_now(filter, now))
    }

    /// Looks at all counters, and again if another process has changed the policy meanwhile: what it had not got to yet would
    /// be missing.
    pub(super) fn under_one_policy<T>(&self, look: impl Fn() -> T) -> T {
        loop {
            // In a process that may not use its region nothing changes any more.
            let checked = self.check_region();
            let generation = self.generation();
            let seen = look();
            if checked.is_err() || self.check_region().is_err() || self.generation() == generation {
                return seen;
            }
        }
    }

    fn usage_now(&self, filter: &UsageFilter, now: Now) -> Vec<CounterUsage> {
        let now = self.clamped(Some(now));
        if let Some(shared) = &self.shared {
            self.know_all(shared, now);
        }
        // What open permits hold of each counter, and those whose time is over though nobody has ended them yet.
        let mut held: HashMap<*const Counter, (u64, u64)> = HashMap::new();
        self.each_open(|seen, route| {
            let slot = seen.slot;
            let expired = slot.deadline().load(Relaxed) <= now.mono;
            let observed = self.slab.observed(slot);
            let input = slot.input().load(Relaxed).max(observed.0);
            let output = slot.output().load(Relaxed).max(observed.1);
            for (at, (leg, counter)) in route.each().enumerate() {
                if self.slab.receipt_of(seen, at).load(Relaxed) != NOT_CHARGED {
                    let held = held.entry(std::ptr::from_ref(counter)).or_default();
                    let charge = charge_of(leg, input, output);
                    *(if expired { &mut held.1 } else { &mut held.0 }) += charge;
                }
            }
        });
        let compiled = self.compiled.load();
        let mut usage = Vec::new();
        self.counters.each(|counter| {
            let Some(limit) = compiled.limit_of(counter.identity) else { return };
            let (rule, limit) = (&compiled.rules[limit], &compiled.policy.limits()[limit]);
            if filter.limit.as_ref().is_some_and(|name| **name != **limit.name()) {
                return;
            }
            let scope = decode_key(limit.scope(), &counter.key);
            if !filter.scope.iter().all(|wanted| scope.contains(wanted)) {
                return;
            }
            let Ok(mut used) = rule.used(&counter.state, now) else { return };
            let (held, expired) = held.get(&Arc::as_ptr(counter)).copied().unwrap_or_default();
            if rule.is_in_flight() {
                used = used.saturating_sub(expired);
            }
            let amount = rule.amount();
            let rests = if rule.is_in_flight() {
                (used == 0).then_some(0)
            } else if rule.is_quota() {
                rule.resets(&counter.state, now)
            } else {
                rule.rests(&counter.state, now).ok().flatten()
            };
            usage.push(CounterUsage {
                limit: limit.name().to_string(),
                meter: limit.meter(),
                scope,
                amount,
                used,
                held,
                remaining: i64::try_from(amount).unwrap_or(i64::MAX).saturating_sub_unsigned(used),
                resets_at: rests
                    .map(|wait| Now::new(now.mono.saturating_add(wait), now.wall.saturating_add_unsigned(wait))),
                settled_total: counter.settled().load(Relaxed) + expired,
            });
        });
        usage.sort_by(|a, b| (&a.limit, &a.scope).cmp(&(&b.limit, &b.scope)));
        usage
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            counters: self.shared.as_ref().map_or_else(|| self.counters.live(), Shared::live),
            max_counters: self.counters.budget(),
            evicted: self.counters.evicted(),
            refused_full: self.refused_full.load(Relaxed),
            admitted_full: self.admitted_full.load(Relaxed),
            routes: self.routes.live(),
            permits_open: self.slab.open_slots().count(),
            histories: self.histories.kept(),
            max_histories: self.histories.most(),
            store_failures: self.keeper.as_ref().map_or(0, Keeper::failures),
        }
    }
}
