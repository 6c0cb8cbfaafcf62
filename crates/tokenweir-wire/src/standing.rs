//! Limits as clients may be told of them.

use std::sync::Arc;
use std::time::Duration;
use tokenweir::elsewhere::Permits;
use tokenweir::policy::{Algorithm, Limit, Meter, Policy};
use tokenweir::{Now, PermitId};

/// How one limit of a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What it counts.
    pub meter: Meter,
    /// A quota of a calendar period, as opposed to a rate.
    pub is_quota: bool,
    /// Its amount.
    pub amount: u64,
    /// What it has left; below 0 is debt.
    pub remaining: i64,
    /// The time that its amount is for; `None` if it is for no time: places in flight, a total that never resets.
    pub per: Option<Duration>,
    /// How long until it is as good as new with no other traffic, at most; `None` if that cannot be said.
    pub reset: Option<Duration>,
}

impl Standing {
    /// How the limits of a request stand at `now`: `remaining` is what [`Permit::remaining`](tokenweir::Permit::remaining)
    /// or [`Denied::remaining`](tokenweir::Denied::remaining) says, `policy` the limiter's. A limit that the policy no
    /// longer has is left out.
    pub fn of(policy: &Policy, remaining: &[(String, i64)], now: Now) -> Vec<Standing> {
        let standing = |(name, remaining): &(String, i64)| Some(Standing::new(policy.limit(name)?, *remaining, now));
        remaining.iter().filter_map(standing).collect()
    }

    /// How the limits of an open permit stand at `now`; nothing if it has ended.
    pub fn of_permit(permits: &dyn Permits, permit: PermitId, now: Now) -> Vec<Standing> {
        let mut standings = Vec::new();
        permits.each_left_at(permit, now, &mut |limit, left| standings.push(Standing::new(limit, left, now)));
        standings
    }

    /// As [`of_permit`](Standing::of_permit), of the rates alone: what [`Dialect::headers`](crate::Dialect::headers) tell.
    pub fn rates_of_permit(permits: &dyn Permits, permit: PermitId, now: Now) -> Vec<Standing> {
        let mut standings = Vec::new();
        permits.each_left_at(permit, now, &mut |limit, left| {
            if !is_quota(limit) {
                standings.push(Standing::new(limit, left, now));
            }
        });
        standings
    }

    fn new(limit: &Limit, remaining: i64, now: Now) -> Standing {
        let (amount, per, reset) = match limit.algorithm() {
            Algorithm::Bucket { amount, per, burst } => {
                let missing = (i128::from(*burst) - i128::from(remaining)).max(0) as u128;
                let reset = (missing * u128::from(*per)).div_ceil(u128::from(*amount));
                (*amount, Some(*per), u64::try_from(reset).ok())
            }
            Algorithm::Window { amount, per, sub_windows } => {
                let used = i128::from(remaining) < i128::from(*amount);
                let longest = per + per / u64::from(*sub_windows);
                (*amount, Some(*per), Some(if used { longest } else { 0 }))
            }
            Algorithm::Quota { amount, period } => {
                let bounds = period.bounds(now.wall);
                let ends = bounds.end != i64::MAX;
                let length = u64::try_from(i128::from(bounds.end) - i128::from(bounds.start)).ok();
                let left = u64::try_from(i128::from(bounds.end) - i128::from(now.wall)).ok();
                (*amount, length.filter(|_| ends), left.filter(|_| ends))
            }
            Algorithm::InFlight { amount } => (*amount, None, None),
        };
        Standing {
            limit: limit.name().clone(),
            meter: limit.meter(),
            is_quota: is_quota(limit),
            amount,
            remaining,
            per: per.map(Duration::from_nanos),
            reset: reset.map(Duration::from_nanos),
        }
    }

    /// What it has left, debt shown as nothing.
    pub(crate) fn left(&self) -> u64 {
        self.remaining.max(0) as u64
    }
}

fn is_quota(limit: &Limit) -> bool {
    matches!(limit.algorithm(), Algorithm::Quota { .. })
}

/// The limit with the least left among those of these meters, rates or quotas.
pub(crate) fn tightest<'a>(standings: &'a [Standing], is_quota: bool, meters: &[Meter]) -> Option<&'a Standing> {
    standings
        .iter()
        .filter(|standing| standing.is_quota == is_quota && meters.contains(&standing.meter))
        .min_by_key(|standing| standing.remaining)
}
