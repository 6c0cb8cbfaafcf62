//! The worst minute: what a limiter admits in its fullest rolling 60 seconds, as a multiple of the limit.
//!
//! A [`Peer`] is anything that admits tokens and may settle them later: an adapter of a few lines. [`pattern::Pattern::run`] puts
//! it under one kind of traffic, on stepped or on real time, and returns the [`Log`] of all that was admitted, from which
//! the fullest interval is computed exactly. The library's own bars are held against these logs by the test
//! `worst_minute`; the program of that name in `benches` holds other limiters against them as well.

pub mod library;
pub mod log;
pub mod pattern;
pub mod race;
pub mod time;
pub mod traffic;

pub use log::Log;
pub use time::Time;

/// One minute, in nanoseconds.
pub const MINUTE: u64 = 60 * SECOND;
/// One second, in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond, in nanoseconds.
pub const MILLI: u64 = 1_000_000;

/// The limit that every peer is given: so many tokens a minute. A token a millisecond, so that a peer which rounds the
/// time of a token to whole nanoseconds loses and gains nothing by it.
pub const LIMIT: u64 = 60_000;

/// A limiter under measurement.
pub trait Peer: Sync {
    /// What an admitted call holds until it ends.
    type Hold: Send;

    /// Whether what a call did not use comes back at its end. Otherwise the estimate stands.
    const SETTLES: bool = true;

    /// Asks for `estimate` tokens at `now`. `None` if they are refused.
    fn ask(&self, estimate: u64, now: u64) -> Option<Self::Hold>;

    /// The call ends at `now`, having used so many tokens; `None` if it failed and used none.
    fn end(&self, hold: Self::Hold, used: Option<u64>, now: u64);
}
