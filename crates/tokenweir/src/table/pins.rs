//! Pins and seals: an entry that somebody holds is never taken away, and one that is being taken away is never held.

use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};

const SEALED: u64 = 1 << 63;
const FREED: u64 = 1 << 62;
const COUNT: u64 = FREED - 1;

/// How many hold an entry, whether it may still be taken hold of, and whether it was let go for good.
#[derive(Debug)]
pub(crate) struct Pins(Word);

impl Pins {
    pub(crate) fn new() -> Self {
        Pins(Word::new(0))
    }

    /// Takes hold, unless the entry is sealed: then the caller looks it up anew.
    // AcqRel: what the one who sealed or unsealed it did is seen, and the hold is seen before the use.
    #[inline]
    pub(crate) fn pin(&self) -> bool {
        if self.0.fetch_add(1, AcqRel) & SEALED == 0 {
            return true;
        }
        self.0.fetch_sub(1, AcqRel);
        false
    }

    /// Takes hold, also of an entry that is sealed but not freed: the seal was only a question, and this answers it.
    /// False if the entry was freed.
    pub(crate) fn pin_unless_freed(&self) -> bool {
        loop {
            let seen = self.0.fetch_add(1, AcqRel);
            if seen & SEALED == 0 {
                return true;
            }
            self.0.fetch_sub(1, AcqRel);
            if seen & FREED != 0 {
                return false;
            }
            if self.0.compare_exchange(SEALED, 1, AcqRel, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Takes hold once more of what is held already; a seal does not matter then.
    #[inline]
    pub(crate) fn pin_again(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Lets go.
    // Release: all that the holders did happens before the entry is freed.
    #[inline]
    pub(crate) fn unpin(&self) {
        self.0.fetch_sub(1, Release);
    }

    pub(crate) fn freed(&self) -> bool {
        self.0.load(Acquire) & FREED != 0
    }

    pub(crate) fn held(&self) -> bool {
        self.0.load(Acquire) & COUNT != 0
    }

    /// Seals the entry if nobody holds it.
    #[must_use]
    pub(crate) fn seal_unheld(&self) -> bool {
        self.0.compare_exchange(0, SEALED, AcqRel, Relaxed).is_ok()
    }

    /// Takes a seal back, unless somebody took hold of the entry meanwhile.
    pub(crate) fn unseal(&self) {
        let _ = self.0.compare_exchange(SEALED, 0, AcqRel, Relaxed);
    }

    /// Seals the entry whoever holds it: it may be [freed](Pins::free) when nobody does any more.
    pub(crate) fn retire(&self) {
        self.0.fetch_or(SEALED, AcqRel);
    }

    /// Whether the entry is sealed and nobody holds it, so that nobody ever will.
    // Acquire: what its holders did is seen.
    pub(crate) fn retired_unheld(&self) -> bool {
        self.0.load(Acquire) == SEALED
    }

    /// True for exactly one caller, and only of a sealed entry that nobody holds.
    #[must_use]
    pub(crate) fn free(&self) -> bool {
        self.0.compare_exchange(SEALED, SEALED | FREED, AcqRel, Relaxed).is_ok()
    }
}
