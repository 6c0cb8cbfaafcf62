//! The calendar quota: a period that only moves forward, and the use within it.
//!
//! Two words. `period` holds the start of the newest period seen and a sequence number; `used` holds the use and the
//! low bits of the sequence number it belongs to. Whoever is first in a new period moves `period` on; `used` is reset
//! by the swap that makes the first charge of the new period, so a roll-over has one linearisation point and loses
//! nothing. A clock that steps back finds a newer period and stays in it.
//!
//! A quota that is kept in a store has a third word, the *lease*: how much of the newest period's use the store has
//! recorded in advance. Whoever charges looks at the lease afterwards, and whoever lowers it looks at the use
//! afterwards, all in the one order of SeqCst: one of the two sees the other, so that no charge stands unrecorded.

use super::words::{Home, Own, Shared};
use super::{AMOUNT_BITS, AMOUNT_MAX, Look, Ready, fits};
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
    Word, in_one_order,
};

/// The lease of a quota that no store keeps.
const UNBOUNDED: u64 = u64::MAX;

const SEQUENCE_BITS: u32 = 20;
const TAG: u64 = (1 << (64 - AMOUNT_BITS)) - 1;
/// Seconds are stored from a bias so that starts before 1970 are positive: 2^43 seconds are 278,000 years.
const BIAS: i64 = 1 << 43;
const SECOND: i64 = 1_000_000_000;

/// The words of one quota counter: the period, the use in it, and the lease (the number of the period, as on the use, and
/// the leased amount).
#[derive(Debug)]
pub(crate) struct Quota<H: Home = Own>(H::Few<3>);

/// The use of a quota's newest period, and its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leased {
    /// The `period` word that all of it is about.
    pub(crate) period: u64,
    pub(crate) used: u64,
    pub(crate) leased: u64,
}

impl Leased {
    /// The start of the period, in wall nanoseconds.
    pub(crate) fn start(&self) -> i64 {
        start_of(self.period)
    }

    #[cfg(all(test, loom))]
    pub(crate) fn covers(&self) -> bool {
        self.used <= self.leased
    }
}

fn stamp(start: i64) -> u64 {
    ((start.div_euclid(SECOND) + BIAS) as u64) << SEQUENCE_BITS
}

/// The start, in wall nanoseconds, of the period that a receipt or the `period` word names.
fn start_of(word: u64) -> i64 {
    ((word >> SEQUENCE_BITS) as i64 - BIAS).saturating_mul(SECOND)
}

fn tag(period: u64) -> u64 {
    (period & TAG) << AMOUNT_BITS
}

impl Quota {
    /// What a look that fitted found used.
    pub(crate) fn found(ready: &Ready) -> u64 {
        ready.seen & AMOUNT_MAX
    }

    pub(crate) fn new() -> Self {
        Quota([Word::new(0), Word::new(0), Word::new(UNBOUNDED)])
    }

    /// One that a store keeps, with what it has recorded: the start of the newest period and the use in it.
    pub(crate) fn kept(recorded: Option<(i64, u64)>) -> Self {
        let quota = Quota([Word::new(0), Word::new(0), Word::new(0)]);
        if let Some((start, used)) = recorded {
            let period = quota.enter(start);
            let word = tag(period) | used.min(AMOUNT_MAX);
            quota.in_use().store(word, Relaxed);
            quota.recorded().store(word, Relaxed);
        }
        quota
    }
}

impl Quota<Shared> {
    /// One in these words.
    pub(crate) fn shared(words: &'static [Word; 3]) -> Self {
        Quota(words)
    }

    /// Makes the words those of a quota that nobody has used.
    pub(crate) fn begin(words: &[Word; 3]) {
        let [period, used, lease] = words;
        period.store(0, Relaxed);
        used.store(0, Relaxed);
        lease.store(UNBOUNDED, Relaxed);
    }
}

impl<H: Home> Quota<H> {
    #[inline(always)]
    fn period(&self) -> &Word {
        &H::few(&self.0)[0]
    }

    #[inline(always)]
    fn in_use(&self) -> &Word {
        &H::few(&self.0)[1]
    }

    #[inline(always)]
    fn recorded(&self) -> &Word {
        &H::few(&self.0)[2]
    }

    /// What the store has recorded beside what is used. `None` where there is no store, or nothing is used.
    #[inline]
    pub(crate) fn leased(&self) -> Option<Leased> {
        in_one_order();
        let lease = self.recorded().load(SeqCst);
        if lease == UNBOUNDED {
            return None;
        }
        let period = self.period().load(SeqCst);
        let used = self.in_use().load(SeqCst);
        // Of another period than the newest: that one is over, and in the newest nobody has charged yet.
        (used & !AMOUNT_MAX == tag(period)).then(|| {
            let leased = if lease & !AMOUNT_MAX == tag(period) { lease & AMOUNT_MAX } else { 0 };
            Leased { period, used: used & AMOUNT_MAX, leased }
        })
    }

    /// Sets the lease to what a store has recorded, or is to record, for this period. For one at a time.
    pub(crate) fn lease(&self, period: u64, leased: u64) {
        self.recorded().store(tag(period) | leased.min(AMOUNT_MAX), SeqCst);
    }

    /// Whether the lease of this period covers so much use.
    #[inline]
    fn covers(&self, period: u64, used: u64) -> bool {
        let lease = self.recorded().load(SeqCst);
        lease == UNBOUNDED || (lease & !AMOUNT_MAX == tag(period) && used <= lease & AMOUNT_MAX)
    }

    /// Moves the period on to the one that starts at `start`, if that is newer.
    fn enter(&self, start: i64) -> u64 {
        let wanted = stamp(start);
        let mut period = self.period().load(Acquire);
        while period >> SEQUENCE_BITS < wanted >> SEQUENCE_BITS {
            let next = wanted | (period + 1) & ((1 << SEQUENCE_BITS) - 1);
            match self.period().compare_exchange_weak(period, next, AcqRel, Acquire) {
                Ok(_) => {
                    self.open(next);
                    return next;
                }
                Err(seen) => period = seen,
            }
        }
        period
    }

    /// Puts the new period's number on the use, so that no number stays behind for as long as they last. If others are
    /// faster, or time has gone on, it is theirs to do.
    fn open(&self, period: u64) {
        let word = self.in_use().load(Acquire);
        if word & !AMOUNT_MAX != tag(period) && self.period().load(Acquire) == period {
            let _ = self.in_use().compare_exchange(word, tag(period), AcqRel, Relaxed);
        }
    }

    /// The newest period, the word of its use, and the use.
    fn load(&self, start: i64) -> (u64, u64, u64) {
        let mut period = self.enter(start);
        loop {
            let word = self.in_use().load(Acquire);
            if word & !AMOUNT_MAX == tag(period) {
                return (period, word, word & AMOUNT_MAX);
            }
            // Either nobody has charged in this period yet, or it has just ended.
            let again = self.period().load(Acquire);
            if again == period {
                return (period, word, 0);
            }
            period = again;
        }
    }

    /// Whether a charge of `n` in the period that starts at `start` fits, and if so what makes it, once somebody has
    /// charged in the period. Changes nothing.
    #[inline]
    pub(crate) fn look(&self, start: i64, n: u64, amount: u64, ready: &mut Ready) -> Look {
        let period = self.period().load(Acquire);
        let word = self.in_use().load(Acquire);
        if period >> SEQUENCE_BITS < stamp(start) >> SEQUENCE_BITS || word & !AMOUNT_MAX != tag(period) || n == 0 {
            return Look::Unsure;
        }
        let used = word & AMOUNT_MAX;
        if used.saturating_add(n) > amount {
            return Look::Refused;
        }
        if !self.covers(period, used + n) {
            return Look::Unsure;
        }
        *ready = Ready { seen: word, next: tag(period) | (used + n), with: period };
        Look::Fits
    }

    /// Makes the charge that a look showed to fit; `None` if the use has changed since. The receipt names the period.
    #[inline]
    pub(crate) fn make(&self, ready: &Ready) -> Option<u64> {
        // SeqCst: as in `take`.
        self.in_use().compare_exchange(ready.seen, ready.next, SeqCst, Relaxed).ok()?;
        Some(ready.with)
    }

    /// Charges `n` in the period that starts at `start` (or the newest seen, if that is later) if it fits `amount`.
    /// The receipt names the period.
    pub(crate) fn charge(&self, start: i64, n: u64, amount: u64) -> Option<u64> {
        self.take(start, n, Some(amount))
    }

    /// Charges `n` whatever is left.
    pub(crate) fn force(&self, start: i64, n: u64) -> u64 {
        self.take(start, n, None).unwrap_or(0)
    }

    fn take(&self, start: i64, n: u64, amount: Option<u64>) -> Option<u64> {
        // Who is refused has not been in the period: only a charge moves it on.
        if amount.is_some_and(|amount| !fits(self.used(start).0, n, amount)) {
            return None;
        }
        loop {
            let (period, word, used) = self.load(start);
            if amount.is_some_and(|amount| !fits(used, n, amount)) {
                return None;
            }
            if n == 0 {
                return Some(period);
            }
            let next = tag(period) | used.saturating_add(n).min(AMOUNT_MAX);
            // A charge of a new period is seen together with the period that it belongs to. SeqCst: before the look at
            // the lease that follows it.
            if self.in_use().compare_exchange_weak(word, next, SeqCst, Relaxed).is_ok() {
                return Some(period);
            }
        }
    }

    /// Gives back up to `back` of a charge with this receipt; nothing once its period is over, as of `start`.
    pub(crate) fn give_back(&self, start: i64, receipt: u64, back: u64) -> u64 {
        if start > start_of(receipt) {
            return 0;
        }
        let mut word = self.in_use().load(Acquire);
        loop {
            let used = word & AMOUNT_MAX;
            let back = back.min(used);
            if self.period().load(Acquire) != receipt || word & !AMOUNT_MAX != tag(receipt) || back == 0 {
                return 0;
            }
            if used == AMOUNT_MAX {
                // More was charged than the word can say; how much more is not known, so it stays.
                return back;
            }
            match self.in_use().compare_exchange_weak(word, tag(receipt) | (used - back), AcqRel, Acquire) {
                Ok(_) => return back,
                Err(seen) => word = seen,
            }
        }
    }

    /// The use in the period that starts at `start` or the newest seen, whichever is later, and that period's start.
    /// Only looks: a period that nobody has entered is empty.
    pub(crate) fn used(&self, start: i64) -> (u64, i64) {
        loop {
            let period = self.period().load(Acquire);
            let newest = start_of(period);
            if newest < start {
                return (0, start);
            }
            let word = self.in_use().load(Acquire);
            if word & !AMOUNT_MAX == tag(period) {
                return (word & AMOUNT_MAX, newest);
            }
            if self.period().load(Acquire) == period {
                return (0, newest);
            }
        }
    }
}
