//! Instants of the control plane: wall time alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// An instant: nanoseconds since 1970-01-01T00:00:00Z (1677 to 2262). Shown and read as RFC 3339, in UTC.
///
/// # Example
/// ```
/// use tokenweir::gateway::model::Timestamp;
/// let now: Timestamp = "2026-11-23T17:30:00Z".parse()?;
/// assert_eq!(now.plus_seconds(90).to_string(), "2026-11-23T17:31:30Z");
/// # Ok::<(), tokenweir::gateway::model::TimestampError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// What is not an instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an instant: {reason}; write it like 2026-11-23T17:30:00Z")]
pub struct TimestampError {
    /// What was given.
    pub given: String,
    /// Why not.
    pub reason: String,
}

impl Timestamp {
    /// The instant that is so many nanoseconds after 1970-01-01T00:00:00Z.
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos)
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The instant `seconds` later; the last one that can be told if that is beyond it.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        let seconds = if seconds > i64::MAX as u64 / 1_000_000_000 { i64::MAX } else { seconds as i64 * 1_000_000_000 };
        Timestamp(self.0.saturating_add(seconds))
    }

    /// Whole seconds from `earlier` to this instant, rounded down; 0 if `earlier` is later.
    pub const fn seconds_since(self, earlier: Timestamp) -> u64 {
        let nanos = self.0 as i128 - earlier.0 as i128;
        if nanos <= 0 { 0 } else { (nanos / 1_000_000_000) as u64 }
    }
}

impl From<Now> for Timestamp {
    fn from(now: Now) -> Self {
        Timestamp(now.wall)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(self.0.into()) {
            Ok(instant) => write!(f, "{instant}"),
            // Cannot be: 64 bits of nanoseconds lie within jiff's range.
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let error = |reason: String| TimestampError { given: text.to_owned(), reason };
        let instant: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| error(e.to_string()))?;
        match i64::try_from(instant.as_nanosecond()) {
            Ok(nanos) => Ok(Timestamp(nanos)),
            Err(_) => Err(error("it is outside the years 1677 to 2262".to_owned())),
        }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimestampError;

    fn try_from(text: String) -> Result<Self, TimestampError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(instant: Timestamp) -> String {
        instant.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_reads_back_as_it_was_shown() {
        for nanos in [0, 1, -1, i64::MIN, i64::MAX, 1_800_000_000_123_456_789] {
            let instant = Timestamp::from_nanos(nanos);
            assert_eq!(instant.to_string().parse(), Ok(instant));
        }
        assert!("9999-01-01T00:00:00Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn spans_never_wrap() {
        let (first, last) = (Timestamp::from_nanos(i64::MIN), Timestamp::from_nanos(i64::MAX));
        assert_eq!(last.seconds_since(first), u64::MAX / 1_000_000_000);
        assert_eq!(first.seconds_since(last), 0);
        assert_eq!(last.plus_seconds(u64::MAX), last);
        assert_eq!(Timestamp::from_nanos(0).plus_seconds(2).nanos(), 2_000_000_000);
    }
}
