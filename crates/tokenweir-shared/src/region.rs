//! A region that is open in this process, and the limiters on it.

use crate::file::{self, Io, PAGE};
use crate::seat::{Attachment, is_taken};
use crate::{Attached, HostClock, SharedError, Status, map};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokenweir::region::{ATTACHMENTS_MOST, Layout, Memory, RegionStatus, policy_in_force};
use tokenweir::{Limiter, LimiterBuilder, Policy};

/// Memory that the processes of a host share, with counters and permits in it.
///
/// A handle: it is not attached, and may be opened before a fork. Limiters are built on it in each process.
#[derive(Debug)]
pub struct SharedRegion {
    path: PathBuf,
    file: File,
    words: &'static [AtomicU64],
    layout: Layout,
}

impl SharedRegion {
    /// Makes a region that there is none of yet, mode 0600. Its room is taken at once.
    ///
    /// # Errors
    /// [`SharedError::Io`] if there is something at the path, or no room for it; [`SharedError::LayoutInvalid`].
    pub fn create(path: impl AsRef<Path>, layout: &Layout) -> Result<Self, SharedError> {
        file::create(path.as_ref(), layout)?;
        Self::open(path)
    }

    /// Opens a region as it is.
    ///
    /// # Errors
    /// Every [`SharedError`] but those of making and attaching. Nothing is changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SharedError> {
        let path = path.as_ref().to_owned();
        let (file, layout) = file::open(&path)?;
        let words = map::map(&file, PAGE + layout.words()).map_err(Io(&path).failed("map it"))?;
        Ok(SharedRegion { path, file, words: &words[PAGE..], layout })
    }

    /// Opens a region, and makes it if there is none. Of several processes that do so at once one makes it.
    ///
    /// # Errors
    /// Of [`create`](SharedRegion::create) and [`open`](SharedRegion::open); [`SharedError::OtherLayout`] if there is one of
    /// another layout. One that was made for another policy will do if it has as much room for counters and policies.
    pub fn open_or_create(path: impl AsRef<Path>, layout: &Layout) -> Result<Self, SharedError> {
        let path = path.as_ref();
        let exists = |error: &SharedError, kind: io::ErrorKind| matches!(error, SharedError::Io { source, .. } if source.kind() == kind);
        let region = match Self::open(path) {
            Err(error) if exists(&error, io::ErrorKind::NotFound) => match file::create(path, layout) {
                Err(error) if !exists(&error, io::ErrorKind::AlreadyExists) => return Err(error),
                _ => Self::open(path)?,
            },
            region => region?,
        };
        if !region.layout.has_room_for(layout) {
            let (found, expected) = (Box::new(region.layout), Box::new(*layout));
            return Err(SharedError::OtherLayout { path: region.path, found, expected });
        }
        Ok(region)
    }

    /// Its layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Attaches, for a limiter on a clock of the host's own ([`LimiterBuilder::build_in_region`]): all processes must have
    /// the same. After a fork, attach anew.
    ///
    /// # Errors
    /// [`SharedError::Crowded`]; [`SharedError::NotARegion`] if the file was replaced since the region was opened.
    pub fn attach(&self) -> Result<Arc<dyn Memory>, SharedError> {
        // Seats are locks of an open file: each attachment has one of its own.
        let file = file::reopen(&self.path)?;
        let inode = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let failed = |act| Io(&self.path).failed(act);
        if inode(&file).map_err(failed("look at it"))? != inode(&self.file).map_err(failed("look at it"))? {
            let found = "it has been replaced since the region was opened".to_owned();
            return Err(SharedError::NotARegion { path: self.path.clone(), found });
        }
        match Attachment::new(file, self.words).map_err(failed("lock it"))? {
            Some(attachment) => Ok(Arc::new(attachment)),
            None => Err(SharedError::Crowded { path: self.path.clone(), most: ATTACHMENTS_MOST }),
        }
    }

    /// A limiter on it, on the [host's clock](HostClock) whatever the builder has.
    ///
    /// # Errors
    /// Of [`attach`](SharedRegion::attach); [`SharedError::Limiter`] if the region counts for another policy, or has no room
    /// for a counter of this one, or the limiter is to have a store.
    pub fn build(&self, limiter: LimiterBuilder) -> Result<Limiter, SharedError> {
        let memory = self.attach()?;
        let built = limiter.clock(HostClock).build_in_region(memory, &self.layout);
        built.map_err(|source| SharedError::Limiter { path: self.path.clone(), source })
    }

    /// The policy in force. `None` if no limiter has been built on the region yet.
    ///
    /// # Errors
    /// [`SharedError::Limiter`] if it cannot be read.
    pub fn policy(&self) -> Result<Option<Policy>, SharedError> {
        let failed = |source| SharedError::Limiter { path: self.path.clone(), source };
        policy_in_force(self.words, &self.layout).map_err(|error| failed(error.into()))
    }

    /// What is in it. Reads the whole region.
    pub fn status(&self) -> Status {
        // The words have been measured when it was opened.
        let status = RegionStatus::read(self.words, &self.layout).ok();
        let seats = status.iter().flat_map(|status| &status.seats);
        let attached = seats.map(|seat| Attached {
            seat: seat.number,
            process: seat.process,
            since: seat.since,
            alive: is_taken(&self.file, seat.number),
        });
        let attached = attached.collect();
        let figure = |of: fn(&RegionStatus) -> usize| status.as_ref().map_or(0, of);
        Status {
            attached,
            counters: figure(|status| status.counters),
            callers: figure(|status| status.callers),
            permits_open: figure(|status| status.permits_open),
            histories: figure(|status| status.histories),
            cleared_up: status.as_ref().map_or(0, |status| status.cleared_up),
            unsure_steps: status.as_ref().map_or(0, |status| status.unsure_steps),
            policies: status.as_ref().map_or(0, |status| status.policies),
        }
    }
}
