//! Floors in a region: so many sets of words, each lent to one bucket until that goes.

use super::super::words::Shared;
use super::{Floors, LEVEL, LEVELS, Level, STEPS, begin, fine};
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};

/// The words of an entry before its levels: whose it is (0: nobody's), and the shift of its finest level.
const OWNER: usize = 0;
const FINE: usize = 1;
const HEADER: usize = 2;
/// A level has its first tick before its words.
const ENTRY: usize = HEADER + LEVELS * (1 + LEVEL);

/// The words that all entries share: whether none was free when last asked for, and whether a bucket ever had to go
/// without.
const FULL: usize = 0;
const REFUSED: usize = 1;
const SHARED: usize = 2;

// An owner: the record from 1 (the rest), and, while its floors are being made, the process from 1 (8 bits).
const RECORD_SHIFT: u32 = 8;
const MAKER: u64 = 0xff;

/// The floors of a region, as one process has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    words: &'static [Word],
    me: u64,
}

/// What one bucket has to do with the pool.
#[derive(Debug)]
pub(crate) struct Keeps {
    pool: Pool,
    record: u64,
    /// Which entry is the bucket's, from 1.
    word: &'static Word,
}

impl Pool {
    /// The words that so many entries take. Zeros are a pool of which none is lent.
    pub(crate) fn words(entries: usize) -> usize {
        SHARED + entries * ENTRY
    }

    pub(crate) fn new(words: &'static [Word], me: usize) -> Self {
        Pool { words, me: me as u64 }
    }

    /// What a bucket has to do with it whose record this is; `word` says which entry it has.
    pub(crate) fn keeps(self, record: usize, word: &'static Word) -> Keeps {
        Keeps { pool: self, record: record as u64, word }
    }

    pub(crate) fn entries(self) -> usize {
        self.words.len().saturating_sub(SHARED) / ENTRY
    }

    fn entry(self, at: usize) -> &'static [Word] {
        let first = SHARED + at.min(self.entries().saturating_sub(1)) * ENTRY;
        &self.words[first..first + ENTRY]
    }

    fn each(self) -> impl Iterator<Item = (usize, &'static Word)> {
        (0..self.entries()).map(move |at| (at, &self.entry(at)[OWNER]))
    }

    // Relaxed: nobody is lent an entry for having read it.
    pub(crate) fn has_room(self) -> bool {
        self.words[FULL].load(Relaxed) == 0
    }

    pub(crate) fn refused(self) -> bool {
        self.words[REFUSED].load(Relaxed) != 0
    }

    pub(crate) fn kept(self) -> usize {
        self.each().filter(|(_, owner)| owner.load(Relaxed) != 0).count()
    }

    /// Takes back what a record has that is about to be free. May be done again.
    pub(crate) fn take_back(self, record: usize, word: &Word) {
        let Some(at) = (word.load(Acquire) as usize).checked_sub(1) else { return };
        let owner = &self.entry(at)[OWNER];
        let seen = owner.load(Acquire);
        // Done before, it may be another's by now.
        if seen >> RECORD_SHIFT == record as u64 + 1 {
            let _ = owner.compare_exchange(seen, 0, AcqRel, Relaxed);
        }
        word.store(0, Release);
        self.words[FULL].store(0, Relaxed);
    }

    /// Finishes or undoes what a process that has ended was making. `word_of`: where a record says which entry it has.
    pub(crate) fn forget(self, process: usize, word_of: impl Fn(usize) -> &'static Word) {
        for (at, owner) in self.each() {
            let seen = owner.load(Acquire);
            if seen & MAKER != process as u64 + 1 {
                continue;
            }
            let Some(record) = (seen >> RECORD_SHIFT).checked_sub(1) else { continue };
            let is_kept = word_of(record as usize).load(Acquire) == at as u64 + 1;
            owner.store(if is_kept { seen & !MAKER } else { 0 }, Release);
            self.words[FULL].store(0, Relaxed);
        }
    }
}

impl Keeps {
    /// The floors that the bucket has.
    pub(crate) fn existing(&self) -> Option<Floors<Shared>> {
        // Acquire: they were made before the bucket was said to have them.
        let at = (self.word.load(Acquire) as usize).checked_sub(1)?;
        let words = self.pool.entry(at);
        let fine = words[FINE].load(Relaxed) as u32;
        let level = |index: usize| {
            let (first, words) = level(words, index);
            Level { shift: fine + STEPS[index], first: first.load(Relaxed), words }
        };
        Some(Floors { levels: std::array::from_fn(level), _place: None })
    }

    /// The floors that the bucket has, or else new ones from `now` on, if there is room.
    pub(crate) fn floors(&self, filling: u64, now: u64) -> Option<Floors<Shared>> {
        if self.word.load(Acquire) == 0 {
            self.make(filling, now);
        }
        let floors = self.existing();
        if floors.is_none() {
            self.pool.words[REFUSED].store(1, Relaxed);
        }
        floors
    }

    fn make(&self, filling: u64, now: u64) {
        let making = (self.record + 1) << RECORD_SHIFT | (self.pool.me + 1);
        // AcqRel: its last bucket is done with it.
        let take = |owner: &Word| owner.compare_exchange(0, making, AcqRel, Relaxed).is_ok();
        if !self.pool.has_room() {
            return;
        }
        let Some((at, owner)) = self.pool.each().find(|(_, owner)| owner.load(Relaxed) == 0 && take(owner)) else {
            self.pool.words[FULL].store(1, Relaxed);
            return;
        };
        crate::region::step("floors taken");
        let words = self.pool.entry(at);
        words[FINE].store(u64::from(fine(filling)), Relaxed);
        for (index, step) in STEPS.iter().enumerate() {
            let (first, words) = level(words, index);
            let tick = now >> (fine(filling) + step);
            first.store(tick, Relaxed);
            begin(words, tick);
        }
        // AcqRel: they are made before the bucket is said to have them.
        let kept = self.word.compare_exchange(0, at as u64 + 1, AcqRel, Relaxed).is_ok();
        crate::region::step("floors made");
        owner.store(if kept { making & !MAKER } else { 0 }, Release);
    }
}

/// The first tick of an entry's level, and the level's words.
fn level(entry: &'static [Word], index: usize) -> (&'static Word, &'static [Word]) {
    let words = &entry[HEADER + index * (1 + LEVEL)..][..1 + LEVEL];
    (&words[0], &words[1..])
}
