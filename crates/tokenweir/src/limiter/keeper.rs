//! The use of quotas, recorded in a store before it is spent.
//!
//! Whoever has charged looks whether the counter's lease still covers what is used, and if not has the store record more
//! before the request is let pass. Whoever has given back looks whether more is leased than a lease, and has the store
//! record less. So the store never has less than is used, nor more than a lease beyond. Leases change one at a time, under a
//! lock that no request takes whose lease suffices.

use super::core::Core;
use super::route::Resolved;
use super::rule::{Kept, QuotaRule};
use crate::clock::Now;
use crate::counter::quota::{Leased, Quota};
use crate::error::Error;
use crate::store::{CounterName, Mark, Recorded, Store, StoreError};
use crate::sync::{
    AtomicBool, AtomicU64, Mutex,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use crate::table::{Counter, State};
use std::collections::HashMap;
use std::sync::Arc;

/// What a request comes to whose charge a store cannot record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenStoreFails {
    /// It is not admitted: [`Error::Store`](crate::Error::Store). Nothing is charged.
    #[default]
    Refuse,
    /// It is decided by what is known in memory. Each request that its lease does not cover asks the store again; what
    /// was used meanwhile is recorded when it answers, and lost if the process ends before. A caller whose use could not be
    /// read begins with none; from then on nothing is given back to the store, so that what it has of that caller stays.
    Admit,
}

/// How a limiter uses its store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreOptions {
    /// A lease is one part of so many of a quota's amount, at least 1 token: what a killed process may at most leave behind
    /// as used beyond what it has used. 100 unless set, at least 1. There is a write for about every half of a lease that is
    /// used or given back; leases well above the estimates of all requests at work keep writes few.
    pub lease_part: u64,
    /// [`WhenStoreFails::Refuse`] unless set.
    pub when_it_fails: WhenStoreFails,
    /// Whether [`Limiter::restore`](crate::Limiter::restore) takes up quotas as well, for a snapshot that has counted what the store
    /// has not: of both the newer period, and of the same one the higher use. It is recorded with the lease that follows. Not
    /// unless set: the store's is the newer.
    pub take_up: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { lease_part: 100, when_it_fails: WhenStoreFails::default(), take_up: false }
    }
}

impl StoreOptions {
    /// The usual ones.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`lease_part`](StoreOptions::lease_part).
    pub fn lease_part(mut self, parts: u64) -> Self {
        self.lease_part = parts;
        self
    }

    /// Sets [`when_it_fails`](StoreOptions::when_it_fails).
    pub fn when_it_fails(mut self, answer: WhenStoreFails) -> Self {
        self.when_it_fails = answer;
        self
    }

    /// Sets [`take_up`](StoreOptions::take_up).
    pub fn take_up(mut self, take_up: bool) -> Self {
        self.take_up = take_up;
        self
    }
}

pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    options: StoreOptions,
    /// Held while leases change: in the store first, then in the counters. Whether the store may have more than a lease
    /// says, because what was to be lowered could not be recorded.
    turn: Mutex<bool>,
    /// Counters whose leases are to be renewed; each of them says so of itself.
    low: Mutex<Vec<Arc<Counter>>>,
    /// What a counter had could not be read: from then on nothing that is recorded is lowered.
    unread: AtomicBool,
    failures: AtomicU64,
    /// A child that was forked off must not write its parent's store, nor wait for locks that nobody lets go.
    owner: u32,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// It covers what is used, and no more than a lease beyond.
    sound: bool,
    /// It is sound, and near one of the two.
    near: bool,
}

impl Standing {
    #[inline]
    fn of(leased: Leased, rule: &QuotaRule, kept: &Kept) -> Self {
        let Some(left) = leased.leased.checked_sub(leased.used) else { return Standing { sound: false, near: false } };
        let (sound, edge) = (left <= kept.lease, kept.lease / 8);
        let near = (left <= edge && leased.leased < rule.amount) || left > kept.lease - edge;
        Standing { sound, near: sound && near }
    }
}

/// A lease that is to change.
struct Change<'a> {
    key: &'a [u8],
    quota: &'a Quota,
    rule: &'a QuotaRule,
    kept: &'a Kept,
    leased: Leased,
    to: u64,
}

impl<'a> Change<'a> {
    /// A change of a counter's lease to what is used and `more`; `None` where nothing is used.
    fn of(counter: &'a Counter, (rule, kept): (&'a QuotaRule, &'a Kept), more: u64) -> Option<Self> {
        let State::Quota(quota) = &counter.state else { return None };
        let leased = quota.leased()?;
        // No more than the amount is leased; what was settled beyond it is debt, and recorded as it is.
        let to = leased.used.saturating_add(more).min(rule.amount).max(leased.used);
        Some(Change { key: &counter.key, quota, rule, kept, leased, to })
    }

    fn is_one(&self) -> bool {
        self.to != self.leased.leased
    }

    fn lowers(&self) -> bool {
        self.to < self.leased.leased
    }

    /// Before it is recorded: what is lowered is lowered for those who charge first. Who charges from here on sees that
    /// it is not covered; who was charged before is seen by the second look.
    fn prepare(&mut self) {
        if self.lowers() {
            self.quota.lease(self.leased.period, self.to);
            let after = self.quota.leased().filter(|after| after.period == self.leased.period);
            self.to = self.to.max(after.map_or(0, |after| after.used));
        }
    }

    fn mark(&self, lower: bool) -> Mark<'a> {
        Mark {
            counter: CounterName::new(&self.kept.name, self.key),
            period_start: self.leased.start(),
            period_end: self.rule.period.bounds(self.leased.start()).end,
            used: self.to,
            lower,
        }
    }
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>, options: StoreOptions) -> Self {
        let options = StoreOptions { lease_part: options.lease_part.max(1), ..options };
        Keeper {
            store,
            options,
            turn: Mutex::new(false),
            low: Mutex::new(Vec::new()),
            unread: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            owner: std::process::id(),
        }
    }

    pub(crate) fn lease_part(&self) -> u64 {
        self.options.lease_part
    }

    pub(super) fn takes_up(&self) -> bool {
        self.options.take_up
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The words of a counter that this process has not had yet.
    pub(crate) fn recorded(&self, kept: &Kept, key: &[u8]) -> Result<State, StoreError> {
        self.check_owner()?;
        let recorded = match self.store.recorded(&CounterName::new(&kept.name, key)) {
            Ok(recorded) => recorded,
            Err(failed) => {
                self.failed();
                if self.options.when_it_fails == WhenStoreFails::Refuse {
                    return Err(failed);
                }
                self.unread.store(true, Release);
                None
            }
        };
        let recorded = recorded.map(|Recorded { period_start, used }| (period_start, used));
        Ok(State::Quota(Quota::kept(recorded)))
    }

    fn check_owner(&self) -> Result<(), StoreError> {
        if std::process::id() == self.owner {
            return Ok(());
        }
        Err(StoreError::new("the limiter was made before this process was forked off; make one after the fork"))
    }

    /// A counter's lease is to be renewed. False if somebody has said so before.
    pub(super) fn enlist(&self, counter: &Arc<Counter>) -> bool {
        // AcqRel: whoever takes the counter off the list looks at its use afterwards.
        let first = !counter.low.swap(true, AcqRel);
        if first {
            self.low.lock().push(counter.clone());
        }
        first
    }

    /// A counter's lease has come near its end.
    #[cold]
    fn note_low(&self, counter: &Arc<Counter>) {
        if self.check_owner().is_ok() && self.enlist(counter) {
            self.store.running_low();
        }
    }

    /// Has the store record these, then lets them be spent. For whoever holds the turn; `more`: what it says.
    fn record(&self, changes: &mut [Change<'_>], more: &mut bool) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        changes.iter_mut().for_each(Change::prepare);
        let may_lower = !self.unread.load(Acquire);
        let marks: Vec<Mark<'_>> =
            changes.iter().map(|change| change.mark(may_lower && (change.lowers() || *more))).collect();
        self.store.record(&marks).inspect_err(|_| {
            self.failed();
            *more |= changes.iter().any(Change::lowers);
        })?;
        for change in changes {
            change.quota.lease(change.leased.period, change.to);
        }
        Ok(())
    }
}

impl Core {
    /// Whether the leases of a route's quotas cover what is used of them, and not much more.
    #[inline]
    pub(super) fn is_kept(&self, route: &Resolved) -> bool {
        let mut sound = true;
        for (leg, counter) in route.legs.iter().zip(&route.counters) {
            if let (Some((rule, kept)), State::Quota(quota)) = (route.rule(leg).kept(), &counter.state)
                && let Some(leased) = quota.leased()
            {
                let standing = Standing::of(leased, rule, kept);
                sound &= standing.sound;
                if standing.near
                    && !counter.low.load(Relaxed)
                    && let Some(keeper) = &self.keeper
                {
                    keeper.note_low(counter);
                }
            }
        }
        sound
    }

    /// Has the leases of a route's quotas cover what is used of them and not much more, if they do not, before anybody acts
    /// on it.
    pub(super) fn keep(&self, route: &Resolved) -> Result<(), StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        if self.is_kept(route) {
            return Ok(());
        }
        keeper.check_owner()?;
        // One write for all who wait: whoever has the turn renews the leases of those who come after it as well.
        for counter in self.kept(route) {
            keeper.enlist(counter);
        }
        let mut more = keeper.turn.lock();
        if self.is_kept(route) {
            return Ok(());
        }
        let Err(failed) = self.renew_low(keeper, &mut more) else { return Ok(()) };
        // What could not be lowered is no reason to refuse.
        let owing = |counter: &Arc<Counter>| match &counter.state {
            State::Quota(quota) => quota.leased().is_some_and(|leased| leased.leased < leased.used),
            _ => false,
        };
        let owing = self.kept(route).any(owing);
        if owing && keeper.options.when_it_fails == WhenStoreFails::Refuse { Err(failed) } else { Ok(()) }
    }

    /// The counters of a route that the store keeps.
    fn kept<'a>(&self, route: &'a Resolved) -> impl Iterator<Item = &'a Arc<Counter>> {
        let kept = route.legs.iter().zip(&route.counters).filter(|(leg, _)| route.rule(leg).kept().is_some());
        kept.map(|(_, counter)| counter)
    }

    /// [`keep`](Core::keep) for what has been used already: nothing can refuse it. What cannot be recorded is, with the
    /// next lease.
    pub(super) fn keep_settled(&self, route: &Resolved) {
        let _ = self.keep(route);
    }

    /// Reads what the store has of these counters, as far as there is room for them; how many.
    pub(super) fn recall<'a>(
        &self,
        names: impl IntoIterator<Item = CounterName<'a>>,
        now: Now,
    ) -> Result<usize, Error> {
        let compiled = self.compiled.load_full();
        let rules = compiled.rules.iter().enumerate();
        let kept: HashMap<&str, usize> =
            rules.filter_map(|(limit, rule)| Some((&*rule.kept()?.1.name, limit))).collect();
        let mut recalled = 0;
        for CounterName { limit, key } in names {
            let Some(&limit) = kept.get(limit) else { continue };
            let Some(counter) = self.counter(&compiled, limit, key, now)? else { break };
            counter.pins.unpin();
            recalled += 1;
        }
        Ok(recalled)
    }

    /// Renews all leases that are near their end; how many.
    pub(super) fn renew_leases(&self) -> Result<usize, StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(0) };
        keeper.check_owner()?;
        self.renew_low(keeper, &mut keeper.turn.lock())
    }

    /// Renews the leases on the list. For whoever holds the turn.
    fn renew_low(&self, keeper: &Keeper, more: &mut bool) -> Result<usize, StoreError> {
        let low = std::mem::take(&mut *keeper.low.lock());
        // From here on whoever finds a lease near its end says so anew.
        low.iter().for_each(|counter| counter.low.store(false, Release));
        let compiled = self.compiled.load();
        let renewal = |counter| {
            let counter: &Counter = counter;
            // The rule in force: the lease is to be a part of what the amount is now.
            let (rule, kept) = compiled.rule_of(counter.identity)?.kept()?;
            let change = Change::of(counter, (rule, kept), kept.lease.div_ceil(2)).filter(Change::is_one)?;
            let standing = Standing::of(change.leased, rule, kept);
            (!standing.sound || standing.near).then_some(change)
        };
        let mut changes: Vec<Change<'_>> = low.iter().filter_map(|counter| renewal(counter)).collect();
        match keeper.record(&mut changes, more) {
            Ok(()) => Ok(changes.len()),
            Err(failed) => {
                for counter in &low {
                    keeper.enlist(counter);
                }
                Err(failed)
            }
        }
    }

    /// Has the store record exactly what is used.
    pub(super) fn give_back_leases(&self) -> Result<(), StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        keeper.check_owner()?;
        let mut more = keeper.turn.lock();
        let compiled = self.compiled.load();
        let mut counters = Vec::new();
        self.counters.each(|counter| counters.push(counter.clone()));
        let exact = |counter| {
            let counter: &Counter = counter;
            let change = Change::of(counter, compiled.rule_of(counter.identity)?.kept()?, 0)?;
            (change.is_one() || *more).then_some(change)
        };
        let mut changes: Vec<Change<'_>> = counters.iter().filter_map(|counter| exact(counter)).collect();
        keeper.record(&mut changes, &mut more)?;
        *more = false;
        Ok(())
    }
}
