//! Bodies of refusals and other errors.

use super::Dialect;
use super::headers::{Header, header, visible};
use crate::standing::Standing;
use crate::times::{by_the_clock, go_duration, in_words, whole_seconds};
use serde_json::{Value, json};
use std::time::Duration;
use tokenweir::policy::{Meter, Policy};
use tokenweir::{Denied, Now};

/// A refusal as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// How the limits stand, when to come back, which limit refused (`x-tokenweir-limit`), and the body's type.
    pub headers: Vec<Header>,
    /// The body, JSON.
    pub body: String,
}

/// What is said of a refusal in any dialect.
struct Said<'a> {
    denied: &'a Denied,
    wait: Option<Duration>,
    meter: Option<Meter>,
    is_quota: bool,
    amount: u64,
    /// What the limit has left would do for something.
    has_some: bool,
}

const INSUFFICIENT_QUOTA: &str = "insufficient_quota";

/// OpenAI's code of an error for a limit that has nothing left.
pub(crate) fn code(is_quota: bool) -> &'static str {
    if is_quota { INSUFFICIENT_QUOTA } else { "rate_limit_exceeded" }
}

impl Dialect {
    /// The answer to a request that was denied: status, headers and body. `policy` is the limiter's and `now` the time of
    /// the denial.
    ///
    /// The limit that decided is named in the header `x-tokenweir-limit` (percent-encoded where it is not visible ASCII)
    /// and in the body: as `error.limit` with all that refused in `error.refused_by` for OpenAI, Azure OpenAI and
    /// Anthropic, as the violations of a `QuotaFailure` for Gemini. API Management's envelope has a status and a message
    /// and nothing else.
    ///
    /// # Example
    /// ```
    /// use tokenweir::{Estimate, Limiter, Policy, Request};
    /// use tokenweir_wire::Dialect;
    ///
    /// let policy = Policy::from_toml(r#"
    ///     [[limit]]
    ///     name = "project tpm"
    ///     meter = "total"
    ///     algorithm = "bucket"
    ///     amount = 600
    ///     per = "1m"
    /// "#)?;
    /// let limiter = Limiter::new(policy);
    /// let request = Request::new("search", "gpt-4o");
    /// drop(limiter.admit(&request, Estimate::new(600, 0))?);
    /// let denied = limiter.admit(&request, Estimate::new(300, 0))?.denied().expect("nothing is left");
    /// let refused = Dialect::OpenAi.refused(&denied, &limiter.policy(), limiter.now());
    /// assert_eq!(refused.status, 429);
    /// assert!(refused.body.contains(r#""limit":"project tpm""#));
    /// # Ok::<(), tokenweir::Error>(())
    /// ```
    pub fn refused(self, denied: &Denied, policy: &Policy, now: Now) -> Refused {
        let standings = Standing::of(policy, &denied.remaining(), now);
        let decided = standings.iter().find(|standing| *standing.limit == *denied.limit());
        let said = Said {
            denied,
            wait: denied.retry_after(),
            meter: decided.map(|standing| standing.meter),
            is_quota: denied.status() == 403,
            amount: decided.map_or(0, |standing| standing.amount),
            has_some: decided.is_some_and(|standing| standing.remaining > 0),
        };
        let mut headers = vec![header("content-type", "application/json")];
        headers.extend(self.headers(&standings, now));
        headers.extend(self.retry_headers(said.wait));
        headers.push(header("x-tokenweir-limit", visible(denied.limit())));
        Refused { status: denied.status(), headers, body: self.refusal(&said) }
    }

    fn refusal(self, said: &Said<'_>) -> String {
        let (status, limit) = (said.denied.status(), said.denied.limit());
        let refused_by: Vec<_> = said.denied.refusals().map(|refusal| refusal.limit).collect();
        let mut body = self.error(status, &if self == Dialect::Apim { said.as_apim() } else { said.sentence() });
        match self {
            Dialect::OpenAi => {
                let per_request = matches!(said.meter, Some(Meter::Requests | Meter::InFlight));
                body["error"]["type"] = Value::from(match said.is_quota {
                    true => INSUFFICIENT_QUOTA,
                    false if per_request => "requests",
                    false => "tokens",
                });
                body["error"]["code"] = Value::from(code(said.is_quota));
            }
            Dialect::Gemini => {
                let violations: Vec<_> = said
                    .denied
                    .refusals()
                    .map(|refusal| json!({ "subject": refusal.limit, "quotaId": refusal.limit, "description": "the limit refuses" }))
                    .collect();
                let mut details =
                    vec![json!({ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations })];
                if let Some(wait) = said.wait {
                    let delay = format!("{}s", whole_seconds(wait));
                    details.push(json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }));
                }
                body["error"]["details"] = Value::from(details);
            }
            _ => {}
        }
        if matches!(self, Dialect::OpenAi | Dialect::AzureOpenAi | Dialect::Anthropic) {
            body["error"]["limit"] = Value::from(limit);
            body["error"]["refused_by"] = Value::from(refused_by);
        }
        body.to_string()
    }

    /// What is told where a limit on tokens is spent in the middle of a response, as in a refusal by it.
    pub(crate) fn spent_body(self, is_quota: bool, message: &str) -> String {
        let mut body = self.error(if is_quota { 403 } else { 429 }, message);
        if self == Dialect::OpenAi {
            body["error"]["type"] = Value::from(if is_quota { INSUFFICIENT_QUOTA } else { "tokens" });
            body["error"]["code"] = Value::from(code(is_quota));
        }
        body.to_string()
    }

    /// The body of any other error, by its HTTP status: a key that is missing, a model that is not there, an upstream that
    /// does not answer.
    pub fn error_body(self, status: u16, message: &str) -> String {
        self.error(status, message).to_string()
    }

    fn error(self, status: u16, message: &str) -> Value {
        match self {
            Dialect::OpenAi => {
                let (kind, code) = match status {
                    401 => ("invalid_request_error", Value::from("invalid_api_key")),
                    403 => ("permission_denied", Value::Null),
                    404 => ("invalid_request_error", Value::from("model_not_found")),
                    429 => ("rate_limit_error", Value::from("rate_limit_exceeded")),
                    500.. => ("server_error", Value::Null),
                    _ => ("invalid_request_error", Value::Null),
                };
                json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
            }
            Dialect::AzureOpenAi => json!({ "error": { "code": status.to_string(), "message": message } }),
            Dialect::Anthropic => {
                let kind = match status {
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    503 | 529 => "overloaded_error",
                    504 => "timeout_error",
                    500.. => "api_error",
                    _ => "invalid_request_error",
                };
                json!({ "type": "error", "error": { "type": kind, "message": message } })
            }
            Dialect::Gemini => {
                let name = match status {
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    503 => "UNAVAILABLE",
                    504 => "DEADLINE_EXCEEDED",
                    500.. => "INTERNAL",
                    _ => "INVALID_ARGUMENT",
                };
                json!({ "error": { "code": status, "message": message, "status": name } })
            }
            Dialect::Apim => json!({ "statusCode": status, "message": message }),
        }
    }
}

impl Said<'_> {
    /// In our own words.
    fn sentence(&self) -> String {
        let limit = self.denied.limit();
        if self.denied.table_full() {
            return format!("There is no room for another counter of limit {limit:?}.");
        }
        let what = match self.meter {
            Some(Meter::Requests) => "requests",
            Some(Meter::Input) => "input tokens",
            Some(Meter::Output) => "output tokens",
            Some(Meter::Cost) => "micro-units of cost",
            Some(Meter::InFlight) => "requests at a time",
            _ => "tokens",
        };
        let amount = self.amount;
        if self.denied.never_fits() {
            return format!(
                "The request is too large for limit {limit:?} of {amount} {what}. Send less input, or ask for less output."
            );
        }
        let kind = if self.is_quota { "Quota" } else { "Rate limit" };
        let when = match self.wait {
            None => "It does not reset.".to_owned(),
            Some(wait) if self.is_quota => format!("Try again in {}.", in_words(wait)),
            Some(wait) => format!("Please try again in {}.", go_duration(wait)),
        };
        format!("{kind} {limit:?} of {amount} {what} is reached. {when}")
    }

    /// In the words of API Management.
    fn as_apim(&self) -> String {
        // One request beyond the rate is exactly what its call limits refuse.
        let calls = matches!(self.meter, Some(Meter::Requests | Meter::InFlight));
        let (kind, wait) = match (self.is_quota, calls) {
            (true, true) => {
                let when = self.wait.map(|wait| format!(" Quota will be replenished in {}.", by_the_clock(wait)));
                return format!("Out of call volume quota.{}", when.unwrap_or_default());
            }
            (false, true) => ("Rate limit", self.wait.map(|wait| format!("{} seconds", whole_seconds(wait)))),
            (true, false) => ("Token quota", self.wait.map(in_words)),
            (false, false) => ("Token limit", self.wait.map(|wait| format!("{} seconds", whole_seconds(wait)))),
        };
        let what = match self.has_some && !calls {
            true => "will exceed based on estimated request tokens",
            false => "is exceeded",
        };
        let when = wait.map(|wait| format!(" Try again in {wait}.")).unwrap_or_default();
        format!("{kind} {what}.{when}")
    }
}
