//! Limits on the use of agents, tools and keys: calls, concurrency, and tokens where they are known.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

use super::limit::{LimitError, joined, kept, kept_all, positive};
use super::tokens::{TokenLimit, TokenLimitFields};

/// So many calls in a renewal period of 1 to 300 s (V-18, \[D\]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "CallRateFields", into = "CallRateFields")]
pub struct CallRate {
    calls: NonZeroU64,
    renewal_seconds: u32,
}

/// A call rate as it is written, before anything is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallRateFields {
    /// Calls per period.
    pub calls: i128,
    /// The length of the period in seconds.
    pub renewal_seconds: u64,
}

impl CallRate {
    /// The longest renewal period, in seconds.
    pub const MAX_RENEWAL_SECONDS: u64 = 300;

    /// So many calls, 1 to 2^53, in each `renewal_seconds`.
    ///
    /// # Errors
    /// `LIMIT_NOT_POSITIVE`, `OUT_OF_RANGE`, or `RENEWAL_OUT_OF_RANGE` if the period is not 1 to 300 s.
    pub fn new(calls: impl Into<i128>, renewal_seconds: u64) -> Result<Self, LimitError> {
        Ok(CallRate { calls: rate_calls(calls.into())?, renewal_seconds: rate_seconds(renewal_seconds)? })
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

fn rate_calls(calls: i128) -> Result<NonZeroU64, LimitError> {
    positive("the calls of a rate", calls, MOST_CALLS)
}

fn rate_seconds(seconds: u64) -> Result<u32, LimitError> {
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=300) => Ok(seconds),
        _ => Err(LimitError::RenewalOutOfRange { what: "a call rate", seconds, allowed: "1 to 300 s" }),
    }
}

impl CallRateFields {
    /// The rate that these fields describe.
    ///
    /// # Errors
    /// Everything that is wrong with them (V-16, V-18).
    pub fn check(&self) -> Result<CallRate, Vec<LimitError>> {
        let mut errors = Vec::new();
        let calls = kept(&mut errors, Some(rate_calls(self.calls)));
        let seconds = kept(&mut errors, Some(rate_seconds(self.renewal_seconds)));
        match calls.zip(seconds) {
            Some((calls, renewal_seconds)) => Ok(CallRate { calls, renewal_seconds }),
            None => Err(errors),
        }
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

/// A call quota as it is written, before anything is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallQuotaFields {
    /// Calls per period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<i128>,
    /// Kilobytes per period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_kilobytes: Option<i128>,
    /// The length of the period in seconds; 0 is for ever.
    pub renewal_seconds: u64,
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
        let fields = CallQuotaFields { calls, bandwidth_kilobytes, renewal_seconds };
        fields.check().map_err(|errors| errors.into_iter().next().unwrap_or(LimitError::CallQuotaEmpty))
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

impl CallQuotaFields {
    /// The quota that these fields describe.
    ///
    /// # Errors
    /// Everything that is wrong with them (V-16, V-18, V-19).
    pub fn check(&self) -> Result<CallQuota, Vec<LimitError>> {
        let mut errors = Vec::new();
        let renewal_seconds = self.renewal_seconds;
        if self.calls.is_none() && self.bandwidth_kilobytes.is_none() {
            errors.push(LimitError::CallQuotaEmpty);
        }
        if (1..CallQuota::MIN_RENEWAL_SECONDS).contains(&renewal_seconds) {
            let allowed = "0 (never renewed), or 300 s or more";
            errors.push(LimitError::RenewalOutOfRange { what: "a call quota", seconds: renewal_seconds, allowed });
        }
        let amount = |what, amount: Option<i128>| amount.map(|amount| positive(what, amount, MOST_CALLS));
        let calls = kept(&mut errors, amount("the calls of a quota", self.calls));
        let bandwidth_kilobytes = kept(&mut errors, amount("the bandwidth of a quota", self.bandwidth_kilobytes));
        match errors.is_empty() {
            true => Ok(CallQuota { calls, bandwidth_kilobytes, renewal_seconds }),
            false => Err(errors),
        }
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

/// A limit on an agent or a tool as it is written, before anything is checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadLimitFields {
    /// The call rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallRateFields>,
    /// The call quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_quota: Option<CallQuotaFields>,
    /// The most calls at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<i128>,
    /// The token limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenLimitFields>,
}

impl WorkloadLimitFields {
    /// The limit that these fields describe.
    ///
    /// # Errors
    /// Everything that is wrong with them (V-14 to V-16, V-18, V-19).
    pub fn check(&self) -> Result<WorkloadLimit, Vec<LimitError>> {
        let mut errors = Vec::new();
        let calls = kept_all(&mut errors, self.calls.map(|rate| rate.check()));
        let call_quota = kept_all(&mut errors, self.call_quota.map(|quota| quota.check()));
        let concurrency = self.concurrency.map(|most| {
            let most = positive("the concurrency", most, u32::MAX.into())?;
            Ok(NonZeroU32::try_from(most).unwrap_or(NonZeroU32::MAX))
        });
        let concurrency = kept(&mut errors, concurrency);
        let tokens = kept_all(&mut errors, self.tokens.as_ref().map(TokenLimitFields::check));
        if !errors.is_empty() {
            return Err(errors);
        }
        WorkloadLimit::new(calls, call_quota, concurrency, tokens).map_err(|wrong| vec![wrong])
    }
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
    type Error = String;

    fn try_from(fields: WorkloadLimitFields) -> Result<Self, String> {
        fields.check().map_err(|errors| joined(&errors))
    }
}

impl From<WorkloadLimit> for WorkloadLimitFields {
    fn from(limit: WorkloadLimit) -> Self {
        WorkloadLimitFields {
            calls: limit.calls.map(Into::into),
            call_quota: limit.call_quota.map(Into::into),
            concurrency: limit.concurrency.map(|most| most.get().into()),
            tokens: limit.tokens.map(Into::into),
        }
    }
}
