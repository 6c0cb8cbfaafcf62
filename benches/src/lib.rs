//! What the benches share: policies and limiters to measure.

use std::sync::Arc;
use tokenweir::{Limiter, ManualClock, Policy};

/// One project bucket, far from empty.
pub const ONE: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 10_000_000_000
    per = "1m"
    scope = ["project"]
"#;

/// Requests, a project bucket, a deployment window and a project quota, all far from empty.
pub const FOUR: &str = r#"
    [[limit]]
    name = "project rpm"
    meter = "requests"
    algorithm = "bucket"
    amount = 10_000_000_000
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 10_000_000_000
    per = "1m"
    scope = ["project", "deployment"]

    [[limit]]
    name = "deployment window"
    meter = "total"
    algorithm = "window"
    amount = 100_000_000_000
    per = "1m"
    scope = ["deployment"]

    [[limit]]
    name = "project month"
    meter = "total"
    algorithm = "quota"
    amount = 9_000_000_000_000_000
    period = "monthly"
    scope = ["project"]
"#;

/// A limit that one request of 100 tokens uses up for good.
pub const SPENT: &str = r#"
    [[limit]]
    name = "total"
    meter = "total"
    algorithm = "quota"
    amount = 100
    period = "never"
    scope = ["project"]
"#;

/// A limiter on the system's clock.
///
/// # Panics
/// If the policy is not valid.
pub fn limiter(policy: &str) -> Limiter {
    Limiter::new(Policy::from_toml(policy).expect("a valid policy"))
}

/// A limiter on a clock that stands still.
///
/// # Panics
/// If the policy is not valid.
pub fn frozen(policy: &str) -> Limiter {
    let policy = Policy::from_toml(policy).expect("a valid policy");
    Limiter::builder(policy).clock(Arc::new(ManualClock::default())).build()
}

/// The snippets of COMPARE.md, to be compiled and run.
#[cfg(all(doctest, feature = "peers"))]
#[doc = include_str!("../../COMPARE.md")]
pub struct Compare;
