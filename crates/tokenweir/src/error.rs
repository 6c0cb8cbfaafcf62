//! What can go wrong with a call. A refusal is not among it: that is a [`Decision`](crate::Decision).

use crate::policy::{PolicyError, ResolveError};
use crate::region::RegionError;
use crate::request::PermitId;
use crate::store::StoreError;

/// An error of the limiter. It changes nothing: no counter has moved.
///
/// Each has a stable [`code`](Error::code) and [`name`](Error::name), shared by all languages and never used again for
/// another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The policy is not valid.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The request cannot be matched with the policy.
    #[error(transparent)]
    Request(#[from] ResolveError),
    /// An estimate is beyond what a request can take.
    #[error("the estimate of {tokens} {what} tokens is above 2^53; give the tokens of one request")]
    EstimateTooLarge {
        /// `input` or `output`.
        what: &'static str,
        /// What was given.
        tokens: u64,
    },
    /// The reported usage cannot be.
    #[error("the usage is not valid: {reason}; report what the provider sent, or leave unknown fields absent")]
    UsageInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The permit was settled, cancelled or dropped before, or it expired.
    #[error("permit {} was settled, cancelled, dropped or expired before; settle each permit once", .id.get())]
    PermitSettled {
        /// The id that was used.
        id: PermitId,
    },
    /// This limiter never issued the permit.
    #[error("permit {} was not issued by this limiter; use the id that its admission returned", .id.get())]
    PermitUnknown {
        /// The id that was used.
        id: PermitId,
    },
    /// There are as many open permits as the limiter was built for.
    #[error(
        "all {most} permits are open; settle or cancel the ones that have ended, or build the limiter with a larger max_permits"
    )]
    PermitsExhausted {
        /// The configured number.
        most: usize,
    },
    /// A route cannot be held because the table of counters or routes is full of entries in use.
    #[error(
        "no room for a new counter of limit {limit:?}: all {budget} are in use; build the limiter with a larger max_counters"
    )]
    TableFull {
        /// The limit that would need a new counter; empty if it is the table of routes that is full.
        limit: String,
        /// The configured number.
        budget: usize,
    },
    /// What a request would be charged could not be recorded, or what was charged before not be read.
    #[error(
        "the store of quotas failed: {0}; nothing was charged: mend the store, or build the limiter to admit meanwhile"
    )]
    Store(#[from] StoreError),
    /// Counters and permits are in a region, and that cannot do what was asked.
    #[error(transparent)]
    Region(#[from] RegionError),
}

impl Error {
    /// The stable number of this kind of error, never 0.
    pub fn code(&self) -> u16 {
        match self {
            Error::Policy(_) => 1,
            Error::Request(ResolveError::EmptyKey { .. }) => 10,
            Error::Request(ResolveError::KeyMissing { .. }) => 11,
            Error::Request(ResolveError::NoPrice { .. }) => 12,
            Error::Request(ResolveError::KeyTwice { .. }) => 13,
            Error::EstimateTooLarge { .. } => 14,
            Error::UsageInvalid { .. } => 20,
            Error::PermitSettled { .. } => 21,
            Error::PermitUnknown { .. } => 22,
            Error::PermitsExhausted { .. } => 30,
            Error::TableFull { .. } => 31,
            Error::Store(_) => 40,
            Error::Region(_) => 41,
        }
    }

    /// The stable name that goes with [`code`](Error::code).
    pub fn name(&self) -> &'static str {
        match self {
            Error::Policy(_) => "POLICY_INVALID",
            Error::Request(ResolveError::EmptyKey { .. }) => "EMPTY_KEY",
            Error::Request(ResolveError::KeyMissing { .. }) => "KEY_MISSING",
            Error::Request(ResolveError::NoPrice { .. }) => "NO_PRICE",
            Error::Request(ResolveError::KeyTwice { .. }) => "KEY_TWICE",
            Error::EstimateTooLarge { .. } => "ESTIMATE_TOO_LARGE",
            Error::UsageInvalid { .. } => "USAGE_INVALID",
            Error::PermitSettled { .. } => "PERMIT_SETTLED",
            Error::PermitUnknown { .. } => "PERMIT_UNKNOWN",
            Error::PermitsExhausted { .. } => "PERMITS_EXHAUSTED",
            Error::TableFull { .. } => "TABLE_FULL",
            Error::Store(_) => "STORE_FAILED",
            Error::Region(_) => "REGION_FAILED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table that all languages share. A number or a name that is gone stays here, marked, and is never used again.
    #[test]
    fn codes_and_names_are_what_they_always_were() {
        let id = PermitId::new(7).expect("not 0");
        let policy = crate::Policy::from_toml("limit = 1").expect_err("not a policy");
        let limit = || "l".to_owned();
        let table = [
            (Error::Policy(policy), 1, "POLICY_INVALID"),
            (ResolveError::EmptyKey { part: "project".into() }.into(), 10, "EMPTY_KEY"),
            (ResolveError::KeyMissing { limit: limit(), key: "user".into() }.into(), 11, "KEY_MISSING"),
            (ResolveError::NoPrice { limit: limit(), deployment: "d".into() }.into(), 12, "NO_PRICE"),
            (ResolveError::KeyTwice { key: "user".into() }.into(), 13, "KEY_TWICE"),
            (Error::EstimateTooLarge { what: "input", tokens: 1 << 54 }, 14, "ESTIMATE_TOO_LARGE"),
            (Error::UsageInvalid { reason: "r".into() }, 20, "USAGE_INVALID"),
            (Error::PermitSettled { id }, 21, "PERMIT_SETTLED"),
            (Error::PermitUnknown { id }, 22, "PERMIT_UNKNOWN"),
            (Error::PermitsExhausted { most: 1 }, 30, "PERMITS_EXHAUSTED"),
            (Error::TableFull { limit: limit(), budget: 1 }, 31, "TABLE_FULL"),
            (Error::Store(StoreError::new("r")), 40, "STORE_FAILED"),
            (RegionError::Forked.into(), 41, "REGION_FAILED"),
        ];
        for (error, code, name) in table {
            assert_eq!((error.code(), error.name()), (code, name), "{error}");
        }
    }
}
