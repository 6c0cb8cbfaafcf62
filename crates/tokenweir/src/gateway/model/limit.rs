//! Limits as an administrator sets them, free of the engine's types: what they are compiled into is another matter.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::gateway::code::Code;

use super::name::{AgentName, DeploymentName, KeyName, LimitName, ProjectName, ToolName};
use super::tokens::TokenLimit;
use super::workload::{WorkloadLimit, WorkloadLimitFields};

/// What is wrong with a limit. Each has the stable code of the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// V-14. Nothing is limited.
    #[error("the limit has {0}; to take a limit away, clear it")]
    Empty(&'static str),
    /// V-14. One of a quota and its period without the other.
    #[error("the limit has a token quota without a period, or a period without a quota; give both or neither")]
    PeriodMismatch,
    /// V-16. Zero or negative.
    #[error("{what} is {value}; give 1 or more, or clear the limit if there should be none")]
    NotPositive {
        /// What was given.
        what: &'static str,
        /// Its value.
        value: i128,
    },
    /// V-16. Too large.
    #[error("{what} is {value}; the most is {most}")]
    OutOfRange {
        /// What was given.
        what: &'static str,
        /// Its value.
        value: i128,
        /// The most that is allowed.
        most: i128,
    },
    /// V-15. A period that does not exist. It is never taken for Yearly, as the portal's own policy takes it \[G\].
    #[error("{0:?} is not a quota period; use Hourly, Daily, Weekly, Monthly or Yearly")]
    PeriodUnknown(String),
    /// V-18. A renewal period that the policy does not take.
    #[error("the renewal period of {what} is {seconds} s; give {allowed}")]
    RenewalOutOfRange {
        /// What was given it.
        what: &'static str,
        /// Its length.
        seconds: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// V-19. A quota of calls without calls and without bandwidth.
    #[error("the call quota has neither calls nor bandwidth; give one or both")]
    CallQuotaEmpty,
    /// V-17. A counter key that has no parts, or an empty part.
    #[error("the counter key {0}; every caller without a key would share one counter")]
    KeyEmpty(&'static str),
}

impl LimitError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            LimitError::Empty(_) => Code::LimitEmpty,
            LimitError::PeriodMismatch => Code::QuotaPeriodMismatch,
            LimitError::NotPositive { .. } => Code::LimitNotPositive,
            LimitError::OutOfRange { .. } => Code::OutOfRange,
            LimitError::PeriodUnknown(_) => Code::QuotaPeriodUnknown,
            LimitError::RenewalOutOfRange { .. } => Code::RenewalOutOfRange,
            LimitError::CallQuotaEmpty => Code::QuotaEmpty,
            LimitError::KeyEmpty(_) => Code::CounterConflict,
        }
    }
}

/// The value of what went well; what did not goes to `errors`.
pub(super) fn kept<T>(errors: &mut Vec<LimitError>, result: Option<Result<T, LimitError>>) -> Option<T> {
    match result? {
        Ok(value) => Some(value),
        Err(wrong) => {
            errors.push(wrong);
            None
        }
    }
}

/// The same of what may have several things wrong with it.
pub(super) fn kept_all<T>(errors: &mut Vec<LimitError>, result: Option<Result<T, Vec<LimitError>>>) -> Option<T> {
    match result? {
        Ok(value) => Some(value),
        Err(wrong) => {
            errors.extend(wrong);
            None
        }
    }
}

/// Several errors as one text, as documents show them.
pub(super) fn joined(errors: &[LimitError]) -> String {
    let shown: Vec<_> = errors.iter().map(|error| format!("{}: {error}", error.code())).collect();
    shown.join("; ")
}

/// A whole number of 1 to `most`.
pub(super) fn positive(what: &'static str, value: i128, most: i128) -> Result<NonZeroU64, LimitError> {
    if value > most {
        return Err(LimitError::OutOfRange { what, value, most });
    }
    u64::try_from(value).ok().and_then(NonZeroU64::new).ok_or(LimitError::NotPositive { what, value })
}

/// One part of a counter key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyPart {
    /// The project of the request.
    Project,
    /// The deployment of the request.
    Deployment,
    /// The value of a caller key.
    Caller(KeyName),
    /// The same for every request: one counter for all callers (E-04).
    Constant(String),
}

/// What tells the counters of a keyed limit apart: one counter for each distinct value (V-17). Not empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<KeyPart>", into = "Vec<KeyPart>")]
pub struct CounterKey(Vec<KeyPart>);

impl CounterKey {
    /// A key of these parts, in this order.
    ///
    /// # Errors
    /// `COUNTER_CONFLICT` if there are none, or a constant is empty: a key with nothing in it is one counter for everyone.
    pub fn new(parts: Vec<KeyPart>) -> Result<Self, LimitError> {
        if parts.is_empty() {
            return Err(LimitError::KeyEmpty("has no parts"));
        }
        if parts.iter().any(|part| matches!(part, KeyPart::Constant(text) if text.is_empty())) {
            return Err(LimitError::KeyEmpty("has an empty constant"));
        }
        Ok(CounterKey(parts))
    }

    /// The parts.
    pub fn parts(&self) -> &[KeyPart] {
        &self.0
    }
}

impl TryFrom<Vec<KeyPart>> for CounterKey {
    type Error = LimitError;

    fn try_from(parts: Vec<KeyPart>) -> Result<Self, LimitError> {
        CounterKey::new(parts)
    }
}

impl From<CounterKey> for Vec<KeyPart> {
    fn from(key: CounterKey) -> Vec<KeyPart> {
        key.0
    }
}

/// Which requests of the gateway a keyed limit applies to. Nothing given: all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitScope {
    /// Of this project only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// To this deployment only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentName>,
}

/// A limit on whatever a key tells apart: callers, subscriptions, addresses, or everyone together.
///
/// The same key means the same counter wherever it is used \[D\], so two keyed limits of one key must have the same
/// rates (V-17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedLimit {
    /// What tells counters apart.
    pub key: CounterKey,
    /// Which requests it applies to.
    #[serde(default)]
    pub scope: LimitScope,
    /// What is limited.
    pub limit: WorkloadLimit,
}

/// A keyed limit as it is written, before anything is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedLimitFields {
    /// What tells counters apart.
    pub key: Vec<KeyPart>,
    /// Which requests it applies to.
    #[serde(default)]
    pub scope: LimitScope,
    /// What is limited.
    pub limit: WorkloadLimitFields,
}

impl KeyedLimitFields {
    /// The limit that these fields describe.
    ///
    /// # Errors
    /// Everything that is wrong with them (V-14 to V-19).
    pub fn check(&self) -> Result<KeyedLimit, Vec<LimitError>> {
        match (CounterKey::new(self.key.clone()), self.limit.check()) {
            (Ok(key), Ok(limit)) => Ok(KeyedLimit { key, scope: self.scope.clone(), limit }),
            (key, limit) => {
                let mut errors: Vec<_> = key.err().into_iter().collect();
                errors.extend(limit.err().into_iter().flatten());
                Err(errors)
            }
        }
    }
}

/// All limits of one gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// By project and deployment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub projects: BTreeMap<ProjectName, BTreeMap<DeploymentName, TokenLimit>>,
    /// On everything that the gateway governs, all projects together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<TokenLimit>,
    /// By key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keyed: BTreeMap<LimitName, KeyedLimit>,
    /// By project and custom agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<ProjectName, BTreeMap<AgentName, WorkloadLimit>>,
    /// By project and tool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<ProjectName, BTreeMap<ToolName, WorkloadLimit>>,
}

impl Limits {
    /// The limit of a project on a deployment. None is no limit: such requests pass unlimited \[G\].
    pub fn of(&self, project: &ProjectName, deployment: &DeploymentName) -> Option<TokenLimit> {
        self.projects.get(project)?.get(deployment).copied()
    }
}
