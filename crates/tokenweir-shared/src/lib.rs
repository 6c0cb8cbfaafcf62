//! Limits that several processes of one host share: [`tokenweir`]'s counters and permits in a memory-mapped file.
//!
//! nginx, Kong and APISIX run a worker for each core, uvicorn and gunicorn too; a worker that counts alone multiplies every
//! limit by the number of workers. On a region a limit counts once: the same algorithms run on the same lock-free words,
//! a permit that one worker was given is settled by its id in another, and what was counted outlives the workers.
//!
//! # Example
//! ```
//! use tokenweir::{Estimate, Limiter, Policy, Request, Usage};
//! use tokenweir_shared::{Layout, SharedRegion};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("gateway.tokenweir");
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name      = "project tpm"
//!     meter     = "total"
//!     algorithm = "bucket"
//!     amount    = 10_000
//!     per       = "1m"
//!     scope     = ["project"]
//! "#)?;
//! // In each worker, after it was forked. The file belongs in /dev/shm or /run.
//! let region = SharedRegion::open_or_create(&path, &Layout::of(&policy))?;
//! let limiter = region.build(Limiter::builder(policy))?;
//!
//! let permit = limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400))?.admitted().expect("room");
//! // By id, in whichever worker.
//! limiter.settle(permit.into_id(), Usage::new(912, 77))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A process that dies
//! It may be killed at any instruction. Nobody waits for it, and no lock is left held: whoever comes next, or at the latest
//! after a tenth of a second whoever is at work, finishes or undoes what it was at. Its open permits may be settled by
//! others, and expire at last; an in-flight place is never lost. Of the one step that it was at, a bucket, a window or a
//! quota cannot tell whether it was made: they may count one request's charge too much ([`Status::unsure_steps`]), never
//! too little.
//!
//! # Another policy
//! [`Limiter::swap_policy`](tokenweir::Limiter::swap_policy) in any of the processes puts another policy in force for all: each
//! goes by it from its next call on, and nothing that was counted is lost. A worker that starts later has to have that policy,
//! or take it: [`SharedRegion::policy`], [`policy_of_region`](tokenweir::LimiterBuilder::policy_of_region).
//!
//! # Limits of it
//! - Linux; elsewhere nobody gets a region. All processes must have the same user, run the same release, and see the same file.
//! - At most 48 limiters on a region. One that is built before a fork refuses to work in the child.
//! - A region keeps eight policies: the one in force, and those that open permits were admitted under. One more is refused.
//! - A region does not outlive a restart of the machine: quotas that must are kept in a store.

#[cfg(target_os = "linux")]
mod clock;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
#[cfg(target_os = "linux")]
mod file;
#[cfg(target_os = "linux")]
mod map;
#[cfg(target_os = "linux")]
mod region;
#[cfg(target_os = "linux")]
mod seat;
mod status;

#[cfg(target_os = "linux")]
pub use clock::HostClock;
#[cfg(not(target_os = "linux"))]
pub use elsewhere::SharedRegion;
pub use error::SharedError;
#[cfg(target_os = "linux")]
pub use region::SharedRegion;
pub use status::{Attached, Status};
pub use tokenweir::region::Layout;
