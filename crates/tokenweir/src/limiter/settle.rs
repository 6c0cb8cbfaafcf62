//! What happens to a permit after admission: observed, renewed, settled, cancelled, dropped or expired.

use super::core::Core;
use super::decision::Observed;
use super::route::{Leg, Resolved, charge_of};
use super::rule::{Made, Rule};
use super::slab::{Gone, NOT_CHARGED, Seen};
use crate::clock::Now;
use crate::counter::bucket::Stale;
use crate::error::Error;
use crate::policy::{MAX_TOKENS, Tokens};
use crate::record::{Outcome, Requested, Settled, Settlement};
use crate::request::{Estimate, PermitId, Usage};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::Arc;

/// Up to so many slots are looked through whenever a permit may have expired.
const FEW_PERMITS: usize = 4096;

impl Gone {
    fn error(self, id: PermitId) -> Error {
        match self {
            Gone::Settled => Error::PermitSettled { id },
            Gone::Unknown => Error::PermitUnknown { id },
            Gone::Overflow => {
                let reason = "more than 2^31 input or 2^32 output tokens were observed of one stream".to_owned();
                Error::UsageInvalid { reason }
            }
        }
    }
}

impl Core {
    /// Applies `act` under the rule in force for this leg's counter: the route's own, or, when a newer policy has
    /// come, that policy's, or the limit's last one if it is not in that policy.
    pub(crate) fn current<T>(&self, route: &Resolved, leg: &Leg, act: impl Fn(&Rule) -> Result<T, Stale>) -> Option<T> {
        if !route.is_stale(self.generation())
            && let Ok(done) = act(route.rule(leg))
        {
            return Some(done);
        }
        loop {
            let compiled = self.compiled.load();
            let rule = compiled.rule_of(leg.counter.identity).unwrap_or_else(|| route.rule(leg));
            if let Ok(done) = act(rule) {
                return Some(done);
            }
            // Stale under the newest policy there is: that cannot be, since the newest rule is nobody's past.
            if compiled.generation == self.compiled.load().generation {
                return None;
            }
        }
    }

    /// Passes each open permit and its route.
    pub(crate) fn each_open(&self, mut see: impl FnMut(Seen, &Arc<Resolved>)) {
        for seen in self.slab.open_slots() {
            let index = self.slab.slot(seen.index).route.load(Relaxed) as usize;
            let route = self.routes.at(index);
            if let Some(route) = route.as_ref() {
                // Unchanged: the permit was open all the while, so this is its route.
                if self.slab.unchanged(seen) {
                    see(seen, route);
                }
            }
        }
    }

    /// The route of a permit that cannot be freed meanwhile.
    fn with_route<T>(&self, index: usize, held: Option<&Resolved>, act: impl FnOnce(&Resolved) -> T) -> Option<T> {
        match held {
            Some(route) => Some(act(route)),
            None => {
                let route = self.routes.at(self.slab.slot(index).route.load(Relaxed) as usize);
                route.as_ref().map(|route| act(route))
            }
        }
    }

    pub(crate) fn settle(
        &self,
        id: PermitId,
        held: Option<&Resolved>,
        usage: Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        validate(&usage)?;
        self.end(id, held, Outcome::Settled, usage, now)
    }

    pub(crate) fn cancel(&self, id: PermitId, held: Option<&Resolved>, now: Option<Now>) -> Result<Settlement, Error> {
        self.end(id, held, Outcome::Cancelled, Usage::UNKNOWN, now)
    }

    pub(crate) fn abandon(&self, id: PermitId, held: Option<&Resolved>, now: Option<Now>) -> Result<Settlement, Error> {
        self.end(id, held, Outcome::Dropped, Usage::UNKNOWN, now)
    }

    fn end(
        &self,
        id: PermitId,
        held: Option<&Resolved>,
        outcome: Outcome,
        usage: Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        let (seen, mono) = self.open_at(id, now)?;
        self.end_seen(seen, id, held, outcome, usage, (now, mono)).map_err(|gone| gone.error(id))
    }

    /// The open permit of this id, and the monotonic time, read once. A permit whose time is over is ended here and
    /// now: whether somebody has looked for expired ones before makes no difference.
    fn open_at(&self, id: PermitId, now: Option<Now>) -> Result<(Seen, u64), Error> {
        let seen = self.slab.find(id).map_err(|gone| gone.error(id))?;
        let mono = self.mono(now);
        let deadline = self.slab.slot(seen.index).deadline.load(Relaxed);
        if deadline <= mono && self.slab.unchanged(seen) {
            let _ = self.end_seen(seen, id, None, Outcome::Expired, Usage::UNKNOWN, (now, mono));
            return Err(Error::PermitSettled { id });
        }
        Ok((seen, mono))
    }

    /// Ends a permit, exactly once: whoever comes second finds it gone.
    fn end_seen(
        &self,
        seen: Seen,
        id: PermitId,
        held: Option<&Resolved>,
        outcome: Outcome,
        usage: Usage,
        (now, mono): (Option<Now>, u64),
    ) -> Result<Settlement, Gone> {
        let observed = self.slab.begin_settling(seen)?;
        let slot = self.slab.slot(seen.index);
        let estimate = Estimate { input: slot.input.load(Relaxed), output: slot.output.load(Relaxed) };
        // What has been charged so far, in tokens; and what it comes to in the end.
        let charged = (estimate.input.max(observed.0), estimate.output.max(observed.1));
        let tokens = match outcome {
            Outcome::Settled => {
                let input = usage.input.unwrap_or(charged.0);
                let cached_input = usage.cached_input.unwrap_or(0).min(input);
                Tokens { input, cached_input, output: usage.output.unwrap_or(charged.1) }
            }
            Outcome::Cancelled => Tokens { input: 0, cached_input: 0, output: 0 },
            Outcome::Dropped | Outcome::Expired => Tokens { input: charged.0, cached_input: 0, output: charged.1 },
        };
        let estimated = match outcome {
            Outcome::Settled => usage.input.is_none() || usage.output.is_none(),
            Outcome::Cancelled => false,
            Outcome::Dropped | Outcome::Expired => true,
        };
        let settlement = Settlement {
            id,
            outcome,
            input: tokens.input,
            cached_input: tokens.cached_input,
            output: tokens.output,
            estimated,
        };
        let done = self.with_route(seen.index, held, |route| {
            let now = self.time_at(now, mono, route);
            for (at, leg) in route.legs.iter().enumerate() {
                let receipt = self.slab.receipt(seen.index, at).load(Relaxed);
                if receipt != NOT_CHARGED {
                    let charge = charge_of(leg, estimate.input, estimate.output);
                    let made = Made { charge, receipt, at: slot.charged_at.load(Relaxed) };
                    self.settle_leg(route, leg, made, charged, (outcome, tokens), now);
                }
            }
            if let Some(observer) = &self.observer {
                let (project, deployment) = route.caller();
                let requested = Requested { project, deployment, estimate };
                observer.settled(&Settled { at: now, requested, settlement: &settlement, usage });
            }
            if self.slab.end_settling(seen.index) {
                self.routes.unpin(route);
            }
        });
        debug_assert!(done.is_some(), "a permit pins its route");
        Ok(settlement)
    }

    /// Brings one limit from what was charged to what it came to.
    fn settle_leg(
        &self,
        route: &Resolved,
        leg: &Leg,
        made: Made,
        charged: (u64, u64),
        (outcome, tokens): (Outcome, Tokens),
        now: Now,
    ) {
        let per_request = leg.charge.is_per_request();
        let places = route.rule(leg).is_in_flight();
        let charged = charge_of(leg, charged.0, charged.1);
        let actual = match outcome {
            Outcome::Cancelled => 0,
            _ if per_request => 1,
            _ => leg.charge.charge(&tokens),
        };
        let state = &leg.counter.state;
        if places || actual < charged {
            let back = charged.saturating_sub(actual);
            self.current(route, leg, |rule| rule.give_back(state, made, back, now));
        } else if actual > charged {
            self.current(route, leg, |rule| rule.force(state, actual - charged, now));
        }
        leg.counter.settled.fetch_add(actual, Relaxed);
    }

    /// Charges what a stream has brought beyond its estimate.
    pub(crate) fn observe(&self, id: PermitId, input: u64, output: u64, now: Option<Now>) -> Result<Observed, Error> {
        if input > MAX_TOKENS || output > MAX_TOKENS {
            return Err(Error::UsageInvalid { reason: "observed tokens are above 2^53".to_owned() });
        }
        let (seen, mono) = self.open_at(id, now)?;
        self.visit(seen, id, |route| {
            let [before, after] = self.slab.observe(seen.index, input, output)?;
            let slot = self.slab.slot(seen.index);
            let estimate = (slot.input.load(Relaxed), slot.output.load(Relaxed));
            let at_least = |tokens: (u64, u64)| (tokens.0.max(estimate.0), tokens.1.max(estimate.1));
            let (before, after) = (at_least(before), at_least(after));
            let now = self.time_at(now, mono, route);
            let mut spent = false;
            for (at, leg) in route.legs.iter().enumerate() {
                if self.slab.receipt(seen.index, at).load(Relaxed) == NOT_CHARGED {
                    continue;
                }
                let state = &leg.counter.state;
                let excess = charge_of(leg, after.0, after.1) - charge_of(leg, before.0, before.1);
                if excess > 0 {
                    self.current(route, leg, |rule| rule.force(state, excess, now));
                }
                if leg.enforced && !leg.charge.is_per_request() {
                    let left = self.current(route, leg, |rule| rule.used(state, now).map(|used| used < rule.amount()));
                    spent |= left == Some(false);
                }
            }
            Ok(Observed { spent })
        })
    }

    /// Lets the permit live for `ttl` nanoseconds from now on.
    pub(crate) fn renew(&self, id: PermitId, ttl: u64, now: Option<Now>) -> Result<(), Error> {
        let (seen, mono) = self.open_at(id, now)?;
        self.visit(seen, id, |_| {
            let deadline = mono.saturating_add(ttl);
            self.slab.slot(seen.index).deadline.store(deadline, Relaxed);
            self.next_expiry.fetch_min(deadline, Relaxed);
            Ok(())
        })
    }

    /// Does something with an open permit that cannot be freed meanwhile.
    fn visit<T>(&self, seen: Seen, id: PermitId, act: impl FnOnce(&Resolved) -> Result<T, Gone>) -> Result<T, Error> {
        self.slab.enter(seen).map_err(|gone| gone.error(id))?;
        let done = self.with_route(seen.index, None, |route| {
            let done = act(route);
            if self.slab.leave(seen.index) {
                self.routes.unpin(route);
            }
            done
        });
        done.unwrap_or(Err(Gone::Unknown)).map_err(|gone| gone.error(id))
    }

    /// Ends every permit whose time is over at `now`: their estimates stand, their places are free. True if there were
    /// any. Where very many permits are open it looks only now and then, unless it must.
    #[inline]
    pub(crate) fn expire(&self, now: Now, must: bool) -> bool {
        let due = self.next_expiry.load(Acquire);
        if now.mono < due || (!must && now.mono < self.look_after.load(Relaxed)) {
            return false;
        }
        self.expire_due(now, due)
    }

    #[cold]
    fn expire_due(&self, now: Now, due: u64) -> bool {
        // One looks at a time. AcqRel: what is opened or renewed from here on lowers the word again.
        if self.next_expiry.compare_exchange(due, u64::MAX, AcqRel, Relaxed).is_err() {
            return false;
        }
        // At the latest when a permit expires that is being opened just now and is not seen.
        let mut next = now.mono.saturating_add(self.permit_ttl);
        let mut ended = false;
        for seen in self.slab.open_slots() {
            let deadline = self.slab.slot(seen.index).deadline.load(Relaxed);
            if !self.slab.unchanged(seen) {
                continue;
            }
            if deadline <= now.mono {
                let id = self.slab.id_of(seen);
                // Somebody else may settle it at the same time; then there is nothing left to do.
                ended |= self.end_seen(seen, id, None, Outcome::Expired, Usage::UNKNOWN, (Some(now), now.mono)).is_ok();
            } else {
                next = next.min(deadline);
            }
        }
        // 0: whoever comes next may look, even if its clock is behind this one.
        let many = self.slab.len() > FEW_PERMITS;
        let after = if many { now.mono.saturating_add(self.permit_ttl / 256) } else { 0 };
        self.look_after.store(after, Relaxed);
        self.next_expiry.fetch_min(next, AcqRel);
        ended
    }

    pub(crate) fn remaining(&self, id: PermitId, now: Now) -> Vec<(String, i64)> {
        self.each_leg(id, |route, leg, _| {
            if !leg.enforced {
                return None;
            }
            let left = self.current(route, leg, |rule| {
                let amount = i64::try_from(rule.amount()).unwrap_or(i64::MAX);
                Ok(amount.saturating_sub_unsigned(rule.used(&leg.counter.state, now)?))
            })?;
            Some((route.name(leg).to_string(), left))
        })
    }

    pub(crate) fn shadow_refused(&self, id: PermitId) -> Vec<String> {
        self.each_leg(id, |route, leg, receipt| (receipt == NOT_CHARGED).then(|| route.name(leg).to_string()))
    }

    /// What `see` makes of each leg of an open permit and its receipt; nothing if the permit is gone.
    fn each_leg<T>(&self, id: PermitId, see: impl Fn(&Resolved, &Leg, u64) -> Option<T>) -> Vec<T> {
        let Ok(seen) = self.slab.find(id) else { return Vec::new() };
        let seen = self.visit(seen, id, |route| {
            let legs = route.legs.iter().enumerate();
            Ok(legs.filter_map(|(at, leg)| see(route, leg, self.slab.receipt(seen.index, at).load(Relaxed))).collect())
        });
        seen.unwrap_or_default()
    }
}

fn validate(usage: &Usage) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::UsageInvalid { reason });
    let fields = [("input", usage.input), ("cached_input", usage.cached_input), ("output", usage.output)];
    for (name, tokens) in fields {
        if tokens.is_some_and(|tokens| tokens > MAX_TOKENS) {
            return invalid(format!("{} {name} tokens are above 2^53", tokens.unwrap_or(0)));
        }
    }
    if let (Some(input), Some(cached)) = (usage.input, usage.cached_input)
        && cached > input
    {
        return invalid(format!("{cached} cached input tokens are more than the {input} input tokens"));
    }
    Ok(())
}
