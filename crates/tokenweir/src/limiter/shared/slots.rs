//! The permits of a region: a slot of words each, as in the slab, and a note of what is being done to it.
//!
//! A slot's state names the seat of whoever fills or settles it. What that has done so far stands in the note, each step
//! written before it is made, so that of a process that has ended at most one step is in doubt.

use super::super::slab::{CLOSED, Claimed, FILLING, FREE, Gone, OPEN, PHASE, SETTLING, Seen, Slot, generation_of};
use crate::counter::places::{Marks, Taker};
use crate::region::{LEGS, NOTE, Name, SLOT};
use crate::request::Estimate;
use crate::sync::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    Word,
};

const SEAT_SHIFT: u32 = 4;
const SEAT: u64 = 0x3f << SEAT_SHIFT;

// The words of a note.
/// What it comes to: the generation, and how it ended (8 bits, 0: not known yet).
const OUTCOME: usize = 0;
const INPUT: usize = 1;
const CACHED: usize = 2;
const OUTPUT: usize = 3;
/// The generation, whether it is being settled (1 bit), and the step that is being made (15).
const PROGRESS: usize = 4;
/// The process that asked for the permit, as the system numbers it.
const PROCESS: usize = 5;
/// Receipts that the slot has no room for.
const FAR: usize = 8;
const MARKS: usize = 16;

const NEAR: usize = SLOT - 8;
const _: () = assert!(FAR + (LEGS - NEAR) <= MARKS && MARKS + LEGS <= NOTE);

const IS_SETTLING: u64 = 1 << 15;

// Observed tokens: closed (1 bit), the generation (15), input (24), output (24).
const OBSERVED_BITS: u32 = 24;
const OBSERVED_MOST: u64 = (1 << OBSERVED_BITS) - 1;
const OBSERVED_GENERATION: u64 = (1 << 15) - 1;

/// How far a permit is that somebody charges or settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not begun.
    None,
    /// So many limits are charged, and the next one may be.
    Charging(usize),
    /// So many steps of the settlement are made (two for each limit), and the next one may be.
    Settling(usize),
}

/// What a permit came to in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) how: u64,
    pub(crate) input: u64,
    pub(crate) cached_input: u64,
    pub(crate) output: u64,
}

#[derive(Debug)]
pub(crate) struct Slots {
    slots: &'static [Word],
    notes: &'static [Word],
    seat: u64,
    process: u64,
    next: AtomicUsize,
}

impl Marks for Slots {
    fn mark(&self, slot: usize, leg: usize) -> &Word {
        &self.note(slot)[MARKS + leg.min(LEGS - 1)]
    }
}

impl Slots {
    pub(crate) fn new(slots: &'static [Word], notes: &'static [Word], seat: usize) -> Self {
        let next = AtomicUsize::new(slots.len() / SLOT / crate::table::PROCESSES * seat);
        Slots { slots, notes, seat: seat as u64, process: u64::from(std::process::id()), next }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() / SLOT
    }

    fn note(&self, index: usize) -> &'static [Word] {
        &self.notes[index.min(self.len() - 1) * NOTE..][..NOTE]
    }

    pub(crate) fn slot(&self, index: usize) -> Option<Slot<'static>> {
        let words = self.slots.get(index * SLOT..(index + 1) * SLOT)?;
        Some(Slot::of(words.try_into().ok()?))
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, Slot<'_>)> {
        (0..self.len()).filter_map(|index| Some((index, self.slot(index)?)))
    }

    fn mine(&self, phase: u64) -> u64 {
        phase | self.seat << SEAT_SHIFT
    }

    /// A free slot, claimed; none if all are taken.
    pub(crate) fn claim(&self) -> Option<Claimed<'static>> {
        let first = self.next.fetch_add(1, Relaxed);
        for step in 0..self.len() {
            let index = (first + step) % self.len();
            let Some(slot) = self.slot(index) else { continue };
            let free = slot.state().load(Relaxed);
            if free & PHASE != FREE {
                continue;
            }
            let (claimed, state) = Claimed::new(slot, index, free);
            // AcqRel: the slot's last permit is done with before its words are written anew.
            if slot.state().compare_exchange(free, state | self.seat << SEAT_SHIFT, AcqRel, Relaxed).is_ok() {
                self.next.store(index + 1, Relaxed);
                return Some(claimed);
            }
        }
        None
    }

    /// Writes down whose permit it is to be, before anything is charged: `route` names its policy and its caller.
    pub(crate) fn begin(&self, claimed: Claimed<'_>, route: u64, estimate: Estimate, at: u64, deadline: u64) {
        let slot = claimed.slot;
        // SeqCst: see `Policies::publish`.
        slot.route().swap(route, SeqCst);
        slot.charged_at().store(at, Relaxed);
        slot.deadline().store(deadline, Relaxed);
        slot.input().store(estimate.input, Relaxed);
        slot.output().store(estimate.output, Relaxed);
        let generation = claimed.generation() & OBSERVED_GENERATION;
        slot.observed_word().store(generation << (2 * OBSERVED_BITS), Relaxed);
        self.note(claimed.index())[PROCESS].store(self.process, Relaxed);
    }

    /// So many limits are charged; the next one is about to be.
    #[inline]
    pub(crate) fn charging(&self, claimed: Claimed<'_>, legs: usize) {
        // Release: what was done before stands if this does.
        self.note(claimed.index())[PROGRESS].store(claimed.generation() << 16 | legs as u64, Release);
    }

    /// So many steps of the settlement are made; the next one is about to be.
    #[inline]
    pub(crate) fn settling(&self, index: usize, generation: u64, steps: usize) {
        self.note(index)[PROGRESS].store(generation << 16 | IS_SETTLING | steps as u64, Release);
    }

    pub(crate) fn progress(&self, index: usize, generation: u64) -> Progress {
        let word = self.note(index)[PROGRESS].load(Acquire);
        let steps = (word & (IS_SETTLING - 1)) as usize;
        match word >> 16 == generation {
            false => Progress::None,
            true if word & IS_SETTLING != 0 => Progress::Settling(steps),
            true => Progress::Charging(steps),
        }
    }

    /// The receipt word of a permit's `leg`.
    pub(crate) fn receipt<'a>(&'a self, slot: Slot<'a>, index: usize, leg: usize) -> &'a Word {
        match slot.receipts().get(leg) {
            Some(receipt) => receipt,
            None => &self.note(index)[FAR + leg.min(LEGS - 1) - NEAR],
        }
    }

    pub(crate) fn taker(&self, index: usize, generation: u64, leg: usize) -> Taker {
        Taker { slot: index, leg, generation }
    }

    /// Opens a permit whose limits are charged. Its state.
    pub(crate) fn open(&self, claimed: Claimed<'_>) -> u64 {
        let state = claimed.generation() << 24 | self.mine(OPEN);
        // Release: the words are written before anyone can settle by them.
        claimed.slot.state().store(state, Release);
        state
    }

    /// Takes the permit for settlement: true for exactly one caller. What was observed is final then, and returned.
    pub(crate) fn begin_settling(&self, seen: Seen<'_>) -> Result<(u64, u64), Gone> {
        let taken = generation_of(seen.state) << 24 | self.mine(SETTLING);
        let mut state = seen.state;
        // AcqRel: the words of the permit are seen.
        while let Err(now) = seen.slot.state().compare_exchange(state, taken, AcqRel, Acquire) {
            // Another process may have opened it anew, in its own name.
            if (now ^ seen.state) & !SEAT != 0 {
                return Err(Gone::Settled);
            }
            state = now;
        }
        let observed = seen.slot.observed_word().fetch_or(CLOSED, AcqRel);
        Ok(counts(observed))
    }

    /// Writes down what it comes to, before any limit is brought there.
    pub(crate) fn note_outcome(&self, index: usize, generation: u64, noted: Noted) {
        let note = self.note(index);
        note[INPUT].store(noted.input, Relaxed);
        note[CACHED].store(noted.cached_input, Relaxed);
        note[OUTPUT].store(noted.output, Relaxed);
        note[OUTCOME].store(generation << 8 | noted.how, Release);
    }

    pub(crate) fn noted(&self, index: usize, generation: u64) -> Option<Noted> {
        let note = self.note(index);
        let outcome = note[OUTCOME].load(Acquire);
        (outcome >> 8 == generation && outcome & 0xff != 0).then(|| Noted {
            how: outcome & 0xff,
            input: note[INPUT].load(Relaxed),
            cached_input: note[CACHED].load(Relaxed),
            output: note[OUTPUT].load(Relaxed),
        })
    }

    /// Frees a slot that the caller alone has.
    pub(crate) fn free(&self, slot: Slot<'_>) {
        let generation = generation_of(slot.state().load(Relaxed));
        // Release: whoever claims it next is done reading it after us.
        slot.state().store(generation << 24 | FREE, Release);
    }

    /// What was observed of an open permit so far.
    pub(crate) fn observed(&self, slot: Slot<'_>) -> (u64, u64) {
        counts(slot.observed_word().load(Acquire))
    }

    /// What was observed of the permit that was seen: the word to be changed, and what it says.
    pub(crate) fn watch(&self, seen: Seen<'_>) -> Result<(u64, (u64, u64)), Gone> {
        let word = seen.slot.observed_word().load(Acquire);
        let generation = generation_of(seen.state) & OBSERVED_GENERATION;
        if word & CLOSED != 0 || word >> (2 * OBSERVED_BITS) != generation {
            return Err(Gone::Settled);
        }
        Ok((word, counts(word)))
    }

    /// Makes it say `after`. Whether it had not changed.
    pub(crate) fn observe(&self, seen: Seen<'_>, word: u64, after: (u64, u64)) -> bool {
        let next = word & !(OBSERVED_MOST << OBSERVED_BITS | OBSERVED_MOST) | after.0 << OBSERVED_BITS | after.1;
        seen.slot.observed_word().compare_exchange(word, next, AcqRel, Relaxed).is_ok()
    }

    /// Whether a permit's word has room for so many observed tokens.
    pub(crate) fn has_room(&self, after: (u64, u64)) -> bool {
        after.0.max(after.1) <= OBSERVED_MOST
    }

    /// What a seat is at, or was when it ended: the phase and the generation, of a slot that it fills or settles.
    pub(crate) fn half_done(&self, slot: Slot<'_>, seat: usize) -> Option<(u64, u64)> {
        let state = slot.state().load(Acquire);
        let is_its_own = (state & SEAT) >> SEAT_SHIFT == seat as u64;
        let phase = state & PHASE;
        (is_its_own && matches!(phase, FILLING | SETTLING)).then(|| (phase, generation_of(state)))
    }

    /// The process that asked for the permit in a slot.
    pub(crate) fn process_of(&self, index: usize) -> u64 {
        self.note(index)[PROCESS].load(Relaxed)
    }

    /// Makes a permit that its seat left half done an open one again, or one for the first time.
    pub(crate) fn reopen(&self, slot: Slot<'_>, generation: u64) -> u64 {
        slot.observed_word().fetch_and(!CLOSED, AcqRel);
        let state = generation << 24 | self.mine(OPEN);
        slot.state().store(state, Release);
        state
    }

    /// Settles on in this seat's name what another left half settled.
    pub(crate) fn settle_on(&self, slot: Slot<'_>, generation: u64) {
        slot.state().store(generation << 24 | self.mine(SETTLING), Release);
    }

    /// Passes the policy of every permit, and some of slots that were just now being claimed or freed.
    pub(crate) fn each_named(&self, mut see: impl FnMut(Name)) {
        for (_, slot) in self.each() {
            // First, and SeqCst: see `Policies::publish`. Whoever wrote it had claimed the slot.
            let (policy, _) = Name::and_record(slot.route().load(SeqCst));
            if slot.state().load(Acquire) & PHASE != FREE {
                see(policy);
            }
        }
    }

    /// The routes whose permits somebody fills or settles just now.
    pub(crate) fn busy(&self) -> impl Iterator<Item = u64> {
        let busy = |slot: &Slot<'_>| matches!(slot.state().load(Acquire) & PHASE, FILLING | SETTLING);
        self.each().map(|(_, slot)| slot).filter(busy).map(|slot| slot.route().load(Acquire))
    }
}

/// How many permits in these words are open.
pub(crate) fn open_permits(slots: &'static [Word]) -> usize {
    slots.chunks(SLOT).filter(|slot| slot[0].load(Acquire) & PHASE == OPEN).count()
}

fn counts(observed: u64) -> (u64, u64) {
    (observed >> OBSERVED_BITS & OBSERVED_MOST, observed & OBSERVED_MOST)
}
