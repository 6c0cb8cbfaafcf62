//! What has happened lately: tokens over time, and the refusals. Bounded, and gone with the process.

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokenweir::gateway::{RecordObserver, UsageRecord};

/// Seconds in a slot of the chart.
const SLOT: u64 = 5;
/// Half an hour.
const SLOTS: usize = 360;
const REFUSALS: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    slots: VecDeque<Slot>,
    refusals: VecDeque<Value>,
}

/// What ended within a few seconds.
#[derive(Debug, Clone, Default, Serialize)]
struct Slot {
    /// Seconds since 1970 at which it begins.
    at: u64,
    projects: BTreeMap<String, Sums>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Sums {
    /// Tokens, as they were charged; reported ones of calls that bypass the gateway.
    tokens: u64,
    calls: u64,
    refused: u64,
}

impl History {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slots in which something ended, oldest first.
    pub(crate) fn chart(&self) -> Value {
        json!({ "now": seconds(), "slot_seconds": SLOT, "slots": self.kept().slots })
    }

    /// The refused calls, newest first.
    pub(crate) fn refusals(&self) -> Value {
        let kept = self.kept();
        json!({ "refusals": kept.refusals.iter().rev().collect::<Vec<_>>() })
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Kept {
    fn slot(&mut self, now: u64) -> Option<&mut Slot> {
        let at = now - now % SLOT;
        // A clock that steps back adds to the newest.
        if self.slots.back().is_none_or(|newest| newest.at < at) {
            self.slots.push_back(Slot { at, projects: BTreeMap::new() });
            while self.slots.len() > SLOTS {
                self.slots.pop_front();
            }
        }
        self.slots.back_mut()
    }
}

impl RecordObserver for History {
    fn recorded(&self, record: &UsageRecord) {
        let refusal = record.last_error.is_some().then(|| json!(record));
        let tokens = |charged: Option<u64>, reported: Option<u64>| charged.or(reported).unwrap_or(0);
        let sum =
            tokens(record.charged_input, record.input).saturating_add(tokens(record.charged_output, record.output));
        let mut kept = self.kept();
        // Projects that do not exist, a client can make up.
        if record.project_known
            && let Some(slot) = kept.slot(seconds())
        {
            let sums = slot.projects.entry(record.project.clone()).or_default();
            match refusal {
                Some(_) => sums.refused += 1,
                None => {
                    sums.calls += 1;
                    sums.tokens = sums.tokens.saturating_add(sum);
                }
            }
        }
        if let Some(refusal) = refusal {
            kept.refusals.push_back(refusal);
            if kept.refusals.len() > REFUSALS {
                kept.refusals.pop_front();
            }
        }
    }
}
