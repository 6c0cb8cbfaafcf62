//! Ending permits in a region: what it comes to is written down first, then each step before it is made.

use super::super::core::Core;
use super::super::decision::Observed;
use super::super::route::{Resolved, charge_of};
use super::super::rule::{Made, Rule};
use super::super::settle::comes_to;
use super::super::slab::{Gone, NOT_CHARGED, Seen, generation_of};
use super::Shared;
use super::slots::Noted;
use crate::clock::Now;
use crate::error::Error;
use crate::policy::Tokens;
use crate::record::{Outcome, Settlement};
use crate::region::{Head, SEAT_OBSERVING, step};
use crate::request::{Estimate, PermitId, Usage};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::table::SharedWords;

/// For so long, at most, who looks for expired permits may have it to itself: its process may end meanwhile.
const LOOKING: u64 = 1_000_000_000;

// How a permit ended, as its note has it.
const SETTLED: u64 = 1;
const CANCELLED: u64 = 2;

/// From which step on a permit is brought to what it comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    pub(super) steps: usize,
    /// That step may be made already.
    pub(super) doubt: bool,
}

impl Core {
    pub(crate) fn end_in_region(
        &self,
        shared: &Shared,
        id: PermitId,
        held: Option<&Resolved>,
        outcome: Outcome,
        usage: &Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        self.check_shared(shared)?;
        let seen = self.slab.find(id).map_err(|gone| gone.error(id))?;
        let name = seen.slot.route().load(Relaxed);
        let known;
        let route = match held.filter(|route| route.name_in_region() == Some(name)) {
            Some(route) => route,
            None => {
                known = self.route_in_region(shared, name);
                // Without a route the permit has just been ended by another.
                known.as_deref().ok_or_else(|| Gone::Settled.error(id))?
            }
        };
        let now = self.time(now, route);
        if seen.slot.deadline().load(Relaxed) <= now.mono {
            if self.slab.unchanged(seen) {
                let _ = self.end_seen_in_region(seen, route, Outcome::Expired, &Usage::UNKNOWN, now);
            }
            return Err(Gone::Settled.error(id));
        }
        self.end_seen_in_region(seen, route, outcome, usage, now)
    }

    /// Ends a permit, exactly once: whoever comes second finds it gone.
    pub(crate) fn end_seen_in_region(
        &self,
        seen: Seen<'_>,
        route: &Resolved,
        outcome: Outcome,
        usage: &Usage,
        now: Now,
    ) -> Result<Settlement, Error> {
        let id = self.slab.id_of(seen);
        let Some(slots) = self.slab.in_region() else { return Err(Gone::Unknown.error(id)) };
        // The receipts are of this route's limits: the permit is open, so its slot still names it.
        let observed = slots.begin_settling(seen).map_err(|gone| gone.error(id))?;
        step("settlement begun");
        let (slot, generation) = (seen.slot, generation_of(seen.state));
        let estimate = Estimate { input: slot.input().load(Relaxed), output: slot.output().load(Relaxed) };
        let charged = (estimate.input.max(observed.0), estimate.output.max(observed.1));
        let (tokens, estimated) = comes_to(outcome, charged, usage);
        let how = if outcome == Outcome::Cancelled { CANCELLED } else { SETTLED };
        let Tokens { input, cached_input, output } = tokens;
        slots.note_outcome(seen.index, generation, Noted { how, input, cached_input, output });
        step("outcome noted");
        self.bring_to(seen, route, charged, From { steps: 0, doubt: false }, now);
        let settlement = Settlement { id, outcome, input, cached_input, output, estimated };
        if self.observer.is_some() {
            self.tell_settled(route, estimate, &settlement, usage, now);
        }
        slots.free(slot);
        Ok(settlement)
    }

    /// Brings each limit of a permit from what was charged to what is noted, two steps each: the counter, and the sum of what
    /// is settled.
    pub(super) fn bring_to(&self, seen: Seen<'_>, route: &Resolved, charged: (u64, u64), from: From, now: Now) {
        let Some(slots) = self.slab.in_region() else { return };
        let (slot, index, generation) = (seen.slot, seen.index, generation_of(seen.state));
        let Some(noted) = slots.noted(index, generation) else { return };
        let cancelled = noted.how == CANCELLED;
        let tokens = Tokens { input: noted.input, cached_input: noted.cached_input, output: noted.output };
        let as_charged = (tokens.input, tokens.cached_input, tokens.output) == (charged.0, 0, charged.1);
        for (at, (leg, counter)) in route.each().enumerate().skip(from.steps / 2) {
            let receipt = slots.receipt(slot, index, at).load(Relaxed);
            let Some(shared) = counter.shared().filter(|_| receipt != NOT_CHARGED) else { continue };
            let charged = charge_of(leg, charged.0, charged.1);
            let actual = match () {
                _ if cancelled => 0,
                _ if as_charged => charged,
                _ => leg.charge.charge(&tokens),
            };
            let in_doubt = |step: usize| from.doubt && from.steps == 2 * at + step;
            let is_place = matches!(shared.words, SharedWords::InFlight(_));
            if from.steps <= 2 * at {
                slots.settling(index, generation, 2 * at);
                step("limit to be settled");
                if is_place || actual < charged {
                    let taker = slots.taker(index, generation, at);
                    if let SharedWords::InFlight(places) = &shared.words
                        && in_doubt(0)
                    {
                        places.clear_up(taker, slots);
                    }
                    // What may have been given back is not given back again. Of a place it is known.
                    if is_place || !in_doubt(0) {
                        // What was observed is as if it had been a part of the estimate, which is the strict side.
                        let made = Made { charge: charged, receipt, at: slot.charged_at().load(Relaxed) };
                        let back = charged.saturating_sub(actual);
                        self.give_back_in_region(route, at, counter, taker, made, back, now);
                    }
                } else if actual > charged {
                    // What may have been charged is charged again.
                    self.current(route, leg, counter, |rule| rule.force(&counter.state, actual - charged, now));
                }
                step("limit settled");
            }
            slots.settling(index, generation, 2 * at + 1);
            if !cancelled && !in_doubt(1) {
                shared.settled.fetch_add(actual, AcqRel);
            }
            step("sum settled");
        }
        slots.settling(index, generation, 2 * route.legs.len());
    }

    /// Does something with a permit whose route nobody frees meanwhile.
    pub(crate) fn visit_in_region<T>(
        &self,
        seen: Seen<'_>,
        route: &Resolved,
        act: impl FnOnce() -> Result<T, Gone>,
    ) -> Result<T, Gone> {
        // Held first, then looked at: who frees the route looks through the permits before it does.
        route.pins.pin_again();
        let done = if self.slab.unchanged(seen) { act() } else { Err(Gone::Settled) };
        route.pins.unpin();
        done
    }

    pub(crate) fn renew_in_region(&self, shared: &Shared, seen: Seen<'_>, deadline: u64) -> Result<(), Gone> {
        let word = seen.slot.deadline();
        loop {
            let before = word.load(Acquire);
            // The deadline is this permit's if the permit is still open after it was read.
            if !self.slab.unchanged(seen) {
                return Err(Gone::Settled);
            }
            if word.compare_exchange(before, deadline, AcqRel, Relaxed).is_ok() {
                shared.head(Head::NextExpiry).fetch_min(deadline, AcqRel);
                return Ok(());
            }
        }
    }

    /// Charges what a stream has brought beyond its estimate, and then says so: a process that ends in between has charged
    /// too much, not too little.
    pub(crate) fn observe_in_region(
        &self,
        shared: &Shared,
        seen: Seen<'_>,
        route: &Resolved,
        (input, output): (u64, u64),
        now: Now,
    ) -> Result<Observed, Gone> {
        let Some(slots) = self.slab.in_region() else { return Err(Gone::Unknown) };
        let observing = shared.sections.seat(shared.seat, SEAT_OBSERVING);
        let slot = seen.slot;
        let estimate = (slot.input().load(Relaxed), slot.output().load(Relaxed));
        let charged: Vec<bool> =
            (0..route.legs.len()).map(|at| self.slab.receipt_of(seen, at).load(Relaxed) != NOT_CHARGED).collect();
        let at_least = |tokens: (u64, u64)| (tokens.0.max(estimate.0), tokens.1.max(estimate.1));
        observing.fetch_add(1, AcqRel);
        let result = loop {
            let (word, before) = match slots.watch(seen) {
                Ok(watched) => watched,
                Err(gone) => break Err(gone),
            };
            let after = (before.0.saturating_add(input), before.1.saturating_add(output));
            if !slots.has_room(after) {
                break Err(Gone::Overflow);
            }
            let (from, to) = (at_least(before), at_least(after));
            let mut forced: Vec<(usize, u64, u64)> = Vec::new();
            for (at, (leg, counter)) in route.each().enumerate().filter(|(at, _)| charged[*at]) {
                let excess = charge_of(leg, to.0, to.1) - charge_of(leg, from.0, from.1);
                if excess > 0 {
                    let receipt =
                        self.current(route, leg, counter, |rule| rule.force_with_receipt(&counter.state, excess, now));
                    forced.extend(receipt.map(|receipt| (at, excess, receipt)));
                    step("observation charged");
                }
            }
            if slots.observe(seen, word, after) {
                break Ok(());
            }
            // Others have observed something, or it is settled: as if nothing had been charged.
            shared.head(Head::RollBacks).fetch_add(1, AcqRel);
            for (at, charge, receipt) in forced {
                let made = Made { charge, receipt, at: now.mono };
                let counter = &route.counters[at];
                self.current(route, &route.legs[at], counter, |rule| rule.give_back(&counter.state, made, charge, now));
            }
            shared.head(Head::RollBacks).fetch_add(1, AcqRel);
        };
        observing.fetch_sub(1, AcqRel);
        result?;
        let spent = route.each().enumerate().any(|(at, (leg, counter))| {
            let left = |rule: &Rule| rule.used(&counter.state, now).map(|used| used < rule.amount());
            charged[at]
                && leg.enforced
                && !leg.charge.is_per_request()
                && self.current(route, leg, counter, left) == Some(false)
        });
        Ok(Observed { spent })
    }

    /// Ends every permit whose time is over, of whatever process; and clears up after those that have ended.
    pub(crate) fn expire_in_region(&self, shared: &Shared, now: Now) -> bool {
        if self.check_shared(shared).is_err() {
            return false;
        }
        let mut ended = self.clear_up(shared, now, false);
        let next_expiry = shared.head(Head::NextExpiry);
        let due = next_expiry.load(Acquire);
        // The next one looks before long, should this one's process end.
        let meanwhile = now.mono.saturating_add(self.permit_ttl.min(LOOKING)).max(1);
        if now.mono < due || next_expiry.compare_exchange(due, meanwhile, AcqRel, Relaxed).is_err() {
            return ended;
        }
        step("expiry begun");
        let (any, next) = self.end_overdue(now, now.mono.saturating_add(self.permit_ttl), meanwhile);
        ended |= any;
        // Unless others have lowered it, or look themselves by now.
        if next_expiry.compare_exchange(meanwhile, next, AcqRel, Relaxed).is_err() {
            next_expiry.fetch_min(next, AcqRel);
        }
        ended
    }
}
