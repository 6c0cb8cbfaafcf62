//! What a script answers, and what follows from it.

use crate::numbers::unpacked;
use crate::plan::{Kind, Plan};
use tokenweir::elsewhere::Standing;

/// What a script says of one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said {
    pub(crate) fits: bool,
    pub(crate) used: f64,
    /// A bucket: the part of a token that has come already. A window: the sub-window in which enough has left. A quota: the
    /// start of its period. In flight: when the place that is needed is free.
    pub(crate) more: f64,
}

/// A script's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    /// The server's time, microseconds since 1970.
    pub(crate) now: i64,
    pub(crate) said: Vec<Said>,
    /// Of a look: what each counter was charged in all.
    pub(crate) totals: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    /// Refused; or there is no such permit.
    Not,
    /// The periods that were told are not those of the server's time.
    OtherPeriod,
    /// The permit's id is taken.
    Taken,
}

impl Answer {
    /// `None`: that is no answer of these scripts.
    pub(crate) fn read(bytes: &[u8], limits: usize) -> Option<Self> {
        let mut numbers = unpacked(bytes);
        let status = numbers.next()? as u8;
        // Everything fits, and nothing but what is used is said.
        let short = status == 4;
        let status = match status {
            0 | 4 => Status::Done,
            1 => Status::Not,
            2 => Status::OtherPeriod,
            3 => Status::Taken,
            _ => return None,
        };
        let now = numbers.next()? as i64;
        let mut said = Vec::with_capacity(limits);
        while short
            && said.len() < limits
            && let Some(used) = numbers.next()
        {
            said.push(Said { fits: true, used, more: 0.0 });
        }
        while said.len() < limits
            && let (Some(fits), Some(used), Some(more)) = (numbers.next(), numbers.next(), numbers.next())
        {
            said.push(Said { fits: fits != 0.0, used, more });
        }
        Some(Answer { status, now, said, totals: numbers.collect() })
    }
}

/// What is left of a limit; below 0 is debt.
pub(crate) fn remaining(kind: &Kind, said: &Said) -> i64 {
    // Amounts and uses are below 2^54.
    kind.amount() as i64 - said.used as i64
}

/// What each enforced limit says of these charges.
pub(crate) fn standings(plan: &Plan, charges: &[u64], answer: &Answer) -> Vec<Standing> {
    let legs = plan.legs.iter().zip(charges).zip(&answer.said).filter(|((leg, _), _)| leg.enforced);
    let standing = legs.map(|((leg, n), said)| Standing {
        limit: leg.limit,
        fits: said.fits,
        never_fits: *n > leg.kind.amount(),
        remaining: remaining(&leg.kind, said),
        wait: if said.fits { Some(0) } else { wait(&leg.kind, *n, said, answer.now) },
    });
    standing.collect()
}

/// Nanoseconds until a charge of `n` fits, as of `now`; `None` if no waiting helps. Exact to the microsecond of the server's
/// clock.
fn wait(kind: &Kind, n: u64, said: &Said, now: i64) -> Option<u64> {
    if n > kind.amount() {
        return None;
    }
    let until = |at: i64| (at.saturating_sub(now).max(0) as u64).saturating_mul(1000);
    match kind {
        Kind::Bucket { burst, amount, per } => {
            let (per, amount) = (u128::from(*per), u128::from((*amount).max(1)));
            let short = (said.used as u128 + u128::from(n)).saturating_sub(u128::from(*burst)) * per;
            let short = short.saturating_sub(said.more as u128);
            // A charge of nothing needs more than nothing.
            let micros = if n == 0 { short / amount + 1 } else { short.div_ceil(amount) };
            Some(u64::try_from(micros).unwrap_or(u64::MAX).saturating_mul(1000))
        }
        Kind::Window { sub_window, .. } => {
            let begins = (said.more as u128 * u128::from(*sub_window)).div_ceil(1000);
            (said.more > 0.0).then(|| until(i64::try_from(begins).unwrap_or(i64::MAX)))
        }
        Kind::Quota { periods, .. } => periods.end((said.more as i64).max(periods.at(now)[0])).map(until),
        Kind::InFlight { .. } => (said.more > 0.0).then(|| until(said.more as i64)),
    }
}
