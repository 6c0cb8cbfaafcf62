//! Workers on one region: limiters that share it, each of which may end at any step.

#![allow(dead_code)]

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokenweir::region::Memory;
use tokenweir::{
    CounterUsage, Estimate, Limiter, LimiterBuilder, ManualClock, Now, PermitId, Policy, Request, UsageFilter,
};
use tokenweir_shared::{Layout, SharedRegion};

pub const MINUTE: u64 = 60_000_000_000;
pub const START: Now = Now::at(1_800_000_000_000_000_000);

/// One limit of each algorithm, each with room enough for whoever does not want to be refused.
pub const ALL: &str = r#"
    [[limit]]
    name = "bucket"
    meter = "total"
    algorithm = "bucket"
    amount = 60_000
    per = "1m"
    scope = ["project"]
    [[limit]]
    name = "window"
    meter = "total"
    algorithm = "window"
    amount = 1_000_000
    per = "1m"
    sub_windows = 6
    scope = ["project"]
    [[limit]]
    name = "quota"
    meter = "total"
    algorithm = "quota"
    amount = 1_000_000
    period = "daily"
    scope = ["project"]
    [[limit]]
    name = "places"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 100
    scope = ["project"]
"#;

/// An attachment that can end as its process would: the seat is free, and nothing else happens.
struct Mortal {
    words: &'static [AtomicU64],
    seat: usize,
    alive: Mutex<Option<Arc<dyn Memory>>>,
}

impl Memory for Mortal {
    fn words(&self) -> &'static [AtomicU64] {
        self.words
    }
    fn seat(&self) -> usize {
        self.seat
    }
    fn take(&self, seat: usize) -> bool {
        self.alive.lock().unwrap().as_ref().is_some_and(|alive| alive.take(seat))
    }
    fn leave(&self, seat: usize) {
        if let Some(alive) = self.alive.lock().unwrap().as_ref() {
            alive.leave(seat);
        }
    }
    fn is_ours(&self) -> bool {
        true
    }
}

pub struct Worker {
    pub limiter: Limiter,
    memory: Arc<Mortal>,
}

impl Worker {
    /// Ends as if it had been killed.
    pub fn kill(self) {
        *self.memory.alive.lock().unwrap() = None;
        // Nothing that it has is let go of.
        std::mem::forget(self.limiter);
    }

    /// Does `act` until its `nth` step; the step's name if it ended there.
    #[cfg(feature = "steps")]
    pub fn ends_at(&self, nth: u64, act: impl FnOnce(&Limiter)) -> Option<&'static str> {
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
        use tokenweir::region::steps::{Ended, end_at};
        end_at(nth);
        let done = catch_unwind(AssertUnwindSafe(|| act(&self.limiter)));
        end_at(u64::MAX);
        match done {
            Ok(()) => None,
            Err(panic) => match panic.downcast::<Ended>() {
                Ok(ended) => Some(ended.0),
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    pub fn usage(&self, limit: &str) -> Option<CounterUsage> {
        let filter = UsageFilter { limit: Some(limit.to_owned()), ..UsageFilter::default() };
        self.limiter.usage(&filter).into_iter().next()
    }

    pub fn admit(&self, project: &str, estimate: Estimate) -> Option<PermitId> {
        let decision = self.limiter.admit(&Request::new(project, "gpt-4o"), estimate).expect("no error");
        decision.admitted().map(|permit| permit.into_id())
    }
}

/// A region of its own, on a clock that stands still.
pub struct Stage {
    pub region: SharedRegion,
    pub clock: Arc<ManualClock>,
    policy: Policy,
    _folder: TempDir,
}

impl Stage {
    pub fn new(policy: &str) -> Self {
        Self::with(policy, |layout| layout.counters(64).callers(64).permits(64).histories(4))
    }

    pub fn with(policy: &str, layout: impl FnOnce(Layout) -> Layout) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = Policy::from_toml(policy).expect("a policy");
        let layout = layout(Layout::of(&policy));
        let region = SharedRegion::create(folder.path().join("region"), &layout).expect("a region");
        let clock = Arc::new(ManualClock::new(START));
        Stage { region, clock, policy, _folder: folder }
    }

    pub fn builder(&self) -> LimiterBuilder {
        Limiter::builder(self.policy.clone()).clock(self.clock.clone()).permit_ttl(Duration::from_secs(600))
    }

    pub fn worker(&self) -> Worker {
        self.worker_of(self.builder())
    }

    pub fn worker_of(&self, builder: LimiterBuilder) -> Worker {
        let alive = self.region.attach().expect("a seat");
        let memory = Arc::new(Mortal { words: alive.words(), seat: alive.seat(), alive: Mutex::new(Some(alive)) });
        let limiter = builder.build_in_region(memory.clone(), self.region.layout()).expect("a limiter");
        Worker { limiter, memory }
    }

    /// Moves time on so far that somebody looks for workers that have ended.
    pub fn tick(&self) {
        self.clock.advance(200_000_000);
    }
}
