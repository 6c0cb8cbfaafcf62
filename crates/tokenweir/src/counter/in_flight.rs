//! In-flight: unsettled permits, one word.

use super::{Look, Ready};
use crate::sync::{Ordering::Relaxed, Word};

/// The words of one in-flight counter: the number of permits that hold a place.
#[derive(Debug)]
pub(crate) struct InFlight {
    open: Word,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        InFlight { open: Word::new(0) }
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Whether there is a place. Changes nothing.
    #[inline]
    pub(crate) fn look(&self, amount: u64, ready: &mut Ready) -> Look {
        let open = self.open.load(Relaxed);
        if open >= amount {
            return Look::Refused;
        }
        *ready = Ready { seen: open, next: open + 1, with: 0 };
        Look::Fits
    }

    /// Takes the place that a look showed, if as many are taken as then.
    #[inline]
    pub(crate) fn make(&self, ready: &Ready) -> bool {
        self.open.compare_exchange(ready.seen, ready.next, Relaxed, Relaxed).is_ok()
    }

    /// Takes a place if fewer than `amount` are taken.
    // Relaxed: the word is its own truth, it publishes nothing else.
    pub(crate) fn charge(&self, amount: u64) -> bool {
        let mut open = self.open.load(Relaxed);
        loop {
            if open >= amount {
                return false;
            }
            match self.open.compare_exchange_weak(open, open + 1, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(seen) => open = seen,
            }
        }
    }

    /// Gives one place back. Called once per place taken: the permit's exactly-once settlement sees to it.
    pub(crate) fn release(&self) {
        self.open.fetch_sub(1, Relaxed);
    }
}
