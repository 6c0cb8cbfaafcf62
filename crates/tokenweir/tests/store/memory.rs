//! A store in memory that can fail, and that counts what it is asked.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use tokenweir::store::{CounterName, Mark, Recorded, Store, StoreError};

#[derive(Debug, Default)]
pub(crate) struct Memory {
    records: Mutex<BTreeMap<(String, Vec<u8>), Recorded>>,
    pub(crate) failing: AtomicBool,
    pub(crate) writes: AtomicU64,
    pub(crate) woken: AtomicU64,
}

impl Memory {
    /// What is recorded of a limit (by its name) for the keys that have `project`: the newest period and its use.
    pub(crate) fn of(&self, limit: &str, project: &str) -> Option<Recorded> {
        let records = self.records.lock().expect("not poisoned");
        let name = format!("[\"{limit}\",");
        let has = |key: &[u8]| key.windows(project.len()).any(|part| part == project.as_bytes());
        let mut found = records.iter().filter(|((limit, key), _)| limit.starts_with(&name) && has(key));
        let one = found.next().map(|(_, recorded)| *recorded);
        assert!(found.next().is_none(), "one counter is meant");
        one
    }

    /// The limit and key of everything that is recorded.
    pub(crate) fn names(&self) -> Vec<(String, Vec<u8>)> {
        self.records.lock().expect("not poisoned").keys().cloned().collect()
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.failing.load(SeqCst) { Err(StoreError::new("the disk is full")) } else { Ok(()) }
    }
}

impl Store for Memory {
    fn recorded(&self, counter: &CounterName<'_>) -> Result<Option<Recorded>, StoreError> {
        self.check()?;
        let records = self.records.lock().expect("not poisoned");
        Ok(records.get(&(counter.limit.to_owned(), counter.key.to_owned())).copied())
    }

    fn record(&self, marks: &[Mark<'_>]) -> Result<(), StoreError> {
        self.check()?;
        assert!(!marks.is_empty(), "nothing to record is no reason to write");
        self.writes.fetch_add(1, SeqCst);
        let mut records = self.records.lock().expect("not poisoned");
        for mark in marks {
            assert!(mark.period_start < mark.period_end);
            let key = (mark.counter.limit.to_owned(), mark.counter.key.to_owned());
            let next = Recorded { period_start: mark.period_start, used: mark.used };
            let recorded = records.entry(key).or_insert(next);
            if mark.period_start > recorded.period_start {
                *recorded = next;
            } else if mark.period_start == recorded.period_start {
                recorded.used = if mark.lower { mark.used } else { mark.used.max(recorded.used) };
            }
        }
        Ok(())
    }

    fn running_low(&self) {
        self.woken.fetch_add(1, SeqCst);
    }
}
