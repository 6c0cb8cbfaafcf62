//! What the first process and a worker tell one another: lines of JSON.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tokenweir::gateway::UsageRecord;
use tokenweir::gateway::model::FoundryResource;

/// What a worker is to serve by. Each replaces the one before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Grows with each.
    pub(crate) version: u64,
    /// The configuration file, to be named in errors.
    pub(crate) file: PathBuf,
    /// Its text, as it was taken up.
    pub(crate) text: String,
    pub(crate) resource: FoundryResource,
    /// Where the counters are, unless they are on a server.
    pub(crate) region: Option<PathBuf>,
    /// The socket of the first process.
    pub(crate) brain: PathBuf,
}

/// What a worker tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The orders of this version are in force here.
    InForce(u64),
    /// A call has ended, or was refused.
    Record(Box<UsageRecord>),
    /// So many records could not be told so far, since nobody took them.
    Dropped(u64),
}
