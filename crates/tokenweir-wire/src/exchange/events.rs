//! Where a stream of events can be cut, and what its client is told then.

use crate::api::Api;
use crate::dialect::Dialect;
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

/// What the client of a stream is told that ends before its end, as an event in its dialect.
pub(super) fn error(api: Option<Api>, dialect: Dialect, code: &str, status: u16, message: &str) -> String {
    if api == Some(Api::Responses) {
        let body = json!({ "type": "error", "code": code, "message": message, "param": null });
        return format!("event: error\ndata: {body}\n\n");
    }
    let kind = if dialect == Dialect::Anthropic { "event: error\n" } else { "" };
    format!("{kind}data: {}\n\n", dialect.error_body(status, message))
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
        let of = |api, dialect| error(Some(api), dialect, "insufficient_quota", 429, "The day is spent.");
        assert!(of(Api::ChatCompletions, Dialect::OpenAi).starts_with("data: {\"error\":{"));
        assert!(of(Api::Messages, Dialect::Anthropic).starts_with("event: error\ndata: {\"error\":{"));
        assert!(of(Api::Responses, Dialect::OpenAi).contains("\"type\":\"error\""));
        for text in [of(Api::ChatCompletions, Dialect::OpenAi), of(Api::Messages, Dialect::Anthropic)] {
            assert!(text.contains("day") && text.ends_with("}\n\n"), "{text}");
        }
    }
}
