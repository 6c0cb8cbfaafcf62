//! The permit slab: one slot of plain words for each open permit.
//!
//! A permit's id is the slot's index and generation. The slot's state word makes settlement happen exactly once: the
//! one whose swap takes it from open to settling settles, and every other finds another state or generation. Those who
//! observe a stream count themselves in and out of the state word; a slot is not used again before the last of them
//! has left, and nobody waits for them.

use crate::request::PermitId;
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};
use crate::table::Segments;

/// Receipts that a slot has room for; a route of more limits takes further slots.
#[cfg(not(loom))]
pub(crate) const RECEIPTS: usize = 8;
#[cfg(loom)]
pub(crate) const RECEIPTS: usize = 1;

/// A limit that was not charged: a shadow limit that would have refused.
pub(crate) const NOT_CHARGED: u64 = u64::MAX;

/// A search for a free slot looks at this many in a row, and jumps this often, before the slab grows.
#[cfg(not(loom))]
const RUN: usize = 16;
#[cfg(loom)]
const RUN: usize = 2;
const JUMPS: u64 = if cfg!(loom) { 1 } else { 16 };

const INDEX_BITS: u32 = 24;
const GENERATION: u64 = (1 << 40) - 1;

// The state word: generation (40 bits), observers (20), phase (4).
const GENERATION_SHIFT: u32 = 24;
const OBSERVER: u64 = 1 << 4;
const OBSERVERS: u64 = ((1 << 20) - 1) << 4;
const PHASE: u64 = 0xf;
const FREE: u64 = 0;
/// Claimed by a request that is being charged.
const FILLING: u64 = 1;
const OPEN: u64 = 2;
/// Somebody settles it.
const SETTLING: u64 = 3;
/// Settled; the last observer frees it.
const SETTLED: u64 = 4;

/// Observed tokens: closed (1 bit), input (31), output (32).
const CLOSED: u64 = 1 << 63;
const INPUT_MAX: u64 = (1 << 31) - 1;
const OUTPUT_MAX: u64 = (1 << 32) - 1;

/// What a slot holds of its permit. Written by the request that claims it, read by whoever settles it.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Word,
    /// The route, as an index into the registry of routes.
    pub(crate) route: Word,
    pub(crate) charged_at: Word,
    pub(crate) deadline: Word,
    pub(crate) input: Word,
    pub(crate) output: Word,
    observed: Word,
    /// 1 + the index of the slot with the next receipts, or 0.
    more: Word,
    receipts: [Word; RECEIPTS],
}

impl Default for Slot {
    fn default() -> Self {
        let word = || Word::new(0);
        Slot {
            state: word(),
            route: word(),
            charged_at: word(),
            deadline: word(),
            input: word(),
            output: word(),
            observed: word(),
            more: word(),
            receipts: std::array::from_fn(|_| word()),
        }
    }
}

/// Why a permit could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It was settled, cancelled or dropped, or it expired.
    Settled,
    /// This limiter never issued it.
    Unknown,
    /// More was observed of it than its slot can hold; it is still open.
    Overflow,
}

/// An open permit's slot, seen at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) index: usize,
    state: u64,
}

#[derive(Debug)]
pub(crate) struct Slab {
    slots: Segments<Slot>,
    /// Generations start here, at random, so that another limiter's ids are not mistaken for this one's.
    first: u64,
}

#[cfg(not(any(loom, shuttle)))]
mod hint {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// Threads begin their search some cache lines apart.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HINT: Cell<usize> = Cell::new(NEXT.fetch_add(8, Relaxed) % 64);
    }

    pub(super) fn get() -> usize {
        HINT.try_with(Cell::get).unwrap_or(0)
    }

    pub(super) fn set(index: usize) {
        // A thread that is being torn down has no hint to keep.
        let _ = HINT.try_with(|hint| hint.set(index));
    }
}

#[cfg(any(loom, shuttle))]
mod hint {
    pub(super) fn get() -> usize {
        0
    }
    pub(super) fn set(_: usize) {}
}

impl Slab {
    pub(crate) fn new(most: usize, random: u64) -> Self {
        Slab { slots: Segments::new(most), first: random & (GENERATION >> 1) }
    }

    fn id(&self, index: usize, state: u64) -> PermitId {
        let generation = ((state >> GENERATION_SHIFT) + self.first) & GENERATION;
        let id = (generation << INDEX_BITS) | index as u64;
        PermitId::new(id).unwrap_or(PermitId(std::num::NonZeroU64::MAX))
    }

    pub(crate) fn slot(&self, index: usize) -> &Slot {
        // Every index in use comes from `claim`, which found the slot; segments never go away.
        self.slots.get(index).or_else(|| self.slots.get(0)).expect("the first segment is made with the slab")
    }

    /// A free slot, claimed for a permit on `limits` limits; `None` if all are taken.
    pub(crate) fn claim(&self, limits: usize) -> Option<usize> {
        let index = self.claim_one()?;
        let (mut last, mut room) = (index, RECEIPTS);
        self.slot(index).more.store(0, Relaxed);
        while room < limits {
            let Some(next) = self.claim_one() else {
                self.release(index);
                return None;
            };
            self.slot(next).more.store(0, Relaxed);
            self.slot(last).more.store(next as u64 + 1, Relaxed);
            (last, room) = (next, room + RECEIPTS);
        }
        Some(index)
    }

    fn claim_one(&self) -> Option<usize> {
        let mut length = self.slots.len();
        let mut index = hint::get();
        let mut jumps = 0;
        loop {
            for _ in 0..RUN {
                index = if index >= length { 0 } else { index };
                if self.claim_at(index) {
                    return Some(index);
                }
                index += 1;
            }
            jumps += 1;
            if jumps < JUMPS {
                // Somewhere else: permits that stay open lie close together. (Fibonacci hashing, to spread.)
                index = ((index as u64 + jumps).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % length;
            } else if self.slots.grow(length) {
                // All those places taken: nearly all are.
                (index, jumps) = (length, 0);
                length = self.slots.len();
            } else if self.slots.len() == length {
                return (0..length).find(|index| self.claim_at(*index));
            } else {
                length = self.slots.len();
            }
        }
    }

    fn claim_at(&self, index: usize) -> bool {
        let slot = self.slot(index);
        let state = slot.state.load(Relaxed);
        if state & PHASE != FREE {
            return false;
        }
        let next = (((state >> GENERATION_SHIFT) + 1) & GENERATION) << GENERATION_SHIFT | FILLING;
        // Acquire: the slot's last permit is done with before its words are written anew.
        let claimed = slot.state.compare_exchange(state, next, Acquire, Relaxed).is_ok();
        if claimed {
            hint::set(index);
        }
        claimed
    }

    /// The receipt word of the `limit`-th limit of the permit in slot `index`.
    pub(crate) fn receipt(&self, index: usize, limit: usize) -> &Word {
        let mut slot = self.slot(index);
        for _ in 0..limit / RECEIPTS {
            slot = self.slot((slot.more.load(Relaxed) as usize).saturating_sub(1));
        }
        &slot.receipts[limit % RECEIPTS]
    }

    /// Opens the claimed slot: from here on the permit can be settled, by anyone who has the id.
    pub(crate) fn open(&self, index: usize) -> PermitId {
        let slot = self.slot(index);
        slot.observed.store(0, Relaxed);
        let state = slot.state.load(Relaxed) & !PHASE;
        // Release: the words are written before anyone can settle by them.
        slot.state.store(state | OPEN, Release);
        self.id(index, state)
    }

    /// The open slot that an id names.
    pub(crate) fn find(&self, id: PermitId) -> Result<Seen, Gone> {
        let index = (id.get() & ((1 << INDEX_BITS) - 1)) as usize;
        let slot = self.slots.get(index).ok_or(Gone::Unknown)?;
        let wanted = ((id.get() >> INDEX_BITS).wrapping_sub(self.first)) & GENERATION;
        let state = slot.state.load(Acquire);
        let present = state >> GENERATION_SHIFT;
        if wanted == 0 || wanted > present {
            return Err(Gone::Unknown);
        }
        if wanted < present || state & PHASE != OPEN {
            return Err(Gone::Settled);
        }
        Ok(Seen { index, state })
    }

    /// How many slots there are, open or free.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The open slots, as the caller passes them.
    pub(crate) fn open_slots(&self) -> impl Iterator<Item = Seen> {
        self.slots.iter().filter_map(|(index, slot)| {
            let state = slot.state.load(Acquire);
            (state & PHASE == OPEN).then_some(Seen { index, state })
        })
    }

    pub(crate) fn id_of(&self, seen: Seen) -> PermitId {
        self.id(seen.index, seen.state)
    }

    /// Whether the slot still holds the permit that was seen: what was read in between is then of one piece.
    pub(crate) fn unchanged(&self, seen: Seen) -> bool {
        let state = self.slot(seen.index).state.load(Acquire);
        (state ^ seen.state) & !OBSERVERS == 0
    }

    /// Takes the permit for settlement: true for exactly one caller. What was observed is final then, and returned.
    pub(crate) fn begin_settling(&self, seen: Seen) -> Result<(u64, u64), Gone> {
        let slot = self.slot(seen.index);
        let mut state = seen.state;
        loop {
            // Acquire: the words of the permit, and what its observers wrote, are seen.
            match slot.state.compare_exchange_weak(state, state & !PHASE | SETTLING, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) if (now ^ seen.state) & !OBSERVERS == 0 => state = now,
                Err(_) => return Err(Gone::Settled),
            }
        }
        let observed =
            if state & OBSERVERS == 0 { slot.observed.load(Relaxed) } else { slot.observed.fetch_or(CLOSED, AcqRel) };
        Ok(((observed & !CLOSED) >> 32, observed & OUTPUT_MAX))
    }

    /// The settlement is done. True if the slot was freed; otherwise the last observer frees it.
    #[must_use]
    pub(crate) fn end_settling(&self, index: usize) -> bool {
        let slot = self.slot(index);
        let mut state = slot.state.load(Relaxed);
        loop {
            if state & OBSERVERS == 0 {
                self.release(index);
                return true;
            }
            match slot.state.compare_exchange_weak(state, state & !PHASE | SETTLED, AcqRel, Acquire) {
                Ok(_) => return false,
                Err(now) => state = now,
            }
        }
    }

    /// Frees a slot that the caller alone holds, and those that continue it.
    pub(crate) fn release(&self, index: usize) {
        let slot = self.slot(index);
        let more = slot.more.load(Relaxed);
        if more != 0 {
            self.release(more as usize - 1);
        }
        let state = slot.state.load(Relaxed) & !(PHASE | OBSERVERS);
        // Release: whoever claims it next is done reading it after us.
        slot.state.store(state | FREE, Release);
    }

    /// Counts an observer in. The permit cannot be freed until [`leave`](Slab::leave).
    pub(crate) fn enter(&self, seen: Seen) -> Result<(), Gone> {
        let slot = self.slot(seen.index);
        let mut state = seen.state;
        loop {
            match slot.state.compare_exchange_weak(state, state + OBSERVER, AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(now) if (now ^ seen.state) & !OBSERVERS == 0 => state = now,
                Err(_) => return Err(Gone::Settled),
            }
        }
    }

    /// Counts an observer out. True if that freed the slot of a permit settled meanwhile.
    #[must_use]
    pub(crate) fn leave(&self, index: usize) -> bool {
        let state = self.slot(index).state.fetch_sub(OBSERVER, AcqRel) - OBSERVER;
        if state & PHASE == SETTLED && state & OBSERVERS == 0 {
            self.release(index);
            return true;
        }
        false
    }

    /// Adds to what was observed: before and after. An observer counted in calls it.
    pub(crate) fn observe(&self, index: usize, input: u64, output: u64) -> Result<[(u64, u64); 2], Gone> {
        let word = &self.slot(index).observed;
        let mut seen = word.load(Acquire);
        loop {
            if seen & CLOSED != 0 {
                return Err(Gone::Settled);
            }
            let before = (seen >> 32, seen & OUTPUT_MAX);
            let after = (before.0.saturating_add(input), before.1.saturating_add(output));
            if after.0 > INPUT_MAX || after.1 > OUTPUT_MAX {
                return Err(Gone::Overflow);
            }
            match word.compare_exchange_weak(seen, (after.0 << 32) | after.1, AcqRel, Acquire) {
                Ok(_) => return Ok([before, after]),
                Err(now) => seen = now,
            }
        }
    }

    /// What was observed so far.
    pub(crate) fn observed(&self, index: usize) -> (u64, u64) {
        let observed = self.slot(index).observed.load(Relaxed) & !CLOSED;
        (observed >> 32, observed & OUTPUT_MAX)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_slab_grows_when_it_is_full_not_when_a_corner_of_it_is() {
        let slab = std::sync::Arc::new(Slab::new(1 << 20, 7));
        for _ in 0..200 {
            slab.claim(1).expect("room");
        }
        let before = slab.len();
        for _ in 0..64 {
            let slab = slab.clone();
            std::thread::spawn(move || slab.release(slab.claim(1).expect("room"))).join().expect("no panic");
        }
        assert_eq!(slab.len(), before);
        let all: Vec<_> = (0..1000).map(|_| slab.claim(1).expect("room")).collect();
        assert!(all.iter().collect::<std::collections::HashSet<_>>().len() == 1000);
    }

    #[test]
    fn a_full_slab_says_so_and_long_routes_take_several_slots() {
        let slab = Slab::new(64, 7);
        let long = slab.claim(20).expect("room for three");
        for limit in 0..20 {
            slab.receipt(long, limit).store(limit as u64, Relaxed);
        }
        assert!((0..20).all(|limit| slab.receipt(long, limit).load(Relaxed) == limit as u64));
        let rest = std::iter::from_fn(|| slab.claim(1)).count();
        assert_eq!(rest, 61);
        assert_eq!(slab.claim(9), None);
        slab.release(long);
        assert!(slab.claim(20).is_some());
    }
}
