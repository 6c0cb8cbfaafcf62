//! Admission: every limit of the route is charged, or none is.
//!
//! Limits are charged in one order everywhere (ascending identity), each by its own atomic step, and rolled back when
//! a later one refuses. What plainly does not fit is refused before anything is charged, so roll-backs are for races
//! only; a refusal that may have met another request's roll-back is looked at once more.

use super::core::{Core, Found};
use super::decision::{Decision, Denied, Permit, RefusedLeg};
use super::route::{Leg, Resolved, charge_of};
use super::rule::Made;
use super::slab::NOT_CHARGED;
use crate::clock::Now;
use crate::counter::bucket::Stale;
use crate::error::Error;
use crate::policy::MAX_TOKENS;
use crate::record::{Decided, Requested};
use crate::request::{Estimate, PermitId, Request};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::Arc;

/// What one attempt on a pinned route came to. A denial is large and stays on the stack: refusing must not allocate.
#[expect(clippy::large_enum_variant, reason = "see above")]
enum Attempt {
    Admitted(PermitId, bool),
    Denied(Denied),
}

/// Why charging stopped.
enum Stop {
    Refused,
    Stale,
}

impl From<Stale> for Stop {
    fn from(_: Stale) -> Self {
        Stop::Stale
    }
}

impl Core {
    pub(crate) fn admit(
        &self,
        request: &Request<'_>,
        estimate: Estimate,
        now: Option<Now>,
    ) -> Result<Decision<'_>, Error> {
        check(estimate)?;
        loop {
            let route = match self.find(request, now)? {
                Found::Route(route) => route,
                Found::Full(denied) => {
                    let denied = *denied;
                    self.tell_denied((request.project, request.deployment), estimate, &denied, now);
                    return Ok(Decision::Denied(denied));
                }
            };
            let time = self.time(now, &route);
            match self.attempt(&route, estimate, time) {
                Ok(Attempt::Admitted(id, shadow_refused)) => {
                    self.tell_admitted(&route, estimate, id, shadow_refused, time);
                    return Ok(Decision::Admitted(Permit { core: self, held: None, id, open: true }));
                }
                Ok(Attempt::Denied(denied)) => {
                    self.tell_denied(route.caller(), estimate, &denied, Some(time));
                    self.routes.unpin(&route);
                    return Ok(Decision::Denied(denied));
                }
                Err(failed) => {
                    self.routes.unpin(&route);
                    failed?;
                }
            }
        }
    }

    /// Admits on a route that the caller holds. `None` if a new policy has come into force.
    pub(crate) fn admit_held<'a>(
        &'a self,
        route: &'a Arc<Resolved>,
        estimate: Estimate,
        now: Option<Now>,
    ) -> Result<Option<Decision<'a>>, Error> {
        check(estimate)?;
        if route.is_stale(self.generation()) {
            return Ok(None);
        }
        let time = self.time(now, route);
        route.pins.pin_again();
        match self.attempt(route, estimate, time) {
            Ok(Attempt::Admitted(id, shadow_refused)) => {
                self.tell_admitted(route, estimate, id, shadow_refused, time);
                Ok(Some(Decision::Admitted(Permit { core: self, held: Some(route), id, open: true })))
            }
            Ok(Attempt::Denied(denied)) => {
                self.tell_denied(route.caller(), estimate, &denied, Some(time));
                self.routes.unpin(route);
                Ok(Some(Decision::Denied(denied)))
            }
            Err(failed) => {
                self.routes.unpin(route);
                failed.map(|()| None)
            }
        }
    }

    /// One admission on a route pinned for its permit. `Err(Ok(()))`: the policy has changed, resolve anew.
    fn attempt(&self, route: &Arc<Resolved>, estimate: Estimate, now: Now) -> Result<Attempt, Result<(), Error>> {
        self.expire(now, false);
        let mut tries = 0;
        loop {
            let roll_backs = self.roll_backs.load(Acquire);
            let plain = route.legs.len() < 2 || self.all_fit(route, estimate, now).map_err(|_| Ok(()))?;
            if plain {
                match self.charge(route, estimate, now) {
                    Ok(Some((id, shadow_refused))) => return Ok(Attempt::Admitted(id, shadow_refused)),
                    Ok(None) => return Err(Err(Error::PermitsExhausted { most: self.max_permits })),
                    Err(Stop::Stale) => return Err(Ok(())),
                    Err(Stop::Refused) => {}
                }
            }
            // A refusal that met a roll-back is looked at again, once; one that no limit stands by any more (others
            // were faster in between), as often as others get through.
            let met_roll_back = roll_backs != self.roll_backs.load(Acquire);
            tries += 1;
            if met_roll_back && tries == 1 {
                continue;
            }
            if route.has_places && self.expire(now, true) {
                continue;
            }
            let denied = self.denied(route, estimate, now).map_err(|_| Ok(()))?;
            if !denied.refused.is_empty() {
                return Ok(Attempt::Denied(denied));
            }
        }
    }

    fn all_fit(&self, route: &Resolved, estimate: Estimate, now: Now) -> Result<bool, Stale> {
        for leg in route.legs.iter().filter(|leg| leg.enforced) {
            let n = charge_of(leg, estimate.input, estimate.output);
            if !route.rule(leg).fits(&leg.counter.state, n, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Charges every limit and opens the permit; on refusal everything is as before. `None`: no permit is free.
    fn charge(&self, route: &Resolved, estimate: Estimate, now: Now) -> Result<Option<(PermitId, bool)>, Stop> {
        let Some(index) = self.slab.claim(route.legs.len()) else {
            return Ok(None);
        };
        let mut shadow_refused = false;
        for (at, leg) in route.legs.iter().enumerate() {
            let n = charge_of(leg, estimate.input, estimate.output);
            let receipt = match route.rule(leg).charge(&leg.counter.state, n, now) {
                Ok(Some(receipt)) => receipt,
                Ok(None) if !leg.enforced => {
                    shadow_refused = true;
                    NOT_CHARGED
                }
                stopped => {
                    self.roll_back(route, index, at, estimate, now);
                    return Err(if stopped.is_err() { Stop::Stale } else { Stop::Refused });
                }
            };
            self.slab.receipt(index, at).store(receipt, Relaxed);
        }
        let slot = self.slab.slot(index);
        let deadline = now.mono.saturating_add(self.permit_ttl);
        slot.route.store(route.index.load(Relaxed) as u64, Relaxed);
        slot.charged_at.store(now.mono, Relaxed);
        slot.deadline.store(deadline, Relaxed);
        slot.input.store(estimate.input, Relaxed);
        slot.output.store(estimate.output, Relaxed);
        let id = self.slab.open(index);
        // After it is open: whoever looks through the open permits meanwhile finds it, or leaves this to be found.
        if deadline < self.next_expiry.load(Acquire) {
            self.next_expiry.fetch_min(deadline, AcqRel);
        }
        Ok(Some((id, shadow_refused)))
    }

    /// Gives back what the first `charged` limits took for a request that a later one refused.
    fn roll_back(&self, route: &Resolved, index: usize, charged: usize, estimate: Estimate, now: Now) {
        if charged > 0 {
            // AcqRel, before and after: whoever was refused in between sees that the number has moved.
            self.roll_backs.fetch_add(1, AcqRel);
        }
        for (at, leg) in route.legs[..charged].iter().enumerate() {
            let receipt = self.slab.receipt(index, at).load(Relaxed);
            if receipt != NOT_CHARGED {
                let charge = charge_of(leg, estimate.input, estimate.output);
                let made = Made { charge, receipt, at: now.mono };
                self.current(route, leg, |rule| rule.give_back(&leg.counter.state, made, charge, now));
            }
        }
        if charged > 0 {
            self.roll_backs.fetch_add(1, AcqRel);
        }
        self.slab.release(index);
    }

    /// What every enforced limit says of the request at `now`.
    pub(crate) fn denied(&self, route: &Resolved, estimate: Estimate, now: Now) -> Result<Denied, Stale> {
        let mut denied = Denied::new(route.compiled.clone());
        for leg in route.legs.iter().filter(|leg| leg.enforced) {
            let n = charge_of(leg, estimate.input, estimate.output);
            let rule = route.rule(leg);
            let outlook = rule.outlook(&leg.counter.state, n, now, false, || self.deadlines(leg))?;
            denied.left.push((leg.limit, outlook.remaining));
            if !outlook.fits {
                denied.refused.push(RefusedLeg {
                    limit: leg.limit,
                    status: rule.status(),
                    never_fits: outlook.never_fits,
                    remaining: outlook.remaining,
                    wait: outlook.wait,
                });
            }
        }
        Ok(denied)
    }

    /// When the permits expire that hold this leg's in-flight places, in monotonic nanoseconds. Looks through all open
    /// permits; only a refused in-flight limit asks.
    pub(crate) fn deadlines(&self, leg: &Leg) -> Vec<u64> {
        let mut deadlines = Vec::new();
        self.each_open(|seen, route| {
            let at = route.legs.iter().position(|other| Arc::ptr_eq(&other.counter, &leg.counter));
            if at.is_some_and(|at| self.slab.receipt(seen.index, at).load(Relaxed) != NOT_CHARGED) {
                deadlines.push(self.slab.slot(seen.index).deadline.load(Relaxed));
            }
        });
        deadlines
    }

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

fn check(estimate: Estimate) -> Result<(), Error> {
    if estimate.input > MAX_TOKENS {
        return Err(Error::EstimateTooLarge { what: "input", tokens: estimate.input });
    }
    if estimate.output > MAX_TOKENS {
        return Err(Error::EstimateTooLarge { what: "output", tokens: estimate.output });
    }
    Ok(())
}
