//! The settings of the profile.

use serde::{Deserialize, Serialize};

use crate::policy::Until;
use crate::request::Estimate;

/// Which of the service's two algorithms counts tokens per minute \[D\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Classic tiers: a sliding window of a minute.
    Classic,
    /// v2 tiers: a token bucket that may be in debt.
    V2,
}

/// Which refusal a caller is told when several limits refuse \[U\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// A quota's before a rate's: a 403 outlives a 429.
    #[default]
    Quota,
    /// A rate's before a quota's.
    Rate,
    /// That of the limit that comes first in the policy.
    InOrder,
}

/// What a caller that found a bucket in debt is told to wait for \[U\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketRetry {
    /// One whole token, so that a retry at that second succeeds.
    #[default]
    OneToken,
    /// The end of the debt. At a balance of exactly nothing a retry is refused once more.
    Zero,
}

/// By which names the response headers go. One without a name is not sent \[D\].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Headers {
    /// Whole seconds to wait, on refusals.
    pub retry_after: Option<String>,
    /// What the tightest limit on tokens per minute has left.
    pub remaining_tokens: Option<String>,
    /// What the tightest token quota has left.
    pub remaining_quota_tokens: Option<String>,
    /// Prompt and completion tokens of the request, once they are known.
    pub tokens_consumed: Option<String>,
    /// `remaining-calls-header-name` of `rate-limit` and `rate-limit-by-key`: what the tightest call rate has left.
    pub remaining_calls: Option<String>,
    /// `total-calls-header-name`: how many calls that rate allows in its period.
    pub total_calls: Option<String>,
}

impl Default for Headers {
    /// `Retry-After` alone, as the generated policy has it \[G\].
    fn default() -> Self {
        Headers {
            retry_after: Some("Retry-After".to_owned()),
            remaining_tokens: None,
            remaining_quota_tokens: None,
            tokens_consumed: None,
            remaining_calls: None,
            total_calls: None,
        }
    }
}

/// How API Management behaves, with a setting for each point that callers see and that is not confirmed.
///
/// Three such points are no settings. What a call takes that straddles two periods of a quota is charged to the period of
/// its admission as far as it was estimated, the rest to that of its completion. A project that was removed and added
/// again begins with unused rates, and its quotas go on. Durations in texts name their two largest units.
///
/// As JSON it is an object of these fields; one that is absent is as the v2 tiers have it.
///
/// # Example
/// ```
/// use tokenweir::apim::{First, Profile};
/// let mut profile = Profile::v2();
/// profile.first = First::Rate;
/// profile.headers.remaining_tokens = Some("x-remaining-tokens".to_owned());
/// // Charged afterwards: an estimate is only charged where the policy asks for it, or the response is streamed.
/// assert_eq!(profile.estimate(900, false).input, 0);
/// assert_eq!(profile.estimate(900, true).input, 900);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Profile {
    /// Which algorithm counts tokens per minute.
    pub tier: Tier,
    /// Into how many parts the classic tiers' window is cut; its log ages by the instant, ours by the part, so the parts
    /// say how exactly it is reproduced. 1 to 500, and a minute must divide into them; 240 unless set. A counter takes 8
    /// bytes for each.
    pub sub_windows: u32,
    /// `estimate-prompt-tokens`: the prompt is estimated and charged before it is forwarded. The generated policy says no
    /// \[G\].
    pub estimate_prompt_tokens: bool,
    /// Whether tokens from a provider's cache count. They do not \[D\]\[M\].
    pub count_cached: bool,
    /// Until when a window on tokens per minute lasts: at equality it refuses \[U\]. A bucket refuses at a balance of
    /// nothing, and a balance that refills continuously is at exactly nothing for no time.
    pub tokens_per_minute_until: Until,
    /// Until when a token quota lasts: at equality it still admits \[M\].
    pub quota_until: Until,
    /// Which of several refusals a caller is told.
    pub first: First,
    /// What a caller that found a bucket in debt is told to wait for.
    pub bucket_retry: BucketRetry,
    /// Whether the refusal of an estimate ends with when to try again; seen by some, not by others \[U\].
    pub estimate_refusal_says_when: bool,
    /// The seconds that a request is told to wait that is larger than a whole limit on tokens per minute: 60 has been seen
    /// \[M\], though no wait helps ([`Answer::never_fits`](super::Answer::never_fits) says so). `None`: it is told none.
    pub never_fits_retry: Option<u64>,
    /// What a request is told that finds no place among the concurrent ones. The service's text is not known \[U\].
    pub concurrency_message: String,
    /// By which names the response headers go.
    pub headers: Headers,
}

impl Default for Profile {
    /// The v2 tiers.
    fn default() -> Self {
        Self::v2()
    }
}

impl Profile {
    /// The classic tiers: Developer, Basic, Standard, Premium.
    pub fn classic() -> Self {
        Profile { tier: Tier::Classic, ..Self::v2() }
    }

    /// The v2 tiers, which Foundry's gateways run on.
    pub fn v2() -> Self {
        Profile {
            tier: Tier::V2,
            sub_windows: 240,
            estimate_prompt_tokens: false,
            count_cached: false,
            tokens_per_minute_until: Until::Reached,
            quota_until: Until::Passed,
            first: First::default(),
            bucket_retry: BucketRetry::default(),
            estimate_refusal_says_when: false,
            never_fits_retry: Some(60),
            concurrency_message: "Too many concurrent requests.".to_owned(),
            headers: Headers::default(),
        }
    }

    /// What a request whose prompt is estimated at `prompt` tokens is charged at admission: nothing, unless prompts are
    /// estimated or the response is streamed (then they always are \[D\]). The rest is charged at settlement.
    pub fn estimate(&self, prompt: u64, streamed: bool) -> Estimate {
        Estimate::new(if self.estimate_prompt_tokens || streamed { prompt } else { 0 }, 0)
    }
}
