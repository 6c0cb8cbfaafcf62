//! A part of every amount, for one of several processes that cannot ask each other.

use super::limit::{Algorithm, Inner, Limit, Policy};
use super::resolve::{self, Index};
use std::sync::Arc;

impl Policy {
    /// The same policy with `per_mille` thousandths of every amount and burst, rounded down, but at least 1 of each.
    ///
    /// So `processes` of them allow at most `processes * max(1, amount * per_mille / 1000)` together. 1000 and more is the
    /// policy as it is.
    pub fn share(&self, per_mille: u32) -> Policy {
        let part = |amount: u64| {
            let part = u128::from(amount) * u128::from(per_mille.min(1000)) / 1000;
            // A part of 64 bits fits 64 bits.
            (part as u64).max(1)
        };
        let limits: Vec<Limit> = self
            .0
            .limits
            .iter()
            .map(|limit| Limit { algorithm: scaled(&limit.algorithm, part), ..limit.clone() })
            .collect();
        let prices = self.0.prices.clone();
        let key_names = resolve::key_names(&limits);
        let index = Index::new(&limits, &prices);
        Policy(Arc::new(Inner { limits, prices, key_names, index }))
    }
}

fn scaled(algorithm: &Algorithm, part: impl Fn(u64) -> u64) -> Algorithm {
    match algorithm.clone() {
        Algorithm::Bucket { amount, per, burst } => Algorithm::Bucket { amount: part(amount), per, burst: part(burst) },
        Algorithm::Window { amount, per, sub_windows } => Algorithm::Window { amount: part(amount), per, sub_windows },
        Algorithm::Quota { amount, period } => Algorithm::Quota { amount: part(amount), period },
        Algorithm::InFlight { amount } => Algorithm::InFlight { amount: part(amount) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_never_nothing() {
        let policy = Policy::from_toml(
            "[[limit]]\nname = 'b'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 1999\nburst = 3\nper = '1m'\n\
             [[limit]]\nname = 'f'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 40\n",
        )
        .unwrap();
        let share = policy.share(250);
        assert_eq!(*share.limits()[0].algorithm(), Algorithm::Bucket { amount: 499, per: 60_000_000_000, burst: 1 });
        assert_eq!(*share.limits()[1].algorithm(), Algorithm::InFlight { amount: 10 });
        assert_eq!(policy.share(1000), policy);
        assert_eq!(policy.share(u32::MAX), policy);
    }
}
