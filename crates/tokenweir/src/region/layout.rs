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
    /// The words of a counter: as many as the largest of the policy takes, and at least what a window of 60 parts does, so
    /// that a later policy has room.
    pub counter_words: usize,
    /// The room for a policy in bytes, eight times: for the one in force, and for those that open permits were admitted
    /// under. Twice what the first takes and at least 64 KiB unless set; at least 4 KiB, at most 64 MiB.
    pub policy_bytes: usize,
}

/// A region keeps so many policies: the one in force, and those that open permits were admitted under.
pub(crate) const POLICIES: usize = 8;
/// The bits that say which of them.
pub(crate) const POLICY_BITS: u32 = 4;
const _: () = assert!(POLICIES <= 1 << POLICY_BITS);

/// The words of a policy before its document: its generation (0: none that is whole), the length in bytes, a checksum.
pub(crate) const POLICY_HEADER: usize = 8;
pub(crate) const POLICY_GENERATION: usize = 0;
pub(crate) const POLICY_LENGTH: usize = 1;
pub(crate) const POLICY_SUM: usize = 2;

/// What a limit of a policy may take beside the policy's own text, in bytes.
const LIMIT_BYTES: usize = 32;
/// What windows have unless they say otherwise.
const SUB_WINDOWS: u32 = 60;

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
        let document = policy.to_json().len() + policy.limits().len() * LIMIT_BYTES;
        Layout {
            counters: 1 << 14,
            callers: 1 << 14,
            permits: 1 << 14,
            histories: 1000,
            key_bytes: 128,
            caller_bytes: 256,
            counter_words: words.max().unwrap_or(1).max(Window::words(SUB_WINDOWS)),
            policy_bytes: 0,
        }
        .policy_bytes((2 * document).max(64 << 10))
    }

    /// Sets [`policy_bytes`](Layout::policy_bytes), rounded up to whole words.
    pub fn policy_bytes(mut self, most: usize) -> Self {
        self.policy_bytes = most.clamp(4 << 10, 64 << 20).next_multiple_of(8);
        self
    }

    /// Whether what a region of this layout has room for is what one of `wanted` has, or more where that is taken from the
    /// policy: the words of a counter, and the bytes of a policy.
    pub fn has_room_for(&self, wanted: &Layout) -> bool {
        let rest = Layout { counter_words: wanted.counter_words, policy_bytes: wanted.policy_bytes, ..*self };
        rest == *wanted && self.counter_words >= wanted.counter_words && self.policy_bytes >= wanted.policy_bytes
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
            && (4 << 10..=64 << 20).contains(&self.policy_bytes)
            && self.policy_bytes.is_multiple_of(8)
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
            + POLICIES * self.policy_words()
    }

    /// The words of a policy's place.
    pub(crate) fn policy_words(&self) -> usize {
        POLICY_HEADER + self.policy_bytes / 8
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
    /// Which policy it counts for, by the name that permits have of it; 0: none yet.
    InForce,
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
    /// Who changes the policy: its seat from 1; 0: nobody.
    Changer,
    /// The name of the last policy that every bucket has been brought under.
    Adopted,
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
    pub(crate) policies: &'static [Word],
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
        let (callers, rest) = rest.split_at(layout.caller_shape().words());
        let (floors, policies) = rest.split_at(Pool::words(layout.histories));
        Ok(Sections { header, seats, slots, notes, counters, callers, floors, policies })
    }

    pub(crate) fn head(&self, which: Head) -> &'static Word {
        &self.header[which as usize]
    }

    /// A word of a seat's.
    pub(crate) fn seat(&self, seat: usize, which: usize) -> &'static Word {
        &self.seats[seat.min(PROCESSES - 1) * SEAT + which]
    }
}
