//! A gate's counters and figures, kept for another process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::gate::Gate;
use crate::clock::Now;
use crate::gateway::figures::Figures;
use crate::gateway::model::ProjectName;
use crate::limiter::{LeftOutReason, Restored, Snapshot};

/// What a gate has counted, at one instant: it is written and read with serde.
///
/// Calls that are under way count as their permits stand: see [`Limiter::snapshot`](crate::Limiter::snapshot).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedGate {
    /// The counters of its limits.
    limits: Snapshot,
    /// All calls.
    calls: Figures,
    /// The calls of each project of the resource.
    projects: BTreeMap<ProjectName, Figures>,
    /// The calls of projects that the resource does not have.
    unknown: Figures,
}

impl SavedGate {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.calls.requests() == 0 && self.limits.counters() == 0
    }
}

impl Gate {
    /// What the gate has counted by `now`.
    pub fn save_at(&self, now: Now) -> SavedGate {
        let standing = self.inner.standing.load();
        let projects = standing.projects.iter().map(|(name, project)| (name.clone(), project.counts.read()));
        SavedGate {
            limits: self.limiter().snapshot_at(now),
            calls: self.figures(),
            projects: projects.collect(),
            unknown: self.unknown_figures(),
        }
    }

    /// Takes up what another process counted, before the first call: see
    /// [`Limiter::restore`](crate::Limiter::restore). Calls come on top of those that are counted already; those of a
    /// project that is gone stay in the sum. Where [the counters are elsewhere](crate::gateway::GateBuilder::counters) those of
    /// limits are left out: they are read there.
    pub fn restore_at(&self, saved: &SavedGate, now: Now) -> Restored {
        let standing = self.inner.standing.load();
        self.inner.total.add_all(&saved.calls);
        standing.unknown.add_all(&saved.unknown);
        for (name, figures) in &saved.projects {
            if let Some(project) = standing.projects.get(name) {
                project.counts.add_all(figures);
            }
        }
        match self.inner.elsewhere {
            Some(_) => saved.limits.left_out(LeftOutReason::Kept),
            None => self.limiter().restore_at(&saved.limits, now),
        }
    }
}
