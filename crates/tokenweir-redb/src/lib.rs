//! Quotas that outlive the process, in one embedded file ([redb](https://docs.rs/redb)).
//!
//! A limiter with this store decides in memory as any other; what it may use is recorded in the file a lease ahead, each
//! write synced before it counts. After a kill or a power cut the recovered use is never below the real one, and above it
//! by a lease at most ([`StoreOptions::lease_part`](tokenweir::StoreOptions)); after a clean end it is exact.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use tokenweir::{Estimate, Limiter, Policy, Request, StoreOptions};
//! use tokenweir_redb::{QuotaFile, Renewer};
//!
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name = "month"
//!     meter = "total"
//!     algorithm = "quota"
//!     amount = 10_000_000
//!     period = "monthly"
//!     scope = ["project"]
//! "#)?;
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("quotas.redb");
//! let file = QuotaFile::open(&path)?;
//! let store = Arc::new(file.store("gateway")?);
//! let limiter = Limiter::builder(policy).store(store.clone(), StoreOptions::new()).build();
//! let renewer = Renewer::start(&limiter, &store)?;
//!
//! limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400))?;
//!
//! renewer.stop()?; // what is leased and not used is given back
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//! Nothing but a few loads is on the path of a request whose lease suffices. A write is one transaction and takes as long
//! as the disk takes to sync: a request waits for one when a quota is used for the first time in its period, and when a
//! lease runs out before it was renewed. [`Renewer`] renews them in time, in a thread; a host may do so itself
//! ([`Limiter::renew_leases`](tokenweir::Limiter::renew_leases)).
//!
//! # Operating it
//! One process has the file open at a time; one that is forked from it gets [`QuotaFileError::InUse`], and opens a file of its
//! own. Its permissions are those of the owner alone. Copy it while no process has it
//! open, or have [`QuotaFile::backup`] write a copy at any time: whoever goes on with a copy goes on with the use of that
//! moment. A file that is damaged, or that a newer release has written, is refused and left as it is.

#![forbid(unsafe_code)]
// redb's errors are large, and none is on the path of a request.
#![allow(clippy::result_large_err)]

mod error;
mod file;
mod record;
mod renewer;
mod store;

pub use error::QuotaFileError;
pub use file::{QuotaFile, QuotaRecord, is_told};
pub use renewer::Renewer;
pub use store::QuotaStore;
