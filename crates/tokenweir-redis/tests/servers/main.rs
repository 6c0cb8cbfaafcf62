//! The limiter on real servers: one, a cluster, and ones that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod beyond;
mod cluster;
mod elsewhere;
mod faults;
mod late;
mod leases;
mod open;
mod outage;
mod readme;
mod sentinel;
mod shared;
mod stage;
mod strange;
mod tls;
