//! The gateway over real connections.

mod admin;
mod calls;
mod connections;
mod ends;
mod keys;
mod layered;
mod peers;
#[cfg(target_os = "linux")]
mod program;
mod refusals;
mod reload;
mod restart;
#[cfg(target_os = "linux")]
mod stored;
mod support;
#[cfg(target_os = "linux")]
mod workers;
