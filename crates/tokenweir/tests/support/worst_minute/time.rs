//! Time as the patterns see it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
#[derive(Debug)]
pub enum Time {
    /// Stands until it is moved on.
    Stepped(AtomicU64),
    /// The system's monotonic clock, so many times as fast: for limiters that read a clock of their own. Their minute
    /// is `MINUTE / speed` long.
    Scaled {
        /// When the run began.
        origin: Instant,
        /// Nanoseconds shown per nanosecond passed.
        speed: u64,
    },
}

impl Time {
    /// Time that stands at 0.
    pub fn stepped() -> Self {
        Time::Stepped(AtomicU64::new(0))
    }

    /// Real time from now on, so many times as fast.
    pub fn scaled(speed: u64) -> Self {
        Time::Scaled { origin: Instant::now(), speed }
    }

    /// Whether real time passes.
    pub fn is_scaled(&self) -> bool {
        matches!(self, Time::Scaled { .. })
    }

    /// The present instant.
    pub fn now(&self) -> u64 {
        match self {
            Time::Stepped(now) => now.load(SeqCst),
            Time::Scaled { origin, speed } => origin.elapsed().as_nanos() as u64 * speed,
        }
    }

    /// Returns once it is `at` or later.
    pub fn wait_until(&self, at: u64) {
        match self {
            Time::Stepped(now) => {
                now.fetch_max(at, SeqCst);
            }
            Time::Scaled { speed, .. } => {
                // The operating system wakes late: the last part of the wait is spent looking at the clock.
                let early = Duration::from_millis(1);
                let left = Duration::from_nanos(at.saturating_sub(self.now()) / speed);
                if left > early {
                    std::thread::sleep(left - early);
                }
                while self.now() < at {
                    std::hint::spin_loop();
                }
            }
        }
    }
}
