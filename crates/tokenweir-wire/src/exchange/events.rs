//! Where a stream of events can be cut, and what its client is told then.

use crate::api::Api;
use crate::dialect::{Dialect, errors};
use serde_json::json;

/// The last bytes of what has passed: the end of an event may have come in two pieces.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail {
    bytes: [u8; 3],
    length: usize,
}

impl Tail {
    /// Where in `chunk` the last event ends that ends in it; 0 is before its first byte.
    pub(super) fn last_end(self, chunk: &[u8]) -> Option<usize> {
        let tail = &self.bytes[..self.length];
        let at = |place: isize| {
            let place = place + tail.len() as isize;
            let place = usize::try_from(place).ok()?;
            tail.get(place).or_else(|| chunk.get(place - tail.len())).copied()
        };
        (0..=chunk.len()).rev().find(|&end| {
            let back = |n: isize| at(end as isize - n);
            match back(1) {
                Some(b'\n') => {
                    back(2) == Some(b'\n') || (back(2) == Some(b'\r') && matches!(back(3), Some(b'\n' | b'\r')))
                }
                Some(b'\r') => matches!(back(2), Some(b'\r' | b'\n')),
                _ => false,
            }
        })
    }

    /// Whether no event has begun that has not ended.
    pub(super) fn is_between_events(self) -> bool {
        self.length == 0 || self.last_end(&[]) == Some(0)
    }

    /// `chunk` has passed.
    pub(super) fn pass(&mut self, chunk: &[u8]) {
        for &byte in &chunk[chunk.len().saturating_sub(3)..] {
            if self.length < 3 {
                self.bytes[self.length] = byte;
                self.length += 1;
            } else {
                self.bytes.rotate_left(1);
                self.bytes[2] = byte;
            }
        }
    }
}

/// What the client of a stream is told that ends because a limit is spent, as an event in its dialect.
pub(super) fn spent(api: Option<Api>, dialect: Dialect, is_quota: bool, message: &str) -> String {
    event(api, dialect, errors::code(is_quota), message, || dialect.spent_body(is_quota, message))
}

/// What it is told where its permit has expired.
pub(super) fn expired(api: Option<Api>, dialect: Dialect, message: &str) -> String {
    event(api, dialect, "permit_expired", message, || dialect.error_body(504, message))
}

fn event(api: Option<Api>, dialect: Dialect, code: &str, message: &str, body: impl FnOnce() -> String) -> String {
    if api == Some(Api::Responses) {
        let body = json!({ "type": "error", "code": code, "message": message, "param": null });
        return format!("event: error\ndata: {body}\n\n");
    }
    let kind = if dialect == Dialect::Anthropic { "event: error\n" } else { "" };
    format!("{kind}data: {}\n\n", body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_event_is_found_however_it_is_cut() {
        for line in ["\n", "\r\n", "\r"] {
            let stream = format!("data: 1{line}{line}data: 2{line}: x{line}{line}data: 3");
            let bytes = stream.as_bytes();
            // Where an event ends, worked out on the whole.
            let blank = format!("{line}{line}");
            let ends: Vec<usize> = stream.match_indices(&blank).map(|(at, found)| at + found.len()).collect();
            for cut in 0..=bytes.len() {
                let mut tail = Tail::default();
                tail.pass(&bytes[..cut]);
                let expected = ends.iter().copied().filter(|end| *end >= cut).max().map(|end| end - cut);
                let found = tail.last_end(&bytes[cut..]);
                // With CR LF an event may also be taken to end before the last LF.
                let near =
                    |found: usize| expected.is_some_and(|end| end == found || (line == "\r\n" && end == found + 1));
                assert!(found == expected || found.is_some_and(near), "{line:?} {cut} {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn a_cut_stream_ends_in_an_event_of_its_dialect() {
        let of = |api, dialect| spent(Some(api), dialect, true, "The day is spent.");
        assert!(of(Api::ChatCompletions, Dialect::OpenAi).starts_with("data: {\"error\":{"));
        assert!(of(Api::Messages, Dialect::Anthropic).starts_with("event: error\ndata: {\"error\":{"));
        assert!(of(Api::Responses, Dialect::OpenAi).contains("\"type\":\"error\""));
        for text in [of(Api::ChatCompletions, Dialect::OpenAi), of(Api::Messages, Dialect::Anthropic)] {
            assert!(text.contains("day") && text.ends_with("}\n\n"), "{text}");
        }
        // As a refusal by the limit says.
        for api in [Api::ChatCompletions, Api::Responses] {
            assert!(of(api, Dialect::OpenAi).contains("\"code\":\"insufficient_quota\""));
            let rate = spent(Some(api), Dialect::OpenAi, false, "The minute is spent.");
            assert!(rate.contains("\"code\":\"rate_limit_exceeded\""), "{rate}");
        }
        assert!(of(Api::ChatCompletions, Dialect::AzureOpenAi).contains("\"code\":\"403\""));
    }
}
