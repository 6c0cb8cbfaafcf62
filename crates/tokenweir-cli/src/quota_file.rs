//! A file of quotas that a replay goes on from: read as it goes, and written at once when all of it is done, so that a run that
//! fails or is broken off leaves the file as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokenweir::Policy;
use tokenweir::policy::Algorithm;
use tokenweir::store::{CounterName, Mark, Recorded, Store, StoreError};
use tokenweir_redb::{QuotaFile, QuotaStore};

use crate::failure::Failure;

/// What its quotas are called in the file: others' in the same file are left alone.
const NAME: &str = "replay";

/// What `--store` names, if it is a file of quotas.
pub fn path(store: &str) -> Option<&Path> {
    store.strip_prefix("redb:").map(Path::new)
}

/// By limit and key: what there is to be recorded, and the period's end.
type Pending = BTreeMap<(String, Vec<u8>), (Recorded, i64)>;

/// The quotas of a run.
#[derive(Debug)]
pub struct Quotas {
    path: PathBuf,
    store: QuotaStore,
    /// What is to be recorded.
    pending: Mutex<Pending>,
    /// How many counters the file had use of.
    pub found: usize,
}

impl Quotas {
    /// Opens the file, which is made if there is none.
    ///
    /// # Errors
    /// It is in use or no sound file of quotas, or the policy has no quota.
    pub fn open(store: &str, policy: &Policy) -> Result<Arc<Self>, Failure> {
        let path = match path(store) {
            Some(path) if !path.as_os_str().is_empty() => path,
            Some(_) => return Err(Failure::input("--store", "the path is empty", "write redb:PATH")),
            None => {
                // An address may have a password in it.
                let reason = "it is no file: on a region or a server several processes count";
                return Err(Failure::input("--store", reason, "add --processes N, or give redb:PATH"));
            }
        };
        if !policy.limits().iter().any(|limit| matches!(limit.algorithm(), Algorithm::Quota { .. })) {
            let reason = "the policy has no quota, and a file keeps nothing else";
            return Err(Failure::input("--store", reason, "leave it out"));
        }
        // It says itself what to do.
        let failed = |error| Failure::Problems(vec![format!("--store: {error}")]);
        let file = QuotaFile::open(path).map_err(failed)?;
        let found = file.records().map_err(failed)?.iter().filter(|record| record.store == NAME).count();
        let store = file.store(NAME).map_err(failed)?;
        Ok(Arc::new(Quotas { path: path.into(), store, pending: Mutex::default(), found }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what was recorded, all of it or nothing.
    ///
    /// # Errors
    /// It cannot be written; the file is as it was.
    pub fn write(&self) -> Result<(), Failure> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = pending.iter().map(|((limit, key), (recorded, end))| {
            let mut mark = Mark::new(CounterName::new(limit, key), recorded.period_start, *end, recorded.used);
            mark.lower = true;
            mark
        });
        let marks: Vec<Mark<'_>> = marks.collect();
        self.store.record(&marks).map_err(|error| Failure::Problems(vec![format!("--store: {error}")]))
    }
}

impl Store for Quotas {
    fn recorded(&self, counter: &CounterName<'_>) -> Result<Option<Recorded>, StoreError> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.get(&(counter.limit.to_owned(), counter.key.to_owned())) {
            Some((recorded, _)) => Ok(Some(*recorded)),
            None => self.store.recorded(counter),
        }
    }

    fn record(&self, marks: &[Mark<'_>]) -> Result<(), StoreError> {
        for mark in marks {
            if let Some(recorded) = mark.over(self.recorded(&mark.counter)?) {
                let name = (mark.counter.limit.to_owned(), mark.counter.key.to_owned());
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                pending.insert(name, (recorded, mark.period_end));
            }
        }
        Ok(())
    }
}
