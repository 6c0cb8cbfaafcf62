//! Who makes and takes down instances.

use serde::{Deserialize, Serialize};

use super::model::{ApimInstance, InstanceName, Timestamp};

/// What is asked of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Make the instance, and the gateway's endpoints on it.
    Create,
    /// Make the gateway's endpoints on an instance that exists.
    Associate,
    /// Take the instance down.
    Delete,
}

/// One piece of work of a provider. The same work is described the same each time, also after a state was saved and
/// loaded.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// What is asked for.
    pub kind: TaskKind,
    /// The instance's name.
    pub name: &'a InstanceName,
    /// The instance.
    pub instance: &'a ApimInstance,
    /// When it was asked for.
    pub since: Timestamp,
}

/// How far a piece of work is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not done yet.
    Underway,
    /// Done.
    Done,
    /// Given up.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Makes and takes down API Management instances.
///
/// An [`Estate`](super::Estate) calls it from the thread that calls the estate, after an operation has been found to be
/// allowed. One that talks to a cloud should begin the work, answer [`Progress::Underway`] and look again later.
pub trait InstanceProvider {
    /// Begins a piece of work. Not called again for it unless it failed and is retried.
    fn begin(&mut self, task: &Task<'_>) -> Progress;

    /// How far it is at `now`. Called for each piece of work that is under way, at each refresh.
    fn progress(&mut self, task: &Task<'_>, now: Timestamp) -> Progress;
}

/// A provider in the process: nothing is made, and it is done at once, after a set time, or never.
///
/// # Example
/// ```
/// use tokenweir::gateway::InProcessProvider;
/// let at_once = InProcessProvider::default();
/// let as_in_the_cloud = InProcessProvider { ready_after: 8 * 60, delete_after: 60, ..at_once.clone() };
/// let broken = InProcessProvider { failure: Some("no capacity in the region".to_owned()), ..at_once };
/// # let _ = (as_in_the_cloud, broken);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InProcessProvider {
    /// Seconds until an instance or an association is ready.
    pub ready_after: u64,
    /// Seconds until an instance is gone.
    pub delete_after: u64,
    /// Why everything fails once its time is over, if it does.
    pub failure: Option<String>,
}

impl InstanceProvider for InProcessProvider {
    fn begin(&mut self, task: &Task<'_>) -> Progress {
        self.progress(task, task.since)
    }

    fn progress(&mut self, task: &Task<'_>, now: Timestamp) -> Progress {
        let needed = if task.kind == TaskKind::Delete { self.delete_after } else { self.ready_after };
        if now.seconds_since(task.since) < needed {
            return Progress::Underway;
        }
        match &self.failure {
            Some(reason) => Progress::Failed { reason: reason.clone() },
            None => Progress::Done,
        }
    }
}
