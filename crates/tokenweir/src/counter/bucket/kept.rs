//! A rule as a region keeps it, for every process that attaches.

use super::{Arc, BucketRule, Follows, Histories, Line, length, unit};

/// The numbers of a rule that has followed others.
const NUMBERS: usize = 13;

impl BucketRule {
    /// What the limit's fields do not say of the rule.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        if self.serial == 0 {
            return vec![self.since];
        }
        let Follows { line, unit, shift, since } = self.follows;
        let mut numbers = vec![self.since, self.serial, line, unit.into(), shift as u64, since];
        numbers.extend(self.line.numbers());
        numbers
    }

    /// The rule of a limit with these fields and numbers; `None` if there is none.
    pub(crate) fn of(
        capacity: u64,
        rate: u64,
        period: u64,
        numbers: &[u64],
        histories: Arc<Histories>,
    ) -> Option<Self> {
        if let [origin] = numbers {
            return Some(Self::new(capacity, rate, period, *origin, histories));
        }
        let numbers: &[u64; NUMBERS] = numbers.try_into().ok()?;
        let [since, serial, line, before, shift, before_since, rest @ ..] = *numbers;
        let unit = unit(capacity, rate, period);
        let follows = Follows { line, unit: u32::try_from(before).ok()?, shift: shift as i64, since: before_since };
        // No unit is finer.
        if follows.unit > 30 {
            return None;
        }
        let fresh = Self::new(capacity, rate, period, since, histories);
        let line = Line::of(rate << unit, period, rest)?;
        Some(BucketRule { line, full: length(capacity, unit), serial, since, follows, ..fresh })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_rule_that_is_kept_is_the_same_after_any_number_of_changes() {
        let histories = Arc::new(Histories::new(0));
        let mut rule = BucketRule::new(1000, 777, MINUTE, 5, histories.clone());
        let mut at = 5;
        for (capacity, rate) in [(1000, 777), (2000, 777), (2000, 10_000_000_000), (1, 3), (1 << 53, 1), (5, 5)] {
            at += 12_345_678_901;
            rule = rule.changed(capacity, rate, at);
            let kept = BucketRule::of(capacity, rate, MINUTE, &rule.numbers(), histories.clone()).expect("a rule");
            assert_eq!((kept.line, kept.unit, kept.full), (rule.line, rule.unit, rule.full));
            assert_eq!((kept.serial, kept.since, kept.follows), (rule.serial, rule.since, rule.follows));
            rule = kept;
        }
        let mut numbers = rule.numbers();
        numbers.pop();
        assert!(BucketRule::of(5, 5, MINUTE, &numbers, histories.clone()).is_none());
        numbers.push(u64::MAX);
        numbers[7] = u64::MAX;
        assert!(BucketRule::of(5, 5, MINUTE, &numbers, histories).is_none());
    }
}
