//! Records in a region that several processes share: found by key, held by whoever uses them, left by the dead.
//!
//! A record is words only: who holds it, the index's link, the key, and the owner's data (a counter's words). Every step
//! that may be half done names the process that does it, so that whoever finds that process dead finishes or undoes it:
//!
//! - *free*: nobody's;
//! - *claimed* by a process that is writing it. It may be in the index already, and is whole then: whoever finds it there
//!   makes it live on the claimer's behalf;
//! - *live*, with one bit for each process that holds it;
//! - *sealed* by a process that asks whether it may go: nobody held it. Whoever wants it takes it over, which answers the
//!   question;
//! - *dying*: it leaves the index and is free then. Nobody finds it any more.
//!
//! Live words count their changes in 15 bits, others have a number of their own, so that a word that reads the same is the
//! same: only a thread that sleeps between two steps through exactly so many changes is deceived.
//!
//! Within a process a record may be wanted by several at once. How many want it is counted on the process's own heap,
//! before its bit is set and before it is cleared: whoever clears it sees that the count is nothing, and that the word has
//! not changed since.

use super::index::{Index, Links};
use crate::counter::words::Shared;
use crate::sync::{
    AtomicBool,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};
use std::hash::Hasher;

/// The most processes that may share a region at once.
pub(crate) const PROCESSES: usize = 48;

const LIVE: u64 = 1 << 63;
/// One step of a live word's count of changes.
const CHANGE: u64 = 1 << PROCESSES;
const HOLDERS: u64 = CHANGE - 1;

// Any other word: what it is (4 bits, the highest 0), the process (6), a number (54).
const KIND_SHIFT: u32 = 60;
const PROCESS_SHIFT: u32 = 54;
const TURN: u64 = (1 << PROCESS_SHIFT) - 1;
const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const SEALED: u64 = 2;
const DYING: u64 = 3;

/// The words of a record before its key: the index's link, and what the key is of (32 bits) and how long (32). Who holds
/// it stands apart, with that of all others: those who look for something look through these.
const LINK: usize = 0;
const WHAT: usize = 1;
const HEADER: usize = 2;

/// What the processes of a region have in common of a directory, beside the records: numbers for words that are not live,
/// and where the search for a free record begins.
pub(crate) const SHARED: usize = 2;

/// How many records there are, and of what size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) records: usize,
    /// The longest key.
    pub(crate) key_bytes: usize,
    /// The owner's words in each.
    pub(crate) data: usize,
}

impl Shape {
    fn key_words(self) -> usize {
        self.key_bytes.div_ceil(8)
    }

    fn record(self) -> usize {
        HEADER + self.key_words() + self.data
    }

    /// The words that a directory of this shape takes.
    pub(crate) fn words(self) -> usize {
        SHARED + <Index>::heads_for(self.records) + self.records * (1 + self.record())
    }
}

/// Why a record cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRecord {
    /// All are in use.
    Full,
    /// The key is longer than a record has room for.
    KeyTooLong,
}

struct Records {
    words: &'static [Word],
    shape: Shape,
}

impl Records {
    #[inline]
    fn at(&self, record: usize) -> &'static [Word] {
        let size = self.shape.record();
        // The index holds no others; a word that was written over would lead to the last.
        let first = record.min(self.shape.records - 1) * size;
        &self.words[first..first + size]
    }
}

impl Links for Records {
    fn link(&self, index: usize) -> &Word {
        &self.at(index)[LINK]
    }
}

/// The records of a region, as one process has them.
pub(crate) struct Directory {
    shared: &'static [Word],
    holds: &'static [Word],
    index: Index<Shared>,
    records: Records,
    /// How many of this process want each record.
    wanted: Box<[Word]>,
    seeds: (u64, u64),
    me: usize,
    /// What this process holds stays held when it lets go of it: others clear up after it.
    closed: AtomicBool,
}

fn kind(word: u64) -> u64 {
    word >> KIND_SHIFT
}

fn process_of(word: u64) -> usize {
    (word >> PROCESS_SHIFT) as usize & 63
}

fn is_live(word: u64) -> bool {
    word & LIVE != 0
}

/// The next live word after a live one, with these holders.
fn turned(word: u64, holders: u64) -> u64 {
    LIVE | ((word & !HOLDERS).wrapping_add(CHANGE) & !LIVE) | holders
}

/// The first live word after one that is not.
fn livened(word: u64, holders: u64) -> u64 {
    LIVE | (((word & TURN) << PROCESSES) & !LIVE) | holders
}

impl Directory {
    /// The directory in these words, as the process of this number has it. Words of zeros are an empty one.
    pub(crate) fn new(words: &'static [Word], shape: Shape, seeds: (u64, u64), me: usize) -> Self {
        let (shared, rest) = words.split_at(SHARED);
        let (heads, rest) = rest.split_at(<Index>::heads_for(shape.records));
        let (holds, records) = rest.split_at(shape.records);
        Directory {
            shared,
            holds,
            index: Index::shared(heads),
            records: Records { words: records, shape },
            wanted: (0..shape.records).map(|_| Word::new(0)).collect(),
            seeds,
            me,
            closed: AtomicBool::new(false),
        }
    }

    /// How many live records there are in these words.
    pub(crate) fn count(words: &'static [Word], shape: Shape) -> usize {
        let first = SHARED + <Index>::heads_for(shape.records);
        words[first..first + shape.records].iter().filter(|hold| is_live(hold.load(Relaxed))).count()
    }

    fn hash(&self, what: u32, key: &[u8]) -> u64 {
        // Not ahash: processes that were built apart must agree. The seeds are the region's own.
        #[allow(deprecated)]
        let mut hasher = std::hash::SipHasher::new_with_keys(self.seeds.0, self.seeds.1);
        hasher.write(&what.to_le_bytes());
        hasher.write(key);
        hasher.finish()
    }

    fn bit(&self) -> u64 {
        1 << self.me
    }

    /// A word that is not live, never used before.
    fn own(&self, kind: u64) -> u64 {
        let turn = self.shared[0].fetch_add(1, Relaxed).wrapping_add(1) & TURN;
        kind << KIND_SHIFT | (self.me as u64) << PROCESS_SHIFT | turn
    }

    /// The owner's words of a record.
    pub(crate) fn data(&self, record: usize) -> &'static [Word] {
        &self.records.at(record)[HEADER + self.records.shape.key_words()..]
    }

    /// What a record's key is of, and the key. For who holds it.
    pub(crate) fn key(&self, record: usize) -> (u32, Vec<u8>) {
        let words = self.records.at(record);
        let what = words[WHAT].load(Relaxed);
        let length = (what as u32 as usize).min(self.records.shape.key_bytes);
        let bytes = words[HEADER..].iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        ((what >> 32) as u32, bytes.take(length).collect())
    }

    fn is(&self, record: usize, what: u32, key: &[u8]) -> bool {
        let words = self.records.at(record);
        // Acquire: who reads a later owner's word also sees that the word that led here has changed.
        if words[WHAT].load(Acquire) != u64::from(what) << 32 | key.len() as u64 {
            return false;
        }
        key.chunks(8).zip(&words[HEADER..]).all(|(bytes, word)| word.load(Acquire) == padded(bytes))
    }

    fn write(&self, record: usize, what: u32, key: &[u8]) {
        let words = self.records.at(record);
        words[WHAT].store(u64::from(what) << 32 | key.len() as u64, Release);
        for (bytes, word) in key.chunks(8).zip(&words[HEADER..]) {
            word.store(padded(bytes), Release);
        }
    }

    fn hold_word(&self, record: usize) -> &'static Word {
        &self.holds[record]
    }

    fn want(&self, record: usize) {
        // AcqRel: counted before the bit is set, see `release`.
        self.wanted[record].fetch_add(1, AcqRel);
    }

    /// Takes hold of the record of this key for the caller. One that there was none of is begun by `begin`, which writes
    /// its data.
    pub(crate) fn hold(&self, what: u32, key: &[u8], begin: impl Fn(&'static [Word])) -> Result<usize, NoRecord> {
        if key.len() > self.records.shape.key_bytes {
            return Err(NoRecord::KeyTooLong);
        }
        let hash = self.hash(what, key);
        let held = |record| self.hold_if(record, what, key).then_some(record);
        loop {
            if let Some(record) = self.index.find(&self.records, hash, held) {
                return Ok(record);
            }
            let Some((record, claimed)) = self.claim() else {
                // A look may miss what is there while its neighbours leave.
                return self.index.find(&self.records, hash, held).ok_or(NoRecord::Full);
            };
            self.write(record, what, key);
            begin(self.data(record));
            self.want(record);
            step("claimed");
            // How the last one that was the same was held when it was seen in the chain.
            let mut seen = 0;
            let is_same = |other: usize| {
                seen = self.hold_word(other).load(Acquire);
                (is_live(seen) || matches!(kind(seen), CLAIMED | SEALED)) && self.is(other, what, key)
            };
            match self.index.insert(&self.records, hash, record, is_same) {
                Ok(()) => {
                    step("inserted");
                    let live = livened(claimed, self.bit());
                    // AcqRel: as every change of it. If it has changed, others have made it live for us.
                    let _ = self.hold_word(record).compare_exchange(claimed, live, AcqRel, Acquire);
                    return Ok(record);
                }
                Err(other) => {
                    self.release(record);
                    // Nobody has found it: only what is in the index is made live.
                    self.hold_word(record).store(claimed & TURN, Release);
                    if !is_live(seen) && kind(seen) == CLAIMED {
                        // It is in the index, so its claimer is as good as done; if it has ended, this is what it left.
                        let live = livened(seen, 1 << process_of(seen));
                        let _ = self.hold_word(other).compare_exchange(seen, live, AcqRel, Relaxed);
                    }
                }
            }
        }
    }

    /// Takes hold of a record if it is of this key and in the index.
    fn hold_if(&self, record: usize, what: u32, key: &[u8]) -> bool {
        let hold = self.hold_word(record);
        loop {
            let word = hold.load(Acquire);
            let next = if is_live(word) {
                turned(word, word & HOLDERS | self.bit())
            } else if kind(word) == SEALED {
                livened(word, self.bit())
            } else {
                return false;
            };
            if !self.is(record, what, key) {
                return false;
            }
            self.want(record);
            // AcqRel: what earlier holders did is seen, and the hold is seen before the use.
            if hold.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
                // It may have begun another life before the word came to read the same.
                if self.is(record, what, key) {
                    return true;
                }
                self.release(record);
                return false;
            }
            self.release(record);
        }
    }

    /// Takes hold of a record that is live, whichever it is; what its key is of.
    pub(crate) fn hold_live(&self, record: usize) -> Option<u32> {
        let (what, key) = self.key(record);
        self.hold_if(record, what, &key).then_some(what)
    }

    /// Lets go of a record once. The process holds it as long as others of it want it.
    pub(crate) fn release(&self, record: usize) {
        if self.wanted[record].fetch_sub(1, AcqRel) > 1 {
            return;
        }
        if self.closed.load(Acquire) {
            return;
        }
        let hold = self.hold_word(record);
        loop {
            let word = hold.load(Acquire);
            // After the word was read: who wants it anew is counted first and changes the word then.
            if self.wanted[record].load(Acquire) > 0 || !is_live(word) || word & self.bit() == 0 {
                return;
            }
            // AcqRel: all that this process did with it happens before it goes.
            let next = turned(word, word & HOLDERS & !self.bit());
            if hold.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Whether no record is free.
    pub(crate) fn is_full(&self) -> bool {
        let is_free = |word: u64| !is_live(word) && kind(word) == FREE;
        !self.holds.iter().any(|hold| is_free(hold.load(Relaxed)))
    }

    /// From now on nothing is let go of: the process is about to leave, and may leave permits that need it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Release);
    }

    /// A free record, claimed; none if all are in use.
    fn claim(&self) -> Option<(usize, u64)> {
        let records = self.records.shape.records;
        let first = self.shared[1].load(Relaxed) as usize;
        for at in (0..records).map(|step| (first + step) % records) {
            let hold = self.hold_word(at);
            let word = hold.load(Relaxed);
            if is_live(word) || kind(word) != FREE {
                continue;
            }
            let claimed = self.own(CLAIMED);
            // AcqRel: its last life is over before this one is written.
            if hold.compare_exchange(word, claimed, AcqRel, Relaxed).is_ok() {
                self.shared[1].store(at as u64 + 1, Relaxed);
                return Some((at, claimed));
            }
        }
        None
    }

    /// Frees the records that no process holds and that may go. `judge` is asked after it was seen that nobody held them,
    /// for what says of each whether it rests; `last` sees each before it is free. How many went.
    pub(crate) fn evict<R: Fn(usize) -> bool>(&self, judge: impl FnOnce() -> R, last: impl Fn(usize)) -> usize {
        let mut unheld = Vec::new();
        for record in 0..self.records.shape.records {
            let word = self.hold_word(record).load(Acquire);
            if is_live(word) && word & HOLDERS == 0 {
                unheld.push((record, word));
            }
        }
        if unheld.is_empty() {
            return 0;
        }
        let rests = judge();
        unheld.retain(|(record, word)| {
            let hold = self.hold_word(*record);
            let sealed = self.own(SEALED);
            // Unsealed it may still be held and used, so only what is seen under the seal counts.
            if !rests(*record) || hold.compare_exchange(*word, sealed, AcqRel, Relaxed).is_err() {
                return false;
            }
            step("sealed");
            if !rests(*record) {
                let _ = hold.compare_exchange(sealed, livened(sealed, 0), AcqRel, Relaxed);
                return false;
            }
            let dying = self.own(DYING);
            let went = hold.compare_exchange(sealed, dying, AcqRel, Relaxed).is_ok();
            if went {
                step("dying");
                self.bury(*record, dying, &last);
            }
            went
        });
        unheld.len()
    }

    /// Ends the life of a record that nobody finds any more. May be done again.
    fn bury(&self, record: usize, dying: u64, last: &impl Fn(usize)) {
        let (what, key) = self.key(record);
        let hold = self.hold_word(record);
        let meant = || hold.load(Acquire) == dying;
        // If another has taken it out, it is out as well when this comes back.
        self.index.remove(&self.records, self.hash(what, &key), record, meant);
        step("removed");
        last(record);
        let _ = hold.compare_exchange(dying, dying & TURN, AcqRel, Relaxed);
    }

    /// Finishes or undoes what a process was at when it ended, and lets go of what it held. For one caller at a time, who
    /// knows that it has ended. `is_me`: this process has its number, and keeps what it wants of that. `last` as for
    /// [`evict`](Directory::evict).
    pub(crate) fn forget(&self, process: usize, is_me: bool, last: impl Fn(usize)) {
        for record in 0..self.records.shape.records {
            let hold = self.hold_word(record);
            loop {
                let word = hold.load(Acquire);
                let next = if is_live(word) {
                    // The word was read before the count, as in `release`.
                    if word & 1 << process == 0 || (is_me && self.wanted[record].load(Acquire) > 0) {
                        break;
                    }
                    turned(word, word & HOLDERS & !(1 << process))
                } else if kind(word) == FREE || process_of(word) != process {
                    break;
                } else if kind(word) == SEALED {
                    livened(word, 0)
                } else {
                    // Claimed or dying: it may be in the index, and goes. In this process's name, lest that ends as well.
                    self.own(DYING)
                };
                if hold.compare_exchange(word, next, AcqRel, Relaxed).is_ok() {
                    if !is_live(next) {
                        self.bury(record, next, &last);
                    }
                    break;
                }
            }
        }
    }

    /// Passes each live record, and whether this process holds it. It may go at any time unless it does.
    pub(crate) fn each_live(&self, mut see: impl FnMut(usize, u64)) {
        for record in 0..self.records.shape.records {
            let word = self.hold_word(record).load(Acquire);
            if is_live(word) {
                see(record, word & HOLDERS);
            }
        }
    }

    /// Whether a process holds the record.
    pub(crate) fn is_held_by(&self, record: usize, process: usize) -> bool {
        let word = self.hold_word(record).load(Acquire);
        is_live(word) && word & 1 << process != 0
    }
}

/// A point at which a process may end.
#[inline(always)]
fn step(name: &'static str) {
    crate::region::step(name);
}

fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
