//! Policies and limiters to measure. All limits are so large that nothing is refused, unless a name says otherwise.

use std::sync::Arc;
use tokenweir::{Limiter, LimiterBuilder, ManualClock, Policy};

/// One project bucket. It refills faster than one thread can charge it, so it is nearly full.
pub const ONE: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 100_000_000_000
    per = "1m"
    scope = ["project"]
"#;

/// One project bucket that refills more slowly than it is charged, and is large enough to last. Charged a tenth of its
/// burst first, it is always in use.
pub const BUSY: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 100_000_000
    burst = 20_000_000_000
    per = "1m"
    scope = ["project"]
"#;

/// Requests, a project bucket, a deployment window and a project quota.
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
    amount = 100_000_000_000
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

/// The same four, of which the last, the quota, has room for one request of 90 tokens.
pub fn four_of_which_the_last_refuses() -> String {
    let (first, quota) = FOUR.rsplit_once("9_000_000_000_000_000").expect("the quota's amount");
    format!("{first}100{quota}")
}

/// The same four, of which the first, the bucket of requests, has room for one a day.
pub fn four_of_which_the_first_refuses() -> String {
    let (before, rest) = FOUR.split_once("amount = 10_000_000_000\n    per = \"1m\"").expect("the first bucket");
    format!("{before}amount = 1\n    per = \"24h\"{rest}")
}

/// One project bucket with room for one request of 90 tokens a day.
pub const ONE_REFUSES: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 100
    per = "24h"
    scope = ["project"]
"#;

/// A limiter to be configured.
///
/// # Panics
/// If the policy is not valid.
pub fn builder(policy: &str) -> LimiterBuilder {
    Limiter::builder(Policy::from_toml(policy).expect("a valid policy"))
}

/// A limiter on the system's clock.
pub fn system(policy: &str) -> Limiter {
    builder(policy).build()
}

/// A limiter on a clock that stands still: the caller says what time it is.
pub fn frozen(policy: &str) -> Limiter {
    builder(policy).clock(Arc::new(ManualClock::default())).build()
}
