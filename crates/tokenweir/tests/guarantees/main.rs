//! The guarantees of the contract, section 4, each by name.
//!
//! - `bounds`: S1 to S4, counted on the tokens that went through, and S7's 98 per cent;
//! - `life`: S5, what changes nothing and what adds up;
//! - `waits`: S8, retry-after to the nanosecond;
//! - `time`: S10 and the exactness of a century's refill;
//! - `keys`: section 6;
//! - `threads`: S5 and S6 under concurrency;
//! - `moving`: S3 and S5 under concurrency, while time, the policy and the counters change.
//!
//! S9 is the structure's own and is model-checked beside the counters.

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod keys;
mod life;
mod moving;
mod threads;
mod time;
mod waits;
