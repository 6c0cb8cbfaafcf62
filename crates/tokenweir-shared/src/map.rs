//! The one thing that needs `unsafe`: the words of a file, mapped.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;
use std::sync::{LazyLock, Mutex, MutexGuard, TryLockError};

type Mapped = HashMap<(u64, u64), &'static [AtomicU64]>;

/// What this process has mapped, by device and inode. While a file is mapped its inode is not used again.
static MAPPED: LazyLock<Mutex<Mapped>> = LazyLock::new(Mutex::default);

/// The table; none if somebody has it for long: then it was locked when this process was forked off, and stays so.
fn take() -> Option<MutexGuard<'static, Mapped>> {
    for _ in 0..1_000_000 {
        match MAPPED.try_lock() {
            Ok(mapped) => return Some(mapped),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
    None
}

/// The first `words` words of a file, which has as many. They stay mapped as long as the process lives, once for each file.
pub(crate) fn map(file: &File, words: usize) -> io::Result<&'static [AtomicU64]> {
    let metadata = file.metadata()?;
    let bytes = words.checked_mul(size_of::<AtomicU64>()).filter(|bytes| *bytes > 0 && *bytes as u64 <= metadata.len());
    let bytes = bytes
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than its header says"))?;
    let mut mapped = take().ok_or(io::ErrorKind::WouldBlock)?;
    let known = (metadata.dev(), metadata.ino());
    if let Some(words) = mapped.get(&known) {
        return Ok(words);
    }
    // SAFETY: a new mapping at a place of the system's choosing touches no memory that is in use. The arguments are a file
    // that is open for reading and writing, and a length that is not 0.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `start` is the beginning of `bytes` bytes that are mapped for reading and writing and are never unmapped; a
    // page's beginning is aligned for a word, and any bits are an `AtomicU64`. Within this process nothing else refers to
    // them, and other processes change them by atomic operations only. (A file that somebody cuts short is a fault at the
    // access; it is its user's alone.)
    let words: &'static [AtomicU64] = unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), words) };
    mapped.insert(known, words);
    Ok(words)
}
