//! What a replay adds up: totals, and a row for each counter.

use std::sync::Arc;

use tokenweir_replay::{Counter, Ending, Entry, Left, Settled, Verdict};

use crate::limits::LimitFacts;

/// The longest wait that a counter advised.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// How long, in nanoseconds.
    pub nanos: u64,
    /// The line of the request.
    pub line: u64,
    /// When it asked.
    pub at: i64,
}

/// One counter of one limit.
#[derive(Debug)]
pub struct Row {
    /// The place of its limit in the policy.
    pub limit: usize,
    /// The values of its scope.
    pub scope: Arc<[Vec<u8>]>,
    /// Requests that met it and were admitted.
    pub admitted: u64,
    /// Requests that it refused, or would have refused if it were not a shadow.
    pub refused: u64,
    /// Of these, those that it could never hold.
    pub never_fits: u64,
    /// What it was charged in the end, in the unit of the limit.
    pub charged: u128,
    /// The most that was in use after a decision; `None` if none showed it (a shadow).
    pub peak: Option<u64>,
    /// The longest wait it advised.
    pub longest: Option<Wait>,
    /// What was in use when the last request had settled.
    pub used: u64,
    /// What was left then; below 0 in debt.
    pub remaining: i64,
}

/// Requests and tokens, added up.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    /// All requests.
    pub requests: u64,
    /// Those that were admitted.
    pub admitted: u64,
    /// Those that a rate denied.
    pub denied_rate: u64,
    /// Those that a quota denied.
    pub denied_quota: u64,
    /// Those, of all denied, that can never be admitted.
    pub never_fits: u64,
    /// Those, of all denied, for which there was no room for another counter.
    pub refused_full: u64,
    /// Those, of all admitted, that never reached the provider.
    pub cancelled: u64,
    /// Those, of all admitted, whose estimate stands.
    pub silent: u64,
    /// Those that no limit applied to.
    pub ungoverned: u64,
    /// Those, of all admitted, that a shadow limit would have refused.
    pub shadow_refused: u64,
    /// Tokens that the admitted expected.
    pub estimated: u128,
    /// Tokens that the admitted used.
    pub used: u128,
    /// Tokens that the denied expected.
    pub denied_tokens: u128,
}

/// Everything that a replay adds up.
#[derive(Debug)]
pub struct Tally {
    /// The limits, in the order of the policy.
    pub limits: Vec<LimitFacts>,
    /// All requests.
    pub totals: Totals,
    /// Every counter that a request met, by its number in the replay.
    pub rows: Vec<Row>,
    /// The instants of the first and the last request.
    pub span: Option<(i64, i64)>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(limits: Vec<LimitFacts>) -> Self {
        Tally { limits, totals: Totals::default(), rows: Vec::new(), span: None }
    }

    /// Makes a row for each counter that has none yet.
    pub fn know(&mut self, counters: &[Counter]) {
        for counter in &counters[self.rows.len()..] {
            let ceiling = self.limits[counter.limit].ceiling;
            self.rows.push(Row {
                limit: counter.limit,
                scope: Arc::clone(&counter.scope),
                admitted: 0,
                refused: 0,
                never_fits: 0,
                charged: 0,
                peak: None,
                longest: None,
                used: 0,
                remaining: i64::try_from(ceiling).unwrap_or(i64::MAX),
            });
        }
    }

    /// What is in use of a row's limit when this much is left.
    pub fn in_use(&self, row: usize, remaining: i64) -> u64 {
        let ceiling = self.limits[self.rows[row].limit].ceiling;
        u64::try_from(i128::from(ceiling) - i128::from(remaining)).unwrap_or(0)
    }

    /// Adds a decision.
    pub fn decided(&mut self, entry: &Entry, verdict: &Verdict) {
        self.span = Some((self.span.map_or(entry.at, |(first, _)| first), entry.at));
        let totals = &mut self.totals;
        totals.requests += 1;
        totals.ungoverned += u64::from(verdict.meets.is_empty());
        let tokens = u128::from(entry.estimate.input) + u128::from(entry.estimate.output);
        match verdict.status {
            200 => {
                totals.admitted += 1;
                totals.estimated += tokens;
                totals.shadow_refused += u64::from(!verdict.shadow_refused.is_empty());
            }
            403 => totals.denied_quota += 1,
            _ => totals.denied_rate += 1,
        }
        if verdict.status != 200 {
            totals.denied_tokens += tokens;
            totals.never_fits += u64::from(verdict.never_fits);
        }
        for place in verdict.meets.iter().map(|meet| meet.counter) {
            let row = &mut self.rows[place];
            row.admitted += u64::from(verdict.status == 200);
            row.refused += u64::from(verdict.shadow_refused.contains(&row.limit));
            if let Some(refused) = verdict.refused.iter().find(|refused| refused.limit == row.limit) {
                row.refused += 1;
                row.never_fits += u64::from(refused.never_fits);
                if let Some(nanos) = refused.retry_after.filter(|&n| row.longest.is_none_or(|wait| n > wait.nanos)) {
                    row.longest = Some(Wait { nanos, line: entry.line, at: entry.at });
                }
            }
            if let Some(&(_, left)) = verdict.remaining.iter().find(|(limit, _)| *limit == row.limit) {
                self.seen(place, left);
            }
        }
    }

    /// Notes how much is left of a row's limit, for its peak.
    pub fn seen(&mut self, place: usize, remaining: i64) {
        let used = self.in_use(place, remaining);
        let row = &mut self.rows[place];
        row.peak = Some(row.peak.map_or(used, |peak| peak.max(used)));
    }

    /// Adds the end of a request that was admitted.
    pub fn ended(&mut self, settled: &Settled) {
        let ended = &settled.ended;
        self.totals.cancelled += u64::from(ended.cancelled);
        self.totals.silent += u64::from(settled.ending == Ending::Silence);
        if !ended.cancelled {
            self.totals.used += u128::from(ended.tokens.input) + u128::from(ended.tokens.output);
        }
        for &(place, charge) in &settled.charges {
            self.rows[place].charged += u128::from(charge);
        }
    }

    /// Takes over what is in use when all is done. A counter that is not listed is at rest.
    pub fn finish(&mut self, counters: &[Left]) {
        for &Left { counter, remaining } in counters {
            self.rows[counter].used = self.in_use(counter, remaining);
            self.rows[counter].remaining = remaining;
        }
    }

    /// The rows of each limit that has any, the most refused first; the limits likewise.
    pub fn by_limit(&self) -> Vec<(usize, Vec<usize>)> {
        let mut limits: Vec<(usize, Vec<usize>)> = (0..self.limits.len()).map(|limit| (limit, Vec::new())).collect();
        for (place, row) in self.rows.iter().enumerate() {
            limits[row.limit].1.push(place);
        }
        limits.retain(|(_, rows)| !rows.is_empty());
        for (_, rows) in &mut limits {
            rows.sort_by_key(|&place| {
                let row = &self.rows[place];
                (std::cmp::Reverse((row.refused, row.admitted)), place)
            });
        }
        limits
    }

    /// The values of a row's scope, safe to print: `search / gpt-4o`.
    pub fn key_text(&self, place: usize) -> String {
        match &self.rows[place].scope[..] {
            [] => "all".into(),
            values => {
                let values: Vec<String> = values.iter().map(|value| crate::text::printable(value)).collect();
                values.join(" / ")
            }
        }
    }
}
