//! A value that counts by how long it is, whatever stands in it.

use super::Event;
use std::ops::Range;

/// Follows one container from its first byte to its last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passage {
    depth: u64,
    began: u64,
}

impl Passage {
    /// Whether the value being read is inside.
    pub(crate) fn is_open(&self) -> bool {
        self.depth > 0
    }

    /// Takes an event in. `begins`: if a container opens here, it is one to follow. The bytes of one that has ended.
    pub(crate) fn follow(&mut self, begins: bool, event: &Event<'_>, span: &Range<u64>) -> Option<u64> {
        match event {
            Event::Open(_) if self.is_open() => self.depth += 1,
            Event::Open(_) if begins => *self = Passage { depth: 1, began: span.start },
            Event::Close(_) if self.is_open() => {
                self.depth -= 1;
                if self.depth == 0 {
                    return Some(span.end - self.began);
                }
            }
            _ => {}
        }
        None
    }
}

/// Thousandths of a token for bytes of JSON, or of text that nobody has read: four are a token.
pub(crate) fn millitokens(bytes: u64) -> u64 {
    bytes.saturating_mul(250)
}
