//! Quotas whose use a store keeps: what is left behind by a process that ends at any instant.

mod bounds;
mod failures;
mod lives;
mod memory;
mod threads;

use std::sync::Arc;
use tokenweir::{Limiter, ManualClock, Now, Policy, StoreOptions};

const HOUR: u64 = 3_600_000_000_000;

/// Two quotas of different periods and a bucket, by project.
fn policy(hour: u64, day: u64) -> Policy {
    Policy::from_toml(&format!(
        r#"
        [[limit]]
        name = "hour"
        meter = "total"
        algorithm = "quota"
        amount = {hour}
        period = "hourly"
        scope = ["project"]

        [[limit]]
        name = "day"
        meter = "requests"
        algorithm = "quota"
        amount = {day}
        period = "daily"
        scope = ["project", "deployment"]

        [[limit]]
        name = "rate"
        meter = "total"
        algorithm = "bucket"
        amount = 1_000_000_000
        per = "1m"
        scope = ["project"]
        "#
    ))
    .expect("a policy")
}

/// A limiter on a clock of its own that begins at `wall`.
fn limiter(
    policy: Policy,
    store: &Arc<memory::Memory>,
    options: StoreOptions,
    wall: i64,
) -> (Limiter, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Now::new(7, wall)));
    (Limiter::builder(policy).clock(clock.clone()).store(store.clone(), options).build(), clock)
}

/// What is used of a limit by a project.
fn used(limiter: &Limiter, limit: &str, project: &str) -> u64 {
    let filter = tokenweir::UsageFilter::default();
    let usage = limiter.usage(&filter).into_iter();
    usage
        .filter(|counter| counter.limit == limit && counter.scope.iter().any(|(_, value)| value == project.as_bytes()))
        .map(|counter| counter.used)
        .sum()
}
