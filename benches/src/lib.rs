//! What the benches share: each piece of work, defined once, for the criterion benches and for the table of bars.

pub mod machine;
pub mod policies;
pub mod work;
