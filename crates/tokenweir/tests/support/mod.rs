//! What the integration tests share. Every test file is a program of its own and uses a part of it.
#![allow(dead_code)]

pub mod bytes;
pub mod fuzzed;
pub mod ledger;
pub mod lockstep;
pub mod model;
pub mod random;
pub mod strategies;
pub mod trace;
pub mod traffic;
pub mod worst_minute;

use proptest::test_runner::{Config, RngSeed};

/// So many random cases, or as many as `PROPTEST_CASES` says.
pub fn cases(ordinarily: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    // Ordinarily the same traces every time; other ones, as many as wanted, when a number is given.
    let rng_seed = if cases.is_some() { RngSeed::Random } else { RngSeed::Fixed(20_261_123) };
    // What fails is printed in full, and becomes a test of its own.
    Config { cases: cases.unwrap_or(ordinarily), failure_persistence: None, rng_seed, ..Config::default() }
}
