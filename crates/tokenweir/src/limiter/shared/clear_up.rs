//! What is done about a process that has ended: what it was at is finished or undone, what it held is let go of.
//!
//! Whoever does it has taken its seat, so nobody else does, and nobody new sits there before it is done. It may end as well:
//! then the seat is free again, and not cleared up after. Open permits stay open: others may settle them, and at last they
//! expire.

use super::super::core::Core;
use super::super::slab::{FILLING, NOT_CHARGED, Seen};
use super::Shared;
use super::settle::From;
use super::slots::Progress;
use crate::clock::Now;
use crate::region::{DOUBT, Head, KEPT, Name, SEAT_OBSERVING, SEAT_PROCESS, SEAT_SINCE, SEAT_TAKEN, step};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::table::{PROCESSES, SharedWords};

/// For so long, in nanoseconds, nobody looks again whether a process has ended.
const EVERY: u64 = 100_000_000;

impl Core {
    /// Sits down: clears up after whoever had the seat before, then after all others that have ended.
    pub(crate) fn sit_down(&self, shared: &Shared, now: Now) {
        if shared.sections.seat(shared.seat, SEAT_TAKEN).load(Acquire) != 0 {
            // What cannot be cleared up now is by and by: it is this limiter's own from now on.
            let _ = self.clear_up_after(shared, shared.seat, now);
        }
        let word = |which| shared.sections.seat(shared.seat, which);
        word(SEAT_PROCESS).store(u64::from(std::process::id()), Relaxed);
        word(SEAT_SINCE).store(now.wall as u64, Relaxed);
        word(SEAT_OBSERVING).store(0, Relaxed);
        // Release: whoever finds it taken finds what it says.
        word(SEAT_TAKEN).store(1, Release);
        self.clear_up(shared, now, true);
    }

    /// Clears up after the processes that have ended, unless somebody is at it or has just looked. Whether there were any.
    pub(crate) fn clear_up(&self, shared: &Shared, now: Now, must: bool) -> bool {
        let after = shared.clear_after.load(Relaxed);
        if !must && now.mono < after && after - now.mono <= EVERY {
            return false;
        }
        let Some(_alone) = shared.clearing.try_lock() else { return false };
        shared.clear_after.store(now.mono.saturating_add(EVERY), Relaxed);
        let mut any = false;
        for seat in (0..PROCESSES).filter(|seat| *seat != shared.seat) {
            let taken = shared.sections.seat(seat, SEAT_TAKEN);
            if taken.load(Acquire) == 0 || !shared.memory.take(seat) {
                continue;
            }
            // Whoever sat there has gone, or another has come and gone meanwhile.
            if taken.load(Acquire) != 0 && self.clear_up_after(shared, seat, now) {
                taken.store(0, Release);
                any = true;
            }
            shared.memory.leave(seat);
        }
        self.settle_doubts(shared);
        self.finish_change(shared);
        any
    }

    /// Brings windows in order in which a process that has ended may have left more than there are charges.
    fn settle_doubts(&self, shared: &Shared) {
        let doubts = shared.head(Head::Doubts).load(Acquire);
        if doubts == 0 {
            return;
        }
        let mut doubtful = Vec::new();
        shared.counters.each_live(|record, _| {
            if shared.counters.data(record)[DOUBT].load(Relaxed) != 0 {
                doubtful.push((record, shared.counters.key(record)));
            }
        });
        let Some(slots) = self.slab.in_region() else { return };
        let compiled = self.compiled.load_full();
        let mut all = true;
        for (record, (identity, key)) in doubtful {
            // Whether nobody is at work on this counter. Whoever observes is known by its seat alone.
            let observes = |seat| {
                shared.sections.seat(seat, SEAT_OBSERVING).load(Acquire) != 0
                    && shared.counters.is_held_by(record, seat)
            };
            let quiet =
                || !slots.busy().any(|route| self.may_charge(shared, route, record)) && !(0..PROCESSES).any(observes);
            // Of a limit that the policy does not have for now it is the same.
            let Some(rule) = compiled.rule_of(identity) else {
                all &= compiled.is_forgotten(identity);
                continue;
            };
            let Ok(Some(counter)) = self.known_counter(rule, "", identity, &key) else {
                all = false;
                continue;
            };
            if let Some(words) = counter.shared() {
                // First: another process may come to doubt it meanwhile.
                words.doubt.store(0, Release);
                if let SharedWords::Window(window) = &words.words
                    && !window.settle_doubt(quiet)
                {
                    words.doubt.store(1, Release);
                    all = false;
                }
            }
            counter.pins.unpin();
        }
        if all {
            // Unless there are more by now.
            let _ = shared.head(Head::Doubts).compare_exchange(doubts, 0, AcqRel, Relaxed);
        }
    }

    /// Whether a route's requests are charged to the counter in this record, or it is not known.
    ///
    /// Whoever has changed the counter had named its caller before. So what is read of a slot that is claimed anew just now,
    /// and may be the caller of its last permit, is of no account.
    fn may_charge(&self, shared: &Shared, route: u64, record: usize) -> bool {
        let Some(route) = self.route_in_region(shared, route) else { return true };
        let doubt = &shared.counters.data(record)[DOUBT];
        route.counters.iter().filter_map(|counter| counter.shared()).any(|shared| std::ptr::eq(shared.doubt, doubt))
    }

    /// Clears up after the seat, which the caller has taken. Whether nothing is left.
    fn clear_up_after(&self, shared: &Shared, seat: usize, now: Now) -> bool {
        let Some(slots) = self.slab.in_region() else { return true };
        shared.forget_changer(seat);
        let mut all = true;
        for (index, slot) in slots.each() {
            if let Some((phase, generation)) = slots.half_done(slot, seat) {
                let seen = Seen { slot, index, state: slot.state().load(Acquire) };
                all &= if phase == FILLING {
                    self.end_filling(shared, seen, generation)
                } else {
                    self.end_settling(shared, seen, generation, now)
                };
            }
        }
        step("permits cleared up");
        // What open permits need is held by this process from now on.
        for name in self.slab.held_routes() {
            let (policy, record) = Name::and_record(name);
            let is_held = record < shared.layout.callers && shared.callers.is_held_by(record, seat);
            // What names a policy that is not kept is no permit: its slot is just now being claimed.
            if is_held && self.policy_of(shared, policy).is_some() {
                all &= self.route_in_region(shared, name).is_some();
            }
        }
        if !all {
            return false;
        }
        let last = |record: usize| shared.pool.take_back(record, &shared.counters.data(record)[KEPT]);
        let observing = shared.sections.seat(seat, SEAT_OBSERVING);
        if observing.load(Acquire) != 0 {
            // Which window it was at is not known.
            shared.counters.each_live(|record, holders| {
                if holders & 1 << seat != 0 {
                    shared.doubt(&shared.counters.data(record)[DOUBT]);
                }
            });
            observing.store(0, Release);
        }
        shared.pool.forget(seat, |record| &shared.counters.data(record)[KEPT]);
        // Holds of this process's own seat are its own now; what it does not want of them it lets go of.
        shared.counters.forget(seat, seat == shared.seat, last);
        shared.callers.forget(seat, seat == shared.seat, |_| ());
        shared.head(Head::ClearedUp).fetch_add(1, Relaxed);
        true
    }

    /// A request that was being charged: what is charged stands as a permit that expires at once.
    fn end_filling(&self, shared: &Shared, seen: Seen<'_>, generation: u64) -> bool {
        let Some(slots) = self.slab.in_region() else { return true };
        let Progress::Charging(charged) = slots.progress(seen.index, generation) else {
            slots.free(seen.slot);
            return true;
        };
        let Some(route) = self.route_in_region(shared, seen.slot.route().load(Relaxed)) else { return false };
        for (at, (_, counter)) in route.each().enumerate().skip(charged) {
            let Some(words) = counter.shared() else { continue };
            let receipt = slots.receipt(seen.slot, seen.index, at);
            let has_place = match &words.words {
                // Of a place it is known whether it was taken.
                SharedWords::InFlight(places) if at == charged => {
                    places.clear_up(slots.taker(seen.index, generation, at), slots)
                }
                _ => false,
            };
            receipt.store(if has_place { 0 } else { NOT_CHARGED }, Relaxed);
            if at == charged && !matches!(words.words, SharedWords::InFlight(_)) {
                shared.doubt(words.doubt);
                shared.head(Head::UnsureSteps).fetch_add(1, Relaxed);
            }
        }
        seen.slot.deadline().store(0, Relaxed);
        shared.head(Head::NextExpiry).store(0, Release);
        slots.reopen(seen.slot, generation);
        true
    }

    /// A permit that was being settled: it is settled on if it is known by what, and open again if not.
    fn end_settling(&self, shared: &Shared, seen: Seen<'_>, generation: u64, now: Now) -> bool {
        let Some(slots) = self.slab.in_region() else { return true };
        if slots.noted(seen.index, generation).is_none() {
            slots.reopen(seen.slot, generation);
            // Whoever settled it may have been looking for what has expired.
            let deadline = seen.slot.deadline().load(Relaxed);
            shared.head(Head::NextExpiry).fetch_min(deadline, AcqRel);
            return true;
        }
        let Some(route) = self.route_in_region(shared, seen.slot.route().load(Relaxed)) else { return false };
        slots.settle_on(seen.slot, generation);
        let from = match slots.progress(seen.index, generation) {
            Progress::Settling(steps) => From { steps, doubt: true },
            _ => From { steps: 0, doubt: false },
        };
        if from.doubt && from.steps < 2 * route.legs.len() {
            shared.head(Head::UnsureSteps).fetch_add(1, Relaxed);
            if let Some(words) = route.counters[from.steps / 2].shared() {
                shared.doubt(words.doubt);
            }
        }
        let observed = slots.observed(seen.slot);
        let charged =
            (seen.slot.input().load(Relaxed).max(observed.0), seen.slot.output().load(Relaxed).max(observed.1));
        self.bring_to(seen, &route, charged, from, now);
        slots.free(seen.slot);
        true
    }
}
