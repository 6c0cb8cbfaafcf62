//! Limits on tokens: a rate, a quota, or both.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limit::{LimitError, joined, kept, positive};

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
        let period = kept(&mut errors, self.token_quota_period.as_deref().map(str::parse::<QuotaPeriod>));
        let rate = kept(&mut errors, self.tokens_per_minute.map(TokensPerMinute::new));
        // The amount is judged whatever the period is.
        let quota = self.token_quota.map(|tokens| TokenQuota::new(tokens, period.unwrap_or(QuotaPeriod::Monthly)));
        let quota = kept(&mut errors, quota);
        if !errors.is_empty() {
            return Err(errors);
        }
        TokenLimit::new(rate, quota).map_err(|wrong| vec![wrong])
    }
}

impl TryFrom<TokenLimitFields> for TokenLimit {
    type Error = String;

    fn try_from(fields: TokenLimitFields) -> Result<Self, String> {
        fields.check().map_err(|errors| joined(&errors))
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
