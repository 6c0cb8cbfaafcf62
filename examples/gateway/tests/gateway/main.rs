//! The gateway over real connections.

mod admin;
mod calls;
mod connections;
mod ends;
mod keys;
mod layered;
mod peers;
mod refusals;
mod reload;
mod restart;
mod support;
