//! The policy of a region: how it changes, and how every process comes to go by it.
//!
//! One process changes it, and says so in a word. Every other compares that word on each call and takes the policy up
//! from the region's document, identities and all. A permit names the policy that it was admitted under, and is ended by that
//! one; the region keeps it as long as there are such permits.
//!
//! Whoever changes the policy has a word to itself, which says its seat: if its process ends, the next one has it. It brings
//! every bucket under the new rules before the policy can change again, so that none is more than one change behind; what one
//! that ended has left of that is done by the next, and by whoever clears up.

use super::super::compiled::{Compiled, Identities};
use super::super::core::Core;
use super::super::rule::Rule;
use super::Shared;
use crate::clock::Now;
use crate::counter::floors::Histories;
use crate::error::Error;
use crate::policy::Policy;
use crate::region::{Head, Name, POLICIES, RegionError, step};
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    fence,
};
use crate::table::Hold;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For so long, in seconds, a change waits for another one.
const PATIENCE: u64 = 5;

/// The policy of a document that a region keeps.
pub(crate) fn kept_policy(document: &[u8], histories: &Arc<Histories>) -> Option<Policy> {
    Identities::read(document, histories).map(|(policy, _)| policy)
}

impl Shared {
    /// The policy in force, ready; none before the first.
    fn in_force(&self) -> Result<Option<Compiled>, RegionError> {
        match self.policies.in_force()? {
            Some((document, name)) => self.ready(&document, name).map(Some),
            None => Ok(None),
        }
    }

    fn ready(&self, document: &[u8], name: Name) -> Result<Compiled, RegionError> {
        let (policy, identities) = Identities::read(document, &self.histories).ok_or(RegionError::PolicyDamaged)?;
        Ok(identities.compiled(policy, name.place, Some((self.policies.word(), name.word()))))
    }

    /// The policy of this name, ready; none if the region does not keep it any more.
    fn kept(&self, name: Name) -> Option<Arc<Compiled>> {
        let place = self.past.get(name.place)?;
        if let Some(compiled) = place.load_full().filter(|compiled| compiled.generation == name.generation) {
            return Some(compiled);
        }
        let document = self.policies.document(name).ok()??;
        let compiled = Arc::new(self.ready(&document, name).ok()?);
        place.store(Some(compiled.clone()));
        Some(compiled)
    }

    /// Whether this is the policy in force, in the region and not only in this process.
    pub(in crate::limiter) fn is_in_force(&self, compiled: &Compiled) -> bool {
        self.policies.name() == Some(compiled.name())
    }

    /// The policy that the region counts for: `policy`, if it is the first.
    pub(super) fn begin(&self, policy: &Policy) -> Result<Compiled, RegionError> {
        if let Some(compiled) = self.in_force()? {
            return Ok(compiled);
        }
        self.check_counters(policy)?;
        self.begin_changing()?;
        let begun = self.begin_alone(policy);
        self.end_changing();
        begun?;
        self.in_force()?.ok_or(RegionError::PolicyDamaged)
    }

    fn begin_alone(&self, policy: &Policy) -> Result<(), RegionError> {
        if self.policies.name().is_some() {
            return Ok(());
        }
        // All processes count a bucket's refill from the same instant.
        let mut identities = Identities::new(self.histories.clone(), None);
        let name = Name { generation: 1, place: 0 };
        self.put_in_force(&mut identities, policy, self.origin(), &HashSet::new(), name)?;
        self.head(Head::Adopted).store(name.word(), Release);
        Ok(())
    }

    /// Room for the counters of a policy.
    fn check_counters(&self, policy: &Policy) -> Result<(), RegionError> {
        for limit in policy.limits() {
            let (needs, room) = (crate::region::state_words(limit.algorithm()), self.layout.counter_words);
            if needs > room {
                return Err(RegionError::CounterTooLarge { limit: limit.name().to_string(), needs, room });
            }
        }
        Ok(())
    }

    fn put_in_force(
        &self,
        identities: &mut Identities,
        policy: &Policy,
        now: u64,
        counted: &HashSet<u32>,
        name: Name,
    ) -> Result<(), RegionError> {
        // As long as a thread may be at work under a policy, its limits are remembered.
        let document = identities.keep(policy, now, counted, POLICIES as u64).ok_or(RegionError::PolicyDamaged)?;
        let (bytes, room) = (document.len(), self.policies.room());
        if bytes > room {
            return Err(RegionError::PolicyTooLarge { bytes, room });
        }
        self.policies.write(name, document.as_bytes());
        self.policies.publish(name);
        step("policy published");
        Ok(())
    }

    /// From now on only this process changes the policy, until [`end_changing`](Shared::end_changing). One thread of it at a
    /// time.
    fn begin_changing(&self) -> Result<(), RegionError> {
        let since = Instant::now();
        loop {
            let Err(holder) = self.try_changing() else {
                step("policy to be changed");
                return Ok(());
            };
            if since.elapsed() > Duration::from_secs(PATIENCE) {
                return Err(RegionError::PolicyBusy { seat: holder, seconds: PATIENCE });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The same, unless somebody is at it: then its seat.
    fn try_changing(&self) -> Result<(), usize> {
        let (word, mine) = (self.head(Head::Changer), self.seat as u64 + 1);
        let found = match word.compare_exchange(0, mine, AcqRel, Acquire) {
            Ok(_) => return Ok(()),
            Err(found) => found,
        };
        let seat = (found as usize).saturating_sub(1);
        if found == mine {
            // Whoever sat here before, or a thread that was ended: nobody else of this seat is at it.
            return Ok(());
        }
        if !self.memory.take(seat) {
            return Err(seat);
        }
        let taken_over = word.compare_exchange(found, mine, AcqRel, Relaxed).is_ok();
        self.memory.leave(seat);
        if taken_over { Ok(()) } else { Err(seat) }
    }

    fn end_changing(&self) {
        self.head(Head::Changer).store(0, Release);
    }

    /// The word of a process that has ended, if it was changing the policy.
    pub(super) fn forget_changer(&self, seat: usize) {
        let _ = self.head(Head::Changer).compare_exchange(seat as u64 + 1, 0, AcqRel, Relaxed);
    }

    /// Brings every bucket under the rules of the policy in force. For the one who may change it.
    fn adopt_all(&self, compiled: &Compiled) {
        let (adopted, name) = (self.head(Head::Adopted), compiled.name().word());
        if adopted.load(Acquire) == name {
            return;
        }
        step("buckets to be adopted");
        // Whoever has made a counter since sees the change.
        fence();
        let is_bucket = |identity: u32| matches!(compiled.rule_of(identity), Some(Rule::Bucket(_)));
        let mut records = Vec::new();
        self.counters.each_live(|record, _| records.push(record));
        for record in records.into_iter().filter(|record| is_bucket(self.counters.key(*record).0)) {
            // Held: it is the same counter until it is let go of.
            let Some(identity) = self.counters.hold_live(record) else { continue };
            let hold = Hold { directory: self.counters.clone(), record };
            if let Some(rule) = compiled.rule_of(identity).filter(|_| is_bucket(identity)) {
                // Nobody else changes the policy meanwhile: this rule is the newest.
                let _ = rule.adopt(&self.state(record, rule, Some(hold)));
            }
            step("bucket adopted");
        }
        adopted.store(name, Release);
        step("buckets adopted");
    }
}

impl Compiled {
    /// What a region knows it by.
    pub(super) fn name(&self) -> Name {
        Name { generation: self.generation, place: self.place }
    }
}

impl Core {
    /// Whether this process may use what it has of a region; from now on it goes by the region's policy.
    #[inline]
    pub(in crate::limiter) fn check_shared(&self, shared: &Shared) -> Result<(), RegionError> {
        shared.check()?;
        match shared.policies.name() {
            Some(name) if name.generation != self.generation() => self.catch_up(shared),
            _ => Ok(()),
        }
    }

    #[cold]
    fn catch_up(&self, shared: &Shared) -> Result<(), RegionError> {
        let Some(compiled) = shared.in_force()? else { return Ok(()) };
        let compiled = Arc::new(compiled);
        let before =
            self.compiled.rcu(|now| if now.generation < compiled.generation { &compiled } else { now }.clone());
        // AcqRel: whoever sees the new generation finds the new policy.
        self.generation.fetch_max(compiled.generation, AcqRel);
        if before.generation < compiled.generation {
            if let Some(place) = shared.past.get(before.place) {
                place.store(Some(before));
            }
            self.drop_stale_routes();
            // What the policy does not have is held no longer than it is in use: the region is to forget it.
            self.counters.evict(|counter| {
                let identity = counter.identity;
                let rests = |rule: &Rule| rule.rests(&counter.state, self.clamped(None)).ok().flatten() == Some(0);
                compiled.limit_of(identity).is_none()
                    && compiled.rule_of(identity).map_or(compiled.is_forgotten(identity), rests)
            });
        }
        Ok(())
    }

    /// The policy that a permit was admitted under; none if the region does not keep it any more.
    pub(super) fn policy_of(&self, shared: &Shared, name: Name) -> Option<Arc<Compiled>> {
        let compiled = self.compiled.load_full();
        if compiled.generation == name.generation { Some(compiled) } else { shared.kept(name) }
    }

    /// Puts another policy in force, for all processes.
    pub(in crate::limiter) fn swap_in_region(
        &self,
        shared: &Shared,
        policy: &Policy,
        now: Option<Now>,
    ) -> Result<(), Error> {
        self.check_shared(shared)?;
        // Several workers read the same new file: one of them makes the change.
        if self.compiled.load().policy == *policy {
            return Ok(());
        }
        shared.check_counters(policy)?;
        let _one = self.identities.lock();
        shared.begin_changing()?;
        let changed = self.change_alone(shared, policy, now);
        shared.end_changing();
        Ok(changed?)
    }

    fn change_alone(&self, shared: &Shared, policy: &Policy, now: Option<Now>) -> Result<(), RegionError> {
        self.check_shared(shared)?;
        let compiled = self.compiled.load_full();
        if compiled.policy == *policy {
            return Ok(());
        }
        shared.adopt_all(&compiled);
        let document = shared.policies.document(compiled.name())?.ok_or(RegionError::PolicyDamaged)?;
        let (_, mut identities) = Identities::read(&document, &shared.histories).ok_or(RegionError::PolicyDamaged)?;
        let now = self.clamped(now);
        // What no policy has any more, and is at rest, is not to be remembered.
        shared.evict_counters(&compiled, now, |identity| compiled.limit_of(identity).is_none());
        let place = self.free_place(shared, compiled.place, now)?;
        let mut counted = HashSet::new();
        shared.counters.each_live(|record, _| {
            counted.insert(shared.counters.key(record).0);
        });
        let name = Name { generation: compiled.generation + 1, place };
        shared.put_in_force(&mut identities, policy, now.mono, &counted, name)?;
        self.check_shared(shared)?;
        shared.adopt_all(&self.compiled.load());
        Ok(())
    }

    /// A place for another policy: of those that no permit was admitted under, the one that was in force first.
    fn free_place(&self, shared: &Shared, current: usize, now: Now) -> Result<usize, RegionError> {
        let Some(slots) = self.slab.in_region() else { return Err(RegionError::PolicyDamaged) };
        let free = || {
            let mut taken = [false; POLICIES];
            taken[current.min(POLICIES - 1)] = true;
            slots.each_named(|name| taken[name.place.min(POLICIES - 1)] = true);
            let free = (0..POLICIES).filter(|place| !taken[*place]);
            free.min_by_key(|place| shared.policies.generation(*place))
        };
        if let Some(place) = free() {
            return Ok(place);
        }
        self.clear_up(shared, now, true);
        self.end_overdue(now, u64::MAX, u64::MAX);
        free().ok_or(RegionError::PoliciesInUse { policies: POLICIES - 1 })
    }

    /// Finishes what a process has left of a change that it ended in the middle of.
    pub(super) fn finish_change(&self, shared: &Shared) {
        let Some(name) = shared.policies.name() else { return };
        if shared.head(Head::Adopted).load(Acquire) == name.word() {
            return;
        }
        // Somebody is at it, in this process or another.
        let Some(_one) = self.identities.try_lock() else { return };
        if shared.try_changing().is_err() {
            return;
        }
        if self.check_shared(shared).is_ok() {
            shared.adopt_all(&self.compiled.load());
        }
        shared.end_changing();
    }
}
