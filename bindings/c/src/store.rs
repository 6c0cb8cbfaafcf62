//! Quotas that outlive the process: a file, and how a limiter keeps its own in one.

use crate::border::{Failure, bytes, free, guarded, handle, place, plain_struct, shared, text};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::limiter::tokenweir_limiter;
use crate::text::{guarded_json, tokenweir_text};
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;
use tokenweir::{Limiter, LimiterBuilder, StoreOptions, WhenStoreFails};
use tokenweir_redb::{QuotaFile, Renewer};

/// A file in which limiters keep the use of their quotas.
///
/// A limiter with such a store decides in memory as any other; what it may use is recorded in the file a lease ahead, synced
/// before it counts. After a kill or a power cut the recovered use is never below the real one, and above it by a lease at
/// most; after the limiter was freed it is exact. One process has a file open at a time: open it after the fork in the
/// process that uses it, where it was opened before it is QUOTA_FILE_IN_USE.
///
/// Ownership: the caller's, until tokenweir_quota_file_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them; it is closed with the last of them and of their routes. Threads: any number may use it at
/// once.
pub struct tokenweir_quota_file(QuotaFile);

/// What a request comes to whose charge a store cannot record.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_when_store_fails {
    /// It is not admitted: STORE_FAILED. Nothing is charged.
    TOKENWEIR_WHEN_STORE_FAILS_REFUSE = 0,
    /// It is decided by what is known in memory, and recorded when the store answers again. A counter
    /// that could not be read begins with nothing used; from then on nothing is given back to the store.
    TOKENWEIR_WHEN_STORE_FAILS_ADMIT = 1,
}

/// Who renews leases before they run out.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_lease_renewal {
    /// A thread that the limiter starts, and stops when it is freed. A fork does not take it along: make the limiter in the
    /// process that uses it.
    TOKENWEIR_LEASE_RENEWAL_IN_BACKGROUND = 0,
    /// The host, by tokenweir_limiter_renew_leases(). A request whose lease has run out before renews it itself, and waits
    /// for the disk.
    TOKENWEIR_LEASE_RENEWAL_BY_HOST = 1,
}

/// How a limiter keeps its quotas in a file; zero is the default where there is one. See tokenweir_store_options_of().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_store_options {
    /// sizeof(tokenweir_store_options).
    pub size: u32,
    /// A tokenweir_when_store_fails.
    pub when_it_fails: u32,
    /// The file.
    pub file: *const tokenweir_quota_file,
    /// The name under which the limiter's quotas are found again, in UTF-8. Limiters on one file need different ones.
    pub name: *const c_char,
    /// Its bytes.
    pub name_length: usize,
    /// A lease is one part of so many of a quota's amount, at least 1 token: what a killed process may at most leave behind
    /// as used beyond what it has used. 0: 100. There is a write for about every half of a lease that is used.
    pub lease_part: u64,
    /// A tokenweir_lease_renewal.
    pub renewal: u32,
    /// Zero.
    pub reserved0: u32,
    /// Zero.
    pub reserved: [u64; 4],
}

plain_struct!(tokenweir_store_options, reserved0 = 0, reserved = [0; 4]);

impl tokenweir_store_options {
    /// A limiter with this store, and what renews its leases and gives them back.
    ///
    /// # Safety
    /// The file is NULL or live, and the name as long as is said.
    pub(crate) unsafe fn build(&self, builder: LimiterBuilder) -> Result<(Limiter, Renewer), Failure> {
        // SAFETY: the caller's word.
        let (file, name) =
            unsafe { (shared(self.file, "store.file")?, text(self.name, self.name_length, "the name of the store")?) };
        let mut options = StoreOptions::new().when_it_fails(match self.when_it_fails {
            0 => WhenStoreFails::Refuse,
            1 => WhenStoreFails::Admit,
            given => {
                let remedy = "give a tokenweir_when_store_fails";
                return Err(Failure::Argument { what: "store.when_it_fails", given: given.into(), remedy });
            }
        });
        if self.lease_part > 0 {
            options = options.lease_part(self.lease_part);
        }
        if self.renewal > 1 {
            let remedy = "give a tokenweir_lease_renewal";
            return Err(Failure::Argument { what: "store.renewal", given: self.renewal.into(), remedy });
        }
        let store = Arc::new(file.0.store(name)?);
        let limiter = builder.store(store.clone(), options).build();
        let renewer = match self.renewal {
            0 => Renewer::start(&limiter, &store).map_err(Failure::NoThread)?,
            _ => Renewer::without_thread(&limiter, &store),
        };
        Ok((limiter, renewer))
    }
}

/// # Safety
/// As for [`bytes`].
pub(crate) unsafe fn path<'a>(data: *const c_char, length: usize) -> Result<&'a Path, Failure> {
    if length == 0 {
        return Err(Failure::Argument { what: "the path's length", given: 0, remedy: "give the path of a file" });
    }
    #[cfg(unix)]
    {
        // SAFETY: the caller's word.
        let bytes = unsafe { bytes(data, length, "the path")? };
        Ok(Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes)))
    }
    #[cfg(not(unix))]
    // SAFETY: the caller's word.
    Ok(Path::new(unsafe { text(data, length, "the path")? }))
}

/// Opens a file of quotas, which is made if there is none: readable and writable by its owner alone. `path` has `length`
/// bytes (on Windows UTF-8). After a crash the last write that was synced is found again; this may take as long as reading
/// the file does. A file that is refused is left as it is.
///
/// Codes: QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, QUOTA_FILE_VERSION, QUOTA_FILE_IO, NULL_ARGUMENT, ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_quota_file_open(
    path: *const c_char,
    length: usize,
    file: *mut *mut tokenweir_quota_file,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (file, path) = (handle(file, "file")?, self::path(path, length)?);
            file.give(tokenweir_quota_file(QuotaFile::open(path)?));
            Ok(())
        })
    }
}

/// Writes a copy of the file to `path`, of `length` bytes, as it is at some instant of the call. Requests go on meanwhile.
/// Whoever goes on with a copy goes on with the use of that moment.
///
/// Codes: QUOTA_FILE_IO, if the path exists or cannot be written; QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, NULL_ARGUMENT,
/// ARGUMENT_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_quota_file_backup(
    file: *const tokenweir_quota_file,
    path: *const c_char,
    length: usize,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (file, path) = (shared(file, "file")?, self::path(path, length)?);
            Ok(file.0.backup(path)?)
        })
    }
}

/// All that is recorded, as it is at some instant of the call. In JSON: under `records` for each counter the store's name, the
/// limit's name, its meter, period and scope, period_start and period_end (wall time in nanoseconds since
/// 1970-01-01T00:00:00Z; null for `never`), and how much of it may have been used.
///
/// Codes: QUOTA_FILE_IN_USE, QUOTA_FILE_DAMAGED, QUOTA_FILE_IO, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_quota_file_records(
    file: *const tokenweir_quota_file,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded_json(json, error, || Ok(json::quota_records(&shared(file, "file")?.0.records()?))) }
}

/// Frees a file of quotas. NULL is fine. It stays open for the limiters that were made with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_quota_file_free(file: *mut tokenweir_quota_file) {
    // SAFETY: NULL or a file of ours that nobody uses any more, as the header asks.
    unsafe { free(file) }
}

/// Renews the leases that are near their end, so that no request has to wait for the disk: now and then, where no thread of
/// the limiter does. How many were renewed, 0 without a store, goes to `renewed`, which may be NULL.
///
/// Codes: STORE_FAILED, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_renew_leases(
    limiter: *const tokenweir_limiter,
    renewed: *mut u64,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let count = shared(limiter, "limiter")?.0.renew_leases()? as u64;
            if !renewed.is_null() {
                place(renewed, "renewed")?.put(count);
            }
            Ok(())
        })
    }
}

/// Gives back what is leased and not used, so that the store has exactly what is used. Requests that are admitted or settled
/// afterwards lease anew. Freeing the limiter does the same but cannot say whether it succeeded. Takes time in proportion to
/// the number of live counters.
///
/// Codes: STORE_FAILED, NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_limiter_give_back_leases(
    limiter: *const tokenweir_limiter,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded(error, || Ok(shared(limiter, "limiter")?.0.give_back_leases()?)) }
}
