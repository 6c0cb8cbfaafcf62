//! In-flight places in a region: one word that counts them, and says who changed it last.
//!
//! A process may end between any two steps. Of a place nobody may be in doubt then whether it was taken: so whoever takes
//! or gives one back first writes its intent into a *mark* of its own (each permit has one for each limit), then changes
//! the word, which bears its *tag* from then on, then writes that it is done. Whoever changes the word next writes that
//! first, on its behalf. So an intent whose tag is not in the word, and that nobody has turned into a deed, is none.
//!
//! A tag is the permit's slot, the limit's place in it, the low bits of the slot's generation, and what was done. A word
//! that nobody has changed for so long that the low bits have come round is turned to no tag before the intent is written.

use crate::sync::{
    Ordering::{AcqRel, Acquire, Release},
    Word,
};

const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

// A tag: what was done (1 bit), the leg (4), the slot (20), the generation (19).
const LEG_SHIFT: u32 = 1;
const SLOT_SHIFT: u32 = 5;
const GENERATION_SHIFT: u32 = 25;
const GENERATION: u64 = (1 << 19) - 1;
/// No permit has as many limits.
const NO_LEG: u64 = 15;

/// The most slots of permits.
pub(crate) const SLOTS_MOST: usize = 1 << 20;
/// The most limits of a permit.
pub(crate) const LEGS_MOST: usize = NO_LEG as usize;

// A mark: the slot's generation, and how far it is (4 bits).
const STAGE_BITS: u32 = 4;
const STAGE: u64 = (1 << STAGE_BITS) - 1;
const NOT_TAKEN: u64 = 0;
const TAKING: u64 = 1;
const TAKEN: u64 = 2;
const GIVING: u64 = 3;
const GIVEN: u64 = 4;

/// Where marks are.
pub(crate) trait Marks {
    /// The mark of the permit in `slot` for its limit `leg`. Of what is none, any.
    fn mark(&self, slot: usize, leg: usize) -> &Word;
}

/// Whose place it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker {
    pub(crate) slot: usize,
    pub(crate) leg: usize,
    /// The slot's, 40 bits.
    pub(crate) generation: u64,
}

impl Taker {
    fn tag(self, taking: bool) -> u64 {
        let generation = (self.generation & GENERATION) << GENERATION_SHIFT;
        (generation | (self.slot as u64) << SLOT_SHIFT | (self.leg as u64) << LEG_SHIFT | u64::from(taking))
            << COUNT_BITS
    }

    fn stage(self, stage: u64) -> u64 {
        self.generation << STAGE_BITS | stage
    }
}

/// The word of one in-flight counter in a region.
#[derive(Debug)]
pub(crate) struct Places(&'static Word);

impl Places {
    /// One in this word. 0 is one of which no place is taken.
    pub(crate) fn shared(word: &'static Word) -> Self {
        Places(word)
    }

    pub(crate) fn open(&self) -> u64 {
        self.0.load(Acquire) & COUNT
    }

    /// Writes on behalf of whoever made the word what it is that this is done.
    pub(super) fn help(word: u64, marks: &impl Marks) {
        let leg = word >> (COUNT_BITS + LEG_SHIFT) & 15;
        if leg == NO_LEG {
            return;
        }
        let slot = word >> (COUNT_BITS + SLOT_SHIFT) & (SLOTS_MOST as u64 - 1);
        let taking = word >> COUNT_BITS & 1 != 0;
        let mark = marks.mark(slot as usize, leg as usize);
        let seen = mark.load(Acquire);
        let intent = if taking { TAKING } else { GIVING };
        let same = (seen >> STAGE_BITS) & GENERATION == word >> (COUNT_BITS + GENERATION_SHIFT) & GENERATION;
        if same && seen & STAGE == intent {
            // AcqRel: written before the word is changed. If another has been faster, it is written.
            let _ = mark.compare_exchange(seen, seen + 1, AcqRel, Acquire);
        }
    }

    /// Turns the word to no tag if it bears this one, from an earlier time.
    fn clear(&self, tag: u64) {
        loop {
            let word = self.0.load(Acquire);
            if word & !COUNT != tag {
                return;
            }
            let none = word & COUNT | NO_LEG << (COUNT_BITS + LEG_SHIFT);
            if self.0.compare_exchange(word, none, AcqRel, Acquire).is_ok() {
                return;
            }
        }
    }

    /// Takes a place if fewer than `amount` are taken.
    pub(crate) fn take(&self, taker: Taker, amount: u64, marks: &impl Marks) -> bool {
        let (mark, tag) = (marks.mark(taker.slot, taker.leg), taker.tag(true));
        self.clear(tag);
        // Release, here and below: what this process wrote before is written if this is.
        mark.store(taker.stage(TAKING), Release);
        crate::region::step("place to be taken");
        loop {
            let word = self.0.load(Acquire);
            if word & COUNT >= amount.min(COUNT) {
                mark.store(taker.stage(NOT_TAKEN), Release);
                return false;
            }
            Self::help(word, marks);
            // AcqRel: the intent is written before, the deed after.
            if self.0.compare_exchange_weak(word, ((word & COUNT) + 1) | tag, AcqRel, Acquire).is_ok() {
                break;
            }
        }
        crate::region::step("place taken");
        mark.store(taker.stage(TAKEN), Release);
        true
    }

    /// Gives the taker's place back, unless it has none or has done so.
    pub(crate) fn give_back(&self, taker: Taker, marks: &impl Marks) {
        let (mark, tag) = (marks.mark(taker.slot, taker.leg), taker.tag(false));
        if mark.load(Acquire) != taker.stage(TAKEN) {
            return;
        }
        self.clear(tag);
        mark.store(taker.stage(GIVING), Release);
        crate::region::step("place to be given back");
        loop {
            let word = self.0.load(Acquire);
            Self::help(word, marks);
            let left = (word & COUNT).saturating_sub(1);
            if self.0.compare_exchange_weak(word, left | tag, AcqRel, Acquire).is_ok() {
                break;
            }
        }
        crate::region::step("place given back");
        mark.store(taker.stage(GIVEN), Release);
    }

    /// Settles what a taker whose process has ended was at: nothing is in doubt afterwards. Whether it has the place.
    pub(crate) fn clear_up(&self, taker: Taker, marks: &impl Marks) -> bool {
        let mark = marks.mark(taker.slot, taker.leg);
        // The word first: whoever has changed it since has written what was done before that.
        Self::help(self.0.load(Acquire), marks);
        let seen = mark.load(Acquire);
        if seen >> STAGE_BITS != taker.generation {
            return false;
        }
        match seen & STAGE {
            TAKING => {
                mark.store(taker.stage(NOT_TAKEN), Release);
                false
            }
            GIVING => {
                mark.store(taker.stage(TAKEN), Release);
                true
            }
            stage => stage == TAKEN,
        }
    }
}
