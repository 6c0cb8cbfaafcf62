//! A bucket's state as another process can take it up.

use super::super::line::Line;
use super::super::words::Home;
use super::{Bucket, BucketRule, POSITION, Stale, length};

/// What a bucket has, and what its limit was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Saved {
    /// In 2^-unit tokens; below 0 is debt.
    pub(crate) balance: i64,
    pub(crate) unit: u32,
    /// Tokens.
    pub(crate) capacity: u64,
    /// Tokens for each period of the limit.
    pub(crate) rate: u64,
}

impl Saved {
    /// Whether the bucket has all that it can.
    pub(crate) fn is_full(&self) -> bool {
        self.balance >= length(self.capacity, self.unit) as i64
    }
}

impl<H: Home> Bucket<H> {
    /// The bucket as it stands at `now`, whatever time others have seen: what comes after `now` is still to be refilled.
    pub(crate) fn save(&self, rule: &BucketRule, now: u64) -> Result<Saved, Stale> {
        let deficit = (self.load(rule)? & POSITION).saturating_sub(rule.line.position(now));
        Ok(Saved {
            balance: rule.full as i64 - deficit as i64,
            unit: rule.unit,
            capacity: rule.capacity,
            rate: rule.rate,
        })
    }

    /// Takes from a bucket at `now` what one that was saved had not, and has not been refilled with in `elapsed`
    /// nanoseconds since. Where the limit has changed in between, nobody knows when: the slower refill and the lower brim
    /// count.
    pub(crate) fn take_up(&self, rule: &BucketRule, saved: &Saved, elapsed: u64, now: u64) -> Result<(), Stale> {
        // Units are 2^-30 tokens at most, and lengths end at 2^60.
        let balance = (i128::from(saved.balance) << rule.unit) >> saved.unit.min(64);
        let slower = saved.rate.min(rule.rate);
        let refilled = Line::new(slower << rule.unit, rule.period, 0).position(elapsed);
        let full = i128::from(rule.full);
        let brim = i128::from(length(saved.capacity, rule.unit)).min(full);
        let balance = balance.max((balance + i128::from(refilled)).min(brim)).min(full);
        if balance < full {
            // One more: this line may be just about to reach its next unit, and the other had just reached one.
            let deficit = u64::try_from(full - balance + 1).unwrap_or(POSITION);
            self.take(rule, deficit, now, true)?;
        }
        Ok(())
    }
}
