//! Admission: every limit of the route is charged, or none is.
//!
//! Limits are charged in one order everywhere (ascending identity), each by its own atomic step, and rolled back when
//! a later one refuses. What plainly does not fit is refused before anything is charged, so roll-backs are for races
//! only; a refusal that may have met another request's roll-back is looked at once more.
//!
//! The quick way looks at every limit once and charges each by the swap that the look worked out. Whatever is not the
//! common case (a new sub-window or period, a charge of nothing, a change of policy, a lost swap, more limits than a
//! slot has receipts for) is left to the thorough way.

use super::core::{Core, Found};
use super::decision::{Decision, Denied, Permit};
use super::route::{Resolved, charge_of};
use super::rule::{Made, Rule};
use super::slab::{Claimed, NOT_CHARGED, RECEIPTS};
use crate::clock::Now;
use crate::counter::bucket::Stale;
use crate::counter::{Look, Ready};
use crate::error::Error;
use crate::policy::MAX_TOKENS;
use crate::record::{Decided, Requested};
use crate::region::Head;
use crate::request::{Estimate, PermitId, Request};
use crate::store::StoreError;
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::table::Counter;

/// What one attempt on a pinned route came to. (By value, not boxed: refusing must not allocate.)
enum Attempt {
    Admitted(PermitId),
    Denied(Denied),
    /// A new policy has come into force: resolve anew.
    Stale,
    /// No permit is free.
    Exhausted,
    /// What it would be charged cannot be recorded.
    NotKept(StoreError),
}

/// What the quick way to admit came to. It fits two registers: what is larger costs more to hand on than to find out.
#[derive(Clone, Copy)]
pub(crate) enum Quick {
    Admitted(PermitId),
    /// What the refusal says is told as well, or for the long way to find out.
    Refused,
    /// Not the common case, or others were faster. Nothing has happened.
    Unsure,
}

/// Why charging stopped.
pub(super) enum Stop {
    Refused,
    Stale,
    NotKept(StoreError),
}

impl From<Stale> for Stop {
    fn from(_: Stale) -> Self {
        Stop::Stale
    }
}

impl Core {
    /// The quick way for a request whose route is known.
    pub(crate) fn admit_quickly(
        &self,
        request: &Request<'_>,
        estimate: Estimate,
        now: Option<Now>,
        denied: &mut Option<Denied>,
    ) -> Quick {
        let quick =
            self.known(request, false, |route| self.held_quickly(route, estimate, self.time(now, route), denied));
        quick.unwrap_or(Quick::Unsure)
    }

    /// What the quick way has not settled.
    #[inline(never)]
    pub(crate) fn admit_thoroughly(
        &self,
        request: &Request<'_>,
        estimate: Estimate,
        now: Option<Now>,
        quick: Quick,
    ) -> Result<Decision<'_>, Error> {
        check(estimate)?;
        self.check_region()?;
        let mut refused = matches!(quick, Quick::Refused);
        let mut newest = false;
        loop {
            let found = self.find(request, newest, now, |route| {
                let time = self.time(now, route);
                self.attempt(route, estimate, time, refused)
            })?;
            return Ok(match found {
                Found::Route(Attempt::Admitted(id)) => Decision::Admitted(Permit::new(self, None, id)),
                Found::Route(Attempt::Denied(denied)) => Decision::Denied(denied),
                Found::Route(Attempt::Exhausted) => return Err(self.exhausted()),
                Found::Route(Attempt::NotKept(failed)) => return Err(failed.into()),
                Found::Route(Attempt::Stale) => {
                    self.check_region()?;
                    (newest, refused) = (true, false);
                    continue;
                }
                Found::Full(denied) => {
                    self.tell_denied((request.project, request.deployment), estimate, &denied, now);
                    Decision::Denied(*denied)
                }
            });
        }
    }

    /// The quick way on a route that cannot be freed meanwhile. `denied`: none yet.
    #[inline(never)]
    pub(crate) fn held_quickly(
        &self,
        route: &Resolved,
        estimate: Estimate,
        now: Now,
        denied: &mut Option<Denied>,
    ) -> Quick {
        if check(estimate).is_err() || route.is_stale(self.generation()) {
            return Quick::Unsure;
        }
        self.expire(now, false);
        let legs = route.legs.len();
        // On a region no look is sure, so one limit needs no test of it.
        let quick = if legs == 1 {
            self.charge_quickly::<1>(route, estimate, now, denied)
        } else if legs > RECEIPTS || self.shared.is_some() {
            Quick::Unsure
        } else if legs <= 4 {
            self.charge_quickly::<4>(route, estimate, now, denied)
        } else {
            self.charge_quickly::<RECEIPTS>(route, estimate, now, denied)
        };
        if let Quick::Admitted(id) = quick
            && self.observer.is_some()
        {
            self.tell_admitted(route, estimate, id, false, now);
        }
        quick
    }

    /// What the quick way has not settled on a route that the caller holds. `None` if a new policy has come into force.
    #[inline(never)]
    pub(crate) fn held_thoroughly<'a>(
        &'a self,
        route: &'a Resolved,
        estimate: Estimate,
        now: Now,
        quick: Quick,
    ) -> Result<Option<Decision<'a>>, Error> {
        check(estimate)?;
        self.check_region()?;
        if route.is_stale(self.generation()) {
            return Ok(None);
        }
        match self.attempt(route, estimate, now, matches!(quick, Quick::Refused)) {
            Attempt::Admitted(id) => Ok(Some(Decision::Admitted(Permit::new(self, Some(route), id)))),
            Attempt::Denied(denied) => Ok(Some(Decision::Denied(denied))),
            Attempt::Stale => Ok(None),
            Attempt::Exhausted => Err(self.exhausted()),
            Attempt::NotKept(failed) => Err(failed.into()),
        }
    }

    /// The common case: every limit has room, and no word changes between the look at it and the charge. What plainly
    /// does not fit is refused before anything is charged.
    #[inline(always)]
    fn charge_quickly<const N: usize>(
        &self,
        route: &Resolved,
        estimate: Estimate,
        now: Now,
        denied: &mut Option<Denied>,
    ) -> Quick {
        let roll_backs = self.roll_backs.load(Acquire);
        let mut ready = [Ready::default(); N];
        let (mut refused, mut unsure) = (false, false);
        for ((leg, counter), ready) in route.each().zip(&mut ready) {
            let n = charge_of(leg, estimate.input, estimate.output);
            match route.rule(leg).look(&counter.state, n, now, ready) {
                Look::Fits => {}
                Look::Refused if leg.enforced => refused = true,
                Look::Refused | Look::Unsure => unsure = true,
            }
        }
        if refused {
            return self.refuse(route, &ready, estimate, now, roll_backs, denied);
        }
        if unsure {
            return Quick::Unsure;
        }
        let Some(claimed) = self.slab.claim(route.legs.len()) else { return Quick::Unsure };
        for (at, ((_, counter), ready)) in route.each().zip(&ready).enumerate() {
            match Rule::make(&counter.state, ready, now) {
                Some(receipt) => claimed.slot.receipts()[at].store(receipt, Relaxed),
                None => return self.charge_rest(route, claimed, at, estimate, now),
            }
        }
        if route.kept && !self.is_kept(route) {
            return self.keep_charged(route, claimed, estimate, now);
        }
        Quick::Admitted(self.open(route, claimed, estimate, now))
    }

    /// The leases of a request that has been charged do not cover it any more.
    #[cold]
    fn keep_charged(&self, route: &Resolved, claimed: Claimed<'_>, estimate: Estimate, now: Now) -> Quick {
        if self.keep(route).is_ok() {
            return Quick::Admitted(self.open(route, claimed, estimate, now));
        }
        // What comes of it is for the long way to tell.
        self.roll_back(route, claimed, route.legs.len(), estimate, now);
        Quick::Unsure
    }

    /// What the limits say of a request that one of them refuses, `ready` where a look showed that it fits. For the long
    /// way: a place in flight may be free by the time of its permit, and who met a roll-back looks again.
    #[inline(never)]
    fn refuse(
        &self,
        route: &Resolved,
        ready: &[Ready],
        estimate: Estimate,
        now: Now,
        roll_backs: u64,
        told: &mut Option<Denied>,
    ) -> Quick {
        if route.has_places {
            return Quick::Refused;
        }
        let denied = told.insert(Denied::new(route.compiled.clone()));
        let mut outlook;
        for ((leg, counter), ready) in route.each().zip(ready).filter(|((leg, _), _)| leg.enforced) {
            let rule = route.rule(leg);
            outlook = if ready.is_some() {
                rule.outlook_of(ready)
            } else {
                let n = charge_of(leg, estimate.input, estimate.output);
                match rule.outlook(&counter.state, n, now, false, Vec::new) {
                    Ok(outlook) => outlook,
                    Err(Stale) => {
                        *told = None;
                        return Quick::Unsure;
                    }
                }
            };
            denied.push(leg.limit, rule.status(), &outlook);
        }
        if !denied.is_refusal() || roll_backs != self.roll_backs.load(Acquire) {
            *told = None;
            return Quick::Unsure;
        }
        if self.observer.is_some() {
            self.tell_denied(route.caller(), estimate, denied, Some(now));
        }
        Quick::Refused
    }

    /// Somebody charged a counter between our look and our charge: this one and the rest are charged the long way.
    #[cold]
    fn charge_rest(&self, route: &Resolved, claimed: Claimed<'_>, from: usize, estimate: Estimate, now: Now) -> Quick {
        match self.charge_from(route, claimed, from, estimate, now) {
            Ok(false) if route.kept => self.keep_charged(route, claimed, estimate, now),
            Ok(false) => Quick::Admitted(self.open(route, claimed, estimate, now)),
            // Which shadow limits refused is for the long way to tell; so is what a refusal means.
            Ok(true) => {
                self.roll_back(route, claimed, route.legs.len(), estimate, now);
                Quick::Unsure
            }
            Err(_) => Quick::Unsure,
        }
    }

    /// One admission on a route that is held, the long way, with the observer told. `refused`: the quick way has just
    /// seen a refusal.
    fn attempt(&self, route: &Resolved, estimate: Estimate, now: Now, mut refused: bool) -> Attempt {
        let mut met_roll_back = false;
        loop {
            let roll_backs = self.roll_backs();
            if !std::mem::take(&mut refused) {
                match self.charge_if_all_fit(route, estimate, now) {
                    Ok(Some((claimed, shadow_refused))) => {
                        let id = match &self.shared {
                            None => self.open(route, claimed, estimate, now),
                            Some(shared) => match self.open_in_region(shared, claimed, now) {
                                Some(id) => id,
                                None => return Attempt::Exhausted,
                            },
                        };
                        if self.observer.is_some() {
                            self.tell_admitted(route, estimate, id, shadow_refused, now);
                        }
                        return Attempt::Admitted(id);
                    }
                    Ok(None) => return Attempt::Exhausted,
                    Err(Stop::Stale) => return Attempt::Stale,
                    Err(Stop::NotKept(failed)) => return Attempt::NotKept(failed),
                    Err(Stop::Refused) => {}
                }
            }
            if route.has_places && self.expire(now, true) {
                continue;
            }
            let Ok(denied) = self.denied(route, estimate, now) else { return Attempt::Stale };
            // A refusal that met a roll-back is looked at again, once; one that no limit stands by any more (others
            // were faster in between), as often as others get through.
            if !met_roll_back && roll_backs != self.roll_backs() {
                met_roll_back = true;
            } else if denied.is_refusal() {
                if self.observer.is_some() {
                    self.tell_denied(route.caller(), estimate, &denied, Some(now));
                }
                return Attempt::Denied(denied);
            }
            if route.has_places {
                // A place of an expired permit counts as free, and is not yet: whoever was to end it may have been stopped, or
                // killed. Nobody waits for that.
                self.end_overdue(now, u64::MAX, u64::MAX);
            }
        }
    }

    /// Charges every limit, once all have room; on refusal everything is as before. `None`: no permit is free.
    fn charge_if_all_fit(
        &self,
        route: &Resolved,
        estimate: Estimate,
        now: Now,
    ) -> Result<Option<(Claimed<'_>, bool)>, Stop> {
        if let Some(shared) = &self.shared {
            return self.charge_in_region(shared, route, estimate, now);
        }
        if route.legs.len() > 1 {
            for (leg, counter) in route.each().filter(|(leg, _)| leg.enforced) {
                let n = charge_of(leg, estimate.input, estimate.output);
                if !route.rule(leg).fits(&counter.state, n, now)? {
                    return Err(Stop::Refused);
                }
            }
        }
        let Some(claimed) = self.slab.claim(route.legs.len()) else { return Ok(None) };
        let shadow_refused = self.charge_from(route, claimed, 0, estimate, now)?;
        if route.kept
            && let Err(failed) = self.keep(route)
        {
            self.roll_back(route, claimed, route.legs.len(), estimate, now);
            return Err(Stop::NotKept(failed));
        }
        Ok(Some((claimed, shadow_refused)))
    }

    /// Charges the limits from `from` on; if one of them refuses, all are given back and the slot is free. True if a
    /// shadow limit would have refused.
    fn charge_from(
        &self,
        route: &Resolved,
        claimed: Claimed<'_>,
        from: usize,
        estimate: Estimate,
        now: Now,
    ) -> Result<bool, Stop> {
        let mut shadow_refused = false;
        for (at, (leg, counter)) in route.each().enumerate().skip(from) {
            let n = charge_of(leg, estimate.input, estimate.output);
            let receipt = match route.rule(leg).charge(&counter.state, n, now) {
                Ok(Some(receipt)) => receipt,
                Ok(None) if !leg.enforced => {
                    shadow_refused = true;
                    NOT_CHARGED
                }
                stopped => {
                    self.roll_back(route, claimed, at, estimate, now);
                    return Err(if stopped.is_err() { Stop::Stale } else { Stop::Refused });
                }
            };
            self.slab.receipt(claimed.slot, at).store(receipt, Relaxed);
        }
        Ok(shadow_refused)
    }

    /// Opens the permit of a request that has been charged.
    #[inline]
    pub(super) fn open(&self, route: &Resolved, claimed: Claimed<'_>, estimate: Estimate, now: Now) -> PermitId {
        let slot = claimed.slot;
        let deadline = now.mono.saturating_add(self.permit_ttl);
        slot.route().store(route.index.load(Relaxed) as u64, Relaxed);
        slot.charged_at().store(now.mono, Relaxed);
        slot.deadline().store(deadline, Relaxed);
        slot.input().store(estimate.input, Relaxed);
        slot.output().store(estimate.output, Relaxed);
        let id = self.slab.open(claimed);
        // After it is open: whoever looks through the open permits meanwhile finds it, or leaves this to be found.
        if deadline < self.next_expiry.load(Acquire) {
            self.next_expiry.fetch_min(deadline, AcqRel);
        }
        id
    }

    /// Gives back what the first `charged` limits took for a request that a later one refused, and the slot.
    fn roll_back(&self, route: &Resolved, claimed: Claimed<'_>, charged: usize, estimate: Estimate, now: Now) {
        if charged > 0 {
            // AcqRel, before and after: whoever was refused in between sees that the number has moved.
            self.roll_backs.fetch_add(1, AcqRel);
        }
        for (at, (leg, counter)) in route.each().enumerate().take(charged) {
            let receipt = self.slab.receipt(claimed.slot, at).load(Relaxed);
            if receipt != NOT_CHARGED {
                let charge = charge_of(leg, estimate.input, estimate.output);
                let made = Made { charge, receipt, at: now.mono };
                self.current(route, leg, counter, |rule| rule.give_back(&counter.state, made, charge, now));
            }
        }
        if charged > 0 {
            self.roll_backs.fetch_add(1, AcqRel);
        }
        self.slab.release(claimed.slot);
    }

    /// What every enforced limit says of the request at `now`.
    pub(crate) fn denied(&self, route: &Resolved, estimate: Estimate, now: Now) -> Result<Denied, Stale> {
        let mut denied = Denied::new(route.compiled.clone());
        for (leg, counter) in route.each().filter(|(leg, _)| leg.enforced) {
            let n = charge_of(leg, estimate.input, estimate.output);
            let rule = route.rule(leg);
            let outlook = rule.outlook(&counter.state, n, now, false, || self.deadlines(counter))?;
            denied.push(leg.limit, rule.status(), &outlook);
        }
        Ok(denied)
    }

    /// When the permits expire that hold this counter's in-flight places, in monotonic nanoseconds. Looks through all
    /// open permits; only a refused in-flight limit asks.
    pub(crate) fn deadlines(&self, counter: &Counter) -> Vec<u64> {
        let mut deadlines = Vec::new();
        self.each_open(|seen, route| {
            let at = route.counters.iter().position(|other| std::ptr::eq(&**other, counter));
            if at.is_some_and(|at| self.slab.receipt_of(seen, at).load(Relaxed) != NOT_CHARGED) {
                deadlines.push(seen.slot.deadline().load(Relaxed));
            }
        });
        deadlines
    }

    /// How many roll-backs have been begun and ended.
    fn roll_backs(&self) -> u64 {
        match &self.shared {
            Some(shared) => shared.head(Head::RollBacks).load(Acquire),
            None => self.roll_backs.load(Acquire),
        }
    }

    #[cold]
    fn exhausted(&self) -> Error {
        Error::PermitsExhausted { most: self.max_permits }
    }

    #[cold]
    fn tell_admitted(&self, route: &Resolved, estimate: Estimate, id: PermitId, shadow_refused: bool, at: Now) {
        if let Some(observer) = &self.observer {
            let (project, deployment) = route.caller();
            let requested = Requested { project, deployment, estimate };
            observer.decided(&Decided { at, requested, permit: Some(id), denied: None, shadow_refused });
        }
    }

    fn tell_denied(&self, (project, deployment): (&[u8], &[u8]), estimate: Estimate, denied: &Denied, at: Option<Now>) {
        if let Some(observer) = &self.observer {
            let at = at.unwrap_or_else(|| self.clock.now());
            let requested = Requested { project, deployment, estimate };
            let denied = Some(denied);
            observer.decided(&Decided { at, requested, permit: None, denied, shadow_refused: false });
        }
    }
}

#[inline]
pub(super) fn check(estimate: Estimate) -> Result<(), Error> {
    if estimate.input.max(estimate.output) > MAX_TOKENS { Err(too_large(estimate)) } else { Ok(()) }
}

#[cold]
fn too_large(estimate: Estimate) -> Error {
    if estimate.input > MAX_TOKENS {
        Error::EstimateTooLarge { what: "input", tokens: estimate.input }
    } else {
        Error::EstimateTooLarge { what: "output", tokens: estimate.output }
    }
}
