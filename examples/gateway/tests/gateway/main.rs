//! The gateway over real connections.

mod admin;
mod calls;
mod connections;
mod ends;
mod keys;
mod layered;
#[cfg(target_os = "linux")]
mod on_server;
mod peers;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
#[path = "../../../../crates/tokenweir-redis/tests/support/mod.rs"]
mod redis;
mod refusals;
mod reload;
mod restart;
#[cfg(target_os = "linux")]
mod stored;
mod support;
#[cfg(target_os = "linux")]
mod workers;
