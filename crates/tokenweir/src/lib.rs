//! The token meter and gate that LLM gateways embed.
//!
//! tokenweir decides whether a request to a model may pass, holds its estimated tokens, settles them against what the
//! model really used, and answers for every token afterwards.
//!
//! # Example
//! ```
//! use tokenweir::{Decision, Estimate, Limiter, Policy, Request, Usage};
//!
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name      = "project tpm"
//!     meter     = "total"
//!     algorithm = "bucket"
//!     amount    = 10_000
//!     per       = "1m"
//!     scope     = ["project", "deployment"]
//! "#)?;
//! let limiter = Limiter::new(policy);
//!
//! let request = Request::new("search", "gpt-4o");
//! match limiter.admit(&request, Estimate::new(900, 400))? {
//!     Decision::Admitted(permit) => {
//!         // call the model, then:
//!         permit.settle(Usage::new(912, 77))?;
//!     }
//!     Decision::Denied(denied) => {
//!         println!("{} {} retry after {:?}", denied.status(), denied.limit(), denied.retry_after());
//!     }
//! }
//! # Ok::<(), tokenweir::Error>(())
//! ```
//!
//! # Rooms
//! `clock` and `counter` are the ground; `policy` says what operators want; `table` keeps counters by key; `limiter`
//! puts them together; [`apim`] says how API Management counts and answers, [`gateway`] is the gateway of a Foundry
//! resource. Arrows point only in that order. The core starts no thread and has no `unsafe`. It does no I/O and has no
//! global state, but for time zones: when a policy names one, the system's zone files are read, and kept for the life of
//! the process.

#![forbid(unsafe_code)]

pub mod apim;
mod clock;
mod counter;
mod error;
pub mod gateway;
mod limiter;
pub mod policy;
mod record;
pub mod region;
mod request;
pub mod store;
mod sync;
mod table;

pub use clock::{Clock, CoarseClock, ManualClock, Now, SystemClock};
pub use error::Error;
pub use limiter::elsewhere;
pub use limiter::{
    CounterKey, CounterUsage, Decision, Denied, ExplainedLimit, Explanation, LeftOut, LeftOutReason, LimitView,
    Limiter, LimiterBuilder, Observed, Peek, Permit, Refusal, Restored, Route, Snapshot, Stats, StoreOptions,
    UsageFilter, WhenFull, WhenStoreFails,
};
pub use policy::{Policy, PolicyError};
pub use record::{Decided, Event, Observer, Outcome, Record, RecordRing, Requested, Settled, Settlement};
pub use request::{Estimate, Key, PermitId, Request, Usage};
