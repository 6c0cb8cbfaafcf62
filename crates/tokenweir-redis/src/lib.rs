//! Limits of [tokenweir](https://docs.rs/tokenweir) that many processes and machines share, on Redis or Valkey.
//!
//! [`RedisLimiter`] decides over all limits of a request by one call of one script on the server: all or none, by the server's
//! clock, whatever the number of processes. [`BlockingLimiter`] is the same without an asynchronous runtime. The decisions are
//! those of the engine ([`tokenweir::Limiter`]), with its policies, its denials and its settlements.
//!
//! With [`Builder::leases`] each process takes capacity from the server in advance and decides in memory, by what the server has
//! charged already: [`Leases`].
//!
//! # What it needs
//! Redis 5 or later, or Valkey: one server, a cluster, or sentinels ([`Server`]). No eviction (`maxmemory-policy noeviction`): a
//! counter that the server evicts begins anew. Of the commands `EVALSHA` or `EVAL`, and within scripts `TIME GET MGET SET SETRANGE DEL
//! EXISTS ZADD ZCARD ZCOUNT ZRANGE ZREM ZREMRANGEBYSCORE PTTL PEXPIRE`; for [`RedisLimiter::usage`] `SCAN`. `SCRIPT` is never used.
//!
//! [`OpenPermits`] are for hosts that can wait where they decide and nowhere else: gates, and the tower layer.
//!
//! # When the server is away
//! No call waits longer than [`Builder::deadline`]. What is decided then, [`WhenAway`] says, and each decision tells who made it
//! ([`By`]). What was admitted without the server is in [`Stats::without_server`], and charged when it is back.
//!
//! # What is exact
//! Windows, quotas and in-flight limits decide and settle as the engine's exact model does, to the microsecond of the server's
//! clock; so do buckets, but for what they give back: see DESIGN.md. Amounts end at 2^53, as everywhere.

mod answer;
mod blocking;
mod builder;
mod calls;
mod decision;
mod error;
mod ids;
mod keeper;
mod lease;
mod leased;
mod limiter;
mod link;
#[cfg(test)]
mod lockstep;
mod numbers;
mod open;
mod outage;
mod permit;
mod plan;
mod record;
mod script;
mod sentinels;
mod server;
mod together;
mod usage;

pub use blocking::{BlockingDecision, BlockingLimiter, BlockingPermit};
pub use builder::Builder;
pub use decision::{By, Decision, Standing, Stats};
pub use error::Error;
pub use lease::Leases;
pub use limiter::RedisLimiter;
pub use open::OpenPermits;
pub use outage::{OutageUse, WhenAway};
pub use permit::{Ended, Observed, Permit};
pub use server::Server;
