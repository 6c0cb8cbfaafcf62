//! What the benches share: each piece of work, defined once, for the criterion benches and for the table of bars.

pub mod machine;
pub mod policies;
pub mod work;

/// The snippets of COMPARE.md, to be compiled and run.
#[cfg(all(doctest, feature = "peers"))]
#[doc = include_str!("../../COMPARE.md")]
pub struct Compare;
