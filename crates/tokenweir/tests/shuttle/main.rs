//! Whole scenes under shuttle's scheduler, which chooses at every access to an atomic which thread goes on: threads that
//! admit, observe, settle, expire, evict and change the policy, and what must be true of the books whichever way they
//! met. Run by `scripts/shuttle`.
//!
//! Shuttle sees every interleaving of the engine's own words and its lock, not weak memory orders (loom does, on the
//! small models), and nothing inside arc-swap and once_cell. Threads have no
//! slots of their own here (`limiter/owner`): all share them.
#![cfg(shuttle)]

mod books;
mod explore;
mod rollback;
mod stage;
mod swaps;
mod times;
