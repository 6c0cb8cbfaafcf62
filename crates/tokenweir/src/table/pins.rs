//! Pins and seals: an entry that somebody holds is never taken away, and one that is being taken away is never held.

use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed},
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

    /// Takes hold, unless the entry is sealed: then the caller looks it up anew. A caller who is refused a retired
    /// entry must try to [`free`](Pins::free) it: its attempt may have hidden from the last holder that it was the last.
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

    /// Lets go. True if that was the last hold of a sealed entry: the caller then tries to [`free`](Pins::free) it.
    // AcqRel: all that the holders did happens before the entry is freed.
    #[inline]
    #[must_use]
    pub(crate) fn unpin(&self) -> bool {
        self.0.fetch_sub(1, AcqRel) == SEALED | 1
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

    /// Seals the entry whoever holds it: the last one to let go frees it. True if nobody does.
    #[must_use]
    pub(crate) fn retire(&self) -> bool {
        self.0.fetch_or(SEALED, AcqRel) & COUNT == 0
    }

    /// True for exactly one caller, once a sealed entry is held by nobody.
    #[must_use]
    pub(crate) fn free(&self) -> bool {
        self.0.compare_exchange(SEALED, SEALED | FREED, AcqRel, Relaxed).is_ok()
    }
}
