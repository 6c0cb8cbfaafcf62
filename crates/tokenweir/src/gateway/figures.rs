//! How many calls there were, by what came of them.

// Figures are not part of any race that is model-checked, so they use std's atomics under loom too.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::record::CallOutcome;

/// Calls by what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures([u64; CallOutcome::ALL.len()]);

impl Figures {
    /// All of them: the service's metric `Requests`. It rises by one with each call.
    pub fn requests(&self) -> u64 {
        self.0.iter().sum()
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

/// Counts calls, from any thread. The numbers publish nothing, so no order is needed.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; CallOutcome::ALL.len()]);

impl Counts {
    pub(super) fn add(&self, outcome: CallOutcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> Figures {
        Figures(std::array::from_fn(|outcome| self.0[outcome].load(Relaxed)))
    }
}
