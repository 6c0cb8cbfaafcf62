//! Floors: what a bucket must remember so that it can give tokens back as if they had never been taken.
//!
//! The contract (semantics, section 3): a return of d, at s, for a charge made at t gives back
//! `min(d, min over u in (t, s] of D(u))`, D being the deficit below the brim. D only falls between charges, so its
//! minimum lies just before a charge or at s. Time is cut into ticks of a power of two of nanoseconds; for each tick
//! is kept
//!
//! - the *floor*: the least deficit that a charge of that tick found;
//! - the *reach*: the furthest point of the token line at which a charge of that tick was made;
//! - what was *taken*: the sum of the returns that lowered the tick's history.
//!
//! A charge of tick k that ended at e on the token line saw, for the rest of its own tick, deficits of at least
//! `e - reach(k) - taken(k)`, and in each later tick at least the floor. Whatever is uncertain errs to the smaller
//! side. Coarser levels of ticks let long calls be judged as well, the longer the more roughly: the last one reaches
//! back over at least 16 times the time from empty to full. Beyond it nothing is given back on this account.
//!
//! Each word carries the low bits of its tick's turn as a tag. A tag that has come round again after 256 turns can only
//! make a floor lower or a reach or a take larger: strict.
//!
//! All this takes 12 KiB, so a limiter has room for so many histories only ([`Histories`]). A bucket that gets none goes
//! without: it gives back what a charge alone warrants.

mod pool;

pub(crate) use pool::{Keeps, Pool};

use super::words::{Home, Own, filled};
use crate::sync::{
    AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};
use std::sync::Arc;

const TICKS: u64 = 128;
/// Ticks per filling time on the fine level, at least.
const FINENESS: u64 = 128;
/// How much coarser each level is than the first, as log2.
const STEPS: [u32; LEVELS] = [0, 1, 2, 5];
const LEVELS: usize = 4;
const TAG_SHIFT: u32 = 56;
const VALUE: u64 = (1 << TAG_SHIFT) - 1;

/// The words of one tick.
const FLOOR: usize = 0;
const REACH: usize = 1;
const TAKEN: usize = 2;
const WORDS: usize = 3;

#[derive(Debug)]
struct Level<H: Home> {
    /// log2 of the tick in nanoseconds.
    shift: u32,
    /// The first tick that is remembered; earlier charges are judged as if they were of this one.
    first: u64,
    /// The newest tick, which only grows (a charge with an older clock is put down there), and the words of each tick.
    words: H::Many,
}

fn tagged(tick: u64, value: u64) -> u64 {
    ((tick / TICKS) << TAG_SHIFT) | value.min(VALUE)
}

/// The words of one level.
const LEVEL: usize = 1 + TICKS as usize * WORDS;

/// Makes words those of a level that begins at this tick.
fn begin(words: &[Word], first: u64) {
    // What no tick near this one can take for its own.
    let far = tagged(first.wrapping_add(TICKS << 7), 0);
    words.iter().for_each(|word| word.store(far, Relaxed));
    words[0].store(first, Relaxed);
}

impl<H: Home> Level<H> {
    #[inline]
    fn head(&self) -> &Word {
        &H::many(&self.words)[0]
    }

    fn word(&self, tick: u64, which: usize) -> &Word {
        &H::many(&self.words)[1 + (tick % TICKS) as usize * WORDS + which]
    }

    /// The value of a tick's word, if it was written in that tick.
    fn read(&self, tick: u64, which: usize) -> Option<u64> {
        let word = self.word(tick, which).load(Relaxed);
        (word >> TAG_SHIFT == (tick / TICKS) & 0xff).then_some(word & VALUE)
    }

    /// Replaces a tick's word by what `change` makes of its value (`None`: not written in that tick yet).
    // Relaxed: the bucket's own word is written with Release after this and read with Acquire before it is relied on.
    fn update(&self, tick: u64, which: usize, change: impl Fn(Option<u64>) -> Option<u64>) {
        let word = self.word(tick, which);
        let mut seen = word.load(Relaxed);
        loop {
            let value = (seen >> TAG_SHIFT == (tick / TICKS) & 0xff).then_some(seen & VALUE);
            let Some(next) = change(value) else { return };
            match word.compare_exchange_weak(seen, tagged(tick, next), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Moves the newest tick on to `tick` if it is newer, and says which it is.
    fn advance(&self, tick: u64) -> u64 {
        let head = self.head().load(Acquire);
        if tick <= head {
            return head;
        }
        self.head().fetch_max(tick, Release).max(tick)
    }

    fn note(&self, now: u64, position: u64, deficit: u64) {
        let tick = self.advance(now >> self.shift);
        self.reach(tick, position);
        let deficit = deficit.min(VALUE);
        self.update(tick, FLOOR, |floor| match floor {
            Some(floor) if floor <= deficit => None,
            _ => Some(deficit),
        });
    }

    fn reach(&self, tick: u64, position: u64) {
        // Positions are below 2^59: the value holds them modulo 2^56, and one tick spans far less than that.
        let low = position & VALUE;
        self.update(tick, REACH, |reach| match reach {
            Some(reach) if low.wrapping_sub(reach) & VALUE < VALUE / 2 && low != reach => Some(low),
            Some(_) => None,
            None => Some(low),
        });
    }

    /// What the history from `tick` on allows to be given back of a charge that ended at `end`.
    fn bound(&self, tick: u64, end: u64, head: u64) -> u64 {
        let tick = tick.max(self.first);
        // A charge that is newer than the history (a clock is behind) is not judged by it.
        if tick > head || head - tick >= TICKS {
            return 0;
        }
        let mut bound = u64::MAX;
        if let Some(low) = self.read(tick, REACH) {
            // The nearest position at or below `end` plus half the range that has these low bits.
            let ahead = low.wrapping_sub(end) & VALUE;
            let room = if ahead == 0 {
                0
            } else if ahead < VALUE / 2 {
                return 0;
            } else {
                (VALUE + 1) - ahead
            };
            bound = room.saturating_sub(self.read(tick, TAKEN).unwrap_or(0));
        }
        self.least(tick + 1, head).min(bound)
    }

    /// The least floor of the ticks `from..=head`.
    fn least(&self, from: u64, head: u64) -> u64 {
        let from = from.max(head.saturating_sub(TICKS - 1));
        (from..=head).filter_map(|tick| self.read(tick, FLOOR)).min().unwrap_or(u64::MAX)
    }

    /// Lowers the history of the ticks `from..=head` by `amount`.
    fn take(&self, from: u64, head: u64, amount: u64) {
        let from = from.max(self.first).min(head).max(head.saturating_sub(TICKS - 1));
        for tick in from..=head {
            if self.read(tick, FLOOR).is_none() && self.read(tick, REACH).is_none() {
                continue;
            }
            self.update(tick, FLOOR, |floor| floor.map(|floor| floor.saturating_sub(amount)));
            self.update(tick, TAKEN, |taken| Some(taken.unwrap_or(0).saturating_add(amount).min(VALUE)));
        }
    }
}

/// How many buckets of a limiter keep floors, and how many may.
#[derive(Debug)]
pub(crate) struct Histories {
    /// Where they are if they are in a region.
    pool: Option<Pool>,
    kept: AtomicUsize,
    most: usize,
    /// Whether any bucket ever had to go without.
    refused: Word,
}

/// Room for one bucket's floors, free again when they go.
#[derive(Debug)]
pub(crate) struct Place(Arc<Histories>);

impl Histories {
    pub(crate) fn new(most: usize) -> Self {
        Histories { pool: None, kept: AtomicUsize::new(0), most, refused: Word::new(0) }
    }

    /// Those of a region.
    pub(crate) fn shared(pool: Pool) -> Self {
        Histories { most: pool.entries(), pool: Some(pool), ..Histories::new(0) }
    }

    /// Room for one more, if there is any.
    pub(crate) fn place(self: &Arc<Self>) -> Option<Place> {
        if self.has_room() {
            // AcqRel: as many are counted as there are, or more.
            if self.kept.fetch_add(1, AcqRel) < self.most {
                return Some(Place(self.clone()));
            }
            self.kept.fetch_sub(1, AcqRel);
        }
        if self.refused.load(Relaxed) == 0 {
            self.refused.store(1, Relaxed);
        }
        None
    }

    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        if let Some(pool) = self.pool {
            return pool.has_room();
        }
        self.kept.load(Relaxed) < self.most
    }

    /// Whether a bucket of the limiter may have given tokens back without a history that says so.
    // Relaxed: set before the bucket's word is written with Release, read after it is read with Acquire.
    pub(crate) fn refused(&self) -> bool {
        if let Some(pool) = self.pool {
            return pool.refused();
        }
        self.refused.load(Relaxed) != 0
    }

    pub(crate) fn kept(&self) -> usize {
        if let Some(pool) = self.pool {
            return pool.kept();
        }
        self.kept.load(Relaxed).min(self.most)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, AcqRel);
    }
}

/// The history of one bucket's deficit.
#[derive(Debug)]
pub(crate) struct Floors<H: Home = Own> {
    levels: [Level<H>; LEVELS],
    /// Their own place in the limiter's room; those of a region have theirs in its pool.
    _place: Option<Place>,
}

/// A return under way: how far the history was already lowered for it, and by how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taking {
    heads: [u64; LEVELS],
    pub(crate) amount: u64,
}

impl Floors {
    /// A history that begins at `now`, for a bucket that takes `filling` nanoseconds from empty to full.
    pub(crate) fn new(filling: u64, now: u64, place: Place) -> Self {
        let level = |index: usize| {
            let shift = fine(filling) + STEPS[index];
            let words = filled(LEVEL, 0);
            begin(&words, now >> shift);
            Level { shift, first: now >> shift, words }
        };
        Floors { levels: std::array::from_fn(level), _place: Some(place) }
    }
}

/// The shift of the finest level of a bucket that takes `filling` nanoseconds from empty to full.
fn fine(filling: u64) -> u32 {
    (filling / FINENESS).max(1 << 10).ilog2().min(48)
}

impl<H: Home> Floors<H> {
    /// A charge found `deficit` when the token line stood at `position`. To be called before the charge is made.
    pub(crate) fn note(&self, now: u64, position: u64, deficit: u64) {
        for level in &self.levels {
            level.note(now, position, deficit);
        }
    }

    /// Something moved the bucket at `position` on the line, at the latest.
    pub(crate) fn reach(&self, now: u64, position: u64) {
        for level in &self.levels {
            let tick = level.advance(now >> level.shift);
            level.reach(tick, position);
        }
    }

    /// How much of a charge made at `charged_at` that ended at `end` the history allows to give back, as of now.
    ///
    /// `before` is what this very return has lowered already, when it is tried again.
    pub(crate) fn bound(&self, charged_at: u64, end: u64, before: Option<&Taking>) -> (u64, Taking) {
        let heads: [u64; LEVELS] = std::array::from_fn(|index| self.levels[index].head().load(Acquire));
        let mut best = 0;
        for (index, level) in self.levels.iter().enumerate() {
            let bound = match before {
                None => level.bound(charged_at >> level.shift, end, heads[index]),
                Some(before) => level.least(before.heads[index], heads[index]).min(before.amount),
            };
            best = best.max(bound);
        }
        (best, Taking { heads, amount: best })
    }

    /// Lowers the history by what is about to be given back. To be called before it is given back, so that two
    /// returns never spend the same floor.
    pub(crate) fn take(&self, charged_at: u64, before: Option<&Taking>, taking: &Taking) {
        for (index, level) in self.levels.iter().enumerate() {
            let from = match before {
                None => charged_at >> level.shift,
                Some(before) => before.heads[index],
            };
            level.take(from, taking.heads[index], taking.amount);
        }
    }
}
