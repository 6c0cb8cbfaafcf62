//! Usage records: one for each call, complete when the call has ended.
//!
//! The fields are those of the service's gateway log and LLM log, as far as a library can know them \[D\], and what its
//! users ask for beyond them: which limit refused, estimate and actual, cached tokens. What is not known is absent,
//! never 0.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::model::{GatewayName, Region, ResourceName, Timestamp};
use crate::record::Outcome;

/// What came of a call at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CallOutcome {
    /// It is governed, and every limit had room.
    Admitted,
    /// A limit on tokens per minute, on calls or on concurrency refused it.
    RefusedRate,
    /// A quota refused it.
    RefusedQuota,
    /// It is not governed, and passed uncounted.
    Bypassed,
    /// It is not governed, or of a project, deployment, agent or tool that is not there, and that was denied.
    RefusedUngoverned,
    /// The agent that it is for is blocked.
    RefusedAgentBlocked,
    /// Its limits could not be asked: a caller key is missing, or there is no room for a permit. The host was given the
    /// error, and decides what becomes of the call.
    Failed,
}

impl CallOutcome {
    /// All there are, in the order of their numbers.
    pub const ALL: [CallOutcome; 7] = [
        CallOutcome::Admitted,
        CallOutcome::RefusedRate,
        CallOutcome::RefusedQuota,
        CallOutcome::Bypassed,
        CallOutcome::RefusedUngoverned,
        CallOutcome::RefusedAgentBlocked,
        CallOutcome::Failed,
    ];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            CallOutcome::Admitted => "admitted",
            CallOutcome::RefusedRate => "refused-rate",
            CallOutcome::RefusedQuota => "refused-quota",
            CallOutcome::Bypassed => "bypassed",
            CallOutcome::RefusedUngoverned => "refused-ungoverned",
            CallOutcome::RefusedAgentBlocked => "refused-agent-blocked",
            CallOutcome::Failed => "failed",
        }
    }
}

impl fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the gateway did not pass a call on, as its log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastError {
    /// What refused: a policy of the service, or this library.
    pub source: String,
    /// The reason, one word.
    pub reason: String,
    /// What the caller was told.
    pub message: String,
}

/// One call, from its decision to its end. What is written with serde is read again as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UsageRecord {
    /// When it was decided on.
    pub time: Timestamp,
    /// The host's id of the call, or one of the gateway's own.
    pub correlation_id: String,
    /// The resource.
    pub resource: ResourceName,
    /// Where the resource stands.
    pub region: Region,
    /// The gateway, if the resource has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayName>,
    /// The project that calls; as the caller gave it, known or not.
    pub project: String,
    /// Whether the resource has such a project. Of the others there can be any number: metrics do not name them.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub project_known: bool,
    /// The deployment that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The deployment that served it: another one where calls spill over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_served: Option<String>,
    /// The model of the deployment that was asked for; absent if the resource has no such deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model that the provider says served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_served: Option<String>,
    /// The custom agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// What was called: `chat`, `embeddings`, `execute_tool`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Who calls: the caller keys, by name. Bytes that are no text show as U+FFFD.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub caller: BTreeMap<String, String>,
    /// The dimensions of the gateway's token metrics, by name, as far as their values are known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
    /// What came of it.
    pub outcome: CallOutcome,
    /// The limit that the caller was told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Every limit that refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_by: Vec<String>,
    /// The seconds that the caller was told to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The request was larger than a whole limit.
    #[serde(default, skip_serializing_if = "is_false")]
    pub never_fits: bool,
    /// What the caller was answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_code: Option<u16>,
    /// What the provider answered with; absent if the call did not reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_response_code: Option<u16>,
    /// Whether the response was streamed.
    pub streamed: bool,
    /// Prompt tokens as the host estimated them; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_input: Option<u64>,
    /// The most output tokens as the host estimated them; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_output: Option<u64>,
    /// Prompt tokens as the provider reported them, cached ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Of these, how many came from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// Completion tokens as the provider reported them, reasoning included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Of these, how many were spent on reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// What was charged for the prompt in the end; absent unless a permit was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged_input: Option<u64>,
    /// What was charged for the completion in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged_output: Option<u64>,
    /// Whether a part of what was charged is the estimate or was counted by the host, because no usage was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<bool>,
    /// How its permit ended, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "word")]
    pub ended: Option<Outcome>,
    /// From the decision to the end, in nanoseconds.
    #[serde(rename = "total_ns", with = "nanos")]
    pub total_time: Duration,
    /// How long the provider took.
    #[serde(rename = "backend_ns", default, skip_serializing_if = "Option::is_none", with = "some_nanos")]
    pub backend_time: Option<Duration>,
    /// How long the first piece of a stream took.
    #[serde(rename = "first_token_ns", default, skip_serializing_if = "Option::is_none", with = "some_nanos")]
    pub first_token_time: Option<Duration>,
    /// Why it was not passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_false(value: &bool) -> bool {
    !value
}

/// An outcome by its word.
mod word {
    use super::{Deserialize, Deserializer, Outcome, Serializer};

    pub(super) fn serialize<S: Serializer>(ended: &Option<Outcome>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ended.map_or("", Outcome::as_str))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Outcome>, D::Error> {
        let word = String::deserialize(from)?;
        let found = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word);
        found.map(Some).ok_or_else(|| serde::de::Error::custom(format!("{word:?} is no end of a permit")))
    }
}

mod nanos {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_nanos)
    }
}

mod some_nanos {
    use super::{Deserializer, Duration, Serializer, nanos};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => nanos::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Duration>, D::Error> {
        nanos::deserialize(from).map(Some)
    }
}

/// Receives each record, once, on the thread that ended the call, after the counters have moved.
///
/// An implementation must be quick and must not block: it runs on the request's path. It may be called from many threads
/// at once. If it panics, the panic reaches the host's call; the counters are consistent by then.
pub trait RecordObserver: Send + Sync {
    /// A call has ended, or was refused.
    fn recorded(&self, record: &UsageRecord);
}
