//! What a replay says of requests and counters, with limits by their places in the policy.

use std::sync::Arc;

use tokenweir::policy::{ChargeRule, Tokens};

use crate::trace::Ending;

/// A counter that some request met. A replay numbers them in the order of their first requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Counter {
    /// The place of its limit in the policy.
    pub limit: usize,
    /// The values of its scope, in the limit's order.
    pub scope: Arc<[Vec<u8>]>,
}

/// A limit that a request meets.
#[derive(Debug, Clone, Copy)]
pub struct Meet {
    /// Its place in the policy.
    pub limit: usize,
    /// The number of its counter.
    pub counter: usize,
    /// What it charges.
    pub(crate) rule: ChargeRule,
}

impl Meet {
    /// What the limit is charged for a request that ended so.
    pub(crate) fn charge(&self, ended: &Ended) -> u64 {
        if ended.cancelled { 0 } else { self.rule.charge(&ended.tokens) }
    }
}

/// A limit that refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its place in the policy.
    pub limit: usize,
    /// The wait it advises, in nanoseconds.
    pub retry_after: Option<u64>,
    /// Whether the request is larger than the limit can ever hold.
    pub never_fits: bool,
}

/// A decision.
#[derive(Debug)]
pub struct Verdict {
    /// 200, 429 (a rate) or 403 (a quota).
    pub status: u16,
    /// The limit that decided, if it was denied.
    pub limit: Option<usize>,
    /// Every limit that refused, in the order of the policy.
    pub refused: Vec<Refused>,
    /// The wait that the deciding limit advises, in nanoseconds; `None` if no wait is known to help.
    pub retry_after: Option<u64>,
    /// Whether the request can never be admitted.
    pub never_fits: bool,
    /// What every enforced limit has left after the decision, in the order of the policy; below 0 in debt.
    pub remaining: Vec<(usize, i64)>,
    /// The shadow limits that would have refused. They were not charged.
    pub shadow_refused: Vec<usize>,
    /// The limits that the request met.
    pub meets: Arc<[Meet]>,
}

/// What a request came to.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// It never reached the provider.
    pub cancelled: bool,
    /// Its tokens; the estimate where nothing was reported.
    pub tokens: Tokens,
}

/// The end of a request that was admitted.
#[derive(Debug)]
pub struct Settled {
    /// Its line.
    pub line: u64,
    /// When it ended, in nanoseconds since 1970.
    pub at: i64,
    /// How the trace ended it.
    pub ending: Ending,
    /// What it came to.
    pub ended: Ended,
    /// What each counter was charged for it in the end, by the counter's number.
    pub charges: Vec<(usize, u64)>,
}

/// What is left of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The number of the counter.
    pub counter: usize,
    /// What is left; below 0 in debt.
    pub remaining: i64,
}
