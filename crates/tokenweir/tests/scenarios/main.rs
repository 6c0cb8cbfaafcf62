//! The golden scenarios of the domain, each a test named after its id.
//!
//! - `rates`: E-01 to E-03 and E-07 to E-09, tokens per minute under the profile of API Management;
//! - `quotas`: E-04 to E-06, E-12, E-13 and E-18, periods and clocks;
//! - `reservations`: E-10 and E-11, what permits add up to;
//! - `providers`: E-14 to E-17, how the services behind a gateway count, as limits of the engine;
//! - `isolation`: E-21, projects, gateways and regions side by side.
//!
//! E-19 (header parsing) is about the wire and not about limits; E-20 (lifecycles) is the control plane's.

#[path = "../support/foundry.rs"]
mod foundry;
mod isolation;
mod providers;
mod quotas;
mod rates;
mod reservations;

use foundry::gateway;
use tokenweir::apim::{Answer, Profile, Remaining};
use tokenweir::gateway::Terms;
use tokenweir::gateway::model::{Limits, Timestamp};
use tokenweir::{Decision, Estimate, Key, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage};

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;

/// So many milliseconds after both clocks showed 0.
pub(crate) fn ms(milliseconds: u64) -> Now {
    Now::at(milliseconds * MILLISECOND)
}

/// So many seconds after both clocks showed 0.
pub(crate) fn s(seconds: u64) -> Now {
    ms(seconds * 1000)
}

/// The instant of a wall clock; the monotonic one shows the same if it is after 1970.
pub(crate) fn wall(text: &str) -> Now {
    let nanos = text.parse::<Timestamp>().expect("an instant").nanos();
    Now::new(nanos.max(0) as u64, nanos)
}

/// A limiter with the limits of a gateway, under a profile, and what API Management says of its decisions.
pub(crate) struct Service {
    pub(crate) limiter: Limiter,
    pub(crate) profile: Profile,
}

impl Service {
    pub(crate) fn new(profile: Profile, limits: Limits) -> Self {
        let policy = gateway(limits).policy(&Terms::from(&profile)).expect("limits that can be put in force");
        Service { limiter: limiter(policy), profile }
    }

    /// Admits, charging what the profile says of the prompt.
    #[track_caller]
    pub(crate) fn admit(&self, prompt: u64, streamed: bool, now: Now) -> PermitId {
        match self.decide("u", prompt, streamed, now) {
            Ok(permit) => permit,
            Err(answer) => panic!("refused: {answer:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refuse(&self, prompt: u64, streamed: bool, now: Now) -> Answer {
        *self.decide("u", prompt, streamed, now).expect_err("a refusal")
    }

    pub(crate) fn decide(&self, user: &str, prompt: u64, streamed: bool, now: Now) -> Result<PermitId, Box<Answer>> {
        let keys = [Key::new("user", user)];
        let request = Request::new("p", "d").with_keys(&keys);
        let estimate = self.profile.estimate(prompt, streamed);
        match self.limiter.admit_at(&request, estimate, now).expect("a decision") {
            Decision::Admitted(permit) => Ok(permit.into_id()),
            Decision::Denied(denied) => Err(Box::new(self.profile.answer(&denied, estimate, now))),
        }
    }

    pub(crate) fn settle(&self, permit: PermitId, tokens: u64, now: Now) {
        self.limiter.settle_at(permit, Usage::new(tokens, 0), now).expect("settled once");
    }

    /// What the response headers would show.
    pub(crate) fn remaining(&self, now: Now) -> Remaining {
        self.profile.remaining(&self.limiter.policy(), &self.left("u", now), 0)
    }

    /// What each limit has left, below 0 where it is debt.
    pub(crate) fn left(&self, user: &str, now: Now) -> Vec<(String, i64)> {
        let keys = [Key::new("user", user)];
        let request = Request::new("p", "d").with_keys(&keys);
        let peek = self.limiter.peek_at(&request, Estimate::default(), now).expect("a request of the policy");
        peek.limits.into_iter().map(|limit| (limit.limit, limit.remaining)).collect()
    }
}

/// A limiter whose clocks begin at 0.
pub(crate) fn limiter(policy: Policy) -> Limiter {
    Limiter::builder(policy).clock(ManualClock::default()).build()
}

/// A limiter of one limit, named `l`, of these terms.
pub(crate) fn of(terms: &str) -> Limiter {
    limiter(Policy::from_toml(&format!("[[limit]]\nname = \"l\"\n{terms}\n")).expect("a policy"))
}

/// What a request of `p` on `d` comes to: its permit, or status and retry-after in nanoseconds.
pub(crate) fn ask(limiter: &Limiter, estimate: Estimate, now: Now) -> Result<PermitId, (u16, Option<u64>)> {
    match limiter.admit_at(&Request::new("p", "d"), estimate, now).expect("a decision") {
        Decision::Admitted(permit) => Ok(permit.into_id()),
        Decision::Denied(denied) => {
            Err((denied.status(), denied.retry_after().map(|wait| u64::try_from(wait.as_nanos()).expect("a wait"))))
        }
    }
}

/// What the one limit of `p` on `d` has left.
pub(crate) fn left(limiter: &Limiter, now: Now) -> i64 {
    limiter.peek_at(&Request::new("p", "d"), Estimate::default(), now).expect("a request").limits[0].remaining
}
