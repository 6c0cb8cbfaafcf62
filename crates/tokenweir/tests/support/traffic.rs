//! Traffic: calls that arrive, pass or not, and settle later; and what of it went through.

use super::ledger::exact;
use super::model::{End, Model};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use tokenweir::policy::Period;
use tokenweir::{Decision, Estimate, Limiter, Now, PermitId, Policy, Request, Usage};

/// One call to a model. Both clocks show the same time here, but for the wall's offset.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: u64,
    pub project: &'static str,
    pub deployment: &'static str,
    pub estimate: Estimate,
    /// What it really takes.
    pub usage: Usage,
    /// From its admission to its settlement.
    pub duration: u64,
}

impl Call {
    /// Tokens that it really takes.
    pub fn tokens(&self) -> u64 {
        self.usage.input.unwrap_or(0) + self.usage.output.unwrap_or(0)
    }

    /// By how much it exceeds its estimate.
    pub fn excess(&self) -> u64 {
        self.tokens().saturating_sub(self.estimate.input + self.estimate.output)
    }

    pub fn end(&self) -> u64 {
        self.at + self.duration
    }
}

/// Who lets calls pass.
pub trait Gate {
    type Permit;
    fn admit(&mut self, call: &Call, now: Now) -> Option<Self::Permit>;
    fn settle(&mut self, permit: Self::Permit, call: &Call, now: Now);
}

/// The library.
impl Gate for &Limiter {
    type Permit = PermitId;

    fn admit(&mut self, call: &Call, now: Now) -> Option<PermitId> {
        let request = Request::new(call.project, call.deployment);
        match self.admit_at(&request, call.estimate, now).expect("the request resolves") {
            Decision::Admitted(permit) => {
                // Debt is paid before anything else is admitted: nothing is overdrawn by an admission.
                for (limit, left) in permit.remaining_at(now) {
                    assert!(left >= 0, "{limit} has {left} left after {call:?} was admitted");
                }
                Some(permit.into_id())
            }
            Decision::Denied(_) => None,
        }
    }

    fn settle(&mut self, permit: PermitId, call: &Call, now: Now) {
        self.settle_at(permit, call.usage, now).expect("the permit is open");
    }
}

/// The exact bookkeeper, deciding on its own.
impl Gate for Model {
    type Permit = usize;

    fn admit(&mut self, call: &Call, now: Now) -> Option<usize> {
        let request = Request::new(call.project, call.deployment);
        let verdict = self.judge(&request, call.estimate, now);
        verdict.admitted().then(|| self.charge(&request, call.estimate, now, &verdict.shadow_refused()))
    }

    fn settle(&mut self, permit: usize, call: &Call, now: Now) {
        assert!(self.end(permit, End::Usage(call.usage), now));
    }
}

pub fn bookkeeper(policy: &Policy) -> Model {
    Model::new(policy.clone(), exact)
}

/// Passes the calls in order. Settlements due at or before a call's arrival come first. Which calls were admitted.
pub fn run<G: Gate>(gate: &mut G, calls: &[Call], wall: impl Fn(u64) -> i64) -> Vec<usize> {
    let now = |mono: u64| Now::new(mono, wall(mono));
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut permits: Vec<Option<G::Permit>> = Vec::new();
    let mut admitted = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        while let Some(Reverse((end, order))) = due.pop() {
            if end > call.at {
                due.push(Reverse((end, order)));
                break;
            }
            let settled: &Call = &calls[admitted[order]];
            let permit: Option<G::Permit> = permits[order].take();
            gate.settle(permit.expect("settled once"), settled, now(end));
        }
        if let Some(permit) = gate.admit(call, now(call.at)) {
            due.push(Reverse((call.end(), permits.len())));
            permits.push(Some(permit));
            admitted.push(number);
        }
    }
    admitted
}

/// All that was admitted on one counter, in order.
pub type Through<'a> = Vec<&'a Call>;

/// What exceeds its estimate, by place.
fn short(through: &Through<'_>) -> Vec<usize> {
    (0..through.len()).filter(|call| through[*call].excess() > 0).collect()
}

/// The excess over the estimates of what is in flight among `first..=last` when the last is admitted, itself included:
/// what S4 allows. Settlements of an instant precede its admissions.
fn in_flight_excess(through: &Through<'_>, short: &[usize], first: usize, last: usize) -> u64 {
    let among = short.iter().filter(|call| (first..=last).contains(*call));
    let open = among.filter(|call| **call == last || through[**call].end() > through[last].at);
    open.map(|call| through[*call].excess()).sum()
}

/// S1, S4: no interval of a bucket's traffic holds more than capacity and refill, and the excess in flight.
///
/// The library counts the refill in parts of a token. A part that completes within an interval may have begun before
/// it, so an interval may hold less than one part more than `B + R * T`, and nothing beyond that is allowed here.
pub fn check_bucket(through: &Through<'_>, capacity: u64, rate: u64, per: u64, parts: u64) {
    let short = short(through);
    for first in 0..through.len() {
        let mut tokens = 0u128;
        for last in first..through.len() {
            tokens += u128::from(through[last].tokens());
            let excess = u128::from(in_flight_excess(through, &short, first, last));
            let elapsed = u128::from(through[last].at - through[first].at);
            let (parts, per) = (u128::from(parts), u128::from(per));
            let bound = ((u128::from(capacity) + excess) * parts + 1) * per + elapsed * u128::from(rate) * parts;
            assert!(
                tokens * parts * per < bound,
                "{tokens} tokens in {elapsed} ns, {capacity} + {rate} per {per} ns, {excess} in flight"
            );
        }
    }
}

/// S2, S4: no interval of a window's length holds more than its amount, and the excess in flight.
pub fn check_window(through: &Through<'_>, amount: u64, length: u64) {
    let short = short(through);
    for first in 0..through.len() {
        let mut tokens = 0;
        for last in first..through.len() {
            if through[last].at - through[first].at > length {
                break;
            }
            tokens += through[last].tokens();
            let excess = in_flight_excess(through, &short, first, last);
            assert!(tokens <= amount + excess, "{tokens} tokens in {length} ns, {amount} allowed, {excess} in flight");
        }
    }
}

/// S3, S4: no period holds more than the quota, and the excess in flight at its last admission.
pub fn check_quota(through: &Through<'_>, amount: u64, period: &Period, wall: impl Fn(u64) -> i64) {
    let short = short(through);
    let start = |call: &Call| period.bounds(wall(call.at)).start;
    for first in 0..through.len() {
        if first > 0 && start(through[first - 1]) == start(through[first]) {
            continue;
        }
        let mut tokens = 0;
        for last in first..through.len() {
            if start(through[last]) != start(through[first]) {
                break;
            }
            tokens += through[last].tokens();
            let excess = in_flight_excess(through, &short, first, last);
            assert!(tokens <= amount + excess, "{tokens} tokens in a period of {amount}, {excess} in flight");
        }
    }
}

/// S3: never more than `most` at a time.
pub fn check_in_flight(through: &Through<'_>, most: usize) {
    for call in through {
        let open = through.iter().filter(|other| other.at <= call.at && call.at < other.end()).count();
        assert!(open <= most, "{open} in flight, {most} allowed");
    }
}
