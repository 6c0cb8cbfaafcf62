//! Limits and metrics: V-14 to V-20, and what the engine can count.

use super::{Facts, Failure, Rule};
use crate::gateway::code::Code;
use crate::gateway::compile::{CompileError, Terms, one_for_each_key};
use crate::gateway::finding::Severity;
use crate::gateway::model::{LimitError, MetricDimension};
use crate::gateway::operation::Event;

/// The events that set a limit.
const SET: &[Event] =
    &[Event::SetLimit, Event::SetAggregateLimit, Event::SetKeyedLimit, Event::SetAgentLimit, Event::SetToolLimit];

/// What is wrong with the limit in itself, as far as one rule is about it.
fn wrong(facts: &Facts<'_>, failures: &mut Vec<Failure>, is: fn(&LimitError) -> bool) {
    let errors = facts.limit_errors.iter().filter(|error| is(error));
    failures.extend(errors.map(|error| Failure::new(error.code(), error.to_string())));
}

pub(super) static RULES: [Rule; 8] = [
    Rule {
        id: "V-14",
        demands: "a limit limits something, and a token quota has a period",
        evidence: "D",
        severity: Severity::Error,
        remedy: "give tokens per minute, or a quota with its period, or both; keys, agents and tools take calls, a call quota \
                 and concurrency as well",
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
        demands: "a counter key is not empty, and is the same limit on the same requests wherever it is used, or on all",
        evidence: "D: a mismatch of rates is documented as unpredictable on v2 tiers",
        severity: Severity::Error,
        remedy: "give the key a part that tells the two apart, or the two the same rate",
        events: &[Event::SetKeyedLimit],
        check: |facts, failures| {
            let empty = facts.limit_errors.iter().filter(|error| matches!(error, LimitError::KeyEmpty(_)));
            failures.extend(empty.map(|error| Failure {
                next: Some("give the key a part, or a constant if one counter for all is meant".to_owned()),
                ..Failure::new(error.code(), error.to_string())
            }));
            if let Some(after) = facts.after
                && let Err(conflict) = one_for_each_key(&after.limits.keyed)
            {
                failures.push(Failure::of_limits(&conflict));
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
        remedy: "give calls: bandwidth is not counted here, and a quota with it is refused (BANDWIDTH_UNSUPPORTED)",
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
    Rule {
        id: "L-01",
        demands: "a limit can be put in force: its amount is at most 2^53, no name that it is on has a *, bytes are not counted",
        evidence: "what the engine counts",
        severity: Severity::Error,
        remedy: "correct the limit",
        events: SET,
        check: |facts, failures| match facts.after.map(|after| after.policy(&Terms::native())) {
            // V-17 has said so.
            None | Some(Ok(_) | Err(CompileError::CounterConflict { .. })) => {}
            Some(Err(error)) => failures.push(Failure::of_limits(&error)),
        },
    },
];
