//! Limits and metrics: V-14 to V-20.

use super::{Facts, Failure, Rule};
use crate::gateway::code::Code;
use crate::gateway::finding::Severity;
use crate::gateway::model::{KeyedLimit, LimitError, MetricDimension};
use crate::gateway::operation::Event;

/// The events that set a limit.
const SET: &[Event] =
    &[Event::SetLimit, Event::SetAggregateLimit, Event::SetKeyedLimit, Event::SetAgentLimit, Event::SetToolLimit];

/// What is wrong with the limit in itself, as far as one rule is about it.
fn wrong(facts: &Facts<'_>, failures: &mut Vec<Failure>, is: fn(&LimitError) -> bool) {
    let errors = facts.limit_errors.iter().filter(|error| is(error));
    failures.extend(errors.map(|error| Failure::new(error.code(), error.to_string())));
}

pub(super) static RULES: [Rule; 7] = [
    Rule {
        id: "V-14",
        demands: "a limit limits something, and a token quota has a period",
        evidence: "D",
        severity: Severity::Error,
        remedy: "give tokens per minute, or a quota with its period, or both",
        events: SET,
        check: |facts, failures| {
            wrong(facts, failures, |error| matches!(error, LimitError::Empty(_) | LimitError::PeriodMismatch));
        },
    },
    Rule {
        id: "V-15",
        demands: "the period of a token quota is Hourly, Daily, Weekly, Monthly or Yearly",
        evidence: "D",
        severity: Severity::Error,
        remedy: "use one of these; upper and lower case do not matter",
        events: SET,
        check: |facts, failures| wrong(facts, failures, |error| matches!(error, LimitError::PeriodUnknown(_))),
    },
    Rule {
        id: "V-16",
        demands: "tokens per minute are 1 to 2^31 - 1, a token quota is 1 to 2^63 - 1",
        evidence: "G for the types, I for the lower bound",
        severity: Severity::Error,
        remedy: "choose an amount in that range, or clear the limit",
        events: SET,
        check: |facts, failures| {
            wrong(facts, failures, |error| {
                matches!(error, LimitError::NotPositive { .. } | LimitError::OutOfRange { .. })
            });
        },
    },
    Rule {
        id: "V-17",
        demands: "a counter key is not empty, and has the same rates wherever it is used",
        evidence: "D: a mismatch is documented as unpredictable on v2 tiers",
        severity: Severity::Error,
        remedy: "give the key a part that tells the two apart, or the two the same rate",
        events: &[Event::SetKeyedLimit],
        check: |facts, failures| {
            wrong(facts, failures, |error| matches!(error, LimitError::KeyEmpty(_)));
            let Some((name, ours, limits)) = facts.keyed else { return };
            for (other, theirs) in limits.keyed.iter().filter(|(other, _)| *other != name) {
                if ours.key == theirs.key && rates_differ(ours, theirs) {
                    let reason = format!("limit {:?} uses the same counter key with another rate", other.as_str());
                    failures.push(Failure::new(Code::CounterConflict, reason));
                }
            }
        },
    },
    Rule {
        id: "V-18",
        demands: "a call rate renews in 1 to 300 s, a call quota in 300 s or more, or never",
        evidence: "D",
        severity: Severity::Error,
        remedy: "choose a period in that range",
        events: &[Event::SetKeyedLimit, Event::SetAgentLimit, Event::SetToolLimit],
        check: |facts, failures| wrong(facts, failures, |error| matches!(error, LimitError::RenewalOutOfRange { .. })),
    },
    Rule {
        id: "V-19",
        demands: "a call quota has calls, or bandwidth, or both",
        evidence: "D",
        severity: Severity::Error,
        remedy: "give one of them",
        events: &[Event::SetKeyedLimit, Event::SetAgentLimit, Event::SetToolLimit],
        check: |facts, failures| wrong(facts, failures, |error| matches!(error, LimitError::CallQuotaEmpty)),
    },
    Rule {
        id: "V-20",
        demands: "a token metric has at most 5 dimensions, and only the default ones do without a value",
        evidence: "D",
        severity: Severity::Error,
        remedy: "leave dimensions out, or give the value",
        events: &[Event::SetMetricDimensions],
        check: |facts, failures| {
            let Some(dimensions) = facts.dimensions else { return };
            if dimensions.len() > MetricDimension::MOST {
                let reason =
                    format!("there are {} dimensions, the most are {}", dimensions.len(), MetricDimension::MOST);
                failures.push(Failure::new(Code::MetricDimensions, reason));
            }
            for dimension in dimensions {
                let name = dimension.name.as_str();
                if name.is_empty() {
                    failures.push(Failure::new(Code::MetricDimensions, "a dimension has no name"));
                } else if dimension.value.as_deref().unwrap_or("").is_empty()
                    && !MetricDimension::DEFAULTS.contains(&name)
                {
                    let reason = format!("dimension {name:?} has no value and is none of the default ones");
                    failures.push(Failure::new(Code::MetricDimensions, reason));
                }
                if dimensions.iter().filter(|other| other.name == name).count() > 1 {
                    let reason = format!("dimension {name:?} is given more than once");
                    failures.push(Failure::new(Code::MetricDimensions, reason));
                }
            }
        },
    },
];

/// Whether both have a rate of one kind, and not the same.
fn rates_differ(ours: &KeyedLimit, theirs: &KeyedLimit) -> bool {
    let tokens = |limit: &KeyedLimit| limit.limit.tokens().and_then(|tokens| tokens.tokens_per_minute());
    let differ = |ours: Option<u64>, theirs: Option<u64>| ours.zip(theirs).is_some_and(|(a, b)| a != b);
    let calls = ours.limit.calls().zip(theirs.limit.calls()).is_some_and(|(a, b)| a != b);
    differ(tokens(ours).map(|rate| rate.get().into()), tokens(theirs).map(|rate| rate.get().into())) || calls
}
