//! A look at all counters that are on the server.

use crate::error::Error;
use crate::limiter::{Inner, RedisLimiter};
use crate::link::Failure;
use crate::plan::{Kind, Leg, MOST_LEGS, Plan, Rules};
use crate::server::Connection;
use crate::together::Queues;
use redis::Value;
use std::collections::BTreeSet;
use tokenweir::elsewhere;
use tokenweir::policy::ChargeRule;
use tokenweir::{CounterUsage, Estimate, Now};

/// So many keys the server looks at in one step.
const STEP: usize = 1000;

impl RedisLimiter {
    /// The counters on the server of all limits of the policy, by limit and scope: one that nobody has charged yet, or that has
    /// been as good as new for long, is not there. [`CounterUsage::held`] is 0, since the server has no sum of it, and
    /// [`CounterUsage::settled_total`] is what was charged in all, the estimates of open permits included.
    ///
    /// It goes through all keys of the server (`SCAN`), a thousand at a time: for consoles, not for the request path.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Refused`]. [`Error::AcrossSlots`] where counters are spread over slots.
    pub async fn usage(&self) -> Result<Vec<CounterUsage>, Error> {
        let inner = &*self.inner;
        let rules = inner.rules.load_full();
        let tag = rules.one_tag().ok_or_else(|| inner.across_slots())?;
        let mut keys = inner.keys(&tag).await?;
        let policy = rules.denials.policy();
        let mut usage = Vec::with_capacity(keys.len());
        loop {
            // Few at a time: requests are decided meanwhile, also where there is but one thread.
            let next = std::iter::from_fn(|| keys.pop_first());
            let legs: Vec<Leg> = next.filter_map(|key| leg_of(&rules, &tag, key)).take(MOST_LEGS).collect();
            if legs.is_empty() {
                return Ok(usage);
            }
            let charges = vec![0; legs.len()];
            let plan = Plan { legs, tag: tag.clone(), allowances: Vec::new(), queues: Queues::default() };
            let asked = (0, Estimate::default());
            let answer = inner.ask((&plan, &charges), asked, (2.0, inner.permit_ttl), inner.by()).await;
            let answer = answer.map_err(|failure| inner.error(failure))?;
            for (at, (leg, said)) in plan.legs.iter().zip(&answer.said).enumerate() {
                let Some(limit) = policy.limits().get(leg.limit) else { continue };
                let scope = leg.key.get(leg.identity.end..).unwrap_or_default();
                let total = answer.totals.get(at).map_or(0, |total| *total as u64);
                let resets_at = resets_at(&leg.kind, said.used, answer.now)
                    .map(|micros| Now { mono: 0, wall: micros.saturating_mul(1000) });
                usage.push(elsewhere::usage(limit, scope, (said.used as u64, total), resets_at));
            }
        }
    }
}

/// When a counter is as good as new with no other traffic, at the latest: microseconds since 1970.
fn resets_at(kind: &Kind, used: f64, now: i64) -> Option<i64> {
    let used = used as u128;
    let micros = match kind {
        _ if used == 0 => 0,
        Kind::Bucket { amount, per, .. } => (used * u128::from(*per)).div_ceil(u128::from((*amount).max(1))),
        Kind::Window { sub_window, sub_windows, .. } => u128::from(sub_window * (sub_windows + 1)).div_ceil(1000),
        Kind::Quota { periods, .. } => return periods.end(now),
        Kind::InFlight { .. } => return None,
    };
    Some(now.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX)))
}

/// The limit of the policy whose counter has this key.
fn leg_of(rules: &Rules, tag: &[u8], key: Vec<u8>) -> Option<Leg> {
    let from = tag.len() + 1;
    let length = rules.identity_in(key.get(from..)?)?;
    // It is charged nothing, whatever it charges.
    let charge = ChargeRule::from_words([0; 5])?;
    rules.leg(key, from..from + length, charge)
}

impl Inner {
    /// The keys of all counters.
    async fn keys(&self, tag: &[u8]) -> Result<BTreeSet<Vec<u8>>, Error> {
        let mut pattern = Vec::with_capacity(tag.len() + 2);
        for byte in tag {
            // What a pattern would read as more than itself.
            if b"*?[]\\^".contains(byte) {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        pattern.extend_from_slice(b"c*");
        let Some(connection) = self.link.connection() else { return Err(self.error(Failure::Away)) };
        let mut connection = Connection::clone(&connection);
        // While the server makes its table larger or smaller, one may be told twice.
        let (mut keys, mut cursor) = (BTreeSet::new(), b"0".to_vec());
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let sent = tokio::time::timeout_at(self.by().into(), connection.send_where(&command, tag)).await;
            let value = match sent {
                Ok(Ok(Value::ServerError(error))) => return Err(Error::Refused { reason: error.to_string() }),
                Ok(Ok(value)) => value,
                Ok(Err(error)) if !crate::link::is_away(&error) => {
                    return Err(Error::Refused { reason: error.to_string() });
                }
                Ok(Err(error)) => {
                    self.link.doubt();
                    return Err(Error::Away { reason: error.to_string() });
                }
                Err(_) => {
                    self.link.doubt();
                    return Err(self.error(Failure::Late));
                }
            };
            let unreadable = || Error::Refused { reason: "what SCAN answered is not readable".to_owned() };
            let Value::Array(parts) = value else { return Err(unreadable()) };
            let Ok([next, found]) = <[Value; 2]>::try_from(parts) else { return Err(unreadable()) };
            let (Value::BulkString(next), Value::Array(found)) = (next, found) else { return Err(unreadable()) };
            keys.extend(found.into_iter().filter_map(|key| match key {
                Value::BulkString(key) => Some(key),
                _ => None,
            }));
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        Ok(keys)
    }
}
