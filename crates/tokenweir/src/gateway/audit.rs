//! The trail of control operations: who did what, when, and how it ended, refusals included.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::model::{PrincipalId, Timestamp};

/// The most bytes of a text in an entry; longer ones are cut.
const LONGEST: usize = 512;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditOutcome {
    /// It was carried out.
    Done {
        /// What its entity is at since.
        state: String,
    },
    /// It was refused, and changed nothing.
    Refused {
        /// Why: all codes, in order of weight.
        codes: Vec<String>,
    },
}

/// One operation, as the trail keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who; none where the estate was told a fact, or time went by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PrincipalId>,
    /// What was asked for: `set_limit`.
    pub event: String,
    /// What it was about. At most 512 bytes.
    pub entity: String,
    /// With which values, where it has any: the operation as JSON. At most 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How it ended.
    pub outcome: AuditOutcome,
}

/// The newest entries, bounded in number and each bounded in size, so that the trail's memory is bounded too: at most about
/// 2 KiB times [`Settings::audit_entries`](super::Settings).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditTrail {
    /// How many entries have gone.
    #[serde(default)]
    pub(super) dropped: u64,
    #[serde(default)]
    pub(super) entries: VecDeque<AuditEntry>,
}

impl AuditTrail {
    /// The entries that are kept, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// How many entries there were that are no longer kept.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds an entry, and lets the oldest go beyond `most`.
    pub(super) fn push(&mut self, most: usize, mut entry: AuditEntry) {
        entry.number = self.dropped.saturating_add(self.entries.len() as u64 + 1);
        for text in [&mut entry.entity, &mut entry.detail] {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
            if text.len() > LONGEST {
                text.truncate(end.unwrap_or(0));
            }
        }
        self.entries.push_back(entry);
        self.shorten(most);
    }

    /// Lets the oldest entries go beyond `most`.
    pub(super) fn shorten(&mut self, most: usize) {
        while self.entries.len() > most.max(1) {
            self.entries.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}
