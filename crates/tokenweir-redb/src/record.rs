//! One record: its bytes in the file, and what tells that they are what was written.
//!
//! redb checks its pages after a crash, not whenever it reads them. So each record carries a checksum of itself, and the
//! file one of all its records: a record that has changed or is missing is damage, not a caller who has used nothing.

use redb::{ReadableTable, StorageError, Table, TableDefinition};
use tokenweir::store::Recorded;

/// Store, limit and key of a counter.
pub(crate) type Key = (&'static str, &'static str, &'static [u8]);

/// Store, limit and key to the period (start and end, in nanoseconds since 1970), what may be used of it, and a checksum.
pub(crate) const USE: TableDefinition<'_, Key, (i64, i64, u64, u64)> = TableDefinition::new("use");

/// The format that the file says, and the sum of all records' checksums.
pub(crate) const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("tokenweir");
pub(crate) const SUM: &str = "sum";

/// What is recorded of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) period_start: i64,
    pub(crate) period_end: i64,
    pub(crate) used: u64,
}

impl Value {
    /// FNV-1a, 64 bits (Fowler, Noll, Vo), of the key and the value.
    pub(crate) fn checksum(&self, (store, limit, key): (&str, &str, &[u8])) -> u64 {
        let lengths = [store.len() as u64, limit.len() as u64];
        let words = [self.period_start as u64, self.period_end as u64, self.used];
        let numbers = lengths.into_iter().chain(words).flat_map(u64::to_le_bytes);
        let bytes = store.bytes().chain(limit.bytes()).chain(key.iter().copied()).chain(numbers);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    pub(crate) fn recorded(self) -> Recorded {
        Recorded { period_start: self.period_start, used: self.used }
    }

    /// What the file has under `key`, if it is what was written there.
    pub(crate) fn read(key: (&str, &str, &[u8]), raw: (i64, i64, u64, u64)) -> Result<Self, StorageError> {
        let (period_start, period_end, used, checksum) = raw;
        let value = Value { period_start, period_end, used };
        if value.checksum(key) == checksum {
            return Ok(value);
        }
        Err(StorageError::Corrupted("a record is not what was written".to_owned()))
    }
}

/// The records of a write, which keeps the sum of the checksums true.
pub(crate) struct Records<'t> {
    table: Table<'t, Key, (i64, i64, u64, u64)>,
    /// By how much the sum has changed: the sum is a parity, so what comes and what goes are one operation.
    pub(crate) change: u64,
}

impl<'t> Records<'t> {
    pub(crate) fn of(table: Table<'t, Key, (i64, i64, u64, u64)>) -> Self {
        Records { table, change: 0 }
    }

    pub(crate) fn get(&self, key: (&str, &str, &[u8])) -> Result<Option<Value>, StorageError> {
        self.table.get(key)?.map(|raw| Value::read(key, raw.value())).transpose()
    }

    pub(crate) fn put(&mut self, key: (&str, &str, &[u8]), value: Value) -> Result<(), StorageError> {
        let checksum = value.checksum(key);
        let Value { period_start, period_end, used } = value;
        let before = self.table.insert(key, (period_start, period_end, used, checksum))?;
        self.change ^= checksum ^ before.map_or(0, |before| before.value().3);
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: (&str, &str, &[u8])) -> Result<(), StorageError> {
        self.change ^= self.table.remove(key)?.map_or(0, |before| before.value().3);
        Ok(())
    }
}
