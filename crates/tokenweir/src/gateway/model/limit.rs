//! Limits as an administrator sets them, free of the engine's types: what they are compiled into is another matter.

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::{AgentName, DeploymentName, KeyName, LimitName, ProjectName, ToolName};

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
    pub const fn code(&self) -> &'static str {
        match self {
            LimitError::Empty(_) => "LIMIT_EMPTY",
            LimitError::PeriodMismatch => "QUOTA_PERIOD_MISMATCH",
            LimitError::NotPositive { .. } => "LIMIT_NOT_POSITIVE",
            LimitError::OutOfRange { .. } => "OUT_OF_RANGE",
            LimitError::PeriodUnknown(_) => "QUOTA_PERIOD_UNKNOWN",
            LimitError::RenewalOutOfRange { .. } => "RENEWAL_OUT_OF_RANGE",
            LimitError::CallQuotaEmpty => "QUOTA_EMPTY",
            LimitError::KeyEmpty(_) => "COUNTER_CONFLICT",
        }
    }
}

/// A whole number of 1 to `most`.
fn positive(what: &'static str, value: i128, most: i128) -> Result<NonZeroU64, LimitError> {
    if value > most {
        return Err(LimitError::OutOfRange { what, value, most });
    }
    u64::try_from(value).ok().and_then(NonZeroU64::new).ok_or(LimitError::NotPositive { what, value })
}

/// Tokens per minute: 1 to 2^31 - 1 (V-16; the type is \[G\], the lower bound \[I\]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i128", into = "u32")]
pub struct TokensPerMinute(NonZeroU32);

impl TokensPerMinute {
    /// The most.
    pub const MAX: u32 = i32::MAX as u32;

    /// So many tokens per minute.
    ///
    /// # Errors
    /// `LIMIT_NOT_POSITIVE` below 1, `OUT_OF_RANGE` above 2^31 - 1.
    pub fn new(tokens: impl Into<i128>) -> Result<Self, LimitError> {
        let tokens = positive("tokens per minute", tokens.into(), Self::MAX.into())?;
        Ok(TokensPerMinute(NonZeroU32::try_from(tokens).unwrap_or(NonZeroU32::MAX)))
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<i128> for TokensPerMinute {
    type Error = LimitError;

    fn try_from(tokens: i128) -> Result<Self, LimitError> {
        TokensPerMinute::new(tokens)
    }
}

impl From<TokensPerMinute> for u32 {
    fn from(tokens: TokensPerMinute) -> u32 {
        tokens.get()
    }
}

/// How long a token quota lasts (V-15). Read in any case, kept as the service spells it.
///
/// Fixed windows of UTC, cut off at the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum QuotaPeriod {
    /// From full hour to full hour.
    Hourly,
    /// From midnight to midnight.
    Daily,
    /// Seven days. Which day it begins on is not confirmed \[U\]: [`TrafficSettings`](super::TrafficSettings) says.
    Weekly,
    /// Calendar months.
    Monthly,
    /// Calendar years.
    Yearly,
}

impl QuotaPeriod {
    /// All there are.
    pub const ALL: [QuotaPeriod; 5] =
        [QuotaPeriod::Hourly, QuotaPeriod::Daily, QuotaPeriod::Weekly, QuotaPeriod::Monthly, QuotaPeriod::Yearly];

    /// As the service spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            QuotaPeriod::Hourly => "Hourly",
            QuotaPeriod::Daily => "Daily",
            QuotaPeriod::Weekly => "Weekly",
            QuotaPeriod::Monthly => "Monthly",
            QuotaPeriod::Yearly => "Yearly",
        }
    }
}

impl fmt::Display for QuotaPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QuotaPeriod {
    type Err = LimitError;

    fn from_str(word: &str) -> Result<Self, LimitError> {
        QuotaPeriod::ALL
            .into_iter()
            .find(|period| period.as_str().eq_ignore_ascii_case(word))
            .ok_or_else(|| LimitError::PeriodUnknown(word.to_owned()))
    }
}

impl TryFrom<String> for QuotaPeriod {
    type Error = LimitError;

    fn try_from(word: String) -> Result<Self, LimitError> {
        word.parse()
    }
}

impl From<QuotaPeriod> for String {
    fn from(period: QuotaPeriod) -> String {
        period.as_str().to_owned()
    }
}

/// So many tokens in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenQuota {
    tokens: NonZeroU64,
    period: QuotaPeriod,
}

impl TokenQuota {
    /// The most tokens: 2^63 - 1 (V-16; the type is \[G\]).
    pub const MAX: u64 = i64::MAX as u64;

    /// So many tokens in each `period`.
    ///
    /// # Errors
    /// `LIMIT_NOT_POSITIVE` below 1, `OUT_OF_RANGE` above 2^63 - 1.
    pub fn new(tokens: impl Into<i128>, period: QuotaPeriod) -> Result<Self, LimitError> {
        Ok(TokenQuota { tokens: positive("the token quota", tokens.into(), Self::MAX.into())?, period })
    }

    /// The tokens of a period, 1 to 2^63 - 1.
    pub const fn tokens(self) -> u64 {
        self.tokens.get()
    }

    /// The period.
    pub const fn period(self) -> QuotaPeriod {
        self.period
    }
}

/// The limit of a project on a deployment: tokens per minute, a token quota, or both (V-14).
///
/// # Example
/// ```
/// use tokenweir::gateway::model::{QuotaPeriod, TokenLimit, TokenQuota, TokensPerMinute};
/// let limit = TokenLimit::new(Some(TokensPerMinute::new(100)?), Some(TokenQuota::new(1_000, QuotaPeriod::Monthly)?))?;
/// assert_eq!(limit.to_string(), "100 TPM, 1000 tokens Monthly");
/// # Ok::<(), tokenweir::gateway::model::LimitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "TokenLimitFields", into = "TokenLimitFields")]
pub struct TokenLimit {
    tokens_per_minute: Option<TokensPerMinute>,
    quota: Option<TokenQuota>,
}

impl TokenLimit {
    /// A limit of these.
    ///
    /// # Errors
    /// `LIMIT_EMPTY` if there is neither.
    pub fn new(tokens_per_minute: Option<TokensPerMinute>, quota: Option<TokenQuota>) -> Result<Self, LimitError> {
        if tokens_per_minute.is_none() && quota.is_none() {
            return Err(LimitError::Empty("neither tokens per minute nor a token quota"));
        }
        Ok(TokenLimit { tokens_per_minute, quota })
    }

    /// The rate.
    pub const fn tokens_per_minute(self) -> Option<TokensPerMinute> {
        self.tokens_per_minute
    }

    /// The quota with its period.
    pub const fn quota(self) -> Option<TokenQuota> {
        self.quota
    }
}

impl fmt::Display for TokenLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.tokens_per_minute {
            write!(f, "{} TPM", rate.get())?;
        }
        if let Some(quota) = self.quota {
            let comma = if self.tokens_per_minute.is_some() { ", " } else { "" };
            write!(f, "{comma}{} tokens {}", quota.tokens(), quota.period())?;
        }
        Ok(())
    }
}

/// A token limit as it is written, before anything is checked: what a form, a command line or a document gives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLimitFields {
    /// Tokens per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<i128>,
    /// Tokens per period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_quota: Option<i128>,
    /// The period, a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_quota_period: Option<String>,
}

impl TokenLimitFields {
    /// The limit that these fields describe.
    ///
    /// # Errors
    /// Everything that is wrong with them (V-14 to V-16), in that order.
    pub fn check(&self) -> Result<TokenLimit, Vec<LimitError>> {
        let mut errors = Vec::new();
        if self.tokens_per_minute.is_none() && self.token_quota.is_none() && self.token_quota_period.is_none() {
            errors.push(LimitError::Empty("neither tokens per minute nor a token quota"));
        }
        if self.token_quota.is_some() != self.token_quota_period.is_some() {
            errors.push(LimitError::PeriodMismatch);
        }
        let mut kept = |result: Result<(), LimitError>| errors.extend(result.err());
        let period = self.token_quota_period.as_deref().map(str::parse::<QuotaPeriod>);
        if let Some(Err(unknown)) = &period {
            kept(Err(unknown.clone()));
        }
        let rate = self.tokens_per_minute.map(TokensPerMinute::new);
        if let Some(Err(wrong)) = &rate {
            kept(Err(wrong.clone()));
        }
        // The amount is judged whatever the period is.
        let quota = self
            .token_quota
            .map(|tokens| TokenQuota::new(tokens, period.clone().and_then(Result::ok).unwrap_or(QuotaPeriod::Monthly)));
        if let Some(Err(wrong)) = &quota {
            kept(Err(wrong.clone()));
        }
        if errors.is_empty() {
            let limit = TokenLimit::new(rate.and_then(Result::ok), quota.and_then(Result::ok));
            return limit.map_err(|wrong| vec![wrong]);
        }
        Err(errors)
    }
}

impl TryFrom<TokenLimitFields> for TokenLimit {
    type Error = String;

    fn try_from(fields: TokenLimitFields) -> Result<Self, String> {
        fields.check().map_err(|errors| {
            let shown: Vec<_> = errors.iter().map(|error| format!("{}: {error}", error.code())).collect();
            shown.join("; ")
        })
    }
}

impl From<TokenLimit> for TokenLimitFields {
    fn from(limit: TokenLimit) -> Self {
        TokenLimitFields {
            tokens_per_minute: limit.tokens_per_minute.map(|rate| rate.get().into()),
            token_quota: limit.quota.map(|quota| quota.tokens().into()),
            token_quota_period: limit.quota.map(|quota| quota.period().as_str().to_owned()),
        }
    }
}

/// So many calls in a renewal period of 1 to 300 s (V-18, \[D\]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CallRateFields", into = "CallRateFields")]
pub struct CallRate {
    calls: NonZeroU64,
    renewal_seconds: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallRateFields {
    calls: i128,
    renewal_seconds: u64,
}

impl CallRate {
    /// The longest renewal period, in seconds.
    pub const MAX_RENEWAL_SECONDS: u64 = 300;

    /// So many calls, 1 to 2^53, in each `renewal_seconds`.
    ///
    /// # Errors
    /// `LIMIT_NOT_POSITIVE`, `OUT_OF_RANGE`, or `RENEWAL_OUT_OF_RANGE` if the period is not 1 to 300 s.
    pub fn new(calls: impl Into<i128>, renewal_seconds: u64) -> Result<Self, LimitError> {
        let calls = positive("the calls of a rate", calls.into(), MOST_CALLS)?;
        match u32::try_from(renewal_seconds) {
            Ok(seconds @ 1..=300) => Ok(CallRate { calls, renewal_seconds: seconds }),
            _ => Err(LimitError::RenewalOutOfRange {
                what: "a call rate",
                seconds: renewal_seconds,
                allowed: "1 to 300 s",
            }),
        }
    }

    /// The calls.
    pub const fn calls(self) -> u64 {
        self.calls.get()
    }

    /// The length of the period in seconds, 1 to 300.
    pub const fn renewal_seconds(self) -> u32 {
        self.renewal_seconds
    }
}

impl TryFrom<CallRateFields> for CallRate {
    type Error = LimitError;

    fn try_from(fields: CallRateFields) -> Result<Self, LimitError> {
        CallRate::new(fields.calls, fields.renewal_seconds)
    }
}

impl From<CallRate> for CallRateFields {
    fn from(rate: CallRate) -> Self {
        CallRateFields { calls: rate.calls().into(), renewal_seconds: rate.renewal_seconds.into() }
    }
}

/// The most calls of a rate or a quota: as many as the engine counts exactly.
const MOST_CALLS: i128 = 1 << 53;

/// So many calls, so much bandwidth, or both, in a renewal period of 300 s or more, or for ever (V-18, V-19, \[D\]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CallQuotaFields", into = "CallQuotaFields")]
pub struct CallQuota {
    calls: Option<NonZeroU64>,
    bandwidth_kilobytes: Option<NonZeroU64>,
    renewal_seconds: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallQuotaFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<i128>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bandwidth_kilobytes: Option<i128>,
    renewal_seconds: u64,
}

impl CallQuota {
    /// The shortest renewal period, in seconds, of one that renews at all.
    pub const MIN_RENEWAL_SECONDS: u64 = 300;

    /// A quota of calls and kilobytes, 1 to 2^53 each; a renewal period of 0 never renews.
    ///
    /// # Errors
    /// `QUOTA_EMPTY` if both are absent, `RENEWAL_OUT_OF_RANGE` for 1 to 299 s, `LIMIT_NOT_POSITIVE`, `OUT_OF_RANGE`.
    pub fn new(
        calls: Option<i128>,
        bandwidth_kilobytes: Option<i128>,
        renewal_seconds: u64,
    ) -> Result<Self, LimitError> {
        if calls.is_none() && bandwidth_kilobytes.is_none() {
            return Err(LimitError::CallQuotaEmpty);
        }
        if (1..Self::MIN_RENEWAL_SECONDS).contains(&renewal_seconds) {
            let allowed = "0 (never renewed), or 300 s or more";
            return Err(LimitError::RenewalOutOfRange { what: "a call quota", seconds: renewal_seconds, allowed });
        }
        let calls = calls.map(|calls| positive("the calls of a quota", calls, MOST_CALLS)).transpose()?;
        let bandwidth_kilobytes =
            bandwidth_kilobytes.map(|size| positive("the bandwidth of a quota", size, MOST_CALLS)).transpose()?;
        Ok(CallQuota { calls, bandwidth_kilobytes, renewal_seconds })
    }

    /// The calls of a period.
    pub fn calls(self) -> Option<u64> {
        self.calls.map(NonZeroU64::get)
    }

    /// The kilobytes of a period.
    pub fn bandwidth_kilobytes(self) -> Option<u64> {
        self.bandwidth_kilobytes.map(NonZeroU64::get)
    }

    /// The length of the period in seconds: 300 or more, or 0 if it never renews.
    pub const fn renewal_seconds(self) -> u64 {
        self.renewal_seconds
    }
}

impl TryFrom<CallQuotaFields> for CallQuota {
    type Error = LimitError;

    fn try_from(fields: CallQuotaFields) -> Result<Self, LimitError> {
        CallQuota::new(fields.calls, fields.bandwidth_kilobytes, fields.renewal_seconds)
    }
}

impl From<CallQuota> for CallQuotaFields {
    fn from(quota: CallQuota) -> Self {
        CallQuotaFields {
            calls: quota.calls().map(Into::into),
            bandwidth_kilobytes: quota.bandwidth_kilobytes().map(Into::into),
            renewal_seconds: quota.renewal_seconds,
        }
    }
}

/// Limits on the use of an agent or a tool. At least one is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WorkloadLimitFields", into = "WorkloadLimitFields")]
pub struct WorkloadLimit {
    calls: Option<CallRate>,
    call_quota: Option<CallQuota>,
    concurrency: Option<NonZeroU32>,
    tokens: Option<TokenLimit>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadLimitFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<CallRate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_quota: Option<CallQuota>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<TokenLimit>,
}

impl WorkloadLimit {
    /// A limit of these. Tokens are counted where they are known.
    ///
    /// # Errors
    /// `LIMIT_EMPTY` if there is none of them.
    pub fn new(
        calls: Option<CallRate>,
        call_quota: Option<CallQuota>,
        concurrency: Option<NonZeroU32>,
        tokens: Option<TokenLimit>,
    ) -> Result<Self, LimitError> {
        if calls.is_none() && call_quota.is_none() && concurrency.is_none() && tokens.is_none() {
            return Err(LimitError::Empty("neither calls, nor a call quota, nor concurrency, nor tokens"));
        }
        Ok(WorkloadLimit { calls, call_quota, concurrency, tokens })
    }

    /// The call rate.
    pub const fn calls(self) -> Option<CallRate> {
        self.calls
    }

    /// The call quota.
    pub const fn call_quota(self) -> Option<CallQuota> {
        self.call_quota
    }

    /// The most calls at a time.
    pub const fn concurrency(self) -> Option<NonZeroU32> {
        self.concurrency
    }

    /// The token limit.
    pub const fn tokens(self) -> Option<TokenLimit> {
        self.tokens
    }
}

impl TryFrom<WorkloadLimitFields> for WorkloadLimit {
    type Error = LimitError;

    fn try_from(fields: WorkloadLimitFields) -> Result<Self, LimitError> {
        WorkloadLimit::new(fields.calls, fields.call_quota, fields.concurrency, fields.tokens)
    }
}

impl From<WorkloadLimit> for WorkloadLimitFields {
    fn from(limit: WorkloadLimit) -> Self {
        let WorkloadLimit { calls, call_quota, concurrency, tokens } = limit;
        WorkloadLimitFields { calls, call_quota, concurrency, tokens }
    }
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
