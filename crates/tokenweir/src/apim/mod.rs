//! How API Management answers: the profile that reproduces its limiter policies on top of the engine.
//!
//! The service charges afterwards: a request is admitted by the state alone, and its tokens are charged when the
//! response brings them. On the engine that is an estimate of nothing ([`Profile::estimate`]); admission, waiting and
//! counting are the engine's own. What is left for this room is how the limits are written ([`Terms`](crate::gateway::Terms)),
//! and what a refused or admitted caller is told: which refusal, status, text, headers and envelope.
//!
//! - `profile`: the settings, with a default for what is not confirmed about the service;
//! - `answer`: what a refused caller is told;
//! - `words`: durations as the service writes them.
//!
//! Facts are marked \[D\] (the vendor's documentation), \[M\] (measured by others against the live service), \[G\] (read
//! from a policy that the Foundry portal generates), \[I\] (inferred) and \[U\] (not confirmed).

mod answer;
mod profile;
mod words;

pub use answer::{Answer, Remaining};
pub use profile::{BucketRetry, First, Headers, Profile, Tier};
