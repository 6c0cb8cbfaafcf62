//! Drives the library and the reference model through the same scenario, and compares all that can be seen.
//!
//! The models are fed with the library's decisions, so that the states stay comparable. Two of them run along: the
//! *twin* counts buckets in the same parts of a token as the library documents, and has to agree exactly; the *exact*
//! one counts in parts so fine that nothing is ever rounded, and has to agree to the token.
//!
//! Where a counter is *loose* (the library may judge returns on a bucket in coarse ticks, and returns of what was
//! observed beyond the estimate by the admission alone) it may only differ to the strict side.

use super::ledger::{documented, exact};
use super::model::{End, Ledger, Model, Standing, Verdict};
use super::trace::{OBSERVED_MOST, Op, START, Scenario, Which, changed, policy, tokens, used, with_request};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{
    CounterUsage, Decision, Denied, Estimate, Limiter, ManualClock, Now, Outcome, Peek, Permit, PermitId, Request,
    Usage, UsageFilter,
};

/// Waits beyond this are not compared: a line of the library ends after a century.
const CENTURY: u128 = 100 * 31_557_600 * 1_000_000_000;

/// A limiter whose clock is at the scenario's beginning, and that clock.
pub fn limiter(scenario: &Scenario) -> (Limiter, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Now::new(0, START)));
    let builder = Limiter::builder(scenario.policy()).clock(clock.clone());
    let builder = builder.max_counters(100).max_routes(100).max_histories(scenario.histories);
    (builder.permit_ttl(Duration::from_nanos(scenario.ttl)).build(), clock)
}

/// A permit, held in one of the two ways.
enum Handle<'a> {
    Raii(Permit<'a>),
    Id(PermitId),
    Gone(PermitId),
}

impl Handle<'_> {
    fn id(&self) -> PermitId {
        match self {
            Handle::Raii(permit) => permit.id(),
            Handle::Id(id) | Handle::Gone(id) => *id,
        }
    }
}

struct Issued<'a> {
    handle: Handle<'a>,
    estimate: Estimate,
    observed: (u64, u64),
}

/// What a run has seen, to be sure that it saw something.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub admitted: u64,
    pub denied: u64,
    pub returned: u64,
    /// Counters compared: those that had to be equal, and those that might be stricter.
    pub exact: u64,
    pub loose: u64,
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            admitted: self.admitted + other.admitted,
            denied: self.denied + other.denied,
            returned: self.returned + other.returned,
            exact: self.exact + other.exact,
            loose: self.loose + other.loose,
        }
    }
}

pub struct Lockstep<'a> {
    limiter: &'a Limiter,
    clock: Arc<ManualClock>,
    now: Now,
    /// The latest instant of the monotonic clock.
    newest: u64,
    limits: Vec<Value>,
    /// A bit for each limit that has left the policy.
    absent: u32,
    /// Those that are not to come back.
    stay_away: u32,
    scale: u64,
    twin: Model,
    exact: Model,
    permits: Vec<Issued<'a>>,
    told: u64,
    quiet: bool,
    step: String,
    pub tally: Tally,
}

impl<'a> Lockstep<'a> {
    pub fn new(scenario: &Scenario, limiter: &'a Limiter, clock: Arc<ManualClock>) -> Self {
        let model = |resolution| {
            let mut model = Model::new(scenario.policy(), resolution);
            model.ttl = Some(scenario.ttl);
            model
        };
        Lockstep {
            limiter,
            clock,
            now: Now::new(0, START),
            newest: 0,
            limits: scenario.limits.clone(),
            absent: 0,
            stay_away: 0,
            scale: scenario.scale,
            twin: model(documented),
            exact: model(exact),
            permits: Vec::new(),
            told: 0,
            quiet: false,
            step: String::new(),
            tally: Tally::default(),
        }
    }

    /// The scenario is lived through, and nothing is compared.
    pub fn quiet(&mut self) {
        self.quiet = true;
    }

    pub fn now(&self) -> Now {
        self.now
    }

    /// Runs a whole scenario.
    pub fn run(scenario: &Scenario) -> Tally {
        let (limiter, clock) = limiter(scenario);
        let mut lockstep = Lockstep::new(scenario, &limiter, clock);
        for (number, op) in scenario.ops.iter().enumerate() {
            lockstep.step(number, op);
        }
        lockstep.tally
    }

    pub fn step(&mut self, number: usize, op: &Op) {
        self.step = format!("step {number}, {op:?}, at {:?}", self.now);
        self.compare();
        match *op {
            Op::Admit { project, deployment, user, input, output, raii } => {
                let estimate = Estimate::new(tokens(self.scale, input), tokens(self.scale, output));
                with_request(project, deployment, user, |request| self.admit(request, estimate, raii));
            }
            Op::Wait(time) => self.wait(time),
            Op::WaitAsTold { less } => self.wait(self.told.min(500 * super::trace::DAY).saturating_sub(less)),
            Op::SetWall(by) => self.set(Now::new(self.now.mono, self.now.wall + by)),
            Op::StepBack(by) => self.step_back(by),
            Op::Observe { which, input, output } => self.observe(which, input, output),
            Op::Settle { which, input, cached, output } => {
                let Some(permit) = self.open(which) else { return };
                let estimate = self.permits[permit].estimate;
                let input = used(estimate.input, self.scale, input);
                let cached_input = cached.map(|cached| tokens(input.unwrap_or(0), cached / 2));
                let output = used(estimate.output, self.scale, output);
                self.end(permit, End::Usage(Usage { input, cached_input, output }));
            }
            Op::Cancel(which) => self.open(which).into_iter().for_each(|permit| self.end(permit, End::Cancel)),
            Op::Drop(which) => self.open(which).into_iter().for_each(|permit| self.end(permit, End::Drop)),
            Op::Again(which) => self.again(which),
            Op::Renew { which, ttl } => {
                let Some(permit) = self.open(which) else { return };
                let id = self.permits[permit].handle.id();
                let renewed = self.limiter.renew_at(id, Duration::from_nanos(ttl), self.now).is_ok();
                if !self.quiet {
                    assert_eq!(renewed, self.twin.renew(permit, ttl, self.now), "{}", self.step);
                    self.exact.renew(permit, ttl, self.now);
                }
            }
            Op::Sweep => self.sweep(),
            Op::Swap { which, amount, rate } => {
                self.limits = changed(&self.limits, which, amount, rate);
                self.swap();
            }
            Op::Toggle(which) => {
                let all: Vec<usize> = (0..self.limits.len()).collect();
                self.absent ^= 1 << which.get(&all) & !self.stay_away;
                self.swap();
            }
        }
        self.compare();
    }

    /// The limits that are present come into force. Only callers are behind: who changes the policy has the newest clock,
    /// because what was charged after an instant cannot be judged by a rate that has been in force since then.
    fn swap(&mut self) {
        let now = Now::new(self.newest, self.now.wall);
        let limits = self.limits.iter().enumerate().filter(|(at, _)| self.absent >> at & 1 == 0);
        let policy = policy(&limits.map(|(_, limit)| limit.clone()).collect::<Vec<_>>());
        self.limiter.swap_policy_at(policy.clone(), now).unwrap();
        if !self.quiet {
            self.twin.swap(policy.clone(), now);
            self.exact.swap(policy, now);
            self.fall_behind();
        }
    }

    /// A permit that somebody has seen expire does not come to life again: it is ended before the clock is set back.
    fn step_back(&mut self, by: u64) {
        self.sweep();
        self.set(Now::new(self.now.mono.saturating_sub(by), self.now.wall));
        self.fall_behind();
    }

    fn fall_behind(&mut self) {
        for model in [&mut self.twin, &mut self.exact] {
            model.step_back(self.now.mono);
        }
    }

    fn set(&mut self, now: Now) {
        self.now = now;
        self.newest = self.newest.max(now.mono);
        self.clock.set(now);
    }

    fn wait(&mut self, time: u64) {
        // Half a century is as long as a scenario lasts.
        let time = time.min((CENTURY / 2) as u64 - self.now.mono);
        self.set(Now::new(self.now.mono + time, self.now.wall + time as i64));
    }

    /// An open permit, if there is one.
    fn open(&self, which: Which) -> Option<usize> {
        let gone = |permit: &Issued<'_>| matches!(permit.handle, Handle::Gone(_));
        let open: Vec<usize> = (0..self.permits.len()).filter(|at| !gone(&self.permits[*at])).collect();
        (!open.is_empty()).then(|| *which.get(&open))
    }

    fn view(&self) -> Vec<CounterUsage> {
        self.limiter.usage_at(&UsageFilter::default(), self.now)
    }

    fn admit(&mut self, request: &Request<'_>, estimate: Estimate, raii: bool) {
        if self.quiet {
            match self.limiter.admit_at(request, estimate, self.now).expect("the request resolves") {
                Decision::Admitted(permit) => self.hold(permit, estimate, raii),
                Decision::Denied(denied) => self.told = nanos(&denied),
            }
            return;
        }
        let verdict = self.twin.judge(request, estimate, self.now);
        self.exact.judge(request, estimate, self.now);
        let peek = self.limiter.peek_at(request, estimate, self.now).expect("the request resolves");
        self.compare_peek(&peek, &verdict);
        let before = self.view();
        let decision = self.limiter.admit_at(request, estimate, self.now).expect("the request resolves");
        assert_eq!(peek.admitted, decision.is_admitted(), "a peek says what comes: {}", self.step);
        match decision {
            Decision::Admitted(permit) => {
                for standing in verdict.enforced() {
                    assert!(standing.fits, "admitted against {standing:?}: {}", self.step);
                }
                let skipped = permit.shadow_refused();
                for standing in verdict.standings.iter().filter(|standing| standing.shadow) {
                    let refused = skipped.contains(&standing.limit);
                    assert!(refused != standing.fits || (refused && standing.loose), "{standing:?}: {}", self.step);
                }
                self.twin.charge(request, estimate, self.now, &skipped);
                self.exact.charge(request, estimate, self.now, &skipped);
                self.hold(permit, estimate, raii);
                self.tally.admitted += 1;
            }
            Decision::Denied(denied) => {
                assert_eq!(before, self.view(), "denied changes nothing: {}", self.step);
                self.compare_denial(&denied, &verdict);
                self.twin.denied(request, self.now);
                self.exact.denied(request, self.now);
                self.told = nanos(&denied);
                self.tally.denied += 1;
                self.peek_around(request, estimate, &denied);
            }
        }
    }

    /// S8, as far as looking ahead can tell: refused a nanosecond before retry-after, admitted at it.
    fn peek_around(&self, request: &Request<'_>, estimate: Estimate, denied: &Denied) {
        let Some(wait) = denied.retry_after().filter(|wait| wait.as_nanos() < CENTURY / 2) else { return };
        let wait = wait.as_nanos() as u64;
        assert!(wait > 0, "{}", self.step);
        for (wait, admitted) in [(wait - 1, false), (wait, true)] {
            let then = Now::new(self.now.mono + wait, self.now.wall + wait as i64);
            let peek = self.limiter.peek_at(request, estimate, then).expect("the request resolves");
            assert_eq!(peek.admitted, admitted, "{wait} ns later: {:?}: {}", peek.limits, self.step);
        }
    }

    fn hold(&mut self, permit: Permit<'a>, estimate: Estimate, raii: bool) {
        let handle = if raii { Handle::Raii(permit) } else { Handle::Id(permit.into_id()) };
        self.permits.push(Issued { handle, estimate, observed: (0, 0) });
    }

    fn compare_peek(&self, peek: &Peek, verdict: &Verdict) {
        assert_eq!(peek.limits.len(), verdict.standings.len(), "{}", self.step);
        for standing in &verdict.standings {
            let view = peek.limits.iter().find(|view| view.limit == standing.limit);
            let view = view.unwrap_or_else(|| panic!("{standing:?} is not peeked at: {}", self.step));
            let context = format!("{view:?} is not {standing:?}: {}", self.step);
            assert_eq!(view.charge, standing.charge, "{context}");
            assert_eq!(view.never_fits, standing.never_fits, "{context}");
            if standing.loose {
                assert!(view.fits <= standing.fits, "{context}");
                assert!(i128::from(view.remaining) <= standing.remaining, "{context}");
            } else {
                assert_eq!(view.fits, standing.fits, "{context}");
                assert_eq!(i128::from(view.remaining), standing.remaining, "{context}");
            }
            compare_wait(view.wait, standing, &context);
        }
    }

    fn compare_denial(&self, denied: &Denied, verdict: &Verdict) {
        let refusals: Vec<_> = denied.refusals().collect();
        assert!(!refusals.is_empty(), "{}", self.step);
        let remaining = denied.remaining();
        assert_eq!(remaining.len(), verdict.enforced().count(), "{}", self.step);
        for standing in verdict.enforced() {
            let refusal = refusals.iter().find(|refusal| refusal.limit == standing.limit);
            let context = format!("{refusal:?} is not {standing:?}: {}", self.step);
            let left = remaining.iter().find(|(limit, _)| *limit == standing.limit).map(|(_, left)| i128::from(*left));
            if standing.loose {
                assert!(refusal.is_some() || standing.fits, "{context}");
                assert!(left <= Some(standing.remaining), "{context}");
            } else {
                assert_eq!(refusal.is_none(), standing.fits, "{context}");
                assert_eq!(left, Some(standing.remaining), "{context}");
            }
            if let Some(refusal) = refusal {
                assert_eq!(refusal.status, standing.status, "{context}");
                assert_eq!(refusal.never_fits, standing.never_fits, "{context}");
                assert_eq!(Some(i128::from(refusal.remaining)), left, "{context}");
                assert_eq!(i128::from(refusal.fits_now), i128::from(refusal.remaining).max(0), "{context}");
                compare_wait(refusal.retry_after, standing, &context);
            }
        }
        // The one that is shown: what never fits outranks all, then the longest wait.
        let rank = |never: bool, wait: Option<u64>| (never, wait.unwrap_or(u64::MAX));
        let highest = refusals.iter().map(|refusal| rank(refusal.never_fits, refusal.retry_after)).max();
        let shown = refusals.iter().find(|refusal| refusal.limit == denied.limit());
        let shown = shown.unwrap_or_else(|| panic!("{} did not refuse: {}", denied.limit(), self.step));
        assert_eq!(Some(rank(shown.never_fits, shown.retry_after)), highest, "{}", self.step);
        assert_eq!(denied.status(), shown.status, "{}", self.step);
        assert_eq!(denied.never_fits(), refusals.iter().any(|refusal| refusal.never_fits), "{}", self.step);
        assert_eq!(denied.retry_after(), shown.retry_after.map(Duration::from_nanos), "{}", self.step);
        let seconds = shown.retry_after.map(|wait| wait.div_ceil(1_000_000_000));
        assert_eq!(denied.retry_after_seconds(), seconds, "{}", self.step);
    }

    fn observe(&mut self, which: Which, input: u8, output: u8) {
        let Some(permit) = self.open(which) else { return };
        let Issued { handle, estimate, observed } = &mut self.permits[permit];
        // In pieces of an eighth: a few of them pass the estimate.
        let more = (tokens(estimate.input, input) / 8, tokens(estimate.output, output) / 4);
        let more = (more.0.min(OBSERVED_MOST - observed.0), more.1.min(OBSERVED_MOST - observed.1));
        *observed = (observed.0 + more.0, observed.1 + more.1);
        let seen = match handle {
            Handle::Raii(permit) => permit.observe_at(more.0, more.1, self.now),
            Handle::Id(id) | Handle::Gone(id) => self.limiter.observe_at(*id, more.0, more.1, self.now),
        };
        if self.quiet {
            return;
        }
        let open = self.twin.observe(permit, observed.0, observed.1, self.now);
        self.exact.observe(permit, observed.0, observed.1, self.now);
        assert_eq!(seen.is_ok(), open, "{}", self.step);
        if let Ok(seen) = seen {
            let (spent, loose) = self.twin.spent(permit, self.now);
            assert!(seen.spent == spent || seen.spent && loose, "{}", self.step);
        }
    }

    fn end(&mut self, permit: usize, end: End) {
        let id = self.permits[permit].handle.id();
        let now = self.now;
        let result = match (std::mem::replace(&mut self.permits[permit].handle, Handle::Gone(id)), end) {
            (Handle::Raii(permit), End::Usage(usage)) => permit.settle_at(usage, now).map(Some),
            (Handle::Raii(permit), End::Cancel) => permit.cancel_at(now).map(Some),
            (Handle::Raii(permit), End::Drop) => {
                drop(permit);
                Ok(None)
            }
            (_, End::Usage(usage)) => self.limiter.settle_at(id, usage, now).map(Some),
            (_, End::Cancel) => self.limiter.cancel_at(id, now).map(Some),
            (_, End::Drop) => self.limiter.abandon_at(id, now).map(Some),
        };
        if self.quiet {
            return;
        }
        let standing = self.twin.tokens(permit);
        let open = self.twin.end(permit, end, now);
        self.exact.end(permit, end, now);
        match result {
            Ok(Some(settlement)) => {
                assert!(open, "settled a second time: {}", self.step);
                let Usage { input, output, .. } = match end {
                    End::Usage(usage) => usage,
                    End::Cancel => Usage::new(0, 0),
                    End::Drop => Usage::UNKNOWN,
                };
                let outcome = match end {
                    End::Usage(_) => Outcome::Settled,
                    End::Cancel => Outcome::Cancelled,
                    End::Drop => Outcome::Dropped,
                };
                assert_eq!((settlement.id, settlement.outcome), (id, outcome), "{}", self.step);
                assert_eq!(settlement.input, input.unwrap_or(standing.input), "{}", self.step);
                assert_eq!(settlement.output, output.unwrap_or(standing.output), "{}", self.step);
                assert_eq!(settlement.estimated, input.is_none() || output.is_none(), "{}", self.step);
                self.tally.returned += 1;
            }
            Ok(None) => {}
            Err(error) => {
                assert_eq!(error.code(), 21, "{error}: {}", self.step);
                assert!(!open, "an open permit did not settle: {}", self.step);
            }
        }
    }

    fn again(&mut self, which: Which) {
        let gone: Vec<PermitId> = self.permits.iter().map(|permit| &permit.handle).filter_map(gone).collect();
        if gone.is_empty() {
            return;
        }
        let id = *which.get(&gone);
        let before = self.view();
        let (limiter, now) = (self.limiter, self.now);
        let results = [
            limiter.settle_at(id, Usage::new(1, 1), now).map(drop),
            limiter.cancel_at(id, now).map(drop),
            limiter.abandon_at(id, now).map(drop),
            limiter.observe_at(id, 1 << 20, 1 << 20, now).map(drop),
            limiter.renew_at(id, Duration::from_secs(1), now),
        ];
        for result in results {
            assert_eq!(result.map_err(|error| error.code()), Err(21), "{}", self.step);
        }
        assert_eq!(before, self.view(), "settled twice changes nothing: {}", self.step);
    }

    /// Counters at rest may go. Whatever went must have been at rest, and starts anew.
    fn sweep(&mut self) {
        let before = self.limiter.stats().evicted;
        self.limiter.sweep_at(self.now);
        if self.quiet {
            return;
        }
        let hidden = self.twin.hidden_at_rest(self.now);
        let shown = self.forget(&self.view());
        let gone = (self.limiter.stats().evicted - before) as usize - shown;
        if gone == hidden.len() {
            for counter in hidden {
                self.twin.forget(counter);
                self.exact.forget(counter);
            }
        } else {
            // Which of them went cannot be known, so their limits do not come back.
            self.stay_away |= self.absent;
        }
    }

    /// What is not in the view has been evicted. How many counters that are.
    fn forget(&mut self, view: &[CounterUsage]) -> usize {
        let mut gone = 0;
        for model in [&mut self.twin, &mut self.exact] {
            gone = 0;
            for counter in 0..model.counters.len() {
                let known = &model.counters[counter];
                let seen = |usage: &CounterUsage| usage.limit == known.limit && usage.scope == known.scope;
                let present = model.policy().limit(&known.limit).is_some();
                if present && !known.forgotten && !view.iter().any(seen) {
                    // The exact one may be a part of a token behind.
                    assert!(model.used(counter, self.now) <= 1, "evicted in use: {:?}: {}", known, self.step);
                    assert_eq!(model.held(counter), 0, "evicted while held: {:?}: {}", known, self.step);
                    model.forget(counter);
                    gone += 1;
                }
            }
        }
        gone
    }

    /// Every counter of the library is as the models have it.
    fn compare(&mut self) {
        let view = self.view();
        if self.quiet {
            return;
        }
        self.twin.see_all(self.now);
        self.exact.see_all(self.now);
        let known = self.twin.counters.iter().filter(|counter| !counter.forgotten);
        let known = known.filter(|counter| self.twin.policy().limit(&counter.limit).is_some()).count();
        assert_eq!(view.len(), known, "the same counters: {view:?}: {}", self.step);
        for usage in &view {
            let counter = self.twin.find(&usage.limit, &usage.scope);
            let counter = counter.unwrap_or_else(|| panic!("{usage:?} is unknown: {}", self.step));
            let twin = &self.twin.counters[counter];
            let context = format!("{usage:?} is not {twin:?}: {}", self.step);
            let amount = i128::from(usage.amount);
            assert_eq!(usage.amount, self.twin.amount(counter), "{context}");
            assert_eq!(i128::from(usage.remaining), amount - i128::from(usage.used), "{context}");
            assert_eq!(u128::from(usage.held), self.twin.held(counter), "{context}");
            assert_eq!(u128::from(usage.settled_total), twin.settled, "{context}");
            let model = self.twin.used(counter, self.now);
            let exact = self.exact.used(counter, self.now);
            let used = i128::from(usage.used);
            if twin.loose {
                assert!(used >= model, "{context}");
                assert!(used + 1 >= exact, "less than {exact}: {context}");
                self.tally.loose += 1;
            } else {
                self.tally.exact += 1;
                assert_eq!(used, model, "{context}");
                // A part of a token, and one more, rounded up, for each time that the parts have changed.
                let bucket = matches!(twin.ledger, Ledger::Bucket(_));
                let behind = i128::from(bucket) * i128::from(1 + twin.begun);
                assert!((-i128::from(bucket)..=behind).contains(&(used - exact)), "not {exact}: {context}");
            }
            if let Ledger::Quota(quota) = &twin.ledger {
                let end = quota.current(self.now.wall).end;
                let shown = usage.resets_at.map_or(i64::MAX, |at| at.wall);
                assert_eq!(shown, end, "{context}");
            }
        }
    }
}

fn nanos(denied: &Denied) -> u64 {
    denied.retry_after().map_or(0, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}

fn gone(handle: &Handle<'_>) -> Option<PermitId> {
    match handle {
        Handle::Gone(id) => Some(*id),
        _ => None,
    }
}

fn compare_wait(wait: Option<u64>, standing: &Standing, context: &str) {
    let Some(expected) = standing.wait.filter(|wait| *wait < CENTURY) else {
        // Beyond the horizon the library may say that waiting does not help.
        let far =
            wait.is_none_or(|wait| standing.wait.is_some_and(|expected| u128::from(wait) >= expected.min(CENTURY)));
        assert!(far, "{context}");
        return;
    };
    if standing.loose {
        assert!(wait.is_none_or(|wait| u128::from(wait) >= expected), "{context}");
    } else {
        assert_eq!(wait.map(u128::from), Some(expected), "{context}");
    }
}
