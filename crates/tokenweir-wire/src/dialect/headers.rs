//! Headers that say how limits stand.

use super::Dialect;
use crate::standing::{Standing, tightest};
use crate::times::{instant, push_go_duration, push_number, whole_seconds};
use std::borrow::Cow;
use std::time::Duration;
use tokenweir::Now;
use tokenweir::policy::Meter;

/// A header's name, in lower case, and its value: visible ASCII and spaces.
pub type Header = (Cow<'static, str>, String);

pub(super) fn header(name: &'static str, value: impl ToString) -> Header {
    (Cow::Borrowed(name), value.to_string())
}

const TOKENS: &[Meter] = &[Meter::Total, Meter::Input, Meter::Output];

impl Dialect {
    /// The headers that say how rates stand: of each kind the limit with the least left. Gemini and API Management have
    /// none by default.
    ///
    /// OpenAI and Azure OpenAI say `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, where the reset is a duration
    /// as Go writes it, or seconds; Anthropic `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-...`,
    /// where it is the instant of full replenishment and remaining tokens are rounded to thousands. Debt is shown as 0.
    pub fn headers(self, standings: &[Standing], now: Now) -> Vec<Header> {
        let mut headers = Vec::new();
        self.each_header(standings, now, |name, value| headers.push(header(name, value)));
        headers
    }

    /// [`headers`](Dialect::headers), one by one and without an allocation for each of them.
    pub fn each_header(self, standings: &[Standing], now: Now, mut each: impl FnMut(&'static str, &str)) {
        let mut text = String::with_capacity(24);
        let mut tell = |names: [&'static str; 3], meters: &[Meter]| {
            let Some(standing) = tightest(standings, false, meters) else { return };
            let left = match self {
                Dialect::Anthropic if meters != [Meter::Requests] => (standing.left() + 500) / 1000 * 1000,
                _ => standing.left(),
            };
            let mut value = |name, write: &dyn Fn(&mut String)| {
                text.clear();
                write(&mut text);
                each(name, &text);
            };
            value(names[0], &|text| push_number(text, standing.amount));
            value(names[1], &|text| push_number(text, left));
            match (self, standing.reset) {
                (_, None) => {}
                (Dialect::OpenAi, Some(reset)) => value(names[2], &|text| push_go_duration(text, reset)),
                (Dialect::Anthropic, Some(reset)) => {
                    if let Some(instant) = instant(now.wall, reset) {
                        each(names[2], &instant);
                    }
                }
                (_, Some(reset)) => value(names[2], &|text| push_number(text, whole_seconds(reset))),
            }
        };
        macro_rules! names {
            ($before:literal, $kind:literal, $after:literal) => {
                [
                    concat!($before, "limit", $kind, $after),
                    concat!($before, "remaining", $kind, $after),
                    concat!($before, "reset", $kind, $after),
                ]
            };
        }
        match self {
            Dialect::OpenAi | Dialect::AzureOpenAi => {
                tell(names!("x-ratelimit-", "-requests", ""), &[Meter::Requests]);
                tell(names!("x-ratelimit-", "-tokens", ""), TOKENS);
            }
            Dialect::Anthropic => {
                tell(names!("anthropic-ratelimit-requests-", "", ""), &[Meter::Requests]);
                tell(names!("anthropic-ratelimit-tokens-", "", ""), TOKENS);
                tell(names!("anthropic-ratelimit-input-tokens-", "", ""), &[Meter::Input]);
                tell(names!("anthropic-ratelimit-output-tokens-", "", ""), &[Meter::Output]);
            }
            Dialect::Gemini | Dialect::Apim => {}
        }
    }

    /// The headers of an [error](Dialect::error_body) besides its type: `x-should-retry: false` with every status but those
    /// that the official OpenAI and Anthropic clients do well to try again (408, 409, 429 and those above 500), so that they
    /// do not try again what cannot work.
    pub fn error_headers(self, status: u16) -> Vec<Header> {
        match status {
            408 | 409 | 429 | 501.. => Vec::new(),
            _ => self.retry_headers(None),
        }
    }

    /// When to come back: `retry-after` in whole seconds, rounded up; Azure OpenAI has `retry-after-ms` besides. Without
    /// a wait that helps, `x-should-retry: false` keeps the official OpenAI and Anthropic clients from trying again.
    pub fn retry_headers(self, wait: Option<Duration>) -> Vec<Header> {
        let Some(wait) = wait else { return vec![header("x-should-retry", "false")] };
        let mut headers = vec![header("retry-after", whole_seconds(wait))];
        if self == Dialect::AzureOpenAi {
            headers.push(header("retry-after-ms", wait.as_nanos().div_ceil(1_000_000)));
        }
        headers
    }
}

/// The headers of API Management's `llm-token-limit`, each of which exists only if the policy names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApimHeaders {
    /// `remaining-tokens-header-name`: what the tightest rate on tokens has left.
    pub remaining_tokens: Option<String>,
    /// `remaining-quota-tokens-header-name`: what the tightest quota on tokens has left.
    pub remaining_quota_tokens: Option<String>,
    /// `tokens-consumed-header-name`: the tokens of this call, once they are known.
    pub tokens_consumed: Option<String>,
}

impl ApimHeaders {
    /// The headers that are named; `consumed` is the call's input and output, once it has been answered.
    pub fn headers(&self, standings: &[Standing], consumed: Option<u64>) -> Vec<Header> {
        let left = |is_quota| tightest(standings, is_quota, TOKENS).map(Standing::left);
        let named = [
            (&self.remaining_tokens, left(false)),
            (&self.remaining_quota_tokens, left(true)),
            (&self.tokens_consumed, consumed),
        ];
        let header = |(name, value): (&Option<String>, Option<u64>)| {
            Some((Cow::Owned(name.as_ref()?.to_ascii_lowercase()), value?.to_string()))
        };
        named.into_iter().filter_map(header).collect()
    }
}

/// The most that a Structured Field's integer can be.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;

/// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10: every limit that is for a time, by name.
///
/// The draft has no unit for tokens, and counts requests where no unit is named. What counts anything else says so in a
/// parameter of its own, `tokenweir-meter`. Debt is shown as 0.
pub fn ietf_headers(standings: &[Standing]) -> Vec<Header> {
    let (mut policies, mut limits) = (Vec::new(), Vec::new());
    for standing in standings {
        // A window shorter than a second does not exist.
        let Some(per) = standing.per.map(whole_seconds).filter(|&per| per > 0) else { continue };
        let name = string(&standing.limit);
        let integer = |value: u64| value.min(LARGEST_INTEGER);
        let meter = match standing.meter {
            Meter::Requests => String::new(),
            meter => format!(";tokenweir-meter=\"{}\"", meter.as_str()),
        };
        policies.push(format!("{name};q={};w={}{meter}", integer(standing.amount), integer(per)));
        let reset = standing.reset.map_or(String::new(), |reset| format!(";t={}", integer(whole_seconds(reset))));
        limits.push(format!("{name};r={}{reset}", integer(standing.left())));
    }
    if policies.is_empty() {
        return Vec::new();
    }
    vec![header("ratelimit-policy", policies.join(", ")), header("ratelimit", limits.join(", "))]
}

/// A Structured Field's string: what is not visible ASCII is percent-encoded.
fn string(text: &str) -> String {
    format!("\"{}\"", visible(text).replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text as it may stand in a header: what is not visible ASCII, or a space, is percent-encoded, and so is `%`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => shown.push(char::from(byte)),
            _ => shown += &format!("%{byte:02X}"),
        }
    }
    shown
}
