//! Counters: what one limit has counted for one key. Algorithms over 64-bit words; time is an argument.
//!
//! - `line`: the exact token line that a bucket refills along;
//! - `bucket`: token bucket with debt, and `floors`: what it takes to give back exactly as if;
//! - `window`: sliding window of sub-windows;
//! - `quota`: calendar periods;
//! - `in_flight`: unsettled permits; `places`: those of a region, of which the death of a process leaves none in doubt;
//! - `words`: where the words are.
//!
//! Nothing here knows of policies, keys, tables or permits, reads a clock, blocks or allocates (one exception: a
//! bucket's floors come into being once it is in use). Every operation is lock-free: a loop repeats only because
//! another thread's operation went through.

pub(crate) mod bucket;
pub(crate) mod floors;
pub(crate) mod in_flight;
pub(crate) mod line;
pub(crate) mod places;
pub(crate) mod quota;
pub(crate) mod window;
pub(crate) mod words;

#[cfg(all(test, loom))]
pub(crate) mod loom_models;
#[cfg(all(test, loom))]
mod places_loom_models;

/// The largest amount that a window or a quota can hold in its word: what exceeds it saturates, on the strict side,
/// since no limit is above 2^53.
pub(crate) const AMOUNT_BITS: u32 = 54;
pub(crate) const AMOUNT_MAX: u64 = (1 << AMOUNT_BITS) - 1;

/// A charge worked out on a word as it was seen: made by the swap that finds it so still.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    pub(crate) seen: u64,
    pub(crate) next: u64,
    /// What else the algorithm needs to make it.
    pub(crate) with: u64,
}

impl Ready {
    /// Whether it is one: no charge leaves a word at 0.
    #[inline]
    pub(crate) fn is_some(&self) -> bool {
        self.next != 0
    }
}

/// What a look at a counter's words shows of a charge. What makes it goes into a [`Ready`] of the caller's: handed on
/// by value it would be copied while its words are still being written, and wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Fits,
    Refused,
    /// Something has to be done first, or it is not the common case: charge it the long way.
    Unsure,
}

/// Whether a charge of `n` fits where `used` of `amount` is taken. A charge of 0 needs at least one unit left.
#[inline]
pub(crate) fn fits(used: u64, n: u64, amount: u64) -> bool {
    if n == 0 { used < amount } else { used.saturating_add(n) <= amount }
}
