//! What a caller is told: status, text, headers and envelope of a refusal; headers of an answer.

use serde::Serialize;

use super::profile::{BucketRetry, First, Profile};
use super::words::{clock, humanised};
use crate::clock::Now;
use crate::limiter::{Denied, Refusal};
use crate::policy::{Algorithm, Limit, Meter, Policy, Until};
use crate::request::Estimate;

const SECOND: u64 = 1_000_000_000;
/// The engine's bucket is past the end of its debt within 7 ns of the continuous refill's; a microsecond is what the
/// service's own arithmetic needs.
const MICROSECOND: u64 = 1000;

/// What a refused caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// 429 for a rate and for concurrency, 403 for a quota. Not configurable \[D\].
    pub status: u16,
    /// The text.
    pub message: String,
    /// The policy that refused: `llm-token-limit`, `rate-limit`, `quota` or `limit-concurrency`.
    pub source: &'static str,
    /// The reason as the service's logs have it.
    pub reason: &'static str,
    /// Whole seconds to wait; `None` where none is told.
    pub retry_after: Option<u64>,
    /// The request is larger than the whole limit: no waiting helps, whatever `retry_after` says.
    pub never_fits: bool,
    /// The limit that refused: the service's refusals do not tell one quota from another \[M\], this does.
    pub limit: String,
    /// What is left, never below 0.
    pub remaining: Remaining,
}

/// What a request's limits have left, as headers tell it: never below 0 \[M\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remaining {
    /// Of the tightest limit on tokens per minute.
    pub tokens: Option<u64>,
    /// Of the tightest token quota.
    pub quota_tokens: Option<u64>,
    /// Of the tightest call rate: `rate-limit` and `rate-limit-by-key`.
    pub calls: Option<u64>,
    /// How many calls that rate allows in its period.
    pub total_calls: Option<u64>,
}

/// The least of what limits have left, in plain words: [`NONE`] where there is no such limit.
struct Least {
    tokens: u64,
    quota_tokens: u64,
    calls: u64,
    total_calls: u64,
}

/// More than any limit can have left.
const NONE: u64 = u64::MAX;

impl Least {
    fn new() -> Self {
        Least { tokens: NONE, quota_tokens: NONE, calls: NONE, total_calls: NONE }
    }

    fn add(&mut self, limit: &Limit, left: i64) {
        let rate = !matches!(limit.algorithm(), Algorithm::Quota { .. });
        let left = left.max(0) as u64;
        if limit.meter() == Meter::Requests && rate && left < self.calls {
            (self.calls, self.total_calls) = (left, limit.algorithm().amount());
        }
        if is_tokens(limit.meter()) {
            let least = if rate { &mut self.tokens } else { &mut self.quota_tokens };
            *least = left.min(*least);
        }
    }

    fn remaining(&self) -> Remaining {
        let [tokens, quota_tokens, calls, total_calls] =
            [self.tokens, self.quota_tokens, self.calls, self.total_calls].map(|left| (left != NONE).then_some(left));
        Remaining { tokens, quota_tokens, calls, total_calls }
    }
}

/// The envelope of a refusal. It is neither OpenAI's nor Anthropic's shape.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    message: &'a str,
}

impl Answer {
    /// The body: `{"statusCode": 429, "message": "..."}`, of type `application/json`.
    pub fn body(&self) -> String {
        let envelope = Envelope { status: self.status, message: &self.message };
        // Two fields of plain types always are JSON.
        serde_json::to_string(&envelope).unwrap_or_default()
    }

    /// The headers, by the profile's names.
    pub fn headers(&self, profile: &Profile) -> Vec<(String, u64)> {
        let mut headers = named(&profile.headers.retry_after, self.retry_after);
        headers.extend(self.remaining.headers(profile));
        headers
    }
}

impl Remaining {
    /// The headers, by the profile's names.
    pub fn headers(&self, profile: &Profile) -> Vec<(String, u64)> {
        let mut headers = named(&profile.headers.remaining_tokens, self.tokens);
        headers.extend(named(&profile.headers.remaining_quota_tokens, self.quota_tokens));
        headers.extend(named(&profile.headers.remaining_calls, self.calls));
        headers.extend(named(&profile.headers.total_calls, self.total_calls));
        headers
    }
}

fn named(name: &Option<String>, value: Option<u64>) -> Vec<(String, u64)> {
    name.clone().zip(value).into_iter().collect()
}

fn is_tokens(meter: Meter) -> bool {
    matches!(meter, Meter::Input | Meter::Output | Meter::Total)
}

impl Profile {
    /// What the caller of a request is told that asked for `estimate` and was denied at `now`.
    pub fn answer(&self, denied: &Denied, estimate: Estimate, now: Now) -> Answer {
        let asked = estimate != Estimate::default();
        let policy = denied.policy();
        let mut least = Least::new();
        for (limit, left) in denied.left() {
            least.add(limit, left);
        }
        let remaining = least.remaining();
        let rank = |(place, limit, _): &(usize, &Limit, Refusal<'_>)| {
            let quota = matches!(limit.algorithm(), Algorithm::Quota { .. });
            let later = match self.first {
                First::Quota => !quota,
                First::Rate => quota,
                First::InOrder => false,
            };
            (later, *place)
        };
        let refusals = denied.refusals().filter_map(|refusal| {
            let place = policy.place(refusal.limit)?;
            Some((place, &policy.limits()[place], refusal))
        });
        let Some((_, limit, refusal)) = refusals.min_by_key(rank) else {
            // No limit stands by the refusal: that cannot be.
            return Answer { remaining, ..self.say(Case::Concurrency, 429, None) };
        };
        let case = Case::of(limit, &refusal, asked);
        let retry_after = self.retry_after(limit, &refusal, case, asked, now);
        let answer = self.say(case, refusal.status, retry_after);
        Answer { never_fits: refusal.never_fits, limit: refusal.limit.to_owned(), remaining, ..answer }
    }

    /// What the limits of an admitted request have left: `left` as [`Permit::remaining`](crate::Permit::remaining) has
    /// it. A stream's headers are written before its tokens are known and tell what was left before it was charged
    /// anything \[M\]: `charged` is what it was charged at admission, 0 where it is not a stream.
    pub fn remaining(&self, policy: &Policy, left: &[(String, i64)], charged: u64) -> Remaining {
        let mut least = Least::new();
        for (name, left) in left {
            if let Some(limit) = policy.limit(name) {
                let most = i64::try_from(limit.algorithm().amount()).unwrap_or(i64::MAX);
                // Of calls, it was charged its one either way.
                let charged = if is_tokens(limit.meter()) { charged } else { 0 };
                least.add(limit, left.saturating_add_unsigned(charged).min(most));
            }
        }
        least.remaining()
    }

    /// The headers of an answer that was not refused: what is left, and what it consumed, if that is known.
    pub fn headers(&self, remaining: Remaining, consumed: Option<u64>) -> Vec<(String, u64)> {
        let mut headers = remaining.headers(self);
        headers.extend(named(&self.headers.tokens_consumed, consumed));
        headers
    }

    fn say(&self, case: Case, status: u16, retry_after: Option<u64>) -> Answer {
        let again = match retry_after {
            Some(seconds) => format!(" Try again in {}.", humanised(seconds)),
            None => String::new(),
        };
        let (source, reason, message) = match case {
            Case::Tokens => ("llm-token-limit", "OpenAITokenLimitExceeded", format!("Token limit is exceeded.{again}")),
            Case::TokenEstimate => {
                let again = if self.estimate_refusal_says_when { again } else { String::new() };
                let message = format!("Token limit will exceed based on estimated request tokens.{again}");
                ("llm-token-limit", "OpenAITokenLimitExceeded", message)
            }
            Case::Quota => ("llm-token-limit", "OpenAITokenQuotaExceeded", format!("Token quota is exceeded.{again}")),
            Case::QuotaEstimate => {
                let message = format!("Token quota will exceed based on estimated request tokens.{again}");
                ("llm-token-limit", "OpenAITokenQuotaExceeded", message)
            }
            Case::Calls => ("rate-limit", "RateLimitExceeded", format!("Rate limit is exceeded.{again}")),
            Case::CallQuota => {
                let when = match retry_after {
                    Some(seconds) => format!(" Quota will be replenished in {}.", clock(seconds)),
                    None => String::new(),
                };
                ("quota", "QuotaExceeded", format!("Out of call volume quota.{when}"))
            }
            Case::Concurrency => ("limit-concurrency", "ConcurrencyLimitExceeded", self.concurrency_message.clone()),
        };
        let (limit, remaining) = (String::new(), Remaining::default());
        Answer { status, message, source, reason, retry_after, never_fits: false, limit, remaining }
    }

    /// Whole seconds, rounded up.
    fn retry_after(&self, limit: &Limit, refusal: &Refusal<'_>, case: Case, asked: bool, now: Now) -> Option<u64> {
        if case == Case::Concurrency {
            // None is documented, and when a place is free nobody knows: what the engine advises is the expiry of a permit.
            return None;
        }
        let Some(wait) = refusal.retry_after else {
            return match limit.algorithm() {
                Algorithm::Quota { period, .. } => {
                    let end = period.bounds(now.wall).end;
                    (end != i64::MAX).then(|| (end.saturating_sub(now.wall).max(0) as u64).div_ceil(SECOND))
                }
                _ => self.never_fits_retry,
            };
        };
        let wait = match limit.algorithm() {
            // The service's log lets go of a charge to the instant, the engine at the end of its sub-window: this is the
            // first of the two, and never more than the window.
            Algorithm::Window { per, sub_windows, .. } => wait.saturating_sub(per / u64::from(*sub_windows)),
            // Anything above nothing admits. The wait for it is a few nanoseconds longer than the debt. (An estimate waits
            // for itself.)
            Algorithm::Bucket { amount, per, .. } if !asked && case == Case::Tokens => {
                let debt = wait / MICROSECOND * MICROSECOND;
                match self.bucket_retry {
                    BucketRetry::Zero => debt,
                    BucketRetry::OneToken => debt.saturating_add(per.div_ceil(*amount)),
                }
            }
            _ => wait,
        };
        Some(wait.div_ceil(SECOND).max(1))
    }
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Tokens,
    TokenEstimate,
    Quota,
    QuotaEstimate,
    Calls,
    CallQuota,
    Concurrency,
}

impl Case {
    fn of(limit: &Limit, refusal: &Refusal<'_>, asked: bool) -> Case {
        // A charge of nothing would pass: it is the estimate that does not fit.
        let open = asked && (refusal.remaining > 0 || (refusal.remaining == 0 && limit.until() == Until::Passed));
        match (limit.meter(), limit.algorithm()) {
            (Meter::InFlight, _) => Case::Concurrency,
            (Meter::Requests, Algorithm::Quota { .. }) => Case::CallQuota,
            (Meter::Requests, _) => Case::Calls,
            (_, Algorithm::Quota { .. }) if open => Case::QuotaEstimate,
            (_, Algorithm::Quota { .. }) => Case::Quota,
            _ if open => Case::TokenEstimate,
            _ => Case::Tokens,
        }
    }
}
