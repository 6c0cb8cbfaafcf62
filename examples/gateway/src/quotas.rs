//! A file of quotas beside the limiter's memory: what is used of them outlives a kill.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokenweir::gateway::{ConsoleBuilder, Gate};
use tokenweir::{Error, StoreOptions};
use tokenweir_redb::{QuotaFile, QuotaFileError, QuotaStore, Renewer};

/// What the gateway's quotas are called in the file.
const NAME: &str = "gateway";

pub(crate) struct Quotas {
    store: Arc<QuotaStore>,
    /// Until it is stopped.
    renewer: Mutex<Option<Renewer>>,
}

impl Quotas {
    pub(crate) fn open(path: &Path) -> Result<Self, QuotaFileError> {
        Ok(Quotas { store: Arc::new(QuotaFile::open(path)?.store(NAME)?), renewer: Mutex::new(None) })
    }

    /// A console whose gate has its quotas in the file. `take_up`: what is loaded into it has counted without the file, which goes
    /// on from there.
    pub(crate) fn under(&self, console: ConsoleBuilder, take_up: bool) -> ConsoleBuilder {
        let (store, options) = (self.store.clone(), StoreOptions::new().take_up(take_up));
        console.limiters_built_by(move |limiter| Ok(limiter.store(store.clone(), options.clone()).build()))
    }

    /// Has what was taken up in the file, and what is there in the gate's views.
    pub(crate) fn settle_in(&self, gate: &Gate) -> Result<(), Error> {
        gate.limiter().renew_leases()?;
        self.store.recall(gate.limiter()).map(drop)
    }

    /// Has leases renewed from now on.
    pub(crate) fn renew(&self, gate: &Gate) -> std::io::Result<()> {
        *self.renewer.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Renewer::start(gate.limiter(), &self.store)?);
        Ok(())
    }

    /// Why leases could not be renewed, if the last attempt failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.renewer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Renewer::last_failure)
    }

    /// Gives back what is leased and not used.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        self.renewer.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Renewer::stop)
    }
}
