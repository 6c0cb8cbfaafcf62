//! The atomics and locks of all that a model checker is to see: std's and parking_lot's, or those of the checker: loom's
//! (`--cfg loom`, the interleavings of a few words with up to three preemptions) or shuttle's (`--cfg shuttle`, many
//! interleavings of whole scenes). What names std's itself is seen by neither.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

#[cfg(not(shuttle))]
pub(crate) use parking_lot::Mutex;
#[cfg(shuttle)]
pub(crate) use scheduled::Mutex;

pub(crate) use std::sync::atomic::Ordering;

/// Between a SeqCst write and a SeqCst read. The one order of all SeqCst operations is enough; loom knows it of fences only.
#[inline(always)]
pub(crate) fn in_one_order() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Whatever this thread has written is seen, or it sees whatever another has written that comes here as well.
#[inline(always)]
pub(crate) fn fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(Ordering::SeqCst);
    // Shuttle's atomics are in one order as they are.
    #[cfg(not(any(loom, shuttle)))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// One plain 64-bit word of a counter. Counters are nothing but words, so that they may live anywhere.
pub(crate) type Word = AtomicU64;

/// What parking_lot has, as far as it is used here, under shuttle's scheduler.
#[cfg(shuttle)]
mod scheduled {
    use shuttle::sync::{Mutex as Scheduled, MutexGuard, TryLockError};

    pub(crate) struct Mutex<T>(Scheduled<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(Scheduled::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }
}
