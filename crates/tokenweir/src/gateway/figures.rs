//! How many calls there were, by what came of them.

use std::collections::BTreeMap;

// Figures are not part of any race that is model-checked, so they use std's atomics under loom too.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::CallOutcome;

/// Calls by what came of them. As JSON: each outcome's word with its calls; one that is absent has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures([u64; CallOutcome::ALL.len()]);

impl Figures {
    /// All of them: the service's metric `Requests`. It rises by one with each call.
    pub fn requests(&self) -> u64 {
        self.0.iter().fold(0, |sum, calls| sum.saturating_add(*calls))
    }

    /// Those that came to this.
    pub fn of(&self, outcome: CallOutcome) -> u64 {
        self.0[outcome as usize]
    }

    /// Each outcome with its calls, in a fixed order.
    pub fn each(&self) -> impl Iterator<Item = (CallOutcome, u64)> {
        CallOutcome::ALL.into_iter().zip(self.0)
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.each())
    }
}

impl<'de> Deserialize<'de> for Figures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut figures = Figures::default();
        for (outcome, calls) in BTreeMap::<CallOutcome, u64>::deserialize(deserializer)? {
            figures.0[outcome as usize] = calls;
        }
        Ok(figures)
    }
}

/// Counts calls, from any thread. The numbers publish nothing, so no order is needed.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; CallOutcome::ALL.len()]);

impl Counts {
    pub(super) fn add(&self, outcome: CallOutcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Adds the calls of another process.
    pub(super) fn add_all(&self, figures: &Figures) {
        for (count, calls) in self.0.iter().zip(figures.0) {
            count.fetch_add(calls, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Figures {
        Figures(std::array::from_fn(|outcome| self.0[outcome].load(Relaxed)))
    }
}
