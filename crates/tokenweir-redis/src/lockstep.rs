//! The scripts beside the engine's reference model, on a real server whose clock the test owns: random commands, and each
//! answer compared.
//!
//! Where a counter is *loose* (a return on a bucket after some time; see the model) the scripts may only be stricter.

mod ends;
#[path = "../../tokenweir/tests/support/ledger.rs"]
#[allow(dead_code)]
mod ledger;
#[path = "../../tokenweir/tests/support/model.rs"]
#[allow(dead_code)]
mod model;
mod returns;
#[path = "../tests/support/mod.rs"]
mod servers;
#[path = "../../tokenweir/tests/support/strategies.rs"]
#[allow(dead_code)]
mod strategies;
#[path = "../../tokenweir/tests/support/trace.rs"]
#[allow(dead_code)]
mod trace;

use crate::answer::standings;
use crate::limiter::RedisLimiter;
use crate::permit::Permit;
use crate::plan::Kind;
use crate::script::Scripts;
use crate::server::Server;
use crate::{Decision, Error};
use ledger::exact;
use model::{End, Model, Verdict};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use servers::RedisServer;
use std::time::Duration;
use strategies::scenario;
use tokenweir::policy::Tokens;
use tokenweir::{Estimate, Now, Outcome, PermitId, Request, Usage};
use trace::{DAY, OBSERVED_MOST, Op, START, Scenario, Which, tokens, used, with_request};

/// How often each of these was seen, to be sure that something was.
#[derive(Debug, Default)]
struct Seen {
    scenarios: u64,
    admitted: u64,
    denied: u64,
    ended: u64,
    exact: u64,
    loose: u64,
}

struct Issued {
    permit: Option<Permit>,
    id: PermitId,
    estimate: Estimate,
    observed: (u64, u64),
}

struct Lockstep<'a> {
    server: &'a RedisServer,
    limiter: RedisLimiter,
    model: Model,
    /// Microseconds since 1970.
    now: u64,
    scale: u64,
    told: u64,
    permits: Vec<Issued>,
    seen: &'a mut Seen,
    step: String,
}

impl Lockstep<'_> {
    fn at(&self) -> Now {
        // The model's clock begins with the scenario, a whole number of every window after the server's.
        Now::new(self.now * 1000 - START as u64, self.now as i64 * 1000)
    }

    fn wait(&mut self, nanos: u64) {
        // The calendar of 64 bits ends in 2262.
        self.now = (self.now + nanos.div_ceil(1000)).min(7_000_000_000_000_000);
        self.server.command(&["SET", "clock", &self.now.to_string()]);
    }

    fn open(&self, which: Which) -> Option<usize> {
        let open: Vec<usize> = (0..self.permits.len()).filter(|at| self.permits[*at].permit.is_some()).collect();
        (!open.is_empty()).then(|| *which.get(&open))
    }

    async fn step(&mut self, number: usize, op: &Op) {
        self.step = format!("step {number}, {op:?}, at {}", self.now);
        match *op {
            Op::Admit { project, deployment, user, input, output, .. } => {
                let estimate = Estimate::new(tokens(self.scale, input), tokens(self.scale, output));
                let (project, deployment, user) = (project, deployment, user);
                // The request borrows what the closure makes, so it is decided on within it.
                let decided = with_request(project, deployment, user, |request| {
                    tokio::task::block_in_place(|| {
                        tokio::runtime::Handle::current().block_on(self.admit(request, estimate))
                    })
                });
                decided.unwrap_or_else(|error| panic!("{error}: {}", self.step));
            }
            Op::Wait(nanos) => self.wait(nanos),
            Op::WaitAsTold { less } => self.wait(self.told.min(500 * DAY).saturating_sub(less * 1000)),
            Op::Observe { which, input, output } => self.observe(which, input, output).await,
            Op::Settle { which, input, cached, output } => {
                let Some(at) = self.open(which) else { return };
                let estimate = self.permits[at].estimate;
                let input = used(estimate.input, self.scale, input);
                let cached_input = cached.map(|cached| tokens(input.unwrap_or(0), cached / 2));
                let output = used(estimate.output, self.scale, output);
                self.end(at, End::Usage(Usage { input, cached_input, output })).await;
            }
            Op::Cancel(which) => {
                if let Some(at) = self.open(which) {
                    self.end(at, End::Cancel).await;
                }
            }
            Op::Drop(which) => {
                if let Some(at) = self.open(which) {
                    self.end(at, End::Drop).await;
                }
            }
            Op::Again(which) => self.again(which).await,
            Op::Renew { which, ttl } => {
                let Some(at) = self.open(which) else { return };
                let ttl = (ttl / 1000).max(1000);
                let Some(permit) = self.permits[at].permit.as_ref().filter(|one| one.by() != crate::By::NoLimit) else {
                    return;
                };
                let renewed = permit.renew(Duration::from_micros(ttl)).await.is_ok();
                assert_eq!(renewed, self.model.renew(at, ttl * 1000, self.at()), "{}", self.step);
            }
            // Of one clock that does not go back, without a table, under one policy.
            Op::SetWall(_) | Op::StepBack(_) | Op::Sweep | Op::Swap { .. } | Op::Toggle(_) => {}
        }
    }

    /// What the server says of each limit, and what the model says.
    async fn compare(&mut self, request: &Request<'_>, estimate: Estimate, verdict: &Verdict) {
        let inner = self.limiter.inner.clone();
        let plan = inner.rules.load().plan(request).unwrap();
        if plan.legs.is_empty() {
            return;
        }
        let charges = plan.charges(&Tokens { input: estimate.input, cached_input: 0, output: estimate.output });
        let looked = inner.ask((&plan, &charges), (0, estimate), (2.0, inner.permit_ttl), inner.by()).await;
        let answer = looked.unwrap_or_else(|failure| panic!("{failure:?}: {}", self.step));
        assert_eq!(answer.said.len(), verdict.standings.len(), "{}", self.step);
        let said = standings(&plan, &charges, &answer);
        for (leg, (said, standing)) in plan.legs.iter().zip(answer.said.iter().zip(&verdict.standings)) {
            assert_eq!(*leg.name, *standing.limit);
            let left = i128::from(leg.kind.amount()) - said.used as i128;
            let context = format!("{said:?} is not {standing:?}: {}", self.step);
            if standing.loose {
                assert!(said.fits <= standing.fits, "{context}");
                assert!(left <= standing.remaining, "{context}");
                self.seen.loose += 1;
            } else {
                assert_eq!(said.fits, standing.fits, "{context}");
                assert_eq!(left, standing.remaining, "{context}");
                self.seen.exact += 1;
            }
        }
        let enforced: Vec<_> = verdict.enforced().collect();
        for (said, standing) in said.iter().zip(enforced) {
            let context = format!("{said:?} is not {standing:?}: {}", self.step);
            assert_eq!(said.never_fits, standing.never_fits, "{context}");
            let wait = said.wait.map(u128::from);
            // To the microsecond of the server's clock.
            let wanted = standing.wait.map(|wait| wait.div_ceil(1000) * 1000);
            if wanted.is_some_and(|wanted| wanted > u128::from(u64::MAX) / 2) {
                continue;
            }
            // Where a bucket has run for months the model's own numbers end, and it says that no waiting helps.
            let kind = plan.legs.iter().find(|leg| *leg.name == *standing.limit).map(|leg| &leg.kind);
            if wanted.is_none() && !standing.never_fits && matches!(kind, Some(Kind::Bucket { .. })) {
                continue;
            }
            if standing.loose {
                assert!(wait.is_none_or(|wait| Some(wait) >= wanted), "{context}");
            } else {
                assert_eq!(wait, wanted, "{context}");
            }
        }
    }

    async fn admit(&mut self, request: &Request<'_>, estimate: Estimate) -> Result<(), Error> {
        let verdict = self.model.judge(request, estimate, self.at());
        self.compare(request, estimate, &verdict).await;
        match self.limiter.admit(request, estimate).await? {
            Decision::Admitted(permit) => {
                for standing in verdict.enforced() {
                    assert!(standing.fits, "admitted against {standing:?}: {}", self.step);
                }
                let skipped = permit.shadow_refused();
                self.model.charge(request, estimate, self.at(), &skipped);
                let id = permit.id();
                self.permits.push(Issued { permit: Some(permit), id, estimate, observed: (0, 0) });
                self.seen.admitted += 1;
            }
            Decision::Denied { denied, .. } => {
                let refused: Vec<_> = denied.refusals().map(|refusal| refusal.limit.to_owned()).collect();
                for standing in verdict.enforced() {
                    let refuses = refused.contains(&standing.limit);
                    assert!(refuses != standing.fits || refuses && standing.loose, "{standing:?}: {}", self.step);
                }
                self.told = denied.retry_after().map_or(0, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
                self.seen.denied += 1;
            }
            Decision::Unavailable => panic!("the server was there: {}", self.step),
        }
        Ok(())
    }

    async fn observe(&mut self, which: Which, input: u8, output: u8) {
        let Some(at) = self.open(which) else { return };
        let now = self.at();
        let Issued { permit: Some(permit), estimate, observed, .. } = &mut self.permits[at] else { return };
        let more = (tokens(estimate.input, input) / 8, tokens(estimate.output, output) / 4);
        let more = (more.0.min(OBSERVED_MOST - observed.0), more.1.min(OBSERVED_MOST - observed.1));
        *observed = (observed.0 + more.0, observed.1 + more.1);
        let seen = permit.observe(more.0, more.1).await;
        let open = self.model.observe(at, observed.0, observed.1, now);
        // Within the estimate nobody asks whether it is still open.
        assert!(open || seen.is_err() || observed.0 <= estimate.input.max(observed.0), "{}", self.step);
        assert!(!open || seen.is_ok(), "{seen:?}: {}", self.step);
    }

    async fn end(&mut self, at: usize, end: End) {
        let Some(permit) = self.permits[at].permit.take() else { return };
        let now = self.at();
        // Of a permit without limits nobody keeps a record, so it does not expire.
        let recorded = permit.by() != crate::By::NoLimit;
        let standing = self.model.tokens(at);
        let open = self.model.end(at, end, now);
        let ended = match end {
            End::Usage(usage) => permit.settle(usage).await,
            End::Cancel => permit.cancel().await,
            End::Drop => {
                drop(permit);
                assert!(self.limiter.flush(Duration::from_secs(20)).await, "{}", self.step);
                return;
            }
        };
        match ended {
            Ok(ended) => {
                assert!((open || !recorded) && ended.told, "{}", self.step);
                let cancelled = end == End::Cancel;
                let Usage { input, output, .. } = if let End::Usage(usage) = end { usage } else { Usage::new(0, 0) };
                let outcome = if cancelled { Outcome::Cancelled } else { Outcome::Settled };
                assert_eq!(ended.settlement.outcome, outcome);
                assert_eq!(ended.settlement.input, input.unwrap_or(standing.input), "{}", self.step);
                assert_eq!(ended.settlement.output, output.unwrap_or(standing.output), "{}", self.step);
                self.seen.ended += 1;
            }
            Err(Error::Engine(error)) => assert!(error.code() == 21 && !open, "{error}: {}", self.step),
            Err(error) => panic!("{error}: {}", self.step),
        }
    }

    async fn again(&mut self, which: Which) {
        let gone: Vec<PermitId> = self.permits.iter().filter(|one| one.permit.is_none()).map(|one| one.id).collect();
        if gone.is_empty() {
            return;
        }
        match self.limiter.permit(*which.get(&gone)).await {
            Err(Error::Engine(error)) => assert_eq!(error.code(), 21, "{}", self.step),
            // Its record is there until its time is over by the server's own clock, and settles nothing.
            Ok(permit) => assert!(permit.settle(Usage::new(1, 1)).await.is_err(), "{}", self.step),
            Err(error) => panic!("{error}: {}", self.step),
        }
    }
}

async fn run(server: &RedisServer, scenario: &Scenario, seen: &mut Seen) {
    server.command(&["FLUSHALL"]);
    let now = START as u64 / 1000;
    server.command(&["SET", "clock", &now.to_string()]);
    let mut builder = RedisLimiter::builder(Server::parse(&server.url()).unwrap(), scenario.policy());
    builder.scripts = Scripts::with_clock("clock");
    // Every other one by the script that decides on many.
    builder.alone = usize::from(seen.scenarios.is_multiple_of(2));
    seen.scenarios += 1;
    let ttl = Duration::from_nanos(scenario.ttl).min(Duration::from_secs(300 * 86_400));
    let limiter = builder.deadline(Duration::from_secs(20)).permit_ttl(ttl).connect().await.unwrap();
    let mut model = Model::new(scenario.policy(), exact);
    model.ttl = Some(ttl.as_nanos() as u64);
    let (scale, permits, step) = (scenario.scale, Vec::new(), String::new());
    let mut lockstep = Lockstep { server, limiter, model, now, scale, told: 0, permits, seen, step };
    for (number, op) in scenario.ops.iter().enumerate() {
        lockstep.step(number, op).await;
    }
    // What is left open is dropped here and not by the next scenario.
    lockstep.permits.clear();
    lockstep.limiter.flush(Duration::from_secs(20)).await;
}

/// So many random cases, the same every time, or other ones, as many as `PROPTEST_CASES` says.
fn cases(ordinarily: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let rng_seed = if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(20_261_123) };
    Config { cases: cases.unwrap_or(ordinarily), failure_persistence: None, rng_seed, ..Config::default() }
}

#[test]
fn the_scripts_decide_as_the_reference_model_does() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut seen = Seen::default();
    let seen_by = std::cell::RefCell::new(&mut seen);
    let outcome = TestRunner::new(cases(300)).run(&scenario(60), |scenario| {
        runtime.block_on(run(&server, &scenario, &mut seen_by.borrow_mut()));
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
    println!("{seen:?}");
    assert!(seen.admitted > 1000 && seen.denied > 1000 && seen.ended > 500, "{seen:?}");
    assert!(seen.exact > seen.loose, "{seen:?}");
}

/// Calls of a dense trace: when, estimate, use, and when they end; microseconds and tokens.
fn dense(seed: u64, longest: u64) -> Vec<(u64, u64, u64, u64)> {
    let mut state = seed;
    // Steele, Lea and Flood's split-mix.
    let mut below = |bound: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    };
    let mut at = 0;
    let calls = (0..1500).map(|_| {
        // Twice what the limit refills, in all.
        at += below(900_000);
        let used = 100 + below(2900);
        (at, used * (200 + below(200)) / 100, used, at + below(longest) + 1)
    });
    calls.collect()
}

/// S7: on dense traces, with estimates of two to four times the use, nearly all that an exact bookkeeper would admit is
/// admitted. (Buckets are the ones that differ.)
#[test]
fn dense_traces_admit_nearly_all_that_an_exact_bookkeeper_would() {
    let text = "[[limit]]\nname = 'b'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 100_000\nper = '1m'\n";
    let policy = tokenweir::Policy::from_toml(text).unwrap();
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let request = Request::new("search", "gpt-4o");
    for (longest, least) in [(5_000_000, 98), (30_000_000, 98)] {
        let (mut by_server, mut by_model) = (0, 0);
        for seed in 1..=2 {
            // Ends before beginnings, each by its time.
            let calls = dense(seed, longest);
            let mut events: Vec<(u64, bool, usize)> =
                calls.iter().enumerate().map(|(call, one)| (one.0, true, call)).collect();
            events.extend(calls.iter().enumerate().map(|(call, one)| (one.3, false, call)));
            events.sort_unstable();
            let mut model = Model::new(policy.clone(), exact);
            let mut open = vec![None; calls.len()];
            for (at, begins, call) in &events {
                let now = Now::new(at * 1000, START + *at as i64 * 1000);
                let (_, estimate, used, _) = calls[*call];
                if *begins {
                    let estimate = Estimate::new(estimate, 0);
                    if model.judge(&request, estimate, now).admitted() {
                        open[*call] = Some(model.charge(&request, estimate, now, &[]));
                        by_model += used;
                    }
                } else if let Some(permit) = open[*call] {
                    model.end(permit, End::Usage(Usage::new(used, 0)), now);
                }
            }
            by_server += runtime.block_on(async {
                server.command(&["FLUSHALL"]);
                server.command(&["SET", "clock", &(START / 1000).to_string()]);
                let mut builder = RedisLimiter::builder(Server::parse(&server.url()).unwrap(), policy.clone());
                builder.scripts = Scripts::with_clock("clock");
                let limiter = builder.deadline(Duration::from_secs(20)).connect().await.unwrap();
                let mut open: Vec<Option<Permit>> = calls.iter().map(|_| None).collect();
                let mut passed = 0;
                for (at, begins, call) in &events {
                    server.command(&["SET", "clock", &(START / 1000 + *at as i64).to_string()]);
                    let (_, estimate, used, _) = calls[*call];
                    if *begins {
                        open[*call] = limiter.admit(&request, Estimate::new(estimate, 0)).await.unwrap().admitted();
                        passed += if open[*call].is_some() { used } else { 0 };
                    } else if let Some(permit) = open[*call].take() {
                        permit.settle(Usage::new(used, 0)).await.unwrap();
                    }
                }
                passed
            });
        }
        let share = by_server * 1000 / by_model;
        println!("calls of up to {} s: {share} per mille of {by_model} tokens", longest / 1_000_000);
        assert!(share >= least * 10, "calls of up to {longest} us: {share} per mille");
    }
}
