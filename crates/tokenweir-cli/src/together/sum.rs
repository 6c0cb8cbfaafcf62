//! What processes add up to.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokenweir::policy::ChargeRule;

/// One counter of one limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// The place of its limit in the policy.
    pub limit: usize,
    /// The values of its scope.
    pub scope: Vec<String>,
    /// Requests that met it and were admitted.
    pub admitted: u64,
    /// Requests that it refused.
    pub refused: u64,
    /// What the admitted were charged in the end, in the unit of the limit.
    pub charged: u64,
}

/// What one process has seen, or all of them.
#[derive(Debug, Default)]
pub struct Sum {
    /// Requests that were decided on.
    pub requests: u64,
    /// Those that were admitted.
    pub admitted: u64,
    /// Those that a rate denied.
    pub denied_rate: u64,
    /// Those that a quota denied.
    pub denied_quota: u64,
    /// Those on which nobody could decide.
    pub undecided: u64,
    /// Tokens that the admitted used.
    pub used: u64,
    /// How many each process admitted.
    pub by_process: Vec<u64>,
    /// When the first began, in nanoseconds since 1970.
    pub began: Option<i64>,
    /// When the last had ended.
    pub ended: Option<i64>,
    /// Every counter that a request met.
    pub counters: Vec<Used>,
    /// Which is which.
    numbers: HashMap<(usize, Vec<String>), usize>,
    /// The counters that requests of a kind meet, and what they are charged there.
    routes: Vec<Vec<(usize, ChargeRule)>>,
}

impl Sum {
    /// A new kind of request, which meets these; its number.
    pub fn know(&mut self, met: Vec<(Used, ChargeRule)>) -> usize {
        let met = met.into_iter().map(|(used, rule)| (self.number(used.limit, used.scope), rule)).collect();
        self.routes.push(met);
        self.routes.len() - 1
    }

    fn number(&mut self, limit: usize, scope: Vec<String>) -> usize {
        let next = self.counters.len();
        let number = *self.numbers.entry((limit, scope.clone())).or_insert(next);
        if number == next {
            self.counters.push(Used { limit, scope, ..Used::default() });
        }
        number
    }

    /// Calls `each` for the counters that requests of a kind meet.
    pub fn each_met(&mut self, route: usize, mut each: impl FnMut(&mut Used, &ChargeRule)) {
        for (number, rule) in self.routes.get(route).into_iter().flatten() {
            if let Some(used) = self.counters.get_mut(*number) {
                each(used, rule);
            }
        }
    }

    /// Adds what another process has seen.
    pub fn add(&mut self, other: Sum) {
        self.requests += other.requests;
        self.admitted += other.admitted;
        self.denied_rate += other.denied_rate;
        self.denied_quota += other.denied_quota;
        self.undecided += other.undecided;
        self.used = self.used.saturating_add(other.used);
        self.by_process.extend(other.by_process);
        self.began = self.began.into_iter().chain(other.began).min();
        self.ended = self.ended.into_iter().chain(other.ended).max();
        for used in other.counters {
            let number = self.number(used.limit, used.scope);
            let sum = &mut self.counters[number];
            sum.admitted += used.admitted;
            sum.refused += used.refused;
            sum.charged = sum.charged.saturating_add(used.charged);
        }
    }

    /// As one process tells it to another: one line.
    pub fn to_json(&self) -> Value {
        let counters = self.counters.iter();
        let counters = counters.map(|used| json!([used.limit, used.scope, used.admitted, used.refused, used.charged]));
        json!({ "requests": self.requests, "admitted": self.admitted, "denied_rate": self.denied_rate,
            "denied_quota": self.denied_quota, "undecided": self.undecided, "used": self.used,
            "by_process": self.by_process, "began": self.began, "ended": self.ended,
            "counters": counters.collect::<Vec<_>>() })
    }

    /// Reads it; `None` if it is something else.
    pub fn from_json(line: &str) -> Option<Sum> {
        let told: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| told[name].as_u64();
        let mut sum = Sum {
            requests: number("requests")?,
            admitted: number("admitted")?,
            denied_rate: number("denied_rate")?,
            denied_quota: number("denied_quota")?,
            undecided: number("undecided")?,
            used: number("used")?,
            by_process: told["by_process"].as_array()?.iter().filter_map(Value::as_u64).collect(),
            began: told["began"].as_i64(),
            ended: told["ended"].as_i64(),
            ..Sum::default()
        };
        for used in told["counters"].as_array()? {
            let scope = used[1].as_array()?.iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect();
            let number = sum.number(usize::try_from(used[0].as_u64()?).ok()?, scope);
            let counter = &mut sum.counters[number];
            (counter.admitted, counter.refused) = (used[2].as_u64()?, used[3].as_u64()?);
            counter.charged = used[4].as_u64()?;
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_seen_and_adds_up() {
        let seen = |admitted: u64, project: &str| {
            let mut sum = Sum { requests: 5, admitted, by_process: vec![admitted], ..Sum::default() };
            (sum.began, sum.ended) = (Some(10 - admitted as i64), Some(20 + admitted as i64));
            let number = sum.number(1, vec![project.to_owned()]);
            sum.counters[number].charged = 7;
            sum
        };
        let mut all = Sum::default();
        for (admitted, project) in [(1, "a"), (2, "b"), (3, "a")] {
            all.add(Sum::from_json(&seen(admitted, project).to_json().to_string()).expect("a sum"));
        }
        assert_eq!((all.requests, all.admitted, &all.by_process[..]), (15, 6, &[1, 2, 3][..]));
        assert_eq!((all.began, all.ended), (Some(7), Some(23)));
        assert_eq!(all.counters.iter().map(|used| used.charged).collect::<Vec<_>>(), [14, 7]);
        assert!(Sum::from_json("").is_none() && Sum::from_json("{}").is_none());
    }
}
