//! What a report draws: use and refusals over time, of a bounded number of counters and projects.

use std::collections::HashMap;
use std::hash::Hash;

use tokenweir_replay::{Entry, Left, Replay, Verdict, instant};

use crate::axis::{Axis, Counts, Most, Series};
use crate::tally::Tally;

/// Points in a chart of use.
const USE_POINTS: u16 = 600;
/// Bars in a chart of requests.
const BARS: u16 = 100;
/// Counters, and projects, that are followed at a time. Above it the less busy half is let go.
const FOLLOWED: usize = 4096;
/// Counters that all samples together may look at. Beyond it, use is drawn from decisions alone.
const SAMPLED: usize = 1_000_000;
/// Steps below this are too short to sample: a trace that long passes through them in its first minutes.
const SHORTEST: i64 = instant::SECOND;

/// Admitted, denied by a rate, denied by a quota.
pub type Decided = Counts<3>;

/// One counter over time.
#[derive(Debug, Default)]
pub struct CounterLine {
    /// The most in use within each step.
    pub most: Series<Most>,
    /// Refusals within each step.
    pub refused: Series<Counts<1>>,
    met: u64,
}

/// One project over time.
#[derive(Debug, Default)]
pub struct ProjectLine {
    /// Decisions within each step.
    pub decided: Series<Decided>,
    /// Decisions in all.
    pub totals: [u64; 3],
}

impl ProjectLine {
    /// All its requests.
    pub fn requests(&self) -> u64 {
        self.totals.iter().sum()
    }
}

/// Everything that is drawn.
#[derive(Debug)]
pub struct Timeline {
    /// The steps of charts of use.
    pub use_axis: Axis,
    /// The steps of charts of requests.
    pub bar_axis: Axis,
    /// All decisions.
    pub decided: Series<Decided>,
    /// By the place of its row.
    pub counters: HashMap<usize, CounterLine>,
    /// By name.
    pub projects: HashMap<Vec<u8>, ProjectLine>,
    /// How many projects were let go to bound the memory; 0 is usual.
    pub projects_let_go: u64,
    /// The step up to which every counter was sampled: where it has no value before, it was at rest.
    sampled: Option<i64>,
    budget: usize,
    /// The last instant of the trace, if that is known beforehand.
    until: i64,
}

impl Timeline {
    /// Nothing yet, of a trace that ends at `until` if that is known.
    pub fn new(until: Option<i64>) -> Self {
        Timeline {
            use_axis: Axis::new(USE_POINTS),
            bar_axis: Axis::new(BARS),
            decided: Series::default(),
            counters: HashMap::new(),
            projects: HashMap::new(),
            projects_let_go: 0,
            sampled: None,
            budget: SAMPLED,
            until: until.unwrap_or(0),
        }
    }

    /// Moves on to `at`, before anything happens there: what is in use is sampled at the start of every new step.
    pub fn move_on(&mut self, at: i64, replay: &Replay, tally: &mut Tally) {
        let before = self.use_axis.ends().map(|_| self.use_axis.clone());
        self.use_axis.include(at);
        self.use_axis.expect(self.until);
        let Some(before) = before else { return };
        let width = self.use_axis.width();
        if width < SHORTEST {
            return;
        }
        // The last step in the old width, as a step of the new one.
        let seen = before.ends().map_or(0, |(_, last)| last * before.width() / width);
        for step in seen + 1..=self.use_axis.step(at) {
            if self.budget == 0 {
                return;
            }
            let start = step * width;
            let counters = replay.usage_at(start);
            self.budget = self.budget.saturating_sub(counters.len().max(1));
            for Left { counter, remaining } in counters {
                tally.seen(counter, remaining);
                if let Some(line) = self.counters.get_mut(&counter) {
                    line.most.add(&self.use_axis, start, Most(tally.in_use(counter, remaining)));
                }
            }
            self.sampled = Some(start);
        }
    }

    /// Adds a decision.
    pub fn decided(&mut self, entry: &Entry, verdict: &Verdict, tally: &Tally) {
        let at = entry.at;
        self.bar_axis.include(at);
        self.bar_axis.expect(self.until);
        let mut counts = [0; 3];
        counts[match verdict.status {
            200 => 0,
            403 => 2,
            _ => 1,
        }] = 1;
        self.decided.add(&self.bar_axis, at, Counts(counts));
        if !self.projects.contains_key(&entry.project) {
            self.projects_let_go += let_go(&mut self.projects, ProjectLine::requests);
        }
        let project = self.projects.entry(entry.project.clone()).or_default();
        project.decided.add(&self.bar_axis, at, Counts(counts));
        project.totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        for row in verdict.meets.iter().map(|meet| meet.counter) {
            let_go(&mut self.counters, |line| line.met);
            let line = self.counters.entry(row).or_default();
            line.met += 1;
            let limit = tally.rows[row].limit;
            if let Some(&(_, left)) = verdict.remaining.iter().find(|(other, _)| *other == limit) {
                line.most.add(&self.use_axis, at, Most(tally.in_use(row, left)));
            }
            let refused = verdict.refused.iter().any(|refused| refused.limit == limit);
            if refused || verdict.shadow_refused.contains(&limit) {
                line.refused.add(&self.use_axis, at, Counts([1]));
            }
        }
    }

    /// The use of a counter at every step: `None` where it is not known.
    pub fn use_of(&self, row: usize) -> Vec<Option<u64>> {
        let (Some((first, last)), Some(line)) = (self.use_axis.ends(), self.counters.get(&row)) else {
            return Vec::new();
        };
        let sampled = self.sampled.map_or(first - 1, |at| self.use_axis.step(at));
        let all_sampled = self.use_axis.width() >= SHORTEST && self.budget > 0;
        let at_rest = |step: i64| (step <= sampled || all_sampled).then_some(0);
        let mut values: Vec<Option<u64>> = (first..=last).map(at_rest).collect();
        for (step, most) in line.most.points(&self.use_axis) {
            values[(step - first) as usize] = Some(most.0);
        }
        values
    }

    /// The refusals of a counter at every step.
    pub fn refusals_of(&self, row: usize) -> Vec<u64> {
        let (Some((first, last)), Some(line)) = (self.use_axis.ends(), self.counters.get(&row)) else {
            return Vec::new();
        };
        let mut values = vec![0; (last - first + 1) as usize];
        for (step, refused) in line.refused.points(&self.use_axis) {
            values[(step - first) as usize] = refused.0[0];
        }
        values
    }

    /// Decisions at every step of the bars.
    pub fn bars(&self, series: &Series<Decided>) -> Vec<[u64; 3]> {
        let Some((first, last)) = self.bar_axis.ends() else { return Vec::new() };
        let mut values = vec![[0; 3]; (last - first + 1) as usize];
        for (step, decided) in series.points(&self.bar_axis) {
            values[(step - first) as usize] = decided.0;
        }
        values
    }
}

/// Lets the less busy half go where there is no room for one more, and says how many that were.
fn let_go<K: Clone + Eq + Hash + Ord, V>(lines: &mut HashMap<K, V>, busy: impl Fn(&V) -> u64) -> u64 {
    if lines.len() < FOLLOWED {
        return 0;
    }
    let mut order: Vec<(u64, K)> = lines.iter().map(|(key, line)| (busy(line), key.clone())).collect();
    // By name where they tie: a map has no order, and equal runs give equal reports.
    order.sort_unstable_by(|a, b| b.cmp(a));
    let gone = order.split_off(FOLLOWED / 2);
    for (_, key) in &gone {
        lines.remove(key);
    }
    gone.len() as u64
}
