//! The clock that all processes of a host have in common.

use std::time::{SystemTime, UNIX_EPOCH};
use tokenweir::Clock;

/// The system's clocks; the monotonic one counts from the start of the machine, in every process alike.
///
/// It does not advance while the machine is suspended. Processes in different time name spaces may see different ones: they
/// must not share a region.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn mono(&self) -> u64 {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of our own. The call cannot fail for this clock.
        #[allow(unsafe_code)]
        unsafe {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        }
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn wall(&self) -> i64 {
        let nanos = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => nanos(since),
            Err(before) => -nanos(before.duration()),
        }
    }
}
