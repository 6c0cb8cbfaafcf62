//! Time: monotonic nanoseconds for rates, wall time for calendar periods.
//!
//! Only the outermost layer reads a clock, once per call; everything below takes [`Now`] as an argument. A host
//! that already knows the time passes it in, and a test owns it ([`ManualClock`]).

use std::sync::Arc;
// Clocks are not part of any race that is model-checked, so they use std's atomics under loom too.
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of a clock.
///
/// `mono` counts nanoseconds from an origin of the clock's own choosing and is what buckets and windows run on.
/// `wall` counts nanoseconds from 1970-01-01T00:00:00Z and is what calendar quotas run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic nanoseconds. Valid to `2^63 - 1` (292 years); later instants are treated as that one.
    pub mono: u64,
    /// Wall-clock nanoseconds since 1970-01-01T00:00:00Z, negative before it (1677 to 2262).
    pub wall: i64,
}

impl Now {
    /// Both readings, in nanoseconds.
    pub const fn new(mono: u64, wall: i64) -> Self {
        Now { mono, wall }
    }

    /// The same number of nanoseconds since 1970 for both readings: recorded traces have only one time line.
    pub const fn at(nanos_since_1970: u64) -> Self {
        let wall = if nanos_since_1970 > i64::MAX as u64 { i64::MAX } else { nanos_since_1970 as i64 };
        Now { mono: nanos_since_1970, wall }
    }
}

/// A source of time. Implementations must be cheap, must not block, and may be read from any thread at once.
pub trait Clock: Send + Sync {
    /// Monotonic nanoseconds since an origin that stays fixed for the life of the clock.
    ///
    /// A reading that is behind an earlier one is taken as no time having passed.
    fn mono(&self) -> u64;

    /// Nanoseconds since 1970-01-01T00:00:00Z. May step in either direction.
    fn wall(&self) -> i64;

    /// Both at once.
    fn now(&self) -> Now {
        Now { mono: self.mono(), wall: self.wall() }
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn mono(&self) -> u64 {
        (**self).mono()
    }
    fn wall(&self) -> i64 {
        (**self).wall()
    }
    fn now(&self) -> Now {
        (**self).now()
    }
}

/// The operating system's clocks: [`Instant`] and [`SystemTime`].
///
/// On Linux the monotonic clock does not advance while the machine is suspended.
///
/// [`now`](Clock::now) reads the wall clock once in a millisecond and reckons it from the monotonic clock in between: a
/// step of the wall clock shows a millisecond late at most. [`wall`](Clock::wall) reads it each time.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
    /// By how much the wall clock was ahead of the monotonic reading, and when (monotonic nanoseconds) that was seen.
    ahead: AtomicI64,
    seen: AtomicU64,
}

/// For so long, in nanoseconds, the two clocks are taken to run alike.
const ALIKE: u64 = 1_000_000;

impl SystemClock {
    /// A clock whose monotonic origin is this instant.
    pub fn new() -> Self {
        Self::since(Instant::now())
    }

    /// A clock whose monotonic origin lies so far back, or is this instant where the platform cannot say when that was.
    ///
    /// For a limiter that takes up the counters of another process: what its windows counted lies before its own beginning.
    pub fn with_past(past: Duration) -> Self {
        let now = Instant::now();
        Self::since(now.checked_sub(past).unwrap_or(now))
    }

    fn since(origin: Instant) -> Self {
        let clock = SystemClock { origin, ahead: AtomicI64::new(0), seen: AtomicU64::new(0) };
        clock.compare(clock.mono());
        clock
    }

    /// Reads the wall clock at `mono`.
    #[cold]
    fn compare(&self, mono: u64) -> i64 {
        let wall = self.wall();
        // Either may be another thread's: each is true of some moment of the last millisecond.
        self.ahead.store(wall.saturating_sub_unsigned(mono), Relaxed);
        self.seen.store(mono, Relaxed);
        wall
    }
}

impl Clone for SystemClock {
    fn clone(&self) -> Self {
        let (ahead, seen) = (self.ahead.load(Relaxed).into(), self.seen.load(Relaxed).into());
        SystemClock { origin: self.origin, ahead, seen }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> u64 {
        saturating_nanos(self.origin.elapsed().as_nanos())
    }

    fn wall(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => saturating_nanos(since.as_nanos()) as i64,
            Err(before) => -(saturating_nanos(before.duration().as_nanos()) as i64),
        }
    }

    fn now(&self) -> Now {
        let mono = self.mono();
        // A thread with an older clock than the last comparison's is near enough to it as well.
        let wall = if mono < self.seen.load(Relaxed).saturating_add(ALIKE) {
            self.ahead.load(Relaxed).saturating_add_unsigned(mono)
        } else {
            self.compare(mono)
        };
        Now { mono, wall }
    }
}

/// Clamps to `0..=i64::MAX`, the range both readings share.
fn saturating_nanos(nanos: u128) -> u64 {
    nanos.min(i64::MAX as u128) as u64
}

/// A clock that the host moves on: reading it is one atomic load.
///
/// Event loops already keep a cached time (nginx, libuv, Envoy). Call [`tick`](CoarseClock::tick) once per turn of
/// the loop; every decision until the next tick sees that instant. What it costs is exactness of time, never of
/// counting: a bucket refills late by at most the interval between ticks, and a window or an interval of the
/// guarantees S1 and S2 is stretched by at most that interval.
#[derive(Debug)]
pub struct CoarseClock {
    source: SystemClock,
    mono: AtomicU64,
    wall: AtomicI64,
}

impl CoarseClock {
    /// A clock that shows the present instant until the first tick.
    pub fn new() -> Self {
        let source = SystemClock::new();
        let (mono, wall) = (AtomicU64::new(source.mono()), AtomicI64::new(source.wall()));
        CoarseClock { source, mono, wall }
    }

    /// Reads the system's clocks and shows that instant from now on. Any thread may call it.
    pub fn tick(&self) {
        self.mono.fetch_max(self.source.mono(), Relaxed);
        self.wall.store(self.source.wall(), Relaxed);
    }
}

impl Default for CoarseClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for CoarseClock {
    fn mono(&self) -> u64 {
        self.mono.load(Relaxed)
    }
    fn wall(&self) -> i64 {
        self.wall.load(Relaxed)
    }
}

/// A clock that stands still until it is told otherwise, for tests, simulation and replay. It may go backwards.
#[derive(Debug, Default)]
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Now) -> Self {
        ManualClock { mono: AtomicU64::new(now.mono), wall: AtomicI64::new(now.wall) }
    }

    /// Shows `now` from here on.
    pub fn set(&self, now: Now) {
        self.mono.store(now.mono, Relaxed);
        self.wall.store(now.wall, Relaxed);
    }

    /// Moves both readings on by `nanos` nanoseconds, saturating.
    pub fn advance(&self, nanos: u64) {
        self.mono.store(self.mono.load(Relaxed).saturating_add(nanos), Relaxed);
        self.wall.store(self.wall.load(Relaxed).saturating_add_unsigned(nanos), Relaxed);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> u64 {
        self.mono.load(Relaxed)
    }
    fn wall(&self) -> i64 {
        self.wall.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_stands_moves_and_goes_back() {
        let clock = ManualClock::new(Now::new(5, -7));
        assert_eq!(clock.now(), Now::new(5, -7));
        clock.advance(10);
        assert_eq!(clock.now(), Now::new(15, 3));
        clock.set(Now::new(1, 1));
        assert_eq!(clock.now(), Now::new(1, 1));
        clock.advance(u64::MAX);
        assert_eq!(clock.now(), Now::new(u64::MAX, i64::MAX));
    }

    #[test]
    fn coarse_clock_moves_only_on_tick() {
        let clock = CoarseClock::new();
        let first = clock.now();
        while clock.source.mono() == first.mono {}
        assert_eq!(clock.now(), first);
        clock.tick();
        assert!(clock.mono() > first.mono);
    }

    #[test]
    fn the_system_clock_reckons_wall_time_to_a_millisecond() {
        let clock = SystemClock::new();
        let mut compared = 0;
        while compared < 3 {
            let seen = clock.seen.load(Relaxed);
            let before = clock.wall();
            let now = clock.now();
            let after = clock.wall();
            // The machine's wall clock may be slewed meanwhile, by far less than this.
            assert!(before - 1_000_000 <= now.wall && now.wall <= after + 1_000_000, "{before} {now:?} {after}");
            compared += u32::from(clock.seen.load(Relaxed) != seen);
        }
    }

    #[test]
    fn a_clock_may_have_a_past() {
        let past = Duration::from_secs(366 * 86_400);
        let clock = SystemClock::with_past(past);
        if cfg!(target_os = "linux") {
            assert!(clock.mono() >= past.as_nanos() as u64);
        }
        assert!(SystemClock::with_past(Duration::MAX).mono() < past.as_nanos() as u64);
    }

    #[test]
    fn system_clock_is_after_2020_and_monotonic() {
        let clock = SystemClock::new();
        assert!(clock.wall() > 1_577_836_800_000_000_000);
        let a = clock.mono();
        assert!(clock.mono() >= a);
    }
}
