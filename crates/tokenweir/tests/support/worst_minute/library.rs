//! The library as a peer.

use super::{LIMIT, Peer, Time};
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{Clock, Decision, Estimate, Limiter, Now, PermitId, Policy, Request, Usage};

/// The same time for a limiter's own clock.
struct Shown(Arc<Time>);

impl Clock for Shown {
    fn mono(&self) -> u64 {
        self.0.now()
    }

    fn wall(&self) -> i64 {
        self.0.now() as i64
    }
}

/// One limit of [`LIMIT`] tokens a minute.
#[derive(Debug)]
pub struct Tokenweir(Limiter);

impl Tokenweir {
    fn new(time: &Arc<Time>, rule: &str) -> Self {
        let limit = format!("[[limit]]\nname = \"tpm\"\nmeter = \"total\"\namount = {LIMIT}\n{rule}");
        let policy = Policy::from_toml(&limit).expect("the policy is valid");
        let limiter = Limiter::builder(policy).clock(Shown(time.clone())).permit_ttl(Duration::from_secs(1 << 20));
        Tokenweir(limiter.max_counters(16).build())
    }

    /// A sliding window of a minute.
    pub fn window(time: &Arc<Time>) -> Self {
        Self::new(time, "algorithm = \"window\"\nper = \"1m\"")
    }

    /// A bucket that holds `burst`.
    pub fn bucket(time: &Arc<Time>, burst: u64) -> Self {
        Self::new(time, &format!("algorithm = \"bucket\"\nper = \"1m\"\nburst = {burst}"))
    }

    /// A quota of each minute of the clock.
    pub fn quota(time: &Arc<Time>) -> Self {
        Self::new(time, "algorithm = \"quota\"\nperiod = { every = \"1m\" }")
    }
}

impl Peer for Tokenweir {
    type Hold = PermitId;

    fn ask(&self, estimate: u64, now: u64) -> Option<PermitId> {
        let request = Request::new("search", "gpt-4o");
        match self.0.admit_at(&request, Estimate::new(0, estimate), Now::at(now)).expect("the request resolves") {
            Decision::Admitted(permit) => Some(permit.into_id()),
            Decision::Denied(_) => None,
        }
    }

    fn end(&self, hold: PermitId, used: Option<u64>, now: u64) {
        let ended = match used {
            Some(used) => self.0.settle_at(hold, Usage::new(0, used), Now::at(now)),
            None => self.0.cancel_at(hold, Now::at(now)),
        };
        ended.expect("the permit is open");
    }
}
