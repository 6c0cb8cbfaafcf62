//! A window's state as another process can take it up.

use super::super::words::Home;
use super::{FROZEN, Last, Window, WindowRule, amount, sequence};
use crate::sync::Ordering::Acquire;

impl<H: Home> Window<H> {
    /// What counts at `now`, oldest first: the monotonic instant at which it leaves, and how much it is.
    pub(crate) fn save(&self, rule: &WindowRule, now: u64) -> Vec<(u64, u64)> {
        loop {
            let last = Last(self.last().load(Acquire));
            let total = self.total().load(Acquire);
            let (newest, oldest, mut left) = self.stands(rule, now);
            let length = self.slots().len() as u64;
            let mut saved: Vec<(u64, u64)> = Vec::new();
            for index in oldest..=newest {
                let word = self.slot(index).load(Acquire);
                // What is frozen has left already.
                let in_slot = if word & FROZEN == 0 { amount(word).min(left) } else { 0 };
                left -= in_slot;
                saved.push(((index + length).saturating_mul(rule.sub_window), in_slot));
            }
            // Of one piece if nothing has moved.
            if self.last().load(Acquire) == last.0
                && self.total().load(Acquire) == total
                && sequence(total) == last.sequence()
            {
                // What the total counts and no slot does is on its way into the newest one, or out of any.
                if let Some((_, newest)) = saved.last_mut() {
                    *newest += left;
                }
                saved.retain(|(_, amount)| *amount > 0);
                return saved;
            }
        }
    }

    /// Charges what is to leave at the monotonic instant `leaves`, whatever is left: it leaves then, or at the end of the
    /// sub-window that `leaves` is in. The oldest comes first.
    pub(crate) fn take_up(&self, rule: &WindowRule, leaves: u64, amount: u64) {
        let index = leaves.div_ceil(rule.sub_window).saturating_sub(self.slots().len() as u64);
        self.force(rule, amount, index.saturating_mul(rule.sub_window));
    }
}
