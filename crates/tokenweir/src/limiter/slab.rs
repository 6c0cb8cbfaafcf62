//! The permit slab: one slot of plain words for each open permit.
//!
//! A permit's id is the slot's index and generation. The slot's state word makes settlement happen exactly once: the
//! one whose swap takes it from open to settling settles, and every other finds another state or generation. Those who
//! observe a stream count themselves in and out of the state word; a slot is not used again before the last of them
//! has left, and nobody waits for them.
//!
//! A slot that is not free also keeps its route from being freed: who wants to free one looks through the slots.

use super::owner::{self, OWNERS};
use super::shared::Slots;
use crate::request::PermitId;
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};
use crate::table::Segments;
use once_cell::race::OnceBox;

/// Receipts that a slot has room for; a route of more limits takes further slots.
#[cfg(not(loom))]
pub(crate) const RECEIPTS: usize = 8;
#[cfg(loom)]
pub(crate) const RECEIPTS: usize = 1;

/// A limit that was not charged: a shadow limit that would have refused.
pub(crate) const NOT_CHARGED: u64 = u64::MAX;

/// The route of a slot that only continues another.
const NO_ROUTE: u64 = u64::MAX;

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
pub(super) const PHASE: u64 = 0xf;
pub(super) const FREE: u64 = 0;
/// Claimed by a request that is being charged.
pub(super) const FILLING: u64 = 1;
pub(super) const OPEN: u64 = 2;
/// Somebody settles it.
pub(super) const SETTLING: u64 = 3;
/// Settled; the last observer frees it.
const SETTLED: u64 = 4;

/// Observed tokens: closed (1 bit), input (31), output (32).
pub(super) const CLOSED: u64 = 1 << 63;
const INPUT_MAX: u64 = (1 << 31) - 1;
const OUTPUT_MAX: u64 = (1 << 32) - 1;

/// The words of a slot.
pub(crate) const SLOT: usize = 8 + RECEIPTS;

/// A slot of the slab's own: two cache lines, and no two slots on one.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Cells([Word; SLOT]);

impl Default for Cells {
    fn default() -> Self {
        Cells(std::array::from_fn(|_| Word::new(0)))
    }
}

impl Cells {
    #[inline(always)]
    pub(crate) fn slot(&self) -> Slot<'_> {
        Slot(&self.0)
    }
}

/// What a slot holds of its permit. Written by the request that claims it, read by whoever settles it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a>(&'a [Word; SLOT]);

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
pub(crate) struct Seen<'a> {
    pub(crate) slot: Slot<'a>,
    pub(crate) index: usize,
    pub(super) state: u64,
}

/// A slot claimed for a request that is being charged. (Two words: they stay in registers.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed<'a> {
    pub(crate) slot: Slot<'a>,
    /// Its generation, and where a state has the rest, its index.
    generation_index: u64,
}

const INDEX: u64 = (1 << INDEX_BITS) - 1;

/// The generation that a state is of.
pub(super) fn generation_of(state: u64) -> u64 {
    state >> GENERATION_SHIFT
}

impl<'a> Claimed<'a> {
    /// The next life of a slot that was found `free`, and the state it has while it is claimed.
    #[inline(always)]
    pub(super) fn new(slot: Slot<'a>, index: usize, free: u64) -> (Self, u64) {
        let generation = (((free >> GENERATION_SHIFT) + 1) & GENERATION) << GENERATION_SHIFT;
        (Claimed { slot, generation_index: generation | index as u64 }, generation | FILLING)
    }

    #[inline(always)]
    pub(crate) fn index(self) -> usize {
        (self.generation_index & INDEX) as usize
    }

    pub(super) fn generation(self) -> u64 {
        self.generation_index >> GENERATION_SHIFT
    }
}

/// The first threads have so many slots each that nobody else claims: they do so without a swap.
const OWN: usize = 8;
/// The indices of such slots, after all others.
const OWN_FIRST: usize = (1 << INDEX_BITS) - OWN * OWNERS;
/// A slab for fewer permits has none: every slot is for everyone.
const OWN_FROM: usize = 4096;

#[derive(Debug)]
pub(crate) struct Slab {
    slots: Segments<Cells>,
    /// Each owner's slots, once it has asked for one; none in a small slab.
    own: Box<[OnceBox<[Cells; OWN]>]>,
    /// Generations start here, at random, so that another limiter's ids are not mistaken for this one's.
    first: u64,
    /// The slots, if they are a region's: then it has none of its own.
    shared: Option<Slots>,
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
        let owners = if most >= OWN_FROM { OWNERS } else { 0 };
        Slab {
            slots: Segments::new(most.min(1 << INDEX_BITS) - owners * OWN),
            own: (0..owners).map(|_| OnceBox::new()).collect(),
            first: random & (GENERATION >> 1),
            shared: None,
        }
    }

    /// The permits of a region, whose generations start at `first`.
    pub(crate) fn shared(slots: Slots, first: u64) -> Self {
        Slab { slots: Segments::new(1), own: Box::new([]), first: first & (GENERATION >> 1), shared: Some(slots) }
    }

    pub(crate) fn in_region(&self) -> Option<&Slots> {
        self.shared.as_ref()
    }

    #[inline]
    fn id(&self, index: usize, state: u64) -> PermitId {
        let generation = ((state >> GENERATION_SHIFT) + self.first) & GENERATION;
        let id = (generation << INDEX_BITS) | index as u64;
        PermitId::new(id).unwrap_or(PermitId(std::num::NonZeroU64::MAX))
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Slot<'_>> {
        if let Some(shared) = &self.shared {
            return shared.slot(index);
        }
        self.get_own(index)
    }

    #[inline]
    fn get_own(&self, index: usize) -> Option<Slot<'_>> {
        match index.checked_sub(OWN_FIRST) {
            None => self.slots.get(index).map(Cells::slot),
            Some(own) => self.own.get(own / OWN)?.get()?.get(own % OWN).map(Cells::slot),
        }
    }

    /// Every slot there is, with its index.
    fn each(&self) -> impl Iterator<Item = (usize, Slot<'_>)> {
        let own = self.own.iter().enumerate().flat_map(|(owner, slots)| {
            let slots = slots.get().into_iter().flatten().enumerate();
            slots.map(move |(at, slot)| (OWN_FIRST + owner * OWN + at, slot))
        });
        let shared = self.shared.iter().flat_map(Slots::each);
        let own = self.slots.iter().chain(own).map(|(index, cells)| (index, cells.slot()));
        own.chain(shared)
    }

    /// The slot of this thread's own whose turn it is, if it is free: nobody else claims it.
    #[inline(always)]
    fn claim_own(&self) -> Option<Claimed<'_>> {
        let (owner, turn) = owner::current()?;
        let slots = self.own.get(owner)?;
        let slots = match slots.get() {
            Some(slots) => slots,
            None => make_own(slots),
        };
        let at = turn % OWN;
        let claimed = self.claim_as_owner(slots[at].slot(), OWN_FIRST + owner * OWN + at);
        if claimed.is_none() {
            owner::move_on();
        }
        claimed
    }

    /// Claims a slot that only the caller ever claims.
    #[inline]
    pub(crate) fn claim_as_owner<'a>(&'a self, slot: Slot<'a>, index: usize) -> Option<Claimed<'a>> {
        // Acquire: the slot's last permit, which others may have ended, is done with before its words are written anew.
        let free = slot.state().load(Acquire);
        if free & PHASE != FREE {
            return None;
        }
        let (claimed, state) = Claimed::new(slot, index, free);
        // A plain store: of a free slot only its claimer changes the state.
        slot.state().store(state, Relaxed);
        Some(claimed)
    }

    fn slot(&self, index: usize) -> Slot<'_> {
        // Every index in use comes from `claim`, which found the slot; segments never go away.
        self.get(index).or_else(|| self.slots.get(0).map(Cells::slot)).expect("the first segment is made with the slab")
    }

    /// A free slot, claimed for a permit on `limits` limits; `None` if all are taken.
    #[inline(always)]
    pub(crate) fn claim(&self, limits: usize) -> Option<Claimed<'_>> {
        let claimed = match self.claim_own() {
            Some(claimed) => claimed,
            None => self.claim_anyones()?,
        };
        claimed.slot.more().store(0, Relaxed);
        if limits > RECEIPTS { self.claim_more(claimed, limits) } else { Some(claimed) }
    }

    #[inline(never)]
    fn claim_anyones(&self) -> Option<Claimed<'_>> {
        self.claim_at(hint::get()).or_else(|| self.claim_one())
    }

    /// Further slots, for a route of more limits than one has receipts for.
    #[cold]
    fn claim_more<'a>(&'a self, claimed: Claimed<'a>, limits: usize) -> Option<Claimed<'a>> {
        let (mut last, mut room) = (claimed.slot, RECEIPTS);
        while room < limits {
            let Some(next) = self.claim_one() else {
                self.release(claimed.slot);
                return None;
            };
            next.slot.more().store(0, Relaxed);
            next.slot.route().store(NO_ROUTE, Relaxed);
            last.more().store(next.index() as u64 + 1, Relaxed);
            (last, room) = (next.slot, room + RECEIPTS);
        }
        Some(claimed)
    }

    #[inline(never)]
    fn claim_one(&self) -> Option<Claimed<'_>> {
        let mut length = self.slots.len();
        let mut index = hint::get();
        let mut jumps = 0;
        loop {
            for _ in 0..RUN {
                index = if index >= length { 0 } else { index };
                if let Some(claimed) = self.claim_at(index) {
                    hint::set(index);
                    return Some(claimed);
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
                return (0..length).find_map(|index| self.claim_at(index));
            } else {
                length = self.slots.len();
            }
        }
    }

    #[inline]
    fn claim_at(&self, index: usize) -> Option<Claimed<'_>> {
        let slot = self.slots.get(index)?.slot();
        let free = slot.state().load(Relaxed);
        if free & PHASE != FREE {
            return None;
        }
        let (claimed, state) = Claimed::new(slot, index, free);
        // Acquire: the slot's last permit is done with before its words are written anew.
        slot.state().compare_exchange(free, state, Acquire, Relaxed).ok()?;
        Some(claimed)
    }

    /// The receipt word of the `limit`-th limit of the permit in `slot`.
    #[inline]
    pub(crate) fn receipt<'a>(&'a self, slot: Slot<'a>, limit: usize) -> &'a Word {
        match slot.receipts().get(limit) {
            Some(receipt) => receipt,
            None => self.far_receipt(slot, limit),
        }
    }

    /// The same of a permit that was seen.
    pub(crate) fn receipt_of<'a>(&'a self, seen: Seen<'a>, limit: usize) -> &'a Word {
        match &self.shared {
            Some(shared) => shared.receipt(seen.slot, seen.index, limit),
            None => self.receipt(seen.slot, limit),
        }
    }

    #[cold]
    fn far_receipt<'a>(&'a self, mut slot: Slot<'a>, limit: usize) -> &'a Word {
        for _ in 0..limit / RECEIPTS {
            slot = self.slot((slot.more().load(Relaxed) as usize).saturating_sub(1));
        }
        &slot.receipts()[limit % RECEIPTS]
    }

    /// What was observed of an open permit so far.
    pub(crate) fn observed(&self, slot: Slot<'_>) -> (u64, u64) {
        match &self.shared {
            Some(shared) => shared.observed(slot),
            None => slot.observed(),
        }
    }

    /// The id of a permit of this state.
    pub(crate) fn id_in(&self, index: usize, state: u64) -> PermitId {
        self.id(index, state)
    }

    /// Opens the claimed slot: from here on the permit can be settled, by anyone who has the id.
    #[inline]
    pub(crate) fn open(&self, claimed: Claimed<'_>) -> PermitId {
        claimed.slot.observed_word().store(0, Relaxed);
        let state = claimed.generation_index & !INDEX;
        // Release: the words are written before anyone can settle by them.
        claimed.slot.state().store(state | OPEN, Release);
        self.id(claimed.index(), state)
    }

    /// The open slot that an id names.
    #[inline]
    pub(crate) fn find(&self, id: PermitId) -> Result<Seen<'_>, Gone> {
        let index = (id.get() & INDEX) as usize;
        self.see(self.get(index), index, id)
    }

    /// The same, where the caller knows that the slots are not a region's.
    #[inline]
    pub(crate) fn find_own(&self, id: PermitId) -> Result<Seen<'_>, Gone> {
        let index = (id.get() & INDEX) as usize;
        self.see(self.get_own(index), index, id)
    }

    #[inline(always)]
    fn see<'a>(&self, slot: Option<Slot<'a>>, index: usize, id: PermitId) -> Result<Seen<'a>, Gone> {
        let slot = slot.ok_or(Gone::Unknown)?;
        let wanted = ((id.get() >> INDEX_BITS).wrapping_sub(self.first)) & GENERATION;
        let state = slot.state().load(Acquire);
        let present = state >> GENERATION_SHIFT;
        if wanted == present && state & PHASE == OPEN && wanted != 0 {
            Ok(Seen { slot, index, state })
        } else if wanted == 0 || wanted > present {
            Err(Gone::Unknown)
        } else {
            Err(Gone::Settled)
        }
    }

    /// How many slots there are, open or free.
    pub(crate) fn len(&self) -> usize {
        if let Some(shared) = &self.shared {
            return shared.len();
        }
        self.slots.len()
    }

    /// The open slots, as the caller passes them.
    pub(crate) fn open_slots(&self) -> impl Iterator<Item = Seen<'_>> {
        self.each().filter_map(|(index, slot)| self.seen(slot, index))
    }

    /// The slot, if it is open.
    pub(crate) fn seen<'a>(&self, slot: Slot<'a>, index: usize) -> Option<Seen<'a>> {
        let state = slot.state().load(Acquire);
        (state & PHASE == OPEN).then_some(Seen { slot, index, state })
    }

    /// The routes that permits keep from being freed: of every slot that is not free, and some of slots that were just
    /// now being claimed or freed.
    pub(crate) fn held_routes(&self) -> impl Iterator<Item = u64> {
        // Acquire: who freed the slot is done with its route.
        let taken = |slot: &Slot<'_>| slot.state().load(Acquire) & PHASE != FREE;
        self.each().map(|(_, slot)| slot).filter(taken).map(|slot| slot.route().load(Relaxed))
    }

    #[inline]
    pub(crate) fn id_of(&self, seen: Seen<'_>) -> PermitId {
        self.id(seen.index, seen.state)
    }

    /// Whether the slot still holds the permit that was seen: what was read in between is then of one piece.
    pub(crate) fn unchanged(&self, seen: Seen<'_>) -> bool {
        let state = seen.slot.state().load(Acquire);
        (state ^ seen.state) & !OBSERVERS == 0
    }

    /// Takes the permit for settlement: true for exactly one caller. What was observed is final then, and returned.
    #[inline]
    pub(crate) fn begin_settling(&self, seen: Seen<'_>) -> Result<(u64, u64), Gone> {
        let slot = seen.slot;
        let mut state = seen.state;
        loop {
            // Acquire: the words of the permit, and what its observers wrote, are seen.
            match slot.state().compare_exchange_weak(state, state & !PHASE | SETTLING, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) if (now ^ seen.state) & !OBSERVERS == 0 => state = now,
                Err(_) => return Err(Gone::Settled),
            }
        }
        let observed = if state & OBSERVERS == 0 {
            slot.observed_word().load(Relaxed)
        } else {
            slot.observed_word().fetch_or(CLOSED, AcqRel)
        };
        Ok(((observed & !CLOSED) >> 32, observed & OUTPUT_MAX))
    }

    /// The settlement is done. Whether that freed the slot; otherwise its last observer does.
    #[inline]
    pub(crate) fn end_settling(&self, slot: Slot<'_>) -> bool {
        let mut state = slot.state().load(Relaxed);
        loop {
            if state & OBSERVERS == 0 {
                self.release(slot);
                return true;
            }
            match slot.state().compare_exchange_weak(state, state & !PHASE | SETTLED, AcqRel, Acquire) {
                Ok(_) => return false,
                Err(now) => state = now,
            }
        }
    }

    /// Frees a slot that the caller alone holds, and those that continue it.
    #[inline(always)]
    pub(crate) fn release(&self, slot: Slot<'_>) {
        let more = slot.more().load(Relaxed);
        if more != 0 {
            self.release_more(more as usize - 1);
        }
        free(slot);
    }

    #[cold]
    fn release_more(&self, mut index: usize) {
        // One after the other: a slot is no longer ours once it is free.
        loop {
            let slot = self.slot(index);
            let more = slot.more().load(Relaxed);
            free(slot);
            match more {
                0 => return,
                more => index = more as usize - 1,
            }
        }
    }

    /// Counts an observer in. The permit cannot be freed until [`leave`](Slab::leave).
    pub(crate) fn enter(&self, seen: Seen<'_>) -> Result<(), Gone> {
        let mut state = seen.state;
        loop {
            match seen.slot.state().compare_exchange_weak(state, state + OBSERVER, AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(now) if (now ^ seen.state) & !OBSERVERS == 0 => state = now,
                Err(_) => return Err(Gone::Settled),
            }
        }
    }

    /// Counts an observer out. Whether that freed the slot: the last one does if the permit was settled meanwhile.
    pub(crate) fn leave(&self, slot: Slot<'_>) -> bool {
        let state = slot.state().fetch_sub(OBSERVER, AcqRel) - OBSERVER;
        let last = state & PHASE == SETTLED && state & OBSERVERS == 0;
        if last {
            self.release(slot);
        }
        last
    }

    /// Adds to what was observed: before and after. An observer counted in calls it.
    pub(crate) fn observe(&self, slot: Slot<'_>, input: u64, output: u64) -> Result<[(u64, u64); 2], Gone> {
        let word = slot.observed_word();
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
}

#[inline(always)]
fn free(slot: Slot<'_>) {
    let state = slot.state().load(Relaxed) & !(PHASE | OBSERVERS);
    // Release: whoever claims it next is done reading it after us.
    slot.state().store(state | FREE, Release);
}

#[cold]
fn make_own(slots: &OnceBox<[Cells; OWN]>) -> &[Cells; OWN] {
    slots.get_or_init(|| Box::new(std::array::from_fn(|_| Cells::default())))
}

impl<'a> Slot<'a> {
    /// The slot in these words.
    pub(crate) fn of(words: &'a [Word; SLOT]) -> Self {
        Slot(words)
    }

    #[inline(always)]
    pub(super) fn state(self) -> &'a Word {
        &self.0[0]
    }

    /// The route, as an index into the registry of routes; in a region, its policy and the caller's record.
    #[inline(always)]
    pub(crate) fn route(self) -> &'a Word {
        &self.0[1]
    }

    #[inline(always)]
    pub(crate) fn charged_at(self) -> &'a Word {
        &self.0[2]
    }

    #[inline(always)]
    pub(crate) fn deadline(self) -> &'a Word {
        &self.0[3]
    }

    #[inline(always)]
    pub(crate) fn input(self) -> &'a Word {
        &self.0[4]
    }

    #[inline(always)]
    pub(crate) fn output(self) -> &'a Word {
        &self.0[5]
    }

    #[inline(always)]
    pub(super) fn observed_word(self) -> &'a Word {
        &self.0[6]
    }

    /// 1 + the index of the slot with the next receipts, or 0.
    #[inline(always)]
    fn more(self) -> &'a Word {
        &self.0[7]
    }

    #[inline(always)]
    pub(crate) fn receipts(self) -> &'a [Word] {
        &self.0[8..]
    }

    /// What was observed so far.
    pub(crate) fn observed(self) -> (u64, u64) {
        let observed = self.observed_word().load(Relaxed) & !CLOSED;
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
            std::thread::spawn(move || slab.release(slab.claim(1).expect("room").slot)).join().expect("no panic");
        }
        assert_eq!(slab.len(), before);
        let all: Vec<_> = (0..1000).map(|_| slab.claim(1).expect("room").index()).collect();
        assert!(all.iter().collect::<std::collections::HashSet<_>>().len() == 1000);
    }

    #[test]
    fn a_full_slab_says_so_and_long_routes_take_several_slots() {
        let slab = Slab::new(64, 7);
        let long = slab.claim(20).expect("room for three");
        for limit in 0..20 {
            slab.receipt(long.slot, limit).store(limit as u64, Relaxed);
        }
        assert!((0..20).all(|limit| slab.receipt(long.slot, limit).load(Relaxed) == limit as u64));
        let rest = std::iter::from_fn(|| slab.claim(1)).count();
        assert_eq!(rest, 61);
        assert!(slab.claim(9).is_none());
        slab.release(long.slot);
        assert!(slab.claim(20).is_some());
    }
}
