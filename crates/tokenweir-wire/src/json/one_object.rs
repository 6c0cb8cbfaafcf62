//! Whether what came is one object, and no list, and nothing after it.

use super::{Event, Kind, Name};

#[derive(Debug, Default)]
pub(crate) struct OneObject {
    /// Whether the first thing that came was the beginning of an object.
    begins: Option<bool>,
    documents: u64,
}

impl OneObject {
    pub(crate) fn follow(&mut self, path: &[Name], event: &Event<'_>) {
        if path.is_empty() {
            self.begins.get_or_insert(*event == Event::Open(Kind::Object));
            self.documents += u64::from(*event == Event::Document);
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.begins == Some(true) && self.documents == 1
    }
}
