//! Counters that outlive their process: a limiter that takes up a snapshot decides as the one that was saved would have,
//! or more strictly.

mod document;
mod guarantees;
#[path = "../support/random.rs"]
mod random;
mod stage;
mod twin;
