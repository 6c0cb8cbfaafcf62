//! Charging in a region: each step is written down before it is made.

use super::super::admit::Stop;
use super::super::core::Core;
use super::super::route::{Resolved, charge_of};
use super::super::rule::{Made, Rule};
use super::super::slab::{Claimed, NOT_CHARGED};
use super::Shared;
use crate::clock::Now;
use crate::counter::places::Taker;
use crate::region::{Head, step};
use crate::request::{Estimate, PermitId};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::table::{Counter, SharedWords};

impl Core {
    /// Charges every limit, once all have room; on refusal everything is as before. `None`: no permit is free.
    pub(in crate::limiter) fn charge_in_region(
        &self,
        shared: &Shared,
        route: &Resolved,
        estimate: Estimate,
        now: Now,
    ) -> Result<Option<(Claimed<'_>, bool)>, Stop> {
        for (leg, counter) in route.each().filter(|(leg, _)| leg.enforced) {
            let n = charge_of(leg, estimate.input, estimate.output);
            if !route.rule(leg).fits(&counter.state, n, now)? {
                return Err(Stop::Refused);
            }
        }
        let (Some(slots), Some(name)) = (self.slab.in_region(), route.name_in_region()) else { return Ok(None) };
        let claimed = match slots.claim() {
            Some(claimed) => claimed,
            None => {
                self.clear_up(shared, now, true);
                let Some(claimed) = slots.claim() else { return Ok(None) };
                claimed
            }
        };
        step("permit claimed");
        slots.begin(claimed, name, estimate, now.mono, now.mono.saturating_add(self.permit_ttl));
        step("permit begun");
        // After it is named: from here on the region keeps its policy, or another one is in force.
        if !shared.is_in_force(&route.compiled) {
            slots.free(claimed.slot);
            return Err(Stop::Stale);
        }
        let mut shadow_refused = false;
        for (at, (leg, counter)) in route.each().enumerate() {
            slots.charging(claimed, at);
            step("limit to be charged");
            let n = charge_of(leg, estimate.input, estimate.output);
            let taker = slots.taker(claimed.index(), claimed.generation(), at);
            let receipt = match self.charge_leg(route.rule(leg), counter, taker, n, now) {
                Ok(Some(receipt)) => receipt,
                Ok(None) if !leg.enforced => {
                    shadow_refused = true;
                    NOT_CHARGED
                }
                stopped => {
                    self.roll_back_in_region(shared, route, claimed, at, estimate, now);
                    return Err(if stopped.is_err() { Stop::Stale } else { Stop::Refused });
                }
            };
            step("limit charged");
            slots.receipt(claimed.slot, claimed.index(), at).store(receipt, Relaxed);
        }
        slots.charging(claimed, route.legs.len());
        step("all charged");
        Ok(Some((claimed, shadow_refused)))
    }

    fn charge_leg(
        &self,
        rule: &Rule,
        counter: &Counter,
        taker: Taker,
        n: u64,
        now: Now,
    ) -> Result<Option<u64>, crate::counter::bucket::Stale> {
        if let (Rule::InFlight(amount), Some(SharedWords::InFlight(places)), Some(slots)) =
            (rule, counter.shared().map(|shared| &shared.words), self.slab.in_region())
        {
            return Ok(places.take(taker, *amount, slots).then_some(0));
        }
        rule.charge(&counter.state, n, now)
    }

    /// Opens the permit of a request that has been charged.
    pub(crate) fn open_in_region(&self, shared: &Shared, claimed: Claimed<'_>, now: Now) -> Option<PermitId> {
        let deadline = now.mono.saturating_add(self.permit_ttl);
        let note = || {
            if deadline < shared.head(Head::NextExpiry).load(Acquire) {
                shared.head(Head::NextExpiry).fetch_min(deadline, AcqRel);
            }
        };
        // Before, lest the process ends in between; and after: whoever looks through the open permits meanwhile finds it,
        // or leaves this to be found.
        note();
        step("deadline noted");
        let state = self.slab.in_region()?.open(claimed);
        step("permit opened");
        note();
        Some(self.slab.id_in(claimed.index(), state))
    }

    /// Gives back what the first `charged` limits took for a request that a later one refused, the last one first, and the
    /// slot.
    fn roll_back_in_region(
        &self,
        shared: &Shared,
        route: &Resolved,
        claimed: Claimed<'_>,
        charged: usize,
        estimate: Estimate,
        now: Now,
    ) {
        let Some(slots) = self.slab.in_region() else { return };
        let roll_backs = shared.head(Head::RollBacks);
        if charged > 0 {
            // AcqRel, before and after: whoever was refused in between sees that the number has moved.
            roll_backs.fetch_add(1, AcqRel);
        }
        for at in (0..charged).rev() {
            slots.charging(claimed, at);
            step("limit to be rolled back");
            let receipt = slots.receipt(claimed.slot, claimed.index(), at).load(Relaxed);
            if receipt == NOT_CHARGED {
                continue;
            }
            let (leg, counter) = (&route.legs[at], &route.counters[at]);
            let charge = charge_of(leg, estimate.input, estimate.output);
            let made = Made { charge, receipt, at: now.mono };
            let taker = slots.taker(claimed.index(), claimed.generation(), at);
            self.give_back_in_region(route, at, counter, taker, made, charge, now);
            step("limit rolled back");
        }
        slots.charging(claimed, 0);
        if charged > 0 {
            roll_backs.fetch_add(1, AcqRel);
        }
        slots.free(claimed.slot);
    }

    /// Gives back a part of a charge, or a place.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn give_back_in_region(
        &self,
        route: &Resolved,
        at: usize,
        counter: &Counter,
        taker: Taker,
        made: Made,
        back: u64,
        now: Now,
    ) {
        if let (Some(SharedWords::InFlight(places)), Some(slots)) =
            (counter.shared().map(|shared| &shared.words), self.slab.in_region())
        {
            return places.give_back(taker, slots);
        }
        self.current(route, &route.legs[at], counter, |rule| rule.give_back(&counter.state, made, back, now));
    }
}
