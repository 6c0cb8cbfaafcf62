//! Clocks.

use crate::border::{Failure, free, guarded, handle, place, shared};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::values::tokenweir_now;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{Clock, CoarseClock, LimiterBuilder, ManualClock, Now, SystemClock};

/// Where a limiter's time comes from: the system's clocks, a coarse clock that the host ticks, or a manual one that the
/// host sets.
///
/// Ownership: the caller's, until tokenweir_clock_free(). Limiters that were made with it keep what they need of it, so
/// it may be freed before them. Threads: any number may use it at once, to read as to tick or set.
pub struct tokenweir_clock(Kind);

enum Kind {
    System(Arc<SystemClock>),
    Coarse(Arc<CoarseClock>),
    Manual(Arc<ManualClock>),
    #[cfg(feature = "test-panic")]
    Other(Arc<dyn Clock>),
}

impl tokenweir_clock {
    #[cfg(feature = "test-panic")]
    pub(crate) fn other(clock: Arc<dyn Clock>) -> Self {
        tokenweir_clock(Kind::Other(clock))
    }

    pub(crate) fn drive(&self, builder: LimiterBuilder) -> LimiterBuilder {
        match &self.0 {
            Kind::System(clock) => builder.clock(clock.clone()),
            Kind::Coarse(clock) => builder.clock(clock.clone()),
            Kind::Manual(clock) => builder.clock(clock.clone()),
            #[cfg(feature = "test-panic")]
            Kind::Other(clock) => builder.clock(clock.clone()),
        }
    }

    pub(crate) fn shared(&self) -> Arc<dyn Clock> {
        match &self.0 {
            Kind::System(clock) => clock.clone(),
            Kind::Coarse(clock) => clock.clone(),
            Kind::Manual(clock) => clock.clone(),
            #[cfg(feature = "test-panic")]
            Kind::Other(clock) => clock.clone(),
        }
    }

    fn now(&self) -> Now {
        match &self.0 {
            Kind::System(clock) => clock.now(),
            Kind::Coarse(clock) => clock.now(),
            Kind::Manual(clock) => clock.now(),
            #[cfg(feature = "test-panic")]
            Kind::Other(clock) => clock.now(),
        }
    }

    fn manual(&self) -> Result<&ManualClock, Failure> {
        match &self.0 {
            Kind::Manual(clock) => Ok(clock),
            _ => Err(Failure::ClockKind("manual")),
        }
    }
}

/// Makes the operating system's clocks: monotonic time from now on, and wall time. On Linux the monotonic one does not
/// advance while the machine is suspended. A limiter that is given no clock has one of these.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_new_system(
    clock: *mut *mut tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let clock = handle(clock, "clock")?;
            clock.give(tokenweir_clock(Kind::System(Arc::new(SystemClock::new()))));
            Ok(())
        })
    }
}

/// Makes the operating system's clocks, whose monotonic time began `past_ns` nanoseconds ago, or now where the platform
/// cannot say when that was. For a limiter that takes up the counters of another process: what its windows counted lies
/// before its own beginning, so give it the length of the longest window.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_new_system_with_past(
    past_ns: u64,
    clock: *mut *mut tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let clock = handle(clock, "clock")?;
            let system = SystemClock::with_past(Duration::from_nanos(past_ns));
            clock.give(tokenweir_clock(Kind::System(Arc::new(system))));
            Ok(())
        })
    }
}

/// Makes a clock that shows the present instant until the first tokenweir_clock_tick(), for event loops that keep a
/// cached time: reading it costs next to nothing, and every decision until the next tick sees the same instant.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_new_coarse(
    clock: *mut *mut tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let clock = handle(clock, "clock")?;
            clock.give(tokenweir_clock(Kind::Coarse(Arc::new(CoarseClock::new()))));
            Ok(())
        })
    }
}

/// Makes a clock that shows `now` (NULL: zero and zero) until it is set or advanced, for tests and simulation.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_new_manual(
    now: *const tokenweir_now,
    clock: *mut *mut tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let clock = handle(clock, "clock")?;
            let now = tokenweir_now::read(now).unwrap_or_default();
            clock.give(tokenweir_clock(Kind::Manual(Arc::new(ManualClock::new(now)))));
            Ok(())
        })
    }
}

/// What the clock shows.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_now(
    clock: *const tokenweir_clock,
    now: *mut tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (clock, now) = (shared(clock, "clock")?, place(now, "now")?);
            now.put(clock.now().into());
            Ok(())
        })
    }
}

/// Makes a coarse clock show the present instant.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_tick(
    clock: *const tokenweir_clock,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || match &shared(clock, "clock")?.0 {
            Kind::Coarse(clock) => {
                clock.tick();
                Ok(())
            }
            _ => Err(Failure::ClockKind("coarse")),
        })
    }
}

/// Makes a manual clock show `now`. It may go backwards.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_set(
    clock: *const tokenweir_clock,
    now: *const tokenweir_now,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (clock, now) = (shared(clock, "clock")?, shared(now, "now")?);
            clock.manual()?.set(now.into());
            Ok(())
        })
    }
}

/// Moves both readings of a manual clock on by `nanoseconds`.
///
/// Codes: NULL_ARGUMENT, CLOCK_KIND.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_advance(
    clock: *const tokenweir_clock,
    nanoseconds: u64,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            shared(clock, "clock")?.manual()?.advance(nanoseconds);
            Ok(())
        })
    }
}

/// Frees a clock. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_clock_free(clock: *mut tokenweir_clock) {
    // SAFETY: NULL or a clock of ours that nobody uses any more, as the header asks.
    unsafe { free(clock) }
}
