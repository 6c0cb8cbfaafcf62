//! What the tests share: limits, limiters, and the way from one process to the next.

use std::time::Duration;
use tokenweir::{
    Estimate, Key, Limiter, LimiterBuilder, ManualClock, Now, Permit, PermitId, Policy, Request, Snapshot,
};

pub const SECOND: u64 = 1_000_000_000;
/// 2026-03-28T12:00:00Z.
pub const START: i64 = 1_774_699_200 * SECOND as i64;
/// How long a permit lives.
pub const TTL: u64 = 5 * SECOND;

/// The limits that are tried, each by itself and all together.
pub const LIMITS: [&str; 6] = [
    "name = 'tokens'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 6000\nper = '1m'\nburst = 500\nscope = ['project']",
    "name = 'requests'\nmeter = 'requests'\nalgorithm = 'bucket'\namount = 100\nper = '1m'\nburst = 7\nscope = []",
    "name = 'window'\nmeter = 'total'\nalgorithm = 'window'\namount = 800\nper = '10s'\nsub_windows = 5\n\
     scope = ['project', 'key:user']",
    "name = 'one'\nmeter = 'requests'\nalgorithm = 'window'\namount = 9\nper = '6s'\nsub_windows = 1\nscope = []",
    "name = 'quota'\nmeter = 'total'\nalgorithm = 'quota'\namount = 2000\nperiod = { every = '30s' }\nscope = ['project']",
    "name = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3\nscope = ['deployment']",
];

pub fn policy(limits: &[&str]) -> Policy {
    let document: String = limits.iter().map(|limit| format!("[[limit]]\n{limit}\n")).collect();
    Policy::from_toml(&document).unwrap_or_else(|error| panic!("{error}"))
}

/// A limiter that begins at `now`.
pub fn builder(policy: &Policy, now: Now) -> LimiterBuilder {
    let builder = Limiter::builder(policy.clone()).clock(ManualClock::new(now));
    builder.max_counters(64).max_routes(64).max_permits(4096).permit_ttl(Duration::from_nanos(TTL))
}

pub fn limiter(policy: &Policy, now: Now) -> Limiter {
    builder(policy, now).build()
}

/// What is written and read again is the same.
pub fn carried(snapshot: &Snapshot) -> Snapshot {
    let document = serde_json::to_string(snapshot).expect("it can be written");
    let read: Snapshot = serde_json::from_str(&document).unwrap_or_else(|error| panic!("{error} in {document}"));
    assert_eq!(read, *snapshot);
    read
}

/// Takes a snapshot into a limiter that has the same limits.
pub fn restored(into: &Limiter, snapshot: &Snapshot, now: Now) {
    let came = into.restore_at(&carried(snapshot), now);
    assert!(came.counters == snapshot.counters() && came.left_out.is_empty(), "{came:?} of {snapshot:?}");
}

/// Who calls: one of a few projects, users and deployments.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub project: &'static str,
    pub user: &'static [u8],
    pub deployment: &'static str,
}

pub const CALLERS: [Caller; 4] = [
    Caller { project: "a", user: b"u", deployment: "d" },
    Caller { project: "a", user: b"\xff\x00", deployment: "e" },
    Caller { project: "b", user: b"u", deployment: "d" },
    Caller { project: "b", user: b"{\"hex\":\"00\"}", deployment: "e" },
];

impl Caller {
    pub fn with<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let keys = [Key::new("user", self.user)];
        act(&Request::new(self.project, self.deployment).with_keys(&keys))
    }
}

/// The permit, if it is admitted.
pub fn admit(limiter: &Limiter, caller: Caller, tokens: u64, now: Now) -> Option<PermitId> {
    let decision = caller.with(|request| {
        limiter
            .admit_at(request, Estimate::new(tokens, 0), now)
            .map(|decision| decision.admitted().map(Permit::into_id))
    });
    decision.unwrap_or_else(|error| panic!("{error}"))
}

/// Whether it would be admitted.
pub fn fits(limiter: &Limiter, caller: Caller, tokens: u64, now: Now) -> bool {
    caller.with(|request| limiter.peek_at(request, Estimate::new(tokens, 0), now)).expect("it resolves").admitted
}
