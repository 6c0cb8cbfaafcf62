//! Seats: who is attached. A seat is a lock on one byte of the file, which the system lets go of when its holder ends.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{
    AtomicI32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use tokenweir::region::{ATTACHMENTS_MOST, Memory};

/// How often this process, or one that it was forked off, has been forked off.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// The open files that hold seats. A child would keep its parent's seats taken as long as it had them open.
static HELD: [AtomicI32; 256] = [const { AtomicI32::new(-1) }; 256];

extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    for held in &HELD {
        let file = held.swap(-1, Relaxed);
        if file >= 0 {
            // SAFETY: the file is a seat's. In this process, which is a child, nothing uses it any more and nothing closes
            // it: whoever has the seat asks whether it has been forked. `close` may be called here.
            unsafe { libc::close(file) };
        }
    }
}

fn watch_forks() {
    static ONCE: Once = Once::new();
    // SAFETY: the handler is a function that lives as long as the program and does only what one may do there.
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(in_child));
    });
}

/// Locks or unlocks a byte, or asks who has it. Never waits.
fn lock(file: &File, command: libc::c_int, kind: libc::c_int, seat: usize) -> io::Result<libc::c_int> {
    // SAFETY: all zeros are a `flock`.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = seat as libc::off_t;
    range.l_len = 1;
    // SAFETY: the file is open, and the pointer is to a range of our own.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &mut range) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(libc::c_int::from(range.l_type)),
    }
}

/// Whether somebody other than whoever has this file open sits there.
pub(crate) fn is_taken(file: &File, seat: usize) -> bool {
    lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, seat).is_ok_and(|kind| kind != libc::F_UNLCK)
}

/// One attachment: a seat of the region's, and its words.
#[derive(Debug)]
pub(crate) struct Attachment {
    words: &'static [AtomicU64],
    file: ManuallyDrop<File>,
    seat: usize,
    forks: u64,
    held: usize,
}

impl Attachment {
    /// Takes a free seat; `None` if there is none. The file was opened for this alone.
    pub(crate) fn new(file: File, words: &'static [AtomicU64]) -> io::Result<Option<Self>> {
        watch_forks();
        let place = HELD.iter().position(|held| held.compare_exchange(-1, file.as_raw_fd(), AcqRel, Relaxed).is_ok());
        let Some(held) = place else { return Ok(None) };
        let mut attachment =
            Attachment { words, file: ManuallyDrop::new(file), seat: 0, forks: FORKS.load(Acquire), held };
        // Whoever clears up after another has its seat for a moment: look more than once.
        for seat in (0..ATTACHMENTS_MOST).cycle().take(3 * ATTACHMENTS_MOST) {
            match lock(&attachment.file, libc::F_OFD_SETLK, libc::F_WRLCK, seat) {
                Ok(_) => {
                    attachment.seat = seat;
                    return Ok(Some(attachment));
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Memory for Attachment {
    fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    fn seat(&self) -> usize {
        self.seat
    }

    fn take(&self, seat: usize) -> bool {
        seat != self.seat && self.is_ours() && lock(&self.file, libc::F_OFD_SETLK, libc::F_WRLCK, seat).is_ok()
    }

    fn leave(&self, seat: usize) {
        if seat != self.seat && self.is_ours() {
            let _ = lock(&self.file, libc::F_OFD_SETLK, libc::F_UNLCK, seat);
        }
    }

    fn is_ours(&self) -> bool {
        FORKS.load(Relaxed) == self.forks
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.is_ours() {
            // Let go of first: a child that is forked off just now may keep the file open.
            let _ = lock(&self.file, libc::F_OFD_SETLK, libc::F_UNLCK, self.seat);
            HELD[self.held].store(-1, Release);
            // SAFETY: it is dropped here only. In a child it is closed already, and its number may be another file's.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}
