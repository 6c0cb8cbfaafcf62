//! What happens to a permit after admission: observed, renewed, settled, cancelled, dropped or expired.

use super::core::Core;
use super::decision::Observed;
use super::route::{Leg, Resolved, charge_of};
use super::rule::{Made, Rule};
use super::slab::{Gone, NOT_CHARGED, Seen, Slot};
use crate::clock::Now;
use crate::counter::bucket::Stale;
use crate::error::Error;
use crate::policy::{Limit, MAX_TOKENS, Tokens};
use crate::record::{Outcome, Requested, Settled, Settlement};
use crate::request::{Estimate, PermitId, Usage};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed};
use crate::table::Counter;
use smallvec::SmallVec;

/// Up to so many slots are looked through whenever a permit may have expired.
const FEW_PERMITS: usize = 4096;

impl Gone {
    #[cold]
    pub(super) fn error(self, id: PermitId) -> Error {
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
    #[inline]
    pub(crate) fn current<T>(
        &self,
        route: &Resolved,
        leg: &Leg,
        counter: &Counter,
        act: impl Fn(&Rule) -> Result<T, Stale>,
    ) -> Option<T> {
        if !route.is_stale(self.generation())
            && let Ok(done) = act(route.rule(leg))
        {
            return Some(done);
        }
        self.newest(route, leg, counter, act)
    }

    #[cold]
    fn newest<T>(
        &self,
        route: &Resolved,
        leg: &Leg,
        counter: &Counter,
        act: impl Fn(&Rule) -> Result<T, Stale>,
    ) -> Option<T> {
        loop {
            let compiled = self.compiled.load();
            let rule = compiled.rule_of(counter.identity).unwrap_or_else(|| route.rule(leg));
            if let Ok(done) = act(rule) {
                return Some(done);
            }
            // Of a region's policies another process may have put one in force since.
            let checked = self.check_region();
            // Stale under the newest policy there is: that cannot be, since the newest rule is nobody's past.
            if checked.is_err() || compiled.generation == self.compiled.load().generation {
                return None;
            }
        }
    }

    /// Passes each open permit and its route.
    pub(crate) fn each_open(&self, mut see: impl FnMut(Seen<'_>, &Resolved)) {
        for seen in self.slab.open_slots() {
            let named = seen.slot.route().load(Relaxed);
            let (known, there);
            let route = match &self.shared {
                Some(shared) => {
                    known = self.route_in_region(shared, named);
                    known.as_ref()
                }
                None => {
                    there = self.routes.at(named as usize);
                    there.as_ref()
                }
            };
            if let Some(route) = route {
                // Unchanged: the permit was open all the while, so this is its route.
                if self.slab.unchanged(seen) {
                    see(seen, route);
                }
            }
        }
    }

    /// The route of a permit that cannot be freed meanwhile.
    fn with_route<T>(&self, slot: Slot<'_>, act: impl FnOnce(&Resolved) -> T) -> Option<T> {
        let named = slot.route().load(Relaxed);
        match &self.shared {
            Some(shared) => self.route_in_region(shared, named).map(|route| act(&route)),
            None => self.routes.at(named as usize).as_ref().map(|route| act(route)),
        }
    }

    pub(crate) fn settle(
        &self,
        id: PermitId,
        held: Option<&Resolved>,
        usage: &Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        validate(usage)?;
        self.end(id, held, Outcome::Settled, usage, now)
    }

    pub(crate) fn cancel(&self, id: PermitId, held: Option<&Resolved>, now: Option<Now>) -> Result<Settlement, Error> {
        self.end(id, held, Outcome::Cancelled, &Usage::UNKNOWN, now)
    }

    pub(crate) fn abandon(&self, id: PermitId, held: Option<&Resolved>, now: Option<Now>) -> Result<Settlement, Error> {
        self.end(id, held, Outcome::Dropped, &Usage::UNKNOWN, now)
    }

    #[inline]
    fn end(
        &self,
        id: PermitId,
        held: Option<&Resolved>,
        outcome: Outcome,
        usage: &Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        if let Some(shared) = &self.shared {
            return self.end_in_region(shared, id, held, outcome, usage, now);
        }
        let seen = match self.slab.find_own(id) {
            Ok(seen) => seen,
            Err(gone) => return Err(gone.error(id)),
        };
        let registered = seen.slot.route().load(Relaxed) as usize;
        if let Some(route) = held
            // The caller keeps it registered, so no other route has its place. What it holds may be another route.
            && route.index.load(Relaxed) == registered
        {
            return self.end_in_time(seen, route, outcome, usage, now);
        }
        match self.routes.at(registered).as_ref() {
            Some(route) => self.end_in_time(seen, route, outcome, usage, now),
            // Without a route the permit has just been ended by another: a permit's slot keeps its route.
            None => Err(Gone::Settled.error(id)),
        }
    }

    #[inline]
    fn end_in_time(
        &self,
        seen: Seen<'_>,
        route: &Resolved,
        outcome: Outcome,
        usage: &Usage,
        now: Option<Now>,
    ) -> Result<Settlement, Error> {
        let now = self.time(now, route);
        if let Err(gone) = self.check_expiry(seen, now) {
            return Err(gone.error(self.slab.id_of(seen)));
        }
        self.end_seen(seen, route, outcome, usage, now)
    }

    /// A permit whose time is over is ended here and now: whether somebody has looked for expired ones before makes
    /// no difference.
    #[inline]
    fn check_expiry(&self, seen: Seen<'_>, now: Now) -> Result<(), Gone> {
        if seen.slot.deadline().load(Relaxed) > now.mono { Ok(()) } else { self.end_expired(seen, now) }
    }

    #[cold]
    fn end_expired(&self, seen: Seen<'_>, now: Now) -> Result<(), Gone> {
        if !self.slab.unchanged(seen) {
            // The deadline may be another permit's.
            return Err(Gone::Settled);
        }
        let _ = self.with_route(seen.slot, |route| self.end_as_expired(seen, route, now));
        Err(Gone::Settled)
    }

    fn end_as_expired(&self, seen: Seen<'_>, route: &Resolved, now: Now) -> bool {
        let ended = match &self.shared {
            Some(_) => self.end_seen_in_region(seen, route, Outcome::Expired, &Usage::UNKNOWN, now),
            None => self.end_seen(seen, route, Outcome::Expired, &Usage::UNKNOWN, now),
        };
        ended.is_ok()
    }

    /// Ends every open permit whose time is over at `now`. Whether there were any, and when the next one's is: `latest` at the
    /// latest, `unresolved` if there is one whose route cannot be had.
    pub(crate) fn end_overdue(&self, now: Now, latest: u64, unresolved: u64) -> (bool, u64) {
        let (mut ended, mut next) = (false, latest);
        for seen in self.slab.open_slots() {
            let deadline = seen.slot.deadline().load(Relaxed);
            if !self.slab.unchanged(seen) {
                continue;
            }
            if deadline > now.mono {
                next = next.min(deadline);
                continue;
            }
            // Somebody else may settle it at the same time; then there is nothing left to do.
            match self.with_route(seen.slot, |route| self.end_as_expired(seen, route, now)) {
                Some(it) => ended |= it,
                None => next = next.min(unresolved),
            }
        }
        (ended, next)
    }

    /// Ends a permit, exactly once: whoever comes second finds it gone. What it returns is written once and handed on
    /// where it lies; copies of what has just been written are slow.
    #[inline(never)]
    fn end_seen(
        &self,
        seen: Seen<'_>,
        route: &Resolved,
        outcome: Outcome,
        usage: &Usage,
        now: Now,
    ) -> Result<Settlement, Error> {
        let observed = match self.slab.begin_settling(seen) {
            Ok(observed) => observed,
            Err(gone) => return Err(gone.error(self.slab.id_of(seen))),
        };
        let slot = seen.slot;
        let estimate = Estimate { input: slot.input().load(Relaxed), output: slot.output().load(Relaxed) };
        // What has been charged so far, in tokens; and what it comes to in the end.
        let charged = (estimate.input.max(observed.0), estimate.output.max(observed.1));
        let (tokens, estimated) = comes_to(outcome, charged, usage);
        let cancelled = outcome == Outcome::Cancelled;
        let as_charged = (tokens.input, tokens.cached_input, tokens.output) == (charged.0, 0, charged.1);
        for (at, (leg, counter)) in route.each().enumerate() {
            let receipt = self.slab.receipt(slot, at).load(Relaxed);
            if receipt == NOT_CHARGED {
                continue;
            }
            let charged = charge_of(leg, charged.0, charged.1);
            let actual = if cancelled {
                0
            } else if as_charged {
                charged
            } else {
                leg.charge.charge(&tokens)
            };
            if actual != charged || route.has_places {
                // What was observed beyond the estimate was charged later: as if it had been a part of it is the strict side.
                let made = Made { charge: charged, receipt, at: slot.charged_at().load(Relaxed) };
                self.settle_leg(route, leg, counter, made, (charged, actual), now);
            }
            if !cancelled {
                counter.settled.fetch_add(actual, Relaxed);
            }
        }
        if route.kept {
            self.keep_settled(route);
        }
        let id = self.slab.id_of(seen);
        let Tokens { input, cached_input, output } = tokens;
        if self.observer.is_some() {
            let settlement = Settlement { id, outcome, input, cached_input, output, estimated };
            self.tell_settled(route, estimate, &settlement, usage, now);
        }
        self.slab.end_settling(slot);
        Ok(Settlement { id, outcome, input, cached_input, output, estimated })
    }

    #[cold]
    pub(super) fn tell_settled(
        &self,
        route: &Resolved,
        estimate: Estimate,
        settlement: &Settlement,
        usage: &Usage,
        at: Now,
    ) {
        if let Some(observer) = &self.observer {
            let (project, deployment) = route.caller();
            let requested = Requested { project, deployment, estimate };
            observer.settled(&Settled { at, requested, settlement, usage: *usage });
        }
    }

    /// Brings one limit from what was charged to what it came to.
    #[inline(never)]
    fn settle_leg(
        &self,
        route: &Resolved,
        leg: &Leg,
        counter: &Counter,
        made: Made,
        (charged, actual): (u64, u64),
        now: Now,
    ) {
        let state = &counter.state;
        if route.rule(leg).is_in_flight() || actual < charged {
            let back = charged.saturating_sub(actual);
            self.current(route, leg, counter, |rule| rule.give_back(state, made, back, now));
        } else if actual > charged {
            self.current(route, leg, counter, |rule| rule.force(state, actual - charged, now));
        }
    }

    /// Charges what a stream has brought beyond its estimate.
    pub(crate) fn observe(&self, id: PermitId, input: u64, output: u64, now: Option<Now>) -> Result<Observed, Error> {
        if input > MAX_TOKENS || output > MAX_TOKENS {
            return Err(Error::UsageInvalid { reason: "observed tokens are above 2^53".to_owned() });
        }
        self.visit(id, now, |seen, route, now| {
            if let Some(shared) = &self.shared {
                return self.observe_in_region(shared, seen, route, (input, output), now);
            }
            let [before, after] = self.slab.observe(seen.slot, input, output)?;
            let slot = seen.slot;
            let estimate = (slot.input().load(Relaxed), slot.output().load(Relaxed));
            let at_least = |tokens: (u64, u64)| (tokens.0.max(estimate.0), tokens.1.max(estimate.1));
            let (before, after) = (at_least(before), at_least(after));
            let mut spent = false;
            for (at, (leg, counter)) in route.each().enumerate() {
                if self.slab.receipt(slot, at).load(Relaxed) == NOT_CHARGED {
                    continue;
                }
                let state = &counter.state;
                let excess = charge_of(leg, after.0, after.1) - charge_of(leg, before.0, before.1);
                if excess > 0 {
                    self.current(route, leg, counter, |rule| rule.force(state, excess, now));
                }
                if leg.enforced && !leg.charge.is_per_request() {
                    let left = |rule: &Rule| rule.used(state, now).map(|used| used < rule.amount());
                    spent |= self.current(route, leg, counter, left) == Some(false);
                }
            }
            if route.kept {
                self.keep_settled(route);
            }
            Ok(Observed { spent })
        })
    }

    /// Lets the permit live for `ttl` nanoseconds from now on.
    pub(crate) fn renew(&self, id: PermitId, ttl: u64, now: Option<Now>) -> Result<(), Error> {
        self.visit(id, now, |seen, _, now| {
            let deadline = now.mono.saturating_add(ttl);
            if let Some(shared) = &self.shared {
                return self.renew_in_region(shared, seen, deadline);
            }
            seen.slot.deadline().store(deadline, Relaxed);
            self.next_expiry.fetch_min(deadline, Relaxed);
            Ok(())
        })
    }

    /// Does something with an open permit that cannot be freed meanwhile.
    pub(super) fn visit<T>(
        &self,
        id: PermitId,
        now: Option<Now>,
        act: impl FnOnce(Seen<'_>, &Resolved, Now) -> Result<T, Gone>,
    ) -> Result<T, Error> {
        self.check_region()?;
        let seen = self.slab.find(id).map_err(|gone| gone.error(id))?;
        let done = self.with_route(seen.slot, |route| {
            let now = self.time(now, route);
            self.check_expiry(seen, now)?;
            if self.shared.is_some() {
                return self.visit_in_region(seen, route, || act(seen, route, now));
            }
            self.slab.enter(seen)?;
            let done = act(seen, route, now);
            self.slab.leave(seen.slot);
            done
        });
        done.unwrap_or(Err(Gone::Settled)).map_err(|gone| gone.error(id))
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
        if let Some(shared) = &self.shared {
            return self.expire_in_region(shared, now);
        }
        // One looks at a time. AcqRel: what is opened or renewed from here on lowers the word again.
        if self.next_expiry.compare_exchange(due, u64::MAX, AcqRel, Relaxed).is_err() {
            return false;
        }
        // At the latest when a permit expires that is being opened just now and is not seen.
        let (ended, next) = self.end_overdue(now, now.mono.saturating_add(self.permit_ttl), u64::MAX);
        // 0: whoever comes next may look, even if its clock is behind this one.
        let many = self.slab.len() > FEW_PERMITS;
        let after = if many { now.mono.saturating_add(self.permit_ttl / 256) } else { 0 };
        self.look_after.store(after, Relaxed);
        self.next_expiry.fetch_min(next, AcqRel);
        ended
    }

    pub(crate) fn remaining(&self, id: PermitId, now: Now) -> Vec<(String, i64)> {
        let mut remaining = Vec::new();
        self.each_remaining(id, now, |limit, left| remaining.push((limit.name().to_string(), left)));
        remaining
    }

    /// Passes what each enforced limit of an open permit has left.
    pub(crate) fn each_remaining(&self, id: PermitId, now: Now, mut see: impl FnMut(&Limit, i64)) {
        // Looked at while the permit is held, told when it is not: whoever is told may do what it likes.
        let mut all: SmallVec<[(usize, i64); 8]> = SmallVec::new();
        let compiled = self.visit(id, Some(now), |_, route, now| {
            for (leg, counter) in route.each().filter(|(leg, _)| leg.enforced) {
                let left = self.current(route, leg, counter, |rule| {
                    let amount = i64::try_from(rule.amount()).unwrap_or(i64::MAX);
                    Ok(amount.saturating_sub_unsigned(rule.used(&counter.state, now)?))
                });
                all.extend(left.map(|left| (leg.limit, left)));
            }
            Ok(route.compiled.clone())
        });
        if let Ok(compiled) = compiled {
            for (limit, left) in all {
                see(&compiled.policy.limits()[limit], left);
            }
        }
    }

    pub(crate) fn shadow_refused(&self, id: PermitId) -> Vec<String> {
        let refused = self.visit(id, None, |seen, route, _| {
            let legs = route.each().enumerate();
            let refused = legs.filter(|(at, _)| self.slab.receipt_of(seen, *at).load(Relaxed) == NOT_CHARGED);
            Ok(refused.map(|(_, (leg, _))| route.name(leg).to_string()).collect())
        });
        refused.unwrap_or_default()
    }
}

/// The tokens that a permit comes to which ends so, and whether a part of them is the estimate. `charged`: input and
/// output that it has been charged for so far.
#[inline]
pub(super) fn comes_to(outcome: Outcome, charged: (u64, u64), usage: &Usage) -> (Tokens, bool) {
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
    (tokens, estimated)
}

#[inline]
pub(super) fn validate(usage: &Usage) -> Result<(), Error> {
    let Usage { input, cached_input, output } = *usage;
    let cached = cached_input.unwrap_or(0);
    let most = input.unwrap_or(0).max(output.unwrap_or(0)).max(cached);
    if most > MAX_TOKENS || cached > input.unwrap_or(MAX_TOKENS) { Err(invalid(usage)) } else { Ok(()) }
}

#[cold]
fn invalid(usage: &Usage) -> Error {
    let fields = [("input", usage.input), ("cached_input", usage.cached_input), ("output", usage.output)];
    let above = fields.iter().find(|(_, tokens)| tokens.is_some_and(|tokens| tokens > MAX_TOKENS));
    let reason = match above {
        Some((name, tokens)) => format!("{} {name} tokens are above 2^53", tokens.unwrap_or(0)),
        None => {
            let (cached, input) = (usage.cached_input.unwrap_or(0), usage.input.unwrap_or(0));
            format!("{cached} cached input tokens are more than the {input} input tokens")
        }
    };
    Error::UsageInvalid { reason }
}
