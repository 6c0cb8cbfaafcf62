//! Limits in words.

use tokenweir::Policy;
use tokenweir::policy::{Algorithm, Limit, Meter, Mode};
use tokenweir_replay::instant;

use crate::text::{grouped, printable};

/// A limit as the summary and the report name it.
#[derive(Debug, Clone)]
pub struct LimitFacts {
    /// Its name.
    pub name: String,
    /// What it counts, in the plural: `tokens`, `requests`.
    pub unit: &'static str,
    /// The most that can be in use at a time: the burst of a bucket, the amount of the others.
    pub ceiling: u64,
    /// Algorithm and amount in words: `bucket, 100,000 tokens per 1 min, burst 20,000`.
    pub terms: String,
    /// What its counters are told apart by: `project`, `deployment`, `key:user`.
    pub scope: Vec<String>,
    /// Whether it refuses; otherwise it only counts.
    pub enforced: bool,
}

impl LimitFacts {
    /// All limits of a policy, in its order.
    pub fn of(policy: &Policy) -> Vec<Self> {
        policy.limits().iter().map(Self::new).collect()
    }

    fn new(limit: &Limit) -> Self {
        let unit = match limit.meter() {
            Meter::Requests => "requests",
            Meter::Input => "input tokens",
            Meter::Output => "output tokens",
            Meter::Total => "tokens",
            Meter::Cost => "micro-units",
            Meter::InFlight => "permits",
        };
        let amount = format!("{} {unit}", grouped(limit.algorithm().amount()));
        let (ceiling, terms) = match limit.algorithm() {
            Algorithm::Bucket { amount: refill, per, burst } => {
                let burst_text = if burst == refill { String::new() } else { format!(", burst {}", grouped(*burst)) };
                (*burst, format!("bucket, {amount} per {}{burst_text}", instant::span_text(*per)))
            }
            Algorithm::Window { amount: most, per, .. } => {
                (*most, format!("window, {amount} in any {}", instant::span_text(*per)))
            }
            Algorithm::Quota { amount: most, period } => (*most, format!("quota, {amount} {period}")),
            Algorithm::InFlight { amount: most } => (*most, format!("in flight, {} at a time", grouped(*most))),
        };
        LimitFacts {
            name: limit.name().to_string(),
            unit,
            ceiling,
            terms,
            scope: limit.scope().iter().map(ToString::to_string).collect(),
            enforced: limit.mode() == Mode::Enforce,
        }
    }

    /// `by project and deployment`, or `one counter for all`.
    pub fn scope_text(&self) -> String {
        match &self.scope[..] {
            [] => "one counter for all".into(),
            [one] => format!("by {}", printable(one.as_bytes())),
            [most @ .., last] => {
                let most: Vec<String> = most.iter().map(|part| printable(part.as_bytes())).collect();
                format!("by {} and {}", most.join(", "), printable(last.as_bytes()))
            }
        }
    }
}
