//! Where counters live: key to words, look-ups without locks, a budget, and eviction of what is at rest.
//!
//! - `pins`: who holds an entry, and the seal that keeps a held one from being orphaned;
//! - `segments`: an array that grows without moving;
//! - `index`: hash to place in such an array, without locks;
//! - `entries`: what is found by hash and named by place: counters, and routes;
//! - `directory`: records in a region that processes share, found by key;
//! - `counters`: the counters of all limits, by limit and key.

mod counters;
mod directory;
mod entries;
mod index;
mod pins;
mod segments;

pub(crate) use counters::{Counter, Counters, Hold, SharedState, SharedWords, State};
pub(crate) use directory::{Directory, NoRecord, PROCESSES, Shape};
pub(crate) use entries::Entries;
pub(crate) use pins::Pins;
pub(crate) use segments::Segments;

/// What the maps hash by: keyed at random, so that nobody can choose keys that collide. Where schedules are to be run
/// again (shuttle) the keys are fixed.
pub(crate) fn hasher() -> ahash::RandomState {
    if cfg!(shuttle) { ahash::RandomState::with_seeds(1, 2, 3, 4) } else { ahash::RandomState::new() }
}

#[cfg(all(test, loom))]
mod directory_loom_models;
#[cfg(all(test, loom))]
mod loom_models;
