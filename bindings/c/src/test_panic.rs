//! A clock that panics, and thereby the engine in the midst of a call. Only in builds with the feature `test-panic`, and
//! in no header.

use crate::border::{guarded, handle, shared};
use crate::clock::tokenweir_clock;
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokenweir::{Clock, SystemClock};

/// Whether clocks of this kind panic.
static PANICS: AtomicBool = AtomicBool::new(false);

struct Panicking(SystemClock);

impl Clock for Panicking {
    fn mono(&self) -> u64 {
        assert!(!PANICS.load(Relaxed), "provoked");
        self.0.mono()
    }
    fn wall(&self) -> i64 {
        self.0.wall()
    }
}

/// The system's clocks, as long as they do not panic.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_test_clock_new(
    clock: *mut *mut tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks of its like.
    unsafe {
        guarded(error, || {
            handle(clock, "clock")?.give(tokenweir_clock::other(Arc::new(Panicking(SystemClock::new()))));
            Ok(())
        })
    }
}

/// Has every reading of such a clock panic, or no longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_test_clock_panics(
    yes: *const u32,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks of its like.
    unsafe {
        guarded(error, || {
            PANICS.store(*shared(yes, "yes")? != 0, Relaxed);
            Ok(())
        })
    }
}
