//! The newest usage records, for who polls.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::gateway::record::{RecordObserver, UsageRecord};
use crate::sync::Mutex;

/// The most records that are kept at all.
const MOST: usize = 1_000_000;

pub(super) struct KeptRecords {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: VecDeque<UsageRecord>,
    dropped: u64,
}

impl KeptRecords {
    pub(super) fn new(most: usize) -> Self {
        KeptRecords { most: most.min(MOST), kept: Mutex::new(Kept::default()) }
    }

    /// Takes the oldest `most`, and says how many have gone that nobody took.
    pub(super) fn take(&self, most: usize) -> Value {
        let (taken, dropped) = {
            let mut kept = self.kept.lock();
            let most = most.min(kept.records.len());
            (kept.records.drain(..most).collect::<Vec<_>>(), kept.dropped)
        };
        json!({ "records": taken, "dropped": dropped })
    }
}

impl RecordObserver for KeptRecords {
    fn recorded(&self, record: &UsageRecord) {
        // Made before the lock is taken, and freed after.
        let record = (self.most > 0).then(|| record.clone());
        let _oldest = {
            let mut kept = self.kept.lock();
            let oldest = if kept.records.len() >= self.most { kept.records.pop_front() } else { None };
            kept.dropped += u64::from(oldest.is_some() || record.is_none());
            kept.records.extend(record);
            oldest
        };
    }
}
