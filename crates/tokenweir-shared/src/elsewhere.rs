//! Where the system is not Linux: there are no regions, and whoever asks for one is told.

use crate::{SharedError, Status};
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokenweir::region::{Layout, Memory};
use tokenweir::{Limiter, LimiterBuilder, Policy};

/// Memory that the processes of a host share, with counters and permits in it. There is none on this system.
#[derive(Debug)]
pub struct SharedRegion(Infallible);

fn none(path: &Path) -> SharedError {
    SharedError::Io { path: path.to_owned(), act: "map it", source: io::ErrorKind::Unsupported.into() }
}

impl SharedRegion {
    /// # Errors
    /// [`SharedError::Io`], always.
    pub fn create(path: impl AsRef<Path>, _: &Layout) -> Result<Self, SharedError> {
        Err(none(path.as_ref()))
    }

    /// # Errors
    /// [`SharedError::Io`], always.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SharedError> {
        Err(none(path.as_ref()))
    }

    /// # Errors
    /// [`SharedError::Io`], always.
    pub fn open_or_create(path: impl AsRef<Path>, _: &Layout) -> Result<Self, SharedError> {
        Err(none(path.as_ref()))
    }

    /// Its layout.
    pub fn layout(&self) -> &Layout {
        match self.0 {}
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        match self.0 {}
    }

    /// # Errors
    /// None: there is no region to attach to.
    pub fn attach(&self) -> Result<Arc<dyn Memory>, SharedError> {
        match self.0 {}
    }

    /// # Errors
    /// None: there is no region to build on.
    pub fn build(&self, _: LimiterBuilder) -> Result<Limiter, SharedError> {
        match self.0 {}
    }

    /// # Errors
    /// None: there is no region with a policy.
    pub fn policy(&self) -> Result<Option<Policy>, SharedError> {
        match self.0 {}
    }

    /// What is in it.
    pub fn status(&self) -> Status {
        match self.0 {}
    }
}
