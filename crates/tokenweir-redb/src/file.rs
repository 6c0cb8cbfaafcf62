//! The file: opened, checked, kept open, and opened anew after an error.

use crate::error::QuotaFileError;
use crate::record::{ABOUT, Records, SUM, USE, Value};
use crate::store::QuotaStore;
use parking_lot::Mutex;
use redb::{Database, ReadableTable, StorageBackend};
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenweir::store::{CounterName, NamedCounter};

/// The format of the tables below. The file's own format is redb's to check.
const VERSION: u64 = 1;

/// A file of quotas. Clones are the same file; it is closed when the last of them and of its stores is dropped.
#[derive(Clone)]
pub struct QuotaFile {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for QuotaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaFile").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

/// What a file has of one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaRecord {
    /// The store's name.
    pub store: String,
    /// The limit, as [`CounterName::limit`](tokenweir::store::CounterName) has it.
    pub limit: String,
    /// The values of its scope, each with its length before it.
    pub key: Vec<u8>,
    /// When the period began: wall time, nanoseconds since 1970-01-01T00:00:00Z.
    pub period_start: i64,
    /// When it ends; `i64::MAX` if never.
    pub period_end: i64,
    /// How much of it may have been used.
    pub used: u64,
}

impl QuotaRecord {
    /// Which counter it is of.
    pub fn counter(&self) -> NamedCounter {
        CounterName::new(&self.limit, &self.key).read()
    }
}

pub(crate) struct Shared {
    path: PathBuf,
    /// The process that has the file open. One that is forked from it does not: it would write over what its parent writes.
    process: u32,
    /// `None` after an error: redb takes nothing more from then on, so it is opened anew.
    database: Mutex<Option<Arc<Database>>>,
    pub(crate) names: Mutex<HashSet<String>>,
}

impl QuotaFile {
    /// Opens the file, which is made if there is none: readable and writable by its owner alone.
    ///
    /// After a crash the last write that was synced is found again; this may take as long as reading the file does.
    ///
    /// # Errors
    /// Any [`QuotaFileError`] but `NameInUse`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, QuotaFileError> {
        let path = path.as_ref();
        if !path.try_exists().map_err(|source| QuotaFileError::Io { path: path.into(), source })? {
            match make(path) {
                // Another has made it meanwhile.
                Err(QuotaFileError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        let database = open(path)?;
        Ok(Self::of(path.into(), database))
    }

    /// The same on storage of the caller's: for tests that take it away.
    #[doc(hidden)]
    pub fn on(backend: impl StorageBackend) -> Result<Self, QuotaFileError> {
        let path = PathBuf::from("(a backend)");
        let database = attempt(&path, || builder().create_with_backend(backend))?;
        begin(&path, &database)?;
        check(&path, &database)?;
        Ok(Self::of(path, database))
    }

    fn of(path: PathBuf, database: Database) -> Self {
        let database = Mutex::new(Some(Arc::new(database)));
        let process = std::process::id();
        QuotaFile { shared: Arc::new(Shared { path, process, database, names: Mutex::default() }) }
    }

    /// A store for one limiter. Limiters with the same limits need stores of different names; the name is what it is found
    /// by again.
    ///
    /// # Errors
    /// [`QuotaFileError::NameInUse`] while another store of this name is there, [`QuotaFileError::InUse`] in a process that was
    /// forked from the one that opened the file.
    pub fn store(&self, name: &str) -> Result<QuotaStore, QuotaFileError> {
        self.shared.owned()?;
        if !self.shared.names.lock().insert(name.to_owned()) {
            return Err(QuotaFileError::NameInUse { name: name.to_owned() });
        }
        Ok(QuotaStore::new(self.shared.clone(), name))
    }

    /// All that is recorded, as it is at some instant of the call.
    ///
    /// # Errors
    /// An error of the file.
    pub fn records(&self) -> Result<Vec<QuotaRecord>, QuotaFileError> {
        self.shared.records()
    }

    /// Writes a copy of the file as it is at some instant of the call. Requests go on meanwhile.
    ///
    /// # Errors
    /// [`QuotaFileError::Io`] if `to` exists or cannot be written; an error of the file itself.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<(), QuotaFileError> {
        let to = to.as_ref();
        if to.try_exists().map_err(|source| QuotaFileError::Io { path: to.into(), source })? {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "it exists; name one that does not");
            return Err(QuotaFileError::Io { path: to.into(), source });
        }
        let records = self.records()?;
        make_with(to, |database| {
            write(database, |table| {
                for record in &records {
                    let QuotaRecord { period_start, period_end, used, .. } = *record;
                    let key = (record.store.as_str(), record.limit.as_str(), record.key.as_slice());
                    table.put(key, Value { period_start, period_end, used })?;
                }
                Ok(())
            })
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.is_owned() {
            // To close it would be to write into the file, and to unlock it for others.
            std::mem::forget(self.database.get_mut().take());
        }
    }
}

impl Shared {
    pub(crate) fn is_owned(&self) -> bool {
        self.process == std::process::id()
    }

    fn owned(&self) -> Result<(), QuotaFileError> {
        if self.is_owned() { Ok(()) } else { Err(QuotaFileError::InUse { path: self.path.clone() }) }
    }

    pub(crate) fn records(&self) -> Result<Vec<QuotaRecord>, QuotaFileError> {
        self.act(|database| {
            let table = database.begin_read()?.open_table(USE)?;
            let mut records = Vec::new();
            for record in table.iter()? {
                let (key, raw) = record?;
                let Value { period_start, period_end, used } = Value::read(key.value(), raw.value())?;
                let (store, limit, key) = key.value();
                let (store, limit, key) = (store.to_owned(), limit.to_owned(), key.to_owned());
                records.push(QuotaRecord { store, limit, key, period_start, period_end, used });
            }
            Ok(records)
        })
    }

    pub(crate) fn act<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, QuotaFileError> {
        // Before any lock, which a thread of the parent may have held.
        self.owned()?;
        let database = {
            let mut database = self.database.lock();
            match &*database {
                Some(database) => database.clone(),
                None => database.insert(Arc::new(open(&self.path)?)).clone(),
            }
        };
        let done = attempt(&self.path, || act(&database));
        if done.is_err() {
            let mut kept = self.database.lock();
            if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &database)) {
                *kept = None;
            }
        }
        done
    }
}

/// One transaction over the records: synced when it returns.
pub(crate) fn write(
    database: &Database,
    change: impl FnOnce(&mut Records<'_>) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut records = Records::of(write.open_table(USE)?);
        change(&mut records)?;
        let mut about = write.open_table(ABOUT)?;
        let sum = about.get(SUM)?.map_or(0, |sum| sum.value());
        about.insert(SUM, sum ^ records.change)?;
    }
    write.commit()?;
    Ok(())
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.create_with_file_format_v3(true);
    builder
}

/// Whether a panic is redb's own, by a damaged file. It does not go on: [`QuotaFileError::Damaged`] tells it. For programs whose panic
/// hook would print it besides.
///
/// ```
/// let print = std::panic::take_hook();
/// std::panic::set_hook(Box::new(move |panic| {
///     if !tokenweir_redb::is_told(panic) {
///         print(panic);
///     }
/// }));
/// ```
pub fn is_told(panic: &std::panic::PanicHookInfo<'_>) -> bool {
    let folder = |at: &std::panic::Location<'_>| {
        Path::new(at.file()).components().any(|part| part.as_os_str().to_string_lossy().starts_with("redb-"))
    };
    panic.location().is_some_and(folder)
}

/// Does something with a database. What the file makes redb panic by, damage that it takes for a mistake of its own, is an
/// error like any other.
fn attempt<T, E: Into<redb::Error>>(path: &Path, act: impl FnOnce() -> Result<T, E>) -> Result<T, QuotaFileError> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|error| explained(path, error.into())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            let said: Vec<&str> = said.unwrap_or_default().split_whitespace().collect();
            Err(QuotaFileError::Damaged {
                path: path.into(),
                reason: format!("its pages do not fit ({})", said.join(" ")),
            })
        }
    }
}

fn explained(path: &Path, error: redb::Error) -> QuotaFileError {
    let path = path.to_path_buf();
    match error {
        redb::Error::DatabaseAlreadyOpen => QuotaFileError::InUse { path },
        redb::Error::UpgradeRequired(version) => {
            QuotaFileError::Damaged { path, reason: format!("redb's file format {version} is too old") }
        }
        // It takes nothing more after an error, which has been told; the next call opens it anew.
        redb::Error::PreviousIo => {
            let source =
                io::Error::other("the file could not be read or written before; it is opened anew by the next call");
            QuotaFileError::Io { path, source }
        }
        redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => QuotaFileError::Io { path, source },
        other => QuotaFileError::Damaged { path, reason: other.to_string() },
    }
}

/// Opens a file that is there.
fn open(path: &Path) -> Result<Database, QuotaFileError> {
    let found = fs::metadata(path).map_err(|source| QuotaFileError::Io { path: path.into(), source })?;
    if found.is_dir() {
        let source = io::Error::new(io::ErrorKind::IsADirectory, "it is a directory; name a file in it");
        return Err(QuotaFileError::Io { path: path.into(), source });
    }
    if found.len() == 0 {
        // redb would make a new database of it.
        return Err(QuotaFileError::Damaged { path: path.into(), reason: "it is empty".to_owned() });
    }
    let database = attempt(path, || builder().open(path))?;
    check(path, &database)?;
    Ok(database)
}

/// Whether its tables are of the format that is known, and have what was written.
fn check(path: &Path, database: &Database) -> Result<(), QuotaFileError> {
    let found = attempt(path, || -> Result<u64, redb::Error> {
        let read = database.begin_read()?;
        let about = read.open_table(ABOUT)?;
        let version = about.get("version")?.map_or(0, |version| version.value());
        if version == VERSION {
            let mut sum = about.get(SUM)?.map_or(0, |sum| sum.value());
            for record in read.open_table(USE)?.iter()? {
                let (key, raw) = record?;
                sum ^= Value::read(key.value(), raw.value())?.checksum(key.value());
            }
            if sum != 0 {
                return Err(redb::Error::Corrupted("a record is missing".to_owned()));
            }
        }
        Ok(version)
    })?;
    if found == VERSION {
        return Ok(());
    }
    Err(QuotaFileError::Version { path: path.into(), found, known: VERSION })
}

/// Makes the tables, unless they are there.
fn begin(path: &Path, database: &Database) -> Result<(), QuotaFileError> {
    attempt(path, || -> Result<(), redb::Error> {
        let write = database.begin_write()?;
        {
            let mut about = write.open_table(ABOUT)?;
            if about.get("version")?.is_none() {
                about.insert("version", VERSION)?;
                write.open_table(USE)?;
            }
        }
        write.commit()?;
        Ok(())
    })
}

fn make(path: &Path) -> Result<(), QuotaFileError> {
    make_with(path, |_| Ok(()))
}

/// Makes the file beside its place and moves it there when it is whole: a crash leaves no half a file.
fn make_with(path: &Path, fill: impl FnOnce(&Database) -> Result<(), redb::Error>) -> Result<(), QuotaFileError> {
    let failed = |source| QuotaFileError::Io { path: path.into(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let made = (|| {
        // One that a crash has left may be the file itself by another name: it is taken away, not written over.
        let _ = fs::remove_file(&beside);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&beside).map_err(failed)?;
        let database = attempt(path, || builder().create_file(file))?;
        begin(path, &database)?;
        attempt(path, || fill(&database))?;
        drop(database);
        // Not over another's that has come meanwhile.
        fs::hard_link(&beside, path).map_err(failed)
    })();
    let _ = fs::remove_file(&beside);
    made?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where a directory cannot be synced it need not be.
    if cfg!(unix) { File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed) } else { Ok(()) }
}
