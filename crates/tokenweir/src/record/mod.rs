//! Usage records, the observer that receives them, and a ring that keeps them for who would rather poll.

mod ring;

pub use ring::{Event, Record, RecordRing};

use crate::clock::Now;
use crate::limiter::Denied;
use crate::request::{Estimate, PermitId, Usage};

/// How a permit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// With the provider's usage, or without any (see [`Settlement::estimated`]).
    Settled,
    /// The request never reached the provider.
    Cancelled,
    /// Without a word: the estimate stands.
    Dropped,
    /// It was not settled in time: the estimate stands.
    Expired,
}

impl Outcome {
    /// All of them, each at the place of its number (`outcome as usize`).
    pub const ALL: [Outcome; 4] = [Outcome::Settled, Outcome::Cancelled, Outcome::Dropped, Outcome::Expired];

    /// The word for logs: `settled`, `cancelled`, `dropped` or `expired`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Settled => "settled",
            Outcome::Cancelled => "cancelled",
            Outcome::Dropped => "dropped",
            Outcome::Expired => "expired",
        }
    }
}

/// What settling a permit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// The permit.
    pub id: PermitId,
    /// How it ended.
    pub outcome: Outcome,
    /// Input tokens that were charged in the end, cached ones included.
    pub input: u64,
    /// Of these, how many the provider served from its cache.
    pub cached_input: u64,
    /// Output tokens that were charged in the end.
    pub output: u64,
    /// Whether a part of this is the estimate, because the usage was absent.
    pub estimated: bool,
}

/// Who asked for what: a request as the observer sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Requested<'a> {
    /// The project.
    pub project: &'a [u8],
    /// The deployment.
    pub deployment: &'a [u8],
    /// What the host expected it to take.
    pub estimate: Estimate,
}

/// A decision as the observer sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Decided<'a> {
    /// When.
    pub at: Now,
    /// What was asked.
    pub requested: Requested<'a>,
    /// The permit, if it was admitted.
    pub permit: Option<PermitId>,
    /// The refusal, if it was denied.
    pub denied: Option<&'a Denied>,
    /// Whether a shadow limit would have refused what was admitted.
    pub shadow_refused: bool,
}

/// A settlement as the observer sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Settled<'a> {
    /// When.
    pub at: Now,
    /// What was asked.
    pub requested: Requested<'a>,
    /// What came of it. `usage` below is what the host reported.
    pub settlement: &'a Settlement,
    /// The usage as it was reported.
    pub usage: Usage,
}

/// Receives each decision and each settlement, on the thread that made it, after the counters have moved.
///
/// An implementation must be quick and must not block: it runs on the request's path. It may be called from many
/// threads at once. If it panics, the panic reaches the host's call; the counters are consistent by then.
pub trait Observer: Send + Sync {
    /// A request was admitted or denied.
    fn decided(&self, decided: &Decided<'_>) {
        let _ = decided;
    }
    /// A permit ended.
    fn settled(&self, settled: &Settled<'_>) {
        let _ = settled;
    }
}
