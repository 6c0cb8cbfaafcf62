//! The output that is held for a request: what it states, or what the operator rules.

use super::Asked;
use crate::usage::MOST;
use tokenweir::policy::{Meter, Mode};
use tokenweir::{Error, Estimate, Limiter, Request};

/// What is held for the output of a request that states no bound.
///
/// There is no default: too little lets requests through that the limit has no room for, too much refuses them for
/// nothing. Whatever the rule says, it is never more than a share of a limit (a quarter unless set), and never makes a
/// request too large for a limit that its input alone would fit: a small limit stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputRule {
    tokens: u64,
    per_mille_of_input: u64,
    share_per_mille: u64,
}

impl OutputRule {
    /// So many tokens for each answer.
    pub const fn tokens(tokens: u64) -> Self {
        OutputRule { tokens, per_mille_of_input: 0, share_per_mille: 250 }
    }

    /// So many thousandths of the input for each answer: 500 is half as much output as input.
    pub const fn per_mille_of_input(per_mille: u64) -> Self {
        OutputRule { tokens: 0, per_mille_of_input: per_mille, share_per_mille: 250 }
    }

    /// The same rule, with so many tokens for each answer besides.
    pub const fn plus_tokens(self, tokens: u64) -> Self {
        OutputRule { tokens, ..self }
    }

    /// The same rule, that may take so many thousandths of a limit; 1 to 1000.
    pub const fn within_share(self, per_mille: u64) -> Self {
        let share_per_mille = if per_mille > 1000 { 1000 } else { per_mille };
        OutputRule { share_per_mille, ..self }
    }

    /// What the rule says of a request, without regard to any limit.
    pub fn output(&self, asked: &Asked) -> u64 {
        let input = u128::from(asked.input) * u128::from(self.per_mille_of_input) / 1000;
        let each = input.saturating_add(u128::from(self.tokens));
        // The bound is 2^53.
        each.saturating_mul(u128::from(asked.answers)).min(u128::from(MOST)) as u64
    }
}

impl Asked {
    /// What to admit the request with: its estimated input, and the output that it states. Where it states none, what
    /// `rule` says, cut to the limits that `request` meets in `limiter`. Nothing is taken from them.
    ///
    /// # Errors
    /// As [`Limiter::peek`], which is asked where the request states no bound.
    ///
    /// # Example
    /// ```
    /// use tokenweir::{Limiter, Policy, Request};
    /// use tokenweir_wire::{Api, Asked, OutputRule};
    ///
    /// let policy = Policy::from_toml(r#"
    ///     [[limit]]
    ///     name = "small"
    ///     meter = "total"
    ///     algorithm = "bucket"
    ///     amount = 1000
    ///     per = "1m"
    /// "#)?;
    /// let limiter = Limiter::new(policy);
    /// let asked = Asked::read(Api::Responses, br#"{"model":"gpt-4o","input":"Why is the sky blue?"}"#)?;
    /// let estimate = asked.estimate(&OutputRule::tokens(4096), &limiter, &Request::new("search", "gpt-4o"))?;
    /// assert_eq!(estimate.output, 250);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn estimate(&self, rule: &OutputRule, limiter: &Limiter, request: &Request<'_>) -> Result<Estimate, Error> {
        if let Some(output) = self.output {
            return Ok(Estimate::new(self.input, output));
        }
        let mut output = rule.output(self);
        let policy = limiter.policy();
        for view in limiter.peek(request, Estimate::default())?.limits {
            // A policy may change in between; a limit that has gone binds no more.
            let Some(limit) = policy.limit(&view.limit).filter(|_| view.mode == Mode::Enforce) else { continue };
            let weights = limit.weights();
            let multiplier = weights.deployment_multiplier(request.deployment);
            let tokens = |amount: u64, weight: u64| {
                let (amount, weight) = (u128::from(amount) * 1_000_000, u128::from(weight) * u128::from(multiplier));
                amount.checked_div(weight).map_or(MOST, |tokens| tokens.min(u128::from(MOST)) as u64)
            };
            let all = tokens(view.amount, weights.output);
            let room = match limit.meter() {
                Meter::Output => all,
                Meter::Total => {
                    let input = u128::from(self.input) * u128::from(weights.input) * u128::from(multiplier);
                    // What the input takes is rounded up, so that both fit together.
                    let input = u64::try_from(input.div_ceil(1_000_000)).unwrap_or(u64::MAX);
                    tokens(view.amount.saturating_sub(input), weights.output)
                }
                _ => continue,
            };
            let share = u128::from(all) * u128::from(rule.share_per_mille) / 1000;
            // A share of `all` is no more than that.
            output = output.min(room).min((share as u64).max(1));
        }
        Ok(Estimate::new(self.input, output))
    }
}
