//! One limiter's part of a file.

use crate::error::QuotaFileError;
use crate::file::{Shared, write};
use crate::record::{USE, Value};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::thread::Thread;
use tokenweir::store::{CounterName, Mark, Recorded, Store, StoreError};

const DAY: i64 = 86_400_000_000_000;

/// So many old records are removed at a time.
const MOST_REMOVED: usize = 1_000;

/// The quotas of one limiter in a [`QuotaFile`](crate::QuotaFile).
pub struct QuotaStore {
    file: Arc<Shared>,
    name: String,
    /// Whoever renews leases in the background.
    renewer: Mutex<Option<Thread>>,
    /// When old records are looked for again, in wall nanoseconds.
    tidy_at: Mutex<i64>,
}

impl fmt::Debug for QuotaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for QuotaStore {
    fn drop(&mut self) {
        // A forked process has no names, and may find the lock taken for ever.
        if self.file.is_owned() {
            self.file.names.lock().remove(&self.name);
        }
    }
}

impl QuotaStore {
    pub(crate) fn new(file: Arc<Shared>, name: &str) -> Self {
        QuotaStore { file, name: name.to_owned(), renewer: Mutex::new(None), tidy_at: Mutex::new(i64::MIN) }
    }

    /// Whether this process has the file open: not if it was forked from the one that has.
    pub(crate) fn is_owned(&self) -> bool {
        self.file.is_owned()
    }

    pub(crate) fn set_renewer(&self, renewer: Option<Thread>) {
        *self.renewer.lock() = renewer;
    }

    /// Removes records whose period has been over for a day and for as long as it lasted, up to 1,000 of them: a clock that
    /// steps back a little finds them still. How many. `now` is wall time by the clock that the limiter goes by, in
    /// nanoseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// An error of the file.
    pub fn tidy(&self, now: i64) -> Result<usize, QuotaFileError> {
        let removed = self.file.act(|database| {
            let old = |value: Value| {
                let lasted = value.period_end.saturating_sub(value.period_start);
                value.period_end.saturating_add(lasted.max(DAY)) < now
            };
            let read = database.begin_read()?.open_table(USE)?;
            let mut gone = Vec::new();
            for record in read.range((self.name.as_str(), "", &[][..])..)? {
                let (key, raw) = record?;
                let (store, limit, bytes) = key.value();
                if store != self.name || gone.len() == MOST_REMOVED {
                    break;
                }
                if old(Value::read(key.value(), raw.value())?) {
                    gone.push((limit.to_owned(), bytes.to_owned()));
                }
            }
            if gone.is_empty() {
                return Ok(0);
            }
            write(database, |records| {
                for (limit, key) in &gone {
                    let key = (self.name.as_str(), limit.as_str(), key.as_slice());
                    // It may be in use again.
                    if records.get(key)?.is_some_and(old) {
                        records.remove(key)?;
                    }
                }
                Ok(())
            })?;
            Ok(gone.len())
        })?;
        *self.tidy_at.lock() = if removed == MOST_REMOVED { now } else { now.saturating_add(DAY) };
        Ok(removed)
    }

    /// [`tidy`](QuotaStore::tidy) if it is time.
    pub(crate) fn tidy_when_due(&self, now: i64) -> Result<(), QuotaFileError> {
        if *self.tidy_at.lock() > now { Ok(()) } else { self.tidy(now).map(drop) }
    }
}

impl Store for QuotaStore {
    fn recorded(&self, counter: &CounterName<'_>) -> Result<Option<Recorded>, StoreError> {
        let key = (self.name.as_str(), counter.limit, counter.key);
        let found = self.file.act(|database| {
            let table = database.begin_read()?.open_table(USE)?;
            Ok(table.get(key)?.map(|raw| Value::read(key, raw.value())).transpose()?)
        })?;
        Ok(found.map(Value::recorded))
    }

    fn record(&self, marks: &[Mark<'_>]) -> Result<(), StoreError> {
        self.file.act(|database| {
            write(database, |records| {
                for mark in marks {
                    let key = (self.name.as_str(), mark.counter.limit, mark.counter.key);
                    let before = records.get(key)?.map(Value::recorded);
                    let Some(Recorded { used, .. }) = mark.over(before) else { continue };
                    let Mark { period_start, period_end, .. } = *mark;
                    records.put(key, Value { period_start, period_end, used })?;
                }
                Ok(())
            })
        })?;
        Ok(())
    }

    fn running_low(&self) {
        if !self.is_owned() {
            return;
        }
        if let Some(renewer) = &*self.renewer.lock() {
            renewer.unpark();
        }
    }
}
