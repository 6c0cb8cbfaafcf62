//! Responses of the layer's own.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Response, StatusCode};
use tokenweir::region::RegionError;
use tokenweir::{Error, Now};
use tokenweir_wire::{Dialect, Header};

use crate::admission::Refusal;

/// An error in the words of a dialect: a key that is missing, a model that is not there.
///
/// With the headers of [`Dialect::error_headers`], so that the official clients do not try again what cannot work.
pub fn error(dialect: Dialect, status: u16, message: &str) -> Response<Bytes> {
    let mut response = json(status, dialect.error_body(status, message));
    set(response.headers_mut(), dialect.error_headers(status));
    response
}

fn json(status: u16, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a call that may not pass.
pub(crate) fn refused(refusal: &Refusal, dialect: Dialect, now: Now) -> Response<Bytes> {
    match refusal {
        Refusal::Denied(denied) => {
            let refused = dialect.refused(denied, denied.policy(), now);
            let mut response = json(refused.status, refused.body);
            set(response.headers_mut(), refused.headers);
            response
        }
        Refusal::Answered(answer, headers) => {
            let mut response = json(answer.status, answer.body());
            let headers = headers.iter().map(|(name, value)| (name.to_ascii_lowercase().into(), value.to_string()));
            set(response.headers_mut(), headers);
            response
        }
        Refusal::Other(status, message) => error(dialect, *status, message),
    }
}

/// The answer to a call that cannot be decided on.
pub(crate) fn undecided(dialect: Dialect, wrong: &Error) -> Response<Bytes> {
    let status = match wrong {
        Error::PermitsExhausted { .. } | Error::TableFull { .. } | Error::Store(_) => 503,
        Error::Region(RegionError::Forked | RegionError::PolicyDamaged) => 503,
        Error::EstimateTooLarge { .. } => 413,
        _ => 400,
    };
    match wrong {
        // What went wrong with the store, and where it lies, is for the operator.
        Error::Store(_) => {
            error(dialect, status, "the limits cannot be asked at the moment, and nothing was charged; try again later")
        }
        _ => error(dialect, status, &wrong.to_string()),
    }
}

/// Sets headers; one that HTTP does not allow is left out.
fn set(headers: &mut http::HeaderMap, more: impl IntoIterator<Item = Header>) {
    for (name, value) in more {
        set_one(headers, &name, &value);
    }
}

/// Sets one header, unless HTTP does not allow it.
pub(crate) fn set_one(headers: &mut http::HeaderMap, name: &str, value: &str) {
    let name = known(name).or_else(|| HeaderName::try_from(name).ok());
    if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// The names that most responses have, made once and for all.
fn known(name: &str) -> Option<HeaderName> {
    macro_rules! among {
        ($($known:literal),* $(,)?) => {
            match name {
                $($known => {
                    const NAME: HeaderName = HeaderName::from_static($known);
                    Some(NAME)
                })*
                _ => None,
            }
        };
    }
    among!(
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset",
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset",
    )
}

/// Whether a request is one of gRPC, whose answers have their status in a header of their own.
pub(crate) fn is_grpc(head: &Parts) -> bool {
    let media_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.starts_with("application/grpc")
}

/// An answer as gRPC has it: the status in a header, and no body. `limits`: it is limits that refuse.
pub(crate) fn as_grpc(response: Response<Bytes>, limits: bool) -> Response<Bytes> {
    let code = match response.status().as_u16() {
        _ if limits => "8", // RESOURCE_EXHAUSTED
        200..=299 => return response,
        429 => "8",
        400 | 413 | 415 => "3", // INVALID_ARGUMENT
        401 => "16",            // UNAUTHENTICATED
        403 => "7",             // PERMISSION_DENIED
        404 => "5",             // NOT_FOUND
        _ => "14",              // UNAVAILABLE
    };
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let message = body.pointer("/error/message").or(body.get("message")).and_then(|text| text.as_str());
    let (head, _) = response.into_parts();
    let mut grpc = Response::new(Bytes::new());
    let headers = grpc.headers_mut();
    for (name, value) in &head.headers {
        if name.as_str().starts_with("x-tokenweir-") || name == RETRY_AFTER {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(message.unwrap_or("refused"))) {
        headers.insert("grpc-message", message);
    }
    grpc
}

/// As gRPC writes its messages.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}
