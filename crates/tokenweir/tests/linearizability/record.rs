//! Threads that call the library, and what they write down.

use super::counters::Step;
use super::random::Random;
use super::search::{Call, History, Specification, Verdict, search};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokenweir::{
    CounterUsage, Decision, Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter,
};

/// The latest time, in sub-windows, periods, or ticks in which one token comes back.
const LATEST: u64 = 4;
const SECOND: u64 = 1_000_000_000;

/// An algorithm whose unit of time is a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bucket,
    Window { sub_windows: u64 },
    Quota,
    Places,
}

/// What the threads' clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    Still,
    /// Each thread's clock goes on by itself, so that some are behind.
    Moving,
    /// The same, and nothing is given back.
    MovingWithoutReturns,
    /// The same as moving, and looks are taken by the oldest clock.
    MovingLookingBack,
}

/// What is run: limits, in the order in which they are charged, and their amounts.
#[derive(Debug, Clone)]
pub struct Run {
    pub limits: Vec<(Kind, u64)>,
    pub times: Times,
}

/// What one call did and saw.
#[derive(Debug, Clone)]
pub enum Event {
    Admitted {
        permit: usize,
        n: u64,
    },
    /// By these limits.
    Denied {
        n: u64,
        refused: Vec<bool>,
    },
    /// So much of what the permit was charged was not used, or was used beyond it.
    Ended {
        permit: usize,
        back: u64,
        excess: u64,
    },
    /// What each limit had in use.
    Looked {
        used: Vec<u64>,
    },
}

/// A call, with the ticks of the clock that all threads share.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub invoked: u64,
    pub returned: u64,
    pub now: u64,
    pub event: Event,
}

impl Recorded {
    pub fn overlaps(&self, other: &Recorded) -> bool {
        self.invoked < other.returned && other.invoked < self.returned
    }
}

fn at(now: u64) -> Now {
    Now::new(now * SECOND, (now * SECOND) as i64)
}

impl Run {
    pub fn of(kind: Kind, amount: u64, times: Times) -> Self {
        Run { limits: vec![(kind, amount)], times }
    }

    pub fn policy(&self) -> Policy {
        let limit = |(number, (kind, amount)): (usize, &(Kind, u64))| {
            let (meter, algorithm) = match kind {
                Kind::Bucket => ("total", format!("algorithm = 'bucket'\namount = 60\nper = '1m'\nburst = {amount}")),
                Kind::Window { sub_windows } => (
                    "total",
                    format!(
                        "algorithm = 'window'\namount = {amount}\nper = '{sub_windows}s'\nsub_windows = {sub_windows}"
                    ),
                ),
                Kind::Quota => {
                    ("total", format!("algorithm = 'quota'\namount = {amount}\nperiod = {{ every = '1s' }}"))
                }
                Kind::Places => ("in_flight", format!("algorithm = 'in_flight'\namount = {amount}")),
            };
            format!("[[limit]]\nname = '{number}'\nmeter = '{meter}'\n{algorithm}\n")
        };
        let document: String = self.limits.iter().enumerate().map(limit).collect();
        Policy::from_toml(&document).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// One history: what each thread did, and a last look when all was done.
#[derive(Debug)]
pub struct Each<'a> {
    pub run: &'a Run,
    threads: Vec<Vec<Recorded>>,
    /// How each limit's counter stands at the end.
    pub books: Vec<CounterUsage>,
}

impl<'a> Each<'a> {
    pub fn new(run: &'a Run, stage: &Stage, mut threads: Vec<Vec<Recorded>>) -> Self {
        let now = if run.times == Times::Still { 0 } else { LATEST };
        threads.push(vec![Recorder { run, stage }.look(now)]);
        let mut books = stage.limiter.usage_at(&UsageFilter::default(), at(now));
        books.sort_by_key(|book| book.limit.parse::<usize>().expect("its number is its name"));
        Each { run, threads, books }
    }

    /// Whether calls of different threads overlap.
    #[cfg(not(shuttle))]
    pub fn meets(&self) -> bool {
        let all = || self.threads.iter().enumerate();
        all().any(|(one, calls)| {
            let others = || all().filter(|(other, _)| *other != one).flat_map(|(_, calls)| calls);
            calls.iter().any(|call| others().any(|other| call.overlaps(other)))
        })
    }

    pub fn calls(&self) -> impl Iterator<Item = &Recorded> {
        self.threads.iter().flatten()
    }

    /// Explains what was seen of one limit's counter.
    pub fn check<P: Specification<Step = Step>>(&self, limit: usize, start: &P) {
        let call = |call: &Recorded| {
            let programs = programs(self.run, limit, call)?;
            Some(Call { invoked: call.invoked, returned: call.returned, programs })
        };
        let history: History<Step> = self.threads.iter().map(|calls| calls.iter().filter_map(call).collect()).collect();
        let verdict = search(start, &history);
        if let Verdict::Unexplained { calls } = verdict {
            // In the order in which they were invoked.
            let mut all: Vec<(usize, &Recorded)> = Vec::new();
            for (thread, calls) in self.threads.iter().enumerate() {
                all.extend(calls.iter().map(|call| (thread, call)));
            }
            all.sort_by_key(|(_, call)| call.invoked);
            let lines: Vec<String> = all.iter().map(|(thread, call)| format!("{thread}: {call:?}")).collect();
            panic!("limit {limit}: no order explains more than {calls} of\n{}\nfrom {start:?}", lines.join("\n"));
        }
    }
}

/// What a call may have done to a limit's counter; `None`: nothing.
fn programs(run: &Run, limit: usize, call: &Recorded) -> Option<Vec<Vec<Step>>> {
    let (now, kind, alone) = (call.now, run.limits[limit].0, run.limits.len() == 1);
    let window = matches!(kind, Kind::Window { .. });
    // What this call takes for itself, as no permit.
    let by = usize::MAX - call.invoked as usize;
    if kind == Kind::Bucket && run.times != Times::Still {
        let last = match call.event {
            Event::Admitted { n, .. } => Step::Take { by, n, now },
            Event::Denied { n, .. } => Step::Full { by, n, now },
            Event::Ended { excess, .. } if excess > 0 => Step::Force { by, n: excess, now },
            Event::Ended { .. } => return None,
            Event::Looked { ref used } => Step::Used { by, used: used[limit], now },
        };
        // What is in the bucket and how far time has been seen are two words, read one after the other; who charges lets
        // others see its own time before its charge, also if that comes to nothing.
        let looked = [Step::Word { by }, Step::Time { by, now }];
        let enter = [Step::Enter { now }];
        return Some(match call.event {
            Event::Looked { .. } => vec![[&looked[..], &[last]].concat()],
            Event::Denied { .. } => vec![[&looked[..], &[last]].concat(), [&enter[..], &looked, &[last]].concat()],
            // Or it was overtaken and tried again.
            _ => vec![[&looked[..], &enter, &[last]].concat(), [&enter[..], &looked, &[last]].concat()],
        });
    }
    let take = |by: usize, n: u64| {
        let mut steps = vec![Step::Enter { now }, Step::Take { by, n, now }];
        steps.extend(window.then_some(Step::Put { by, n, now }));
        steps
    };
    let give = |by: usize, n: u64| match window {
        true => vec![Step::Enter { now }, Step::Empty { by, n, now }, Step::Give { by, n, now }],
        false => vec![Step::Give { by, n, now }],
    };
    // A request that meets several limits may have been charged, found another limit full, and rolled back, first.
    let in_vain = |last: Vec<Step>, n: u64| {
        let pair = || take(by, n).into_iter().chain(give(by, n));
        let most = if alone { 0 } else { 2 };
        (0..=most).map(|times| (0..times).flat_map(|_| pair()).chain(last.clone()).collect()).collect()
    };
    Some(match &call.event {
        Event::Admitted { permit, n } => in_vain(take(*permit, *n), *n),
        Event::Denied { n, refused } => {
            let read = if refused[limit] { Step::Full { by, n: *n, now } } else { Step::Fits { n: *n, now } };
            let mut programs: Vec<Vec<Step>> = in_vain(vec![read], *n);
            programs.push(vec![Step::Enter { now }, read]);
            programs
        }
        Event::Ended { permit, .. } if kind == Kind::Places => vec![vec![Step::Give { by: *permit, n: 1, now }]],
        Event::Ended { permit, back, .. } if *back > 0 => {
            let mut programs = vec![give(*permit, *back)];
            programs.extend(window.then(|| vec![Step::Enter { now }, Step::Gone { by: *permit, now }]));
            programs
        }
        Event::Ended { excess, .. } if *excess > 0 => {
            let n = *excess;
            let mut steps = vec![Step::Enter { now }, Step::Force { by, n, now }];
            steps.extend(window.then_some(Step::Put { by, n, now }));
            vec![steps]
        }
        Event::Ended { .. } => return None,
        Event::Looked { used } => vec![vec![Step::Used { by, used: used[limit], now }]],
    })
}

/// What the threads of one history share.
#[derive(Debug)]
pub struct Stage {
    limiter: Limiter,
    tick: AtomicU64,
    /// The permits that were issued, for anyone to end: id (0: none, or ended) and charge, by the number of the call.
    permits: Vec<(AtomicU64, AtomicU64)>,
    calls: usize,
}

impl Stage {
    /// A limiter that nobody has used, for so many threads of so many calls.
    pub fn new(policy: &Policy, threads: usize, calls: usize) -> Self {
        let builder = Limiter::builder(policy.clone()).clock(ManualClock::default());
        let builder = builder.max_counters(8).max_routes(8).max_permits(threads * calls);
        Stage {
            limiter: builder.permit_ttl(Duration::from_secs(1 << 30)).build(),
            tick: AtomicU64::new(0),
            permits: (0..threads * calls).map(|_| Default::default()).collect(),
            calls,
        }
    }

    /// What thread `thread` does, and saw.
    pub fn play(&self, run: &Run, thread: usize, random: &mut Random) -> Vec<Recorded> {
        Recorder { run, stage: self }.calls(thread, random)
    }
}

struct Recorder<'a> {
    run: &'a Run,
    stage: &'a Stage,
}

impl Recorder<'_> {
    fn tick(&self) -> u64 {
        self.stage.tick.fetch_add(1, SeqCst)
    }

    fn calls(&self, thread: usize, random: &mut Random) -> Vec<Recorded> {
        let mut calls = Vec::with_capacity(self.stage.calls);
        let mut now = 0;
        for call in 0..self.stage.calls {
            if self.run.times != Times::Still && random.below(self.stage.calls as u64) < LATEST {
                now = (now + 1 + random.below(2)).min(LATEST);
            }
            let permit = thread * self.stage.calls + call;
            match random.below(8) {
                0..3 => calls.push(self.admit(permit, 1 + random.below(6), now)),
                3..6 => calls.extend(self.end(random, now)),
                _ if self.run.times == Times::MovingLookingBack => calls.push(self.look(0)),
                _ => calls.push(self.look(now)),
            }
        }
        calls
    }

    fn admit(&self, permit: usize, n: u64, now: u64) -> Recorded {
        let invoked = self.tick();
        let decision = self.stage.limiter.admit_at(&Request::new("p", "d"), Estimate::new(n, 0), at(now));
        let returned = self.tick();
        let event = match decision.expect("it resolves") {
            Decision::Admitted(held) => {
                let (id, charge) = &self.stage.permits[permit];
                charge.store(n, SeqCst);
                id.store(held.into_id().get(), SeqCst);
                Event::Admitted { permit, n }
            }
            Decision::Denied(denied) => {
                let by: Vec<&str> = denied.refusals().map(|refusal| refusal.limit).collect();
                let refused = (0..self.run.limits.len()).map(|limit| by.contains(&&*limit.to_string())).collect();
                Event::Denied { n, refused }
            }
        };
        Recorded { invoked, returned, now, event }
    }

    /// Ends some permit, of this thread or another's; nothing if it has ended before.
    fn end(&self, random: &mut Random, now: u64) -> Option<Recorded> {
        let count = self.stage.permits.len();
        let from = random.below(count as u64) as usize;
        let permit = (0..count).map(|next| (from + next) % count).find(|at| self.id(*at).is_some())?;
        let id = self.id(permit)?;
        let n = self.stage.permits[permit].1.load(SeqCst);
        let returns = self.run.times != Times::MovingWithoutReturns;
        let used = match random.below(3) {
            0 if returns => 0,
            1 if returns => random.below(n + 1),
            _ => n + random.below(3),
        };
        let invoked = self.tick();
        let ended = match used {
            0 => self.stage.limiter.cancel_at(id, at(now)),
            used => self.stage.limiter.settle_at(id, Usage::new(used, 0), at(now)),
        };
        let returned = self.tick();
        self.stage.permits[permit].0.store(0, SeqCst);
        ended.ok()?;
        let event = Event::Ended { permit, back: n.saturating_sub(used), excess: used.saturating_sub(n) };
        Some(Recorded { invoked, returned, now, event })
    }

    fn id(&self, permit: usize) -> Option<PermitId> {
        PermitId::new(self.stage.permits[permit].0.load(SeqCst))
    }

    fn look(&self, now: u64) -> Recorded {
        let invoked = self.tick();
        let peek = self.stage.limiter.peek_at(&Request::new("p", "d"), Estimate::new(1, 0), at(now));
        let returned = self.tick();
        let mut used = vec![0; self.run.limits.len()];
        for view in peek.expect("it resolves").limits {
            let limit: usize = view.limit.parse().expect("its number is its name");
            used[limit] = (view.amount as i64 - view.remaining) as u64;
        }
        Recorded { invoked, returned, now, event: Event::Looked { used } }
    }
}
