//! What an upstream says of its own limits.

use crate::times::{parse_duration, parse_instant, parse_retry_after};
use std::time::Duration;
use tokenweir::Now;

/// One limit as an upstream reports it. What it does not say is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UpstreamLimit {
    /// Its amount.
    pub limit: Option<u64>,
    /// What is left of it.
    pub remaining: Option<u64>,
    /// How long until it is replenished.
    pub reset: Option<Duration>,
}

/// A limit of the IETF draft's headers, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedLimit {
    /// The name that the upstream gives it.
    pub name: String,
    /// What it counts, where the upstream says so (`qu`, or `tokenweir-meter`); requests unless it does.
    pub unit: Option<String>,
    /// The time that its amount is for.
    pub window: Option<Duration>,
    /// How it stands.
    pub limit: UpstreamLimit,
}

/// What the headers of one response say of the upstream's limits: those of OpenAI, Azure OpenAI, Anthropic, API
/// Management's AI gateway tier and the IETF draft, whichever are there.
///
/// An observation, made for this response at this moment: what the upstream granted then, at most. A header that cannot
/// be read is as if it were not there.
///
/// # Example
/// ```
/// use tokenweir::Now;
/// use tokenweir_wire::UpstreamLimits;
/// let headers = [("x-ratelimit-remaining-tokens", "149984"), ("x-ratelimit-reset-tokens", "6m0s")];
/// let seen = UpstreamLimits::of(headers, Now::default());
/// assert_eq!(seen.tokens.remaining, Some(149_984));
/// assert_eq!(seen.tokens.reset.unwrap().as_secs(), 360);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UpstreamLimits {
    /// Requests.
    pub requests: UpstreamLimit,
    /// Tokens of either kind.
    pub tokens: UpstreamLimit,
    /// Input tokens (Anthropic).
    pub input_tokens: UpstreamLimit,
    /// Output tokens (Anthropic).
    pub output_tokens: UpstreamLimit,
    /// Tokens of the caller's project (OpenAI).
    pub project_tokens: UpstreamLimit,
    /// What a quota of tokens has left (the AI gateway tier).
    pub quota_tokens: UpstreamLimit,
    /// Limits by name (IETF), at most 16.
    pub named: Vec<NamedLimit>,
    /// How long to wait, on a refusal: `retry-after-ms`, else `retry-after`.
    pub retry_after: Option<Duration>,
}

const MOST_NAMED: usize = 16;

impl UpstreamLimits {
    /// Reads the headers of a response that came at `now`; names in any case.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>, now: Now) -> Self {
        let mut seen = UpstreamLimits::default();
        let mut precise = None;
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            match name.as_str() {
                "retry-after" => seen.retry_after = parse_retry_after(value, now.wall),
                "retry-after-ms" => precise = parse_duration(&format!("{}ms", value.trim())),
                "remaining-tokens" => seen.tokens.remaining = number(value),
                "remaining-quota-tokens" => seen.quota_tokens.remaining = number(value),
                "ratelimit" | "ratelimit-policy" => seen.named(value),
                _ => seen.by_kind(&name, value, now),
            }
        }
        seen.retry_after = precise.or(seen.retry_after);
        seen
    }

    fn by_kind(&mut self, name: &str, value: &str, now: Now) {
        let (what, kind) = if let Some(rest) = name.strip_prefix("x-ratelimit-") {
            let Some((what, kind)) = rest.split_once('-') else { return };
            (what, kind)
        } else if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
            let Some((kind, what)) = rest.rsplit_once('-') else { return };
            (what, kind)
        } else {
            return;
        };
        let limit = match kind {
            "requests" => &mut self.requests,
            "tokens" => &mut self.tokens,
            "input-tokens" => &mut self.input_tokens,
            "output-tokens" => &mut self.output_tokens,
            "project-tokens" => &mut self.project_tokens,
            _ => return,
        };
        match what {
            "limit" => limit.limit = number(value),
            "remaining" => limit.remaining = number(value),
            "reset" => limit.reset = parse_duration(value).or_else(|| parse_instant(value, now.wall)),
            _ => {}
        }
    }

    /// Reads one header of the draft: a list of names with parameters.
    fn named(&mut self, value: &str) {
        let mut rest = value;
        while let Some((name, parameters)) = item(&mut rest) {
            let place = self.named.iter().position(|limit| limit.name == name);
            let place = match place {
                Some(place) => place,
                None if self.named.len() == MOST_NAMED => continue,
                None => {
                    self.named.push(NamedLimit { name, unit: None, window: None, limit: UpstreamLimit::default() });
                    self.named.len() - 1
                }
            };
            let limit = &mut self.named[place];
            for (key, value) in parameters {
                let seconds = || number(&value).map(Duration::from_secs);
                match key.as_str() {
                    "q" => limit.limit.limit = number(&value),
                    "r" => limit.limit.remaining = number(&value),
                    "t" => limit.limit.reset = seconds(),
                    "w" => limit.window = seconds(),
                    "qu" | "tokenweir-meter" => limit.unit = Some(value),
                    _ => {}
                }
            }
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

type Item = (String, Vec<(String, String)>);

/// Takes one member from the front of a Structured Fields list: a string, or a token, with its parameters.
fn item(rest: &mut &str) -> Option<Item> {
    *rest = rest.trim_start_matches([' ', '\t', ',']);
    let name = bare(rest)?;
    let mut parameters = Vec::new();
    while let Some(after) = rest.trim_start_matches(' ').strip_prefix(';') {
        *rest = after.trim_start_matches(' ');
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.*".contains(c))).unwrap_or(rest.len());
        let key = rest[..end].to_owned();
        *rest = &rest[end..];
        let value = match rest.strip_prefix('=') {
            Some(after) => {
                *rest = after;
                bare(rest)?
            }
            // Without a value it is true, which none of ours is.
            None => String::new(),
        };
        if parameters.len() < MOST_NAMED {
            parameters.push((key, value));
        }
    }
    Some((name, parameters))
}

/// Takes a bare value: a quoted string, unescaped, or all up to a delimiter.
fn bare(rest: &mut &str) -> Option<String> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([';', ',', ' ', '\t']).unwrap_or(rest.len());
        let value = &rest[..end];
        *rest = &rest[end..];
        return (!value.is_empty()).then(|| value.to_owned());
    };
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                *rest = &quoted[at + 1..];
                return Some(text);
            }
            '\\' => text.push(chars.next()?.1),
            c => text.push(c),
        }
    }
    None
}
