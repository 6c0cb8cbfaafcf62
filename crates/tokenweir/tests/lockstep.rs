//! The library and the reference model through the same random scenarios.

mod support;

use proptest::test_runner::TestRunner;
use std::cell::Cell;
use support::cases;
use support::lockstep::{Lockstep, Tally};
use support::strategies::scenario;

#[test]
fn s5_s7_the_library_decides_as_the_model_does() {
    let seen = Cell::new(Tally::default());
    let result = TestRunner::new(cases(1500)).run(&scenario(160), |scenario| {
        seen.set(seen.get() + Lockstep::run(&scenario));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.get();
    println!("{seen:?}");
    // A run that denies nothing or never looks at an exact counter would prove nothing.
    assert!(seen.admitted > 10_000 && seen.denied > 5000 && seen.returned > 5000, "{seen:?}");
    assert!(seen.exact > seen.loose, "{seen:?}");
}
