//! The use of quotas, recorded in a store before it is spent.
//!
//! Whoever has charged looks whether the counter's lease still covers what is used, and if not has the store record more
//! before the request is let pass. Whoever has given back looks whether more is leased than a lease, and has the store
//! record less. So the store never has less than is used, nor more than a lease beyond. Leases change one at a time, under a
//! lock that no request takes whose lease suffices.

use super::core::Core;
use super::route::Resolved;
use super::rule::{Kept, QuotaRule};
use crate::counter::quota::{Leased, Quota};
use crate::store::{CounterName, Mark, Recorded, Store, StoreError};
use crate::sync::{
    AtomicU64, Mutex,
    Ordering::{AcqRel, Relaxed, Release},
};
use crate::table::{Counter, State};
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
    /// read begins with none.
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
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { lease_part: 100, when_it_fails: WhenStoreFails::default() }
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
}

pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    options: StoreOptions,
    /// Held while leases change: in the store first, then in the counters.
    turn: Mutex<()>,
    /// Counters whose leases are to be renewed; each of them says so of itself.
    low: Mutex<Vec<Arc<Counter>>>,
    failures: AtomicU64,
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
    /// A change of a counter's lease to what is used and `more`; `None` where nothing is to be recorded.
    fn of(counter: &'a Counter, (rule, kept): (&'a QuotaRule, &'a Kept), more: u64) -> Option<Self> {
        let State::Quota(quota) = &counter.state else { return None };
        let leased = quota.leased()?;
        // No more than the amount is leased; what was settled beyond it is debt, and recorded as it is.
        let to = leased.used.saturating_add(more).min(rule.amount).max(leased.used);
        (to != leased.leased).then_some(Change { key: &counter.key, quota, rule, kept, leased, to })
    }

    /// The change of one whose lease is not sound, or only near that.
    fn renewal(counter: &'a Counter, terms: (&'a QuotaRule, &'a Kept), near: bool) -> Option<Self> {
        let change = Change::of(counter, terms, terms.1.lease.div_ceil(2))?;
        let standing = Standing::of(change.leased, change.rule, change.kept);
        (!standing.sound || (near && standing.near)).then_some(change)
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

    fn mark(&self) -> Mark<'a> {
        Mark {
            counter: CounterName::new(&self.kept.name, self.key),
            period_start: self.leased.start(),
            period_end: self.rule.period.bounds(self.leased.start()).end,
            used: self.to,
            lower: self.lowers(),
        }
    }
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>, options: StoreOptions) -> Self {
        let options = StoreOptions { lease_part: options.lease_part.max(1), ..options };
        Keeper { store, options, turn: Mutex::new(()), low: Mutex::new(Vec::new()), failures: AtomicU64::new(0) }
    }

    pub(crate) fn lease_part(&self) -> u64 {
        self.options.lease_part
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The words of a counter that this process has not had yet.
    pub(crate) fn recorded(&self, kept: &Kept, key: &[u8]) -> Result<State, StoreError> {
        let recorded = match self.store.recorded(&CounterName::new(&kept.name, key)) {
            Ok(recorded) => recorded,
            Err(failed) => {
                self.failed();
                if self.options.when_it_fails == WhenStoreFails::Refuse {
                    return Err(failed);
                }
                None
            }
        };
        let recorded = recorded.map(|Recorded { period_start, used }| (period_start, used));
        Ok(State::Quota(Quota::kept(recorded)))
    }

    /// A counter's lease has come near its end.
    #[cold]
    fn note_low(&self, counter: &Arc<Counter>) {
        // AcqRel: whoever takes the counter off the list looks at its use afterwards.
        if !counter.low.swap(true, AcqRel) {
            self.low.lock().push(counter.clone());
            self.store.running_low();
        }
    }

    /// Has the store record these, then lets them be spent. For whoever holds the turn.
    fn record(&self, changes: &mut [Change<'_>]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        changes.iter_mut().for_each(Change::prepare);
        let marks: Vec<Mark<'_>> = changes.iter().map(Change::mark).collect();
        self.store.record(&marks).inspect_err(|_| self.failed())?;
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
        let _turn = keeper.turn.lock();
        let compiled = self.compiled.load();
        let unsound = route.each().filter_map(|(leg, counter)| {
            // The rule in force, if the limit has one: the lease is to be a part of what it is now.
            let rule = compiled.rule_of(counter.identity).unwrap_or(route.rule(leg));
            Change::renewal(counter, rule.kept()?, false)
        });
        let mut changes: Vec<Change<'_>> = unsound.collect();
        match keeper.record(&mut changes) {
            // What could not be lowered is no reason to refuse.
            Err(failed)
                if keeper.options.when_it_fails == WhenStoreFails::Refuse
                    && changes.iter().any(|change| change.leased.leased < change.leased.used) =>
            {
                Err(failed)
            }
            _ => Ok(()),
        }
    }

    /// [`keep`](Core::keep) for what has been used already: nothing can refuse it. What cannot be recorded is, with the
    /// next lease.
    pub(super) fn keep_settled(&self, route: &Resolved) {
        if self.keep(route).is_err()
            && let Some(keeper) = &self.keeper
        {
            let owing = route.legs.iter().zip(&route.counters).filter(|(leg, _)| route.rule(leg).kept().is_some());
            owing.for_each(|(_, counter)| keeper.note_low(counter));
        }
    }

    /// Renews all leases that are near their end; how many.
    pub(super) fn renew_leases(&self) -> Result<usize, StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(0) };
        let _turn = keeper.turn.lock();
        let low = std::mem::take(&mut *keeper.low.lock());
        // From here on whoever finds a lease near its end says so anew.
        low.iter().for_each(|counter| counter.low.store(false, Release));
        let compiled = self.compiled.load();
        let renewal = |counter| {
            let counter: &Counter = counter;
            Change::renewal(counter, compiled.rule_of(counter.identity)?.kept()?, true)
        };
        let mut changes: Vec<Change<'_>> = low.iter().filter_map(|counter| renewal(counter)).collect();
        match keeper.record(&mut changes) {
            Ok(()) => Ok(changes.len()),
            Err(failed) => {
                drop(changes);
                let mut again = keeper.low.lock();
                again.extend(low.into_iter().filter(|counter| !counter.low.swap(true, AcqRel)));
                Err(failed)
            }
        }
    }

    /// Has the store record exactly what is used.
    pub(super) fn give_back_leases(&self) -> Result<(), StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let _turn = keeper.turn.lock();
        let compiled = self.compiled.load();
        let mut counters = Vec::new();
        self.counters.each(|counter| counters.push(counter.clone()));
        let exact = |counter| {
            let counter: &Counter = counter;
            Change::of(counter, compiled.rule_of(counter.identity)?.kept()?, 0)
        };
        let mut changes: Vec<Change<'_>> = counters.iter().filter_map(|counter| exact(counter)).collect();
        keeper.record(&mut changes)
    }
}
