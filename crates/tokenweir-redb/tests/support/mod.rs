//! A limiter that spends quotas, and bounds on what it has really used at any instant.

use std::sync::Arc;
use tokenweir::{
    Decision, Error, Estimate, Limiter, ManualClock, Now, Policy, Request, StoreOptions, Usage, UsageFilter,
};
use tokenweir_redb::QuotaStore;

/// A small generator of random numbers with a seed (Steele, Lea and Flood's split-mix).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

pub const PROJECTS: [&str; 3] = ["search", "mail", "chat"];
pub const AMOUNT: u64 = 1_000_000_000;
/// One part of so many of the amount is 2,000 tokens.
pub const PART: u64 = AMOUNT / 2_000;
pub const LEASE: u64 = AMOUNT / PART;

pub fn policy() -> Policy {
    Policy::from_toml(&format!(
        "[[limit]]\nname = 'month'\nmeter = 'total'\nalgorithm = 'quota'\namount = {AMOUNT}\nperiod = 'monthly'\n\
         scope = ['project']\n"
    ))
    .expect("a policy")
}

/// A limiter on a clock that stands.
pub fn limiter(store: &Arc<QuotaStore>) -> Limiter {
    let clock = ManualClock::new(Now::new(0, 1_774_699_200_000_000_000));
    Limiter::builder(policy()).clock(clock).store(store.clone(), StoreOptions::new().lease_part(PART)).build()
}

/// What is used by each project, once it is known.
pub fn used(limiter: &Limiter) -> Result<[u64; 3], Error> {
    for project in PROJECTS {
        limiter.route(&Request::new(project, "gpt-4o"))?;
    }
    let usage = limiter.usage(&UsageFilter::default());
    Ok(PROJECTS.map(|project| {
        let of =
            |counter: &&tokenweir::CounterUsage| counter.scope.iter().any(|(_, value)| value == project.as_bytes());
        usage.iter().find(of).map_or(0, |counter| counter.used)
    }))
}

/// Between which bounds the real use of each project is, whatever the call at work has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub least: [u64; 3],
    pub most: [u64; 3],
}

impl Bounds {
    pub fn exactly(used: [u64; 3]) -> Self {
        Bounds { least: used, most: used }
    }

    /// Panics unless `recovered` is within `[real, real + lease]` for some real use within the bounds.
    pub fn check(&self, recovered: [u64; 3]) {
        for (at, project) in PROJECTS.iter().enumerate() {
            let (least, most) = (self.least[at], self.most[at]);
            assert!(recovered[at] >= least, "{project}: {} recovered of {least} used", recovered[at]);
            assert!(recovered[at] <= most + LEASE, "{project}: {} recovered of {most} used", recovered[at]);
        }
    }
}

/// One request of a random project, admitted and settled; `tell` hears the bounds before each step. An error of the store
/// ends it.
pub fn one_request(
    limiter: &Limiter,
    random: &mut Random,
    real: &mut [u64; 3],
    tell: &mut impl FnMut(Bounds),
) -> Result<(), Error> {
    let at = random.below(3) as usize;
    let (estimate, used) = (1 + random.below(900), random.below(1_500));
    let admitting = {
        let mut most = *real;
        most[at] += estimate;
        Bounds { least: *real, most }
    };
    tell(admitting);
    let request = Request::new(PROJECTS[at], "gpt-4o");
    let Decision::Admitted(permit) = limiter.admit(&request, Estimate::new(estimate, 0))? else {
        panic!("nothing of this size uses the quota up");
    };
    let held = admitting.most;
    tell(Bounds::exactly(held));
    if random.below(4) == 0 {
        limiter.renew_leases()?;
    }
    real[at] += used;
    let settling = Bounds {
        least: std::array::from_fn(|at| held[at].min(real[at])),
        most: std::array::from_fn(|at| held[at].max(real[at])),
    };
    tell(settling);
    permit.settle(Usage::new(used, 0))?;
    if limiter.stats().store_failures == 0 {
        tell(Bounds::exactly(*real));
    }
    Ok(())
}
