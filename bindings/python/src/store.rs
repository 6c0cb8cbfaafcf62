//! Quotas that outlive the process: a file, and a limiter's part of it.

use crate::convert::scope_dict;
use crate::errors::bad_quota_file;
use crate::value::value;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A file in which limiters keep the use of their quotas; it is made if there is none, readable and writable by its owner
/// alone.
///
/// A limiter with such a store decides in memory as any other; what it may use is recorded in the file a lease ahead, synced
/// before it counts. After a kill or a power cut the recovered use is never below the real one, and above it by a lease at
/// most; after Limiter.close() it is exact.
///
/// One process has a file open at a time. One that is forked from it gets QuotaFileError, and its limiters with a store in
/// the file StoreError: open the file in the process that uses it. Every method may be called from any thread at once;
/// other threads run while it waits for the disk. Raises QuotaFileError.
#[pyclass(frozen, weakref, module = "tokenweir")]
pub struct QuotaFile {
    path: PathBuf,
    file: Mutex<Option<tokenweir_redb::QuotaFile>>,
}

impl QuotaFile {
    fn file(&self) -> PyResult<tokenweir_redb::QuotaFile> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        file.ok_or_else(|| PyValueError::new_err(format!("{} was closed; open it anew", self.path.display())))
    }
}

#[pymethods]
impl QuotaFile {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        if path.as_os_str().is_empty() {
            return Err(PyValueError::new_err("path is empty; give the place of a file"));
        }
        let file = py.detach(|| tokenweir_redb::QuotaFile::open(&path)).map_err(bad_quota_file)?;
        Ok(QuotaFile { path, file: Mutex::new(Some(file)) })
    }

    /// The file's place, as it was given.
    #[getter]
    fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// The store of this name, for one limiter: `Limiter(policy, store=file.store("gateway"))`. By the name it is found again.
    /// Raises QuotaFileError (1014) while another store of this name is there.
    fn store(&self, name: &str) -> PyResult<QuotaStore> {
        if name.is_empty() {
            return Err(PyValueError::new_err("name is empty; name the store, so that it is found again"));
        }
        let store = self.file()?.store(name).map_err(bad_quota_file)?;
        Ok(QuotaStore { name: name.to_owned(), store: Mutex::new(Some(Arc::new(store))) })
    }

    /// Writes a copy of the file as it is at some instant of the call, to a path where there is nothing. Requests go on
    /// meanwhile. Whoever goes on with a copy goes on with the use of that moment.
    fn backup(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let file = self.file()?;
        py.detach(|| file.backup(path)).map_err(bad_quota_file)
    }

    /// All that is recorded, as it is at some instant of the call: a QuotaRecord for each counter.
    fn records(&self, py: Python<'_>) -> PyResult<Vec<QuotaRecord>> {
        let file = self.file()?;
        let records = py.detach(|| file.records()).map_err(bad_quota_file)?;
        records.into_iter().map(|record| QuotaRecord::of(py, record)).collect()
    }

    /// Lets go of the file. It stays open for the stores that were made of it, until they and their limiters are gone.
    fn close(&self, py: Python<'_>) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(file));
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes it.
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let closed = self.file.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        format!("<QuotaFile {}{}>", self.path.display(), if closed { ": closed" } else { "" })
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a QuotaFile: it is open in this process; open it where it is used"))
    }
}

/// One limiter's part of a QuotaFile, which makes it. Give it to one Limiter.
#[pyclass(frozen, module = "tokenweir")]
pub struct QuotaStore {
    name: String,
    store: Mutex<Option<Arc<tokenweir_redb::QuotaStore>>>,
}

impl QuotaStore {
    /// For the limiter that it is given to.
    pub fn take(&self) -> PyResult<Arc<tokenweir_redb::QuotaStore>> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        store.ok_or_else(|| {
            let name = &self.name;
            PyValueError::new_err(format!(
                "the store {name:?} was given to a limiter before; give each a store of its own"
            ))
        })
    }
}

#[pymethods]
impl QuotaStore {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    fn __repr__(&self) -> String {
        format!("<QuotaStore {:?}>", self.name)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle a QuotaStore: its file is open in this process"))
    }
}

value! {
    /// What a QuotaFile has of one counter.
    QuotaRecord {
        /// The store's name.
        store: String,
        /// The limit's name.
        limit: String,
        /// Its meter.
        meter: String,
        /// Its period.
        period: String,
        /// Each part of the limit's scope with its value.
        scope: Py<PyDict>,
        /// When the period began: wall time, nanoseconds since 1970-01-01T00:00:00Z. None for `never`.
        period_start: Option<i64>,
        /// When it ends; None for `never`.
        period_end: Option<i64>,
        /// How much of it may have been used.
        used: u64,
    }
}

impl QuotaRecord {
    fn of(py: Python<'_>, record: tokenweir_redb::QuotaRecord) -> PyResult<Self> {
        let counter = record.counter();
        Ok(QuotaRecord {
            store: record.store,
            limit: counter.limit,
            meter: counter.meter,
            period: counter.period,
            scope: scope_dict(py, &counter.scope)?,
            period_start: (record.period_start > i64::MIN).then_some(record.period_start),
            period_end: (record.period_end < i64::MAX).then_some(record.period_end),
            used: record.used,
        })
    }
}

/// Does what may wait for a store, where there is one: other threads of Python run meanwhile.
#[inline(always)]
pub fn released<T: Send>(waits: bool, act: impl FnOnce() -> T + Send) -> T {
    if waits { waiting(act) } else { act() }
}

#[cold]
fn waiting<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    Python::attach(|py| py.detach(act))
}
