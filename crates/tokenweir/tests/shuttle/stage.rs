//! What the scenes share: what they are played with, and what is true at the end of each.

use shuttle::thread;
use std::collections::BTreeMap;
use std::time::Duration;
use tokenweir::{
    Decision, Estimate, Limiter, LimiterBuilder, ManualClock, Now, PermitId, Policy, Request, Settlement, Usage,
    UsageFilter,
};

pub const SECOND: u64 = 1_000_000_000;
/// 2026-03-28T12:00:00Z.
const START: i64 = 1_774_699_200 * SECOND as i64;

/// An instant, both clocks at so many nanoseconds from the beginning.
pub fn at(nanos: u64) -> Now {
    Now::new(nanos, START + nanos as i64)
}

pub fn policy(limits: &str) -> Policy {
    Policy::from_toml(limits).unwrap_or_else(|error| panic!("{error}"))
}

/// One limit in TOML; what an algorithm needs besides is in `more`.
pub fn limit(name: &str, algorithm: &str, amount: u64, more: &str) -> String {
    let meter = if algorithm == "in_flight" { "in_flight" } else { "total" };
    format!("[[limit]]\nname = '{name}'\nmeter = '{meter}'\nalgorithm = '{algorithm}'\namount = {amount}\n{more}\n")
}

pub const WINDOW: &str = "per = '10s'\nsub_windows = 2";
pub const DAY: &str = "period = 'daily'";
pub const BY_PROJECT: &str = "scope = ['project']";

/// A bucket of this capacity, and of the same rate whatever it is: only then can a charge be judged across its change.
pub fn bucket(capacity: u64) -> String {
    limit("bucket", "bucket", 60, &format!("per = '1m'\nburst = {capacity}"))
}

/// All four algorithms, of one amount each, for all projects together and the quota for each of them.
pub fn four(amount: u64, places: u64) -> String {
    bucket(amount)
        + &limit("window", "window", amount, WINDOW)
        + &limit("quota", "quota", amount, &format!("{DAY}\n{BY_PROJECT}"))
        + &limit("places", "in_flight", places, "")
}

pub fn builder(limits: &Policy) -> LimiterBuilder {
    let clock = ManualClock::new(at(0));
    let builder = Limiter::builder(limits.clone()).clock(clock).permit_ttl(Duration::from_secs(60));
    builder.max_permits(8).max_counters(16).max_routes(8)
}

pub fn limiter(limits: &Policy) -> Limiter {
    builder(limits).build()
}

/// What one call came to.
pub enum Came {
    In(PermitId),
    /// By which limits it was refused; none: there was no room for a counter.
    Refused(Vec<String>),
}

pub fn call(limiter: &Limiter, project: &str, tokens: u64, now: Now) -> Came {
    match limiter.admit_at(&Request::new(project, "d"), Estimate::new(tokens, 0), now).expect("it resolves") {
        Decision::Admitted(permit) => Came::In(permit.into_id()),
        Decision::Denied(denied) if denied.table_full() => Came::Refused(Vec::new()),
        Decision::Denied(denied) => Came::Refused(denied.refusals().map(|r| r.limit.to_owned()).collect()),
    }
}

/// A call that must pass.
pub fn pass(limiter: &Limiter, project: &str, tokens: u64, now: Now) -> PermitId {
    match call(limiter, project, tokens, now) {
        Came::In(permit) => permit,
        Came::Refused(by) => panic!("{tokens} of {project} refused by {by:?}"),
    }
}

/// Settles by id; the permit must be open.
pub fn settle(limiter: &Limiter, permit: PermitId, tokens: u64, now: Now) -> Settlement {
    limiter.settle_at(permit, Usage::new(tokens, 0), now).expect("it is open")
}

/// Runs all of them to their end, and what each came to.
pub fn together<T: Send + 'static>(parts: Vec<Part<T>>) -> Vec<T> {
    let threads: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
}

/// What one thread of a scene does.
pub type Part<T> = Box<dyn FnOnce() -> T + Send>;

/// A part of a scene, with a limiter of its own to hold.
pub fn part<T: Send + 'static>(limiter: &Limiter, act: impl FnOnce(&Limiter) -> T + Send + 'static) -> Part<T> {
    let limiter = limiter.clone();
    Box::new(move || act(&limiter))
}

/// Nothing is held, no place is taken, and of each counter that is shown: use, lifetime total.
pub fn closed_books(limiter: &Limiter, now: Now) -> BTreeMap<String, (u64, u64)> {
    assert_eq!(limiter.stats().permits_open, 0);
    let mut books = BTreeMap::new();
    for counter in limiter.usage_at(&UsageFilter::default(), now) {
        assert_eq!(counter.held, 0, "{counter:?}");
        assert!(counter.limit != "places" || counter.used == 0, "{counter:?}");
        let scope: Vec<String> =
            counter.scope.iter().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
        let name = std::iter::once(counter.limit.clone()).chain(scope).collect::<Vec<_>>().join(" ");
        assert!(books.insert(name, (counter.used, counter.settled_total)).is_none(), "a counter is shown twice");
    }
    books
}

/// The books of one counter; of one that is not there, nothing.
pub fn entry(books: &BTreeMap<String, (u64, u64)>, name: &str) -> (u64, u64) {
    books.get(name).copied().unwrap_or_default()
}

/// Long after, everything is at rest and goes: a pin that somebody forgot would hold it.
pub fn nothing_stays(limiter: &Limiter) {
    let later = at(3 * 86_400 * SECOND);
    limiter.sweep_at(later);
    limiter.sweep_at(later);
    let stats = limiter.stats();
    assert_eq!((stats.counters, stats.routes, stats.permits_open), (0, 0, 0), "{stats:?}");
}

/// While others act: no limit that nothing is forced upon is ever above its amount.
pub fn never_above(limiter: &Limiter, now: Now) {
    for counter in limiter.usage_at(&UsageFilter::default(), now) {
        assert!(counter.used <= counter.amount, "{counter:?}");
    }
}
