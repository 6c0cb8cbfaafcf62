//! A charge rule as plain numbers, for who settles in another process than the one that admitted.

use super::{ChargeRule, MAX_TOKENS, Rule};

/// The most that a weight may be, per mille.
const WEIGHT_MAX: u64 = 1_000_000;

impl ChargeRule {
    /// The rule as five numbers, each at most 2^53; [`from_words`](ChargeRule::from_words) reads them again.
    pub const fn to_words(&self) -> [u64; 5] {
        match self.0 {
            Rule::One => [0, 0, 0, 0, 0],
            Rule::Plain { input, output } => [1, input as u64, output as u64, 0, 0],
            Rule::Weighted { input, cached, output, deployment } => {
                [2, input as u64, cached as u64, output as u64, deployment as u64]
            }
            Rule::Priced { input, cached, output } => [3, input, cached, output, 0],
        }
    }

    /// The rule of these numbers; `None` if no policy could have made it.
    pub fn from_words(words: [u64; 5]) -> Option<Self> {
        let [kind, first, second, third, fourth] = words;
        let most = match kind {
            0 => 0,
            1 => 1,
            2 => WEIGHT_MAX,
            _ => MAX_TOKENS,
        };
        if first.max(second).max(third).max(fourth) > most {
            return None;
        }
        let weight = |word: u64| u32::try_from(word).ok();
        Some(ChargeRule(match kind {
            0 => Rule::One,
            1 => Rule::Plain { input: first == 1, output: second == 1 },
            2 => Rule::Weighted {
                input: weight(first)?,
                cached: weight(second)?,
                output: weight(third)?,
                deployment: weight(fourth)?,
            },
            3 => Rule::Priced { input: first, cached: second, output: third },
            _ => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_comes_back_as_it_was() {
        for rule in [
            Rule::One,
            Rule::Plain { input: true, output: false },
            Rule::Weighted { input: 333, cached: 0, output: 1_000_000, deployment: 2500 },
            Rule::Priced { input: MAX_TOKENS, cached: 1, output: 0 },
        ] {
            assert_eq!(ChargeRule::from_words(ChargeRule(rule).to_words()), Some(ChargeRule(rule)));
        }
    }

    #[test]
    fn what_no_policy_makes_is_refused() {
        for words in [[4, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 2, 0, 0, 0], [2, 0, 0, 1_000_001, 0], [3, 1 << 54, 0, 0, 0]]
        {
            assert_eq!(ChargeRule::from_words(words), None, "{words:?}");
        }
    }
}
