//! Where counters live: key to words, look-ups without locks, a budget, and eviction of what is at rest.
//!
//! - `pins`: who holds an entry, and the seal that keeps a held one from being orphaned;
//! - `segments`: an array that grows without moving;
//! - `index`: key to place in such an array, without locks;
//! - `counters`: the counters of all limits, by limit and key.

mod counters;
#[cfg_attr(not(test), expect(dead_code, reason = "the maps of counters and routes move to it next"))]
mod index;
mod pins;
mod segments;

pub(crate) use counters::{Counter, Counters, State};
pub(crate) use pins::Pins;
pub(crate) use segments::Segments;

#[cfg(all(test, loom))]
mod loom_models;
