//! How the words of a region are divided.

use super::RegionError;
use crate::counter::floors::Pool;
use crate::counter::places::{LEGS_MOST, SLOTS_MOST};
use crate::counter::window::Window;
use crate::policy::{Algorithm, Policy};
use crate::sync::Word;
use crate::table::{PROCESSES, Shape};

/// How many of everything a region has room for. Fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// The most counters; 16,384 unless set, at most 2^24.
    pub counters: usize,
    /// The most callers (project, deployment and caller keys) that are known at once; 16,384 unless set, at most 2^24.
    pub callers: usize,
    /// The most permits that may be open at once; 16,384 unless set, at most 2^20. 384 bytes each.
    pub permits: usize,
    /// The most buckets that may keep a history of their deficit; 1,000 unless set. 12 KiB each.
    pub histories: usize,
    /// The longest key of a counter in bytes: its values, and one or two bytes for each; 128 unless set, at most 4,096.
    pub key_bytes: usize,
    /// The longest caller in bytes: project, deployment and caller keys, and one or two bytes for each; 256 unless set, at
    /// most 16,384.
    pub caller_bytes: usize,
    /// The words of a counter: as many as the largest of the policy takes.
    pub counter_words: usize,
}

/// Of the words of a counter, those that every algorithm has: whether what it holds is in doubt, the sum of what is
/// settled, and which floors are its own.
pub(crate) const DOUBT: usize = 0;
pub(crate) const SETTLED: usize = 1;
pub(crate) const KEPT: usize = 2;
pub(crate) const STATE: usize = 3;

/// How many words the algorithm of a limit takes of them.
pub(crate) fn state_words(algorithm: &Algorithm) -> usize {
    match algorithm {
        Algorithm::Bucket { .. } => 2,
        Algorithm::Window { sub_windows, .. } => Window::words(*sub_windows),
        Algorithm::Quota { .. } => 3,
        Algorithm::InFlight { .. } => 1,
    }
}

impl Layout {
    /// The usual numbers, for the counters of this policy.
    pub fn of(policy: &Policy) -> Self {
        let words = policy.limits().iter().map(|limit| state_words(limit.algorithm()));
        Layout {
            counters: 1 << 14,
            callers: 1 << 14,
            permits: 1 << 14,
            histories: 1000,
            key_bytes: 128,
            caller_bytes: 256,
            counter_words: words.max().unwrap_or(1),
        }
    }

    /// Sets [`counters`](Layout::counters).
    pub fn counters(mut self, most: usize) -> Self {
        self.counters = most.clamp(1, 1 << 24);
        self
    }

    /// Sets [`callers`](Layout::callers).
    pub fn callers(mut self, most: usize) -> Self {
        self.callers = most.clamp(1, 1 << 24);
        self
    }

    /// Sets [`permits`](Layout::permits).
    pub fn permits(mut self, most: usize) -> Self {
        self.permits = most.clamp(1, SLOTS_MOST);
        self
    }

    /// Sets [`histories`](Layout::histories).
    pub fn histories(mut self, most: usize) -> Self {
        self.histories = most.min(1 << 24);
        self
    }

    /// Sets [`key_bytes`](Layout::key_bytes).
    pub fn key_bytes(mut self, most: usize) -> Self {
        self.key_bytes = most.clamp(1, 4096);
        self
    }

    /// Sets [`caller_bytes`](Layout::caller_bytes).
    pub fn caller_bytes(mut self, most: usize) -> Self {
        self.caller_bytes = most.clamp(1, 16384);
        self
    }

    /// Whether every number is within its range.
    pub fn is_valid(&self) -> bool {
        let table = 1..=1 << 24;
        table.contains(&self.counters)
            && table.contains(&self.callers)
            && (1..=SLOTS_MOST).contains(&self.permits)
            && self.histories <= 1 << 24
            && (1..=4096).contains(&self.key_bytes)
            && (1..=16384).contains(&self.caller_bytes)
            && (1..=1024).contains(&self.counter_words)
    }

    pub(crate) fn shapes(&self) -> (Shape, Shape) {
        (self.counter_shape(), self.caller_shape())
    }

    /// The first words of a region that has never been used; all others are 0. `now`: what the processes' clock shows, in
    /// monotonic nanoseconds. `random`: numbers that nobody can guess.
    pub fn beginning(&self, now: u64, random: [u64; 3]) -> Vec<u64> {
        let mut words = vec![0; HEADER];
        words[Head::Origin as usize] = now;
        words[Head::SeedA as usize] = random[0];
        words[Head::SeedB as usize] = random[1];
        words[Head::First as usize] = random[2];
        words[Head::NextExpiry as usize] = u64::MAX;
        words
    }

    fn counter_shape(&self) -> Shape {
        Shape { records: self.counters, key_bytes: self.key_bytes, data: STATE + self.counter_words }
    }

    fn caller_shape(&self) -> Shape {
        Shape { records: self.callers, key_bytes: self.caller_bytes, data: 0 }
    }

    /// The words that a region of this layout takes, 8 bytes each.
    pub fn words(&self) -> usize {
        HEADER
            + PROCESSES * SEAT
            + self.permits * (SLOT + NOTE)
            + self.counter_shape().words()
            + self.caller_shape().words()
            + Pool::words(self.histories)
    }
}

/// The words of the header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head {
    /// The monotonic instant at which it was made: buckets count their refill from it.
    Origin,
    /// What keys are hashed by.
    SeedA,
    SeedB,
    /// Where the generations of permits start.
    First,
    /// Which policy it counts for; 0: none yet.
    Policy,
    /// No permit expires before this instant.
    NextExpiry,
    /// Grows with every roll-back begun or ended.
    RollBacks,
    /// How many attachments have been cleared up after.
    ClearedUp,
    /// How many counters have come to be in doubt since none was.
    Doubts,
    /// How many steps that a process was at when it ended may or may not have been made.
    UnsureSteps,
}

const HEADER: usize = 16;

/// The words of a seat: whether its attachment has anything to be cleared up after, and its process, for operators.
pub(crate) const SEAT: usize = 8;
pub(crate) const SEAT_TAKEN: usize = 0;
pub(crate) const SEAT_PROCESS: usize = 1;
pub(crate) const SEAT_SINCE: usize = 2;
/// How many threads of it are observing.
pub(crate) const SEAT_OBSERVING: usize = 3;

/// The words of a permit's slot, and of what is noted beside it.
pub(crate) const SLOT: usize = 16;
pub(crate) const NOTE: usize = 32;

/// The limits that a permit in a region has room for.
pub(crate) const LEGS: usize = LEGS_MOST;

/// The words of a region by what they are for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sections {
    pub(crate) header: &'static [Word],
    pub(crate) seats: &'static [Word],
    pub(crate) slots: &'static [Word],
    pub(crate) notes: &'static [Word],
    pub(crate) counters: &'static [Word],
    pub(crate) callers: &'static [Word],
    pub(crate) floors: &'static [Word],
}

impl Sections {
    pub(crate) fn new(words: &'static [Word], layout: &Layout) -> Result<Self, RegionError> {
        if words.len() != layout.words() {
            return Err(RegionError::WrongSize { found: words.len(), expected: layout.words() });
        }
        let (header, rest) = words.split_at(HEADER);
        let (seats, rest) = rest.split_at(PROCESSES * SEAT);
        let (slots, rest) = rest.split_at(layout.permits * SLOT);
        let (notes, rest) = rest.split_at(layout.permits * NOTE);
        let (counters, rest) = rest.split_at(layout.counter_shape().words());
        let (callers, floors) = rest.split_at(layout.caller_shape().words());
        Ok(Sections { header, seats, slots, notes, counters, callers, floors })
    }

    pub(crate) fn head(&self, which: Head) -> &'static Word {
        &self.header[which as usize]
    }

    /// A word of a seat's.
    pub(crate) fn seat(&self, seat: usize, which: usize) -> &'static Word {
        &self.seats[seat.min(PROCESSES - 1) * SEAT + which]
    }
}
