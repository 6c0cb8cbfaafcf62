//! Why a file cannot be had.

use std::path::PathBuf;
use tokenweir::store::StoreError;

/// A quota file cannot be opened, read or written. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaFileError {
    /// Another process has it open, or this one has; or this one was forked from the one that opened it.
    #[error("{} is open already; let one process have it, or give each its own file", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or not a quota file.
    #[error(
        "{} is not a sound quota file: {reason}; nothing was changed: put back a backup, or move the file away to begin with \
         nothing used", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A release of another format has written it.
    #[error(
        "{} is of format {found}, and this release reads format {known}: use the release that wrote it, or move the file away \
         to begin with nothing used", .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The one that this release reads and writes.
        known: u64,
    },
    /// The operating system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A store of this name is in use.
    #[error("the store {name:?} of this file is in use; drop it first, or give each limiter a name of its own")]
    NameInUse {
        /// The store's name.
        name: String,
    },
}

impl QuotaFileError {
    /// The stable number of this kind of error, shared by all languages and never used again for another.
    pub fn code(&self) -> u16 {
        match self {
            QuotaFileError::InUse { .. } => 1010,
            QuotaFileError::Damaged { .. } => 1011,
            QuotaFileError::Version { .. } => 1012,
            QuotaFileError::Io { .. } => 1013,
            QuotaFileError::NameInUse { .. } => 1014,
        }
    }

    /// The stable name that goes with [`code`](QuotaFileError::code).
    pub fn name(&self) -> &'static str {
        match self {
            QuotaFileError::InUse { .. } => "QUOTA_FILE_IN_USE",
            QuotaFileError::Damaged { .. } => "QUOTA_FILE_DAMAGED",
            QuotaFileError::Version { .. } => "QUOTA_FILE_VERSION",
            QuotaFileError::Io { .. } => "QUOTA_FILE_IO",
            QuotaFileError::NameInUse { .. } => "STORE_NAME_IN_USE",
        }
    }
}

impl From<QuotaFileError> for StoreError {
    fn from(error: QuotaFileError) -> Self {
        StoreError::new(error)
    }
}
