//! Meters, weights and prices: the whole number that a request takes from a limit.

mod words;

use super::limit::{Limit, Meter, Price};

/// The most tokens, and the highest amount of any limit: 2^53, up to which every language counts exactly.
pub const MAX_TOKENS: u64 = 1 << 53;

/// One more than any limit can hold. A charge stops here, so that what overflows never fits.
const TOO_MUCH: u64 = MAX_TOKENS + 1;

/// The tokens of a request, estimated or reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Input tokens, the cached ones included.
    pub input: u64,
    /// Input tokens that came from the provider's cache; more than `input` counts as `input`.
    pub cached_input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
}

/// How one limit charges the requests for one deployment: its meter, weights and price, looked up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChargeRule(Rule);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// Every request is 1.
    One,
    /// The tokens as they are, of either or both sides: the common case, which multiplies nothing.
    Plain { input: bool, output: bool },
    /// Per mille of a token, and per mille of that by deployment.
    Weighted { input: u32, cached: u32, output: u32, deployment: u32 },
    /// Nano-units for a token; the charge is in micro-units.
    Priced { input: u64, cached: u64, output: u64 },
}

impl ChargeRule {
    /// The rule of `limit` for `deployment`, of which `price` is the price if there is one.
    ///
    /// `None`: the limit counts cost and there is no price.
    pub(crate) fn compile(limit: &Limit, price: Option<&Price>, deployment: &[u8]) -> Option<Self> {
        let (input, output) = match limit.meter {
            Meter::Requests | Meter::InFlight => return Some(ChargeRule(Rule::One)),
            Meter::Cost => {
                let price = price?;
                return Some(ChargeRule(Rule::Priced {
                    input: price.input,
                    cached: price.cached_input,
                    output: price.output,
                }));
            }
            Meter::Input => (true, false),
            Meter::Output => (false, true),
            Meter::Total => (true, true),
        };
        let weights = &limit.weights;
        let multiplier = weights.deployment_multiplier(deployment);
        // A side that the meter does not count weighs nothing. Weights are at most 1,000,000, so they fit 32 bits.
        let side = |counted: bool, weight: u64| if counted { weight.min(u64::from(u32::MAX)) as u32 } else { 0 };
        let (in_weight, cached, out_weight) =
            (side(input, weights.input), side(input, weights.cached_input), side(output, weights.output));
        let plain =
            multiplier == 1000 && (!input || (in_weight == 1000 && cached == 1000)) && (!output || out_weight == 1000);
        Some(ChargeRule(if plain {
            Rule::Plain { input, output }
        } else {
            Rule::Weighted { input: in_weight, cached, output: out_weight, deployment: side(true, multiplier) }
        }))
    }

    /// What a request of these tokens takes from the limit: tokens, requests, permits or micro-units.
    ///
    /// Exact, rounded up once at the end. At most 2^53 + 1, which stands for everything that is too much to fit.
    #[inline]
    pub fn charge(&self, tokens: &Tokens) -> u64 {
        match self.0 {
            Rule::One => 1,
            Rule::Plain { input, output } => {
                let input = if input { tokens.input } else { 0 };
                let output = if output { tokens.output } else { 0 };
                input.saturating_add(output).min(TOO_MUCH)
            }
            Rule::Weighted { input, cached, output, deployment } => {
                weighted(tokens, [input, cached, output].map(u64::from), deployment)
            }
            Rule::Priced { input, cached, output } => priced(tokens, [input, cached, output]),
        }
    }

    /// Whether every request is charged 1, whatever its tokens (the meters `requests` and `in_flight`).
    #[inline]
    pub const fn is_per_request(&self) -> bool {
        matches!(self.0, Rule::One)
    }
}

// Neither is for the common case: kept out of it, so that it stays small.
#[inline(never)]
fn weighted(tokens: &Tokens, weights: [u64; 3], deployment: u32) -> u64 {
    // Weights end below 2^20: the product stays below 2^106.
    narrow((weigh(tokens, weights) * u128::from(deployment)).div_ceil(1_000_000))
}

#[inline(never)]
fn priced(tokens: &Tokens, prices: [u64; 3]) -> u64 {
    // Prices end at 2^53: the sum is below 2^118.
    narrow(weigh(tokens, prices).div_ceil(1000))
}

fn weigh(tokens: &Tokens, [input, cached, output]: [u64; 3]) -> u128 {
    let from_cache = tokens.cached_input.min(tokens.input);
    u128::from(tokens.input - from_cache) * u128::from(input)
        + u128::from(from_cache) * u128::from(cached)
        + u128::from(tokens.output) * u128::from(output)
}

fn narrow(charge: u128) -> u64 {
    charge.min(u128::from(TOO_MUCH)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    /// The rule of the first limit of a policy, for the deployment `m`.
    fn rule(policy: &str) -> ChargeRule {
        let policy = Policy::from_toml(policy).unwrap();
        let request = crate::Request::new("p", "m");
        policy.resolve(&request).unwrap().applied[0].charge
    }

    fn metered(meter: &str, more: &str) -> ChargeRule {
        rule(&format!(
            "[[limit]]\nname = 'l'\nmeter = '{meter}'\nalgorithm = 'quota'\namount = 10\nperiod = 'never'\n{more}\n"
        ))
    }

    fn tokens(input: u64, cached_input: u64, output: u64) -> Tokens {
        Tokens { input, cached_input, output }
    }

    #[test]
    fn each_meter_counts_its_own() {
        let some = tokens(10, 4, 7);
        for (meter, charge) in [("requests", 1), ("input", 10), ("output", 7), ("total", 17)] {
            assert_eq!(metered(meter, "").charge(&some), charge, "{meter}");
            assert_eq!(metered(meter, "").is_per_request(), meter == "requests");
        }
        assert_eq!(metered("requests", "").charge(&Tokens::default()), 1);
        assert_eq!(metered("total", "").charge(&Tokens::default()), 0);
    }

    #[test]
    fn weights_are_per_mille_and_round_up_once() {
        let rule = metered("total", "weights = { cached_input = 0, output = 4000 }");
        assert_eq!(rule.charge(&tokens(900, 100, 50)), 800 + 200);
        let rule = metered("total", "weights = { input = 1, cached_input = 1, output = 1 }");
        assert_eq!(rule.charge(&tokens(1, 0, 1)), 1, "two thousandths round up once, to one");
        assert_eq!(rule.charge(&tokens(999, 0, 2)), 2);
        let rule = metered("input", "weights = { cached_input = 100 }");
        assert_eq!(rule.charge(&tokens(100, 200, 5)), 10, "more cached than input counts as input");
    }

    #[test]
    fn a_model_may_cost_more() {
        let rule = metered("total", "weights = { deployment = { 'm*' = 9000, m = 2500, '*' = 1 } }");
        assert_eq!(rule.charge(&tokens(10, 0, 0)), 25, "exact beats glob");
        assert_eq!(rule.charge(&tokens(1, 0, 0)), 3);
        let rule = metered("total", "weights = { deployment = { '*' = 1, 'm*' = 9000 } }");
        assert_eq!(rule.charge(&tokens(1, 0, 0)), 9, "the longer pattern wins");
        let rule = metered("total", "weights = { output = 500, deployment = { m = 1500 } }");
        assert_eq!(rule.charge(&tokens(1, 0, 1)), 3, "(1 + 0.5) * 1.5 = 2.25");
    }

    #[test]
    fn cost_sums_exactly_and_rounds_up_to_micro_units() {
        let price = "[[price]]\ndeployment = 'm'\ninput = 2500\ncached_input = 1250\noutput = 10_000";
        let rule = metered("cost", price);
        assert_eq!(rule.charge(&tokens(1_000_000, 0, 0)), 2_500_000, "2.50 for a million");
        assert_eq!(rule.charge(&tokens(1, 1, 0)), 2, "1.25 micro-units");
        assert_eq!(rule.charge(&tokens(2, 1, 1)), 14, "2.5 + 1.25 + 10");
        assert_eq!(rule.charge(&tokens(0, 0, 0)), 0);
    }

    #[test]
    fn overflow_is_too_much_and_never_wraps() {
        let most = tokens(u64::MAX, u64::MAX, u64::MAX);
        let heavy = "weights = { input = 1_000_000, cached_input = 1_000_000, output = 1_000_000, \
                     deployment = { m = 1_000_000 } }";
        assert_eq!(metered("total", "").charge(&most), MAX_TOKENS + 1);
        assert_eq!(metered("total", heavy).charge(&most), MAX_TOKENS + 1);
        let price = "[[price]]\ndeployment = 'm'\ninput = 9007199254740992\noutput = 9007199254740992";
        assert_eq!(metered("cost", price).charge(&most), MAX_TOKENS + 1);
        assert_eq!(metered("total", "").charge(&tokens(MAX_TOKENS, 0, 0)), MAX_TOKENS);
    }

    #[test]
    fn rules_are_small() {
        assert!(size_of::<ChargeRule>() <= 32);
    }
}
