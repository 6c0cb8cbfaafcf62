//! The sliding window: a total that decides, and sub-windows that say what leaves it when.
//!
//! - `total` is what counts now: an admission is one compare-and-swap on it, the only linearisation point.
//! - `slots` is a ring of N + 1 sub-windows: what was charged in each.
//! - `last` is the newest sub-window seen.
//!
//! When time enters a newer sub-window, what the oldest ones hold must leave the total at one instant, whoever does
//! it and however often it is started over: first `last` moves on (that names the work), then the slots concerned are
//! frozen, then one swap takes their sum off the total and stamps it with the new sequence number, then the slots are
//! emptied under that number. Any thread that finds the work unfinished finishes it, so nobody waits and nobody is
//! refused for what has already left. Sequence numbers count such moves, not time: every slot is visited within
//! N + 1 moves, so 9 bits cannot be mistaken however long a counter lay idle.
//!
//! A charge goes to the total first and to its slot second: a thread stopped in between leaves the total too high,
//! never too low. A return takes from the slot first and the total second, and finds nothing once the slot is frozen.
//! It is judged by its age as well: a permit may live longer than the sequence numbers last.

mod saved;

use super::words::{Home, Own, Shared, filled};
use super::{AMOUNT_BITS, AMOUNT_MAX, Look, Ready, fits};
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed},
    Word,
};

/// The most sub-windows a window may have: sequence numbers must outlast one turn of the ring.
pub(crate) const SUB_WINDOWS_MAX: u32 = 500;

const SEQUENCES: u64 = 512;
const FROZEN: u64 = 1 << AMOUNT_BITS;
const TAG_SHIFT: u32 = AMOUNT_BITS + 1;
const GAP_BITS: u32 = 10;
const INDEX_SHIFT: u32 = GAP_BITS + 9;

/// What a limit is at present, as far as its windows are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowRule {
    pub(crate) amount: u64,
    /// Nanoseconds of one sub-window.
    pub(crate) sub_window: u64,
}

/// The words of one window, in one run:
/// - `last`: newest sub-window (45 bits), by how many it was moved on (10), sequence number (9);
/// - `total`: sequence number (9), unused (1), amount (54);
/// - a slot for each sub-window and one more: sequence number (9), frozen (1), amount (54).
#[derive(Debug)]
pub(crate) struct Window<H: Home = Own>(H::Many);

/// The words before the slots.
const LAST: usize = 0;
const TOTAL: usize = 1;
const HEADER: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last(u64);

impl Last {
    fn index(self) -> u64 {
        self.0 >> INDEX_SHIFT
    }
    fn gap(self) -> u64 {
        (self.0 >> 9) & ((1 << GAP_BITS) - 1)
    }
    fn sequence(self) -> u64 {
        self.0 % SEQUENCES
    }
    fn moved_to(self, index: u64, gap: u64) -> Last {
        Last((index << INDEX_SHIFT) | (gap << 9) | ((self.sequence() + 1) % SEQUENCES))
    }
}

fn sequence(word: u64) -> u64 {
    word >> TAG_SHIFT
}

fn stamped(sequence: u64, amount: u64) -> u64 {
    (sequence << TAG_SHIFT) | amount.min(AMOUNT_MAX)
}

fn amount(word: u64) -> u64 {
    word & AMOUNT_MAX
}

impl Window {
    /// What a look that fitted found counted.
    pub(crate) fn found(ready: &Ready) -> u64 {
        amount(ready.seen)
    }

    /// An empty window of `sub_windows` sub-windows.
    pub(crate) fn new(sub_windows: u32) -> Self {
        Window(filled(Self::words(sub_windows), 0))
    }

    /// How many words one takes.
    pub(crate) fn words(sub_windows: u32) -> usize {
        sub_windows.clamp(1, SUB_WINDOWS_MAX) as usize + 1 + HEADER
    }
}

impl Window<Shared> {
    /// Takes off the total what a process that has ended charged there and did not put down in a sub-window, which would never
    /// leave. `quiet`: whether nobody is at work on it. False if it has to be tried again.
    ///
    /// What is in the sub-windows is read twice, and the other thing asked after either: whoever had changed one of the two
    /// and not yet the other would have been at work.
    pub(crate) fn settle_doubt(&self, quiet: impl Fn() -> bool) -> bool {
        let look = || -> Vec<u64> { self.0.iter().map(|word| word.load(Acquire)).collect() };
        let last = Last(self.last().load(Acquire));
        if sequence(self.total().load(Acquire)) != last.sequence() {
            self.finish(last);
        }
        self.empty(last);
        let words = look();
        if !quiet() || look() != words || !quiet() {
            return false;
        }
        let (last, total, slots) = (Last(words[LAST]), words[TOTAL], &words[HEADER..]);
        if sequence(total) != last.sequence() || slots.iter().any(|slot| slot & FROZEN != 0) {
            return false;
        }
        let sum = slots.iter().fold(0, |sum: u64, slot| sum.saturating_add(amount(*slot)));
        // AcqRel: as every change of it.
        amount(total) <= sum
            || self.total().compare_exchange(total, stamped(sequence(total), sum), AcqRel, Relaxed).is_ok()
    }

    /// One in these words, as many as [`words`](Window::words) says. Zeros are an empty one.
    pub(crate) fn shared(words: &'static [Word]) -> Self {
        Window(words)
    }
}

impl<H: Home> Window<H> {
    #[inline]
    fn last(&self) -> &Word {
        &H::many(&self.0)[LAST]
    }

    #[inline]
    fn total(&self) -> &Word {
        &H::many(&self.0)[TOTAL]
    }

    #[inline]
    fn slots(&self) -> &[Word] {
        &H::many(&self.0)[HEADER..]
    }

    #[inline]
    fn slot(&self, index: u64) -> &Word {
        let slots = self.slots();
        &slots[(index % slots.len() as u64) as usize]
    }

    /// Brings the window to `now`; the newest sub-window and the total as they stand together.
    fn enter(&self, rule: &WindowRule, now: u64) -> (Last, u64) {
        loop {
            let last = Last(self.last().load(Acquire));
            let total = self.total().load(Acquire);
            if sequence(total) != last.sequence() {
                self.finish(last);
                continue;
            }
            // The division is only needed when the sub-window may have changed.
            let begins = last.index().saturating_mul(rule.sub_window);
            if now < begins.saturating_add(rule.sub_window) {
                return (last, total);
            }
            let index = (now / rule.sub_window).min((1 << 45) - 1);
            if index <= last.index() {
                return (last, total);
            }
            let gap = (index - last.index()).min(self.slots().len() as u64);
            // Whoever made the last move may not have got to its end: what stays frozen would leave a second time.
            self.empty(last);
            // AcqRel: the move is seen before anything that is done in its name.
            let _ = self.last().compare_exchange(last.0, last.moved_to(index, gap).0, AcqRel, Relaxed);
        }
    }

    /// Finishes the move to `last`: what has aged out leaves the total.
    fn finish(&self, last: Last) {
        let new = last.sequence();
        let old = (new + SEQUENCES - 1) % SEQUENCES;
        let aged = || (0..last.gap()).map(|back| self.slot(last.index() - back.min(last.index())));
        let mut sum = 0u64;
        for slot in aged() {
            let mut word = slot.load(Acquire);
            loop {
                // As long as the total bears the old number no slot has been emptied for this move.
                if sequence(self.total().load(Acquire)) != old {
                    return self.empty(last);
                }
                if word & FROZEN != 0 {
                    break;
                }
                match slot.compare_exchange_weak(word, word | FROZEN, AcqRel, Acquire) {
                    Ok(_) => break,
                    Err(seen) => word = seen,
                }
            }
            sum = sum.saturating_add(amount(word));
        }
        let mut total = self.total().load(Acquire);
        while sequence(total) == old {
            let left = if amount(total) == AMOUNT_MAX {
                // More was charged than the total can say: what stays is what the other slots hold.
                let stay = (last.gap()..self.slots().len() as u64).filter_map(|back| last.index().checked_sub(back));
                stay.fold(0, |left: u64, index| left.saturating_add(amount(self.slot(index).load(Acquire))))
            } else {
                amount(total).saturating_sub(sum)
            };
            let next = stamped(new, left);
            // AcqRel: the one instant at which all of it leaves.
            match self.total().compare_exchange_weak(total, next, AcqRel, Acquire) {
                Ok(_) => break,
                Err(seen) => total = seen,
            }
        }
        self.empty(last);
    }

    /// Empties the slots of the move to `last`, which has taken place, unless others did or time has gone on.
    fn empty(&self, last: Last) {
        for back in 0..last.gap() {
            let slot = self.slot(last.index() - back.min(last.index()));
            let word = slot.load(Acquire);
            if word & FROZEN == 0 {
                continue;
            }
            // A slot frozen for a later move is not this move's to empty.
            if self.last().load(Acquire) != last.0 || sequence(self.total().load(Acquire)) != last.sequence() {
                return;
            }
            let _ = slot.compare_exchange(word, stamped(last.sequence(), 0), AcqRel, Relaxed);
        }
    }

    /// Whether a charge of `n` at `now` fits, and if so what makes it, as long as no newer sub-window begins. Changes
    /// nothing.
    #[inline]
    pub(crate) fn look(&self, rule: &WindowRule, n: u64, now: u64, ready: &mut Ready) -> Look {
        let last = Last(self.last().load(Acquire));
        let total = self.total().load(Acquire);
        let ends = (last.index() + 1).saturating_mul(rule.sub_window);
        if sequence(total) != last.sequence() || now >= ends || n == 0 {
            return Look::Unsure;
        }
        let used = amount(total);
        if used.saturating_add(n) > rule.amount {
            return Look::Refused;
        }
        *ready = Ready { seen: total, next: stamped(sequence(total), used + n), with: n };
        Look::Fits
    }

    /// Makes the charge that a look showed to fit; `None` if the total has changed since. The receipt names the slot.
    #[inline]
    pub(crate) fn make(&self, ready: &Ready) -> Option<u64> {
        // AcqRel: as in `take`.
        self.total().compare_exchange(ready.seen, ready.next, AcqRel, Relaxed).ok()?;
        Some(self.put_down(ready.with))
    }

    /// Charges `n` at `now` if it fits. The receipt names the slot.
    pub(crate) fn charge(&self, rule: &WindowRule, n: u64, now: u64) -> Option<u64> {
        self.take(rule, n, now, false)
    }

    /// Charges `n` whatever is left.
    pub(crate) fn force(&self, rule: &WindowRule, n: u64, now: u64) -> u64 {
        self.take(rule, n, now, true).unwrap_or(0)
    }

    fn take(&self, rule: &WindowRule, n: u64, now: u64, force: bool) -> Option<u64> {
        loop {
            let (_, total) = self.enter(rule, now);
            let used = amount(total);
            if !force && !fits(used, n, rule.amount) {
                return None;
            }
            let next = used.saturating_add(n).min(AMOUNT_MAX);
            if next == used {
                break;
            }
            let word = stamped(sequence(total), next);
            // AcqRel: chained to the move that the total stands after.
            if self.total().compare_exchange_weak(total, word, AcqRel, Relaxed).is_ok() {
                break;
            }
        }
        crate::region::step("window charged");
        Some(self.put_down(n))
    }

    /// Writes what was charged into the newest slot: not before time may have moved on, never into an older one.
    fn put_down(&self, taken: u64) -> u64 {
        loop {
            let last = Last(self.last().load(Acquire));
            if sequence(self.total().load(Acquire)) != last.sequence() {
                self.finish(last);
                continue;
            }
            let slot = self.slot(last.index());
            let word = slot.load(Acquire);
            let position = last.index() % self.slots().len() as u64;
            if word & FROZEN != 0 {
                self.empty(last);
            } else if sequence(word) == last.sequence() {
                let next = word + taken.min(AMOUNT_MAX - amount(word));
                if taken == 0 || slot.compare_exchange_weak(word, next, AcqRel, Relaxed).is_ok() {
                    return (position << 9) | sequence(word);
                }
            }
        }
    }

    /// Gives back up to `back` of a charge made at `charged_at` with this receipt; nothing once its sub-window has left
    /// the window.
    pub(crate) fn give_back(&self, rule: &WindowRule, (receipt, charged_at): (u64, u64), back: u64, now: u64) -> u64 {
        let (last, _) = self.enter(rule, now);
        if last.index().saturating_sub(charged_at / rule.sub_window) >= self.slots().len() as u64 {
            return 0;
        }
        let Some(slot) = self.slots().get((receipt >> 9) as usize) else { return 0 };
        let mut word = slot.load(Acquire);
        let back = loop {
            let back = back.min(amount(word));
            if word & FROZEN != 0 || sequence(word) != receipt % SEQUENCES || back == 0 {
                return 0;
            }
            // AcqRel: taken from the slot before the total, so that no move takes it off a second time.
            match slot.compare_exchange_weak(word, word - back, AcqRel, Acquire) {
                Ok(_) => break back,
                Err(seen) => word = seen,
            }
        };
        crate::region::step("sub-window given back");
        let mut total = self.total().load(Acquire);
        loop {
            if amount(total) == AMOUNT_MAX {
                // How far beyond is not known: it stays until the slots are summed anew.
                return back;
            }
            let next = stamped(sequence(total), amount(total).saturating_sub(back));
            match self.total().compare_exchange_weak(total, next, AcqRel, Acquire) {
                Ok(_) => return back,
                Err(seen) => total = seen,
            }
        }
    }

    /// The window as it stands at `now`, without bringing it there: the newest sub-window with anything in it, the
    /// oldest that still counts, and what counts.
    fn stands(&self, rule: &WindowRule, now: u64) -> (u64, u64, u64) {
        let length = self.slots().len() as u64;
        loop {
            let last = Last(self.last().load(Acquire));
            let total = self.total().load(Acquire);
            if sequence(total) != last.sequence() {
                // A move that has begun is finished by whoever meets it; this one is not begun here.
                self.finish(last);
                continue;
            }
            let newest = last.index();
            let begins = newest.saturating_mul(rule.sub_window);
            let index = if now < begins.saturating_add(rule.sub_window) { newest } else { now / rule.sub_window };
            let oldest = (index + 1).saturating_sub(length);
            let aged = (newest + 1).saturating_sub(length)..oldest.min(newest + 1);
            let left =
                aged.fold(amount(total), |left, index| left.saturating_sub(amount(self.slot(index).load(Acquire))));
            let left = if oldest > newest { 0 } else { left };
            if self.last().load(Acquire) == last.0 && self.total().load(Acquire) == total {
                return (newest, oldest, left);
            }
        }
    }

    /// What counts at `now`.
    pub(crate) fn used(&self, rule: &WindowRule, now: u64) -> u64 {
        self.stands(rule, now).2
    }

    /// The first instant, from `now` on, at which a charge of `n` fits if nothing else happens; `None` if never.
    pub(crate) fn ready(&self, rule: &WindowRule, n: u64, now: u64) -> Option<u64> {
        if !fits(0, n, rule.amount) {
            return None;
        }
        let (newest, oldest, mut used) = self.stands(rule, now);
        if fits(used, n, rule.amount) {
            return Some(now);
        }
        for index in oldest..=newest {
            used = used.saturating_sub(amount(self.slot(index).load(Relaxed)));
            if index == newest || fits(used, n, rule.amount) {
                return (index + self.slots().len() as u64).checked_mul(rule.sub_window);
            }
        }
        None
    }

    /// When everything that counts at `now` will have left; `now` if nothing counts.
    pub(crate) fn empties(&self, rule: &WindowRule, now: u64) -> u64 {
        let (newest, oldest, used) = self.stands(rule, now);
        if used == 0 {
            return now;
        }
        let last = (oldest..=newest).rev().find(|index| amount(self.slot(*index).load(Relaxed)) > 0);
        (last.unwrap_or(newest) + self.slots().len() as u64).saturating_mul(rule.sub_window)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_stopped_thread_left_frozen_does_not_leave_twice() {
        let rule = WindowRule { amount: 100, sub_window: 10 };
        let window = Window::new(4);
        assert!(window.charge(&rule, 60, 0).is_some());
        // A thread enters sub-window 5 and stops when the total is done and the slots are not.
        let last = Last(window.last().load(Acquire));
        let moved = last.moved_to(5, 5);
        window.last().store(moved.0, Relaxed);
        for slot in window.slots() {
            slot.fetch_or(FROZEN, Relaxed);
        }
        window.total().store(stamped(moved.sequence(), 0), Relaxed);
        // Others go on, and the stopped thread comes too late to empty anything.
        assert!(window.charge(&rule, 100, 60).is_some());
        window.empty(moved);
        assert_eq!(window.used(&rule, 100), 100);
        assert_eq!(window.ready(&rule, 60, 100), Some(110));
        assert_eq!(window.used(&rule, 110), 0);
    }
}
