//! Why a region cannot be had.

use std::path::PathBuf;

/// Why a region cannot be made, opened or attached to. Nothing has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The file cannot be made, opened, read or mapped.
    #[error("{}: cannot {act}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no region.
    #[error("{}: not a region: {found}; give the path of a region, or of nothing yet", .path.display())]
    NotARegion {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It is a region of another release.
    #[error(
        "{}: the region has format {found}, and this release reads format {expected}; let every process run one release, and remove the file when all have ended",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The format that is read.
        expected: u64,
    },
    /// Its header does not fit the rest.
    #[error(
        "{}: the region is damaged: {what} is {found}, and ought to be {expected}; remove the file, its counters begin anew",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
        /// What it is.
        found: u64,
        /// What it ought to be.
        expected: u64,
    },
    /// It is a region of another layout.
    #[error(
        "{}: the region was made with another layout ({found:?}, and not {expected:?}); open it as it is, or remove the file when all processes have ended",
        .path.display()
    )]
    OtherLayout {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: Box<tokenweir::region::Layout>,
        /// What was asked for.
        expected: Box<tokenweir::region::Layout>,
    },
    /// A number of the layout is out of its range.
    #[error("the layout {layout:?} has a number that is out of range; make it with Layout::of and its setters")]
    LayoutInvalid {
        /// The layout.
        layout: Box<tokenweir::region::Layout>,
    },
    /// Others may write the file, or it is somebody else's.
    #[error("{}: {what}; a region must be its user's alone (mode 0600)", .path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The machine has been restarted since.
    #[error(
        "{}: the region is from before the machine was restarted, and may not be whole; remove the file, and keep quotas that must survive in a store",
        .path.display()
    )]
    Restarted {
        /// The file.
        path: PathBuf,
    },
    /// As many limiters are attached as can be.
    #[error("{}: all {most} seats are taken; end another process first, or give these a region of their own", .path.display())]
    Crowded {
        /// The file.
        path: PathBuf,
        /// How many there are.
        most: usize,
    },
    /// The limiter cannot be built on it.
    #[error("{}: {source}", .path.display())]
    Limiter {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenweir::Error,
    },
}
