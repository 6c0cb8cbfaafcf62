//! Where the use of quotas is kept, so that it outlives the process.
//!
//! A limiter with a [`Store`] decides in memory as any other. It records use *before* it is spent, a lease at a time: the
//! store says "at least so much may be used", and requests are charged up to there without asking it. A process that is
//! killed at any instant leaves behind at least what was used, and at most one lease more.

use crate::policy::decode_key;
use std::fmt;

/// A counter, by the same name in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CounterName<'a> {
    /// The limit's name, meter, period and scope, as JSON. A change in any of them is another counter.
    pub limit: &'a str,
    /// The values of the scope, encoded so that different ones are never alike. Any bytes.
    pub key: &'a [u8],
}

impl<'a> CounterName<'a> {
    /// The counter of a limit with these scope values.
    pub fn new(limit: &'a str, key: &'a [u8]) -> Self {
        CounterName { limit, key }
    }

    /// What the name says, for whoever looks at a store.
    pub fn read(&self) -> NamedCounter {
        // A limit that no limiter has named so is shown as it is.
        let read = serde_json::from_str::<(String, String, String, Vec<String>)>(self.limit);
        let (limit, meter, period, scope) =
            read.unwrap_or_else(|_| (self.limit.to_owned(), String::new(), String::new(), vec![]));
        NamedCounter { limit, meter, period, scope: decode_key(&scope, self.key) }
    }
}

/// What a [`CounterName`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedCounter {
    /// The limit's name.
    pub limit: String,
    /// Its meter, as a policy writes it.
    pub meter: String,
    /// Its period, with zone and anchor.
    pub period: String,
    /// Its scope: each part with its value.
    pub scope: Vec<(String, Vec<u8>)>,
}

/// What a store has of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The start of the newest period that anything was recorded in: wall time, nanoseconds since 1970-01-01T00:00:00Z.
    pub period_start: i64,
    /// How much of that period's amount may have been used.
    pub used: u64,
}

/// What is to be recorded of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark<'a> {
    /// Which counter.
    pub counter: CounterName<'a>,
    /// The period: wall time, nanoseconds since 1970-01-01T00:00:00Z.
    pub period_start: i64,
    /// When it is over, after which nobody asks for it any more; `i64::MAX` if never.
    pub period_end: i64,
    /// From now on this much may be used.
    pub used: u64,
    /// What was recorded of this period beyond it is given back. Otherwise a record that says more stays.
    pub lower: bool,
}

impl<'a> Mark<'a> {
    /// So much of a period may be used; what is recorded beyond it stays.
    pub fn new(counter: CounterName<'a>, period_start: i64, period_end: i64, used: u64) -> Self {
        Mark { counter, period_start, period_end, used, lower: false }
    }

    /// What a store has once this is recorded over what it had; `None` if it is passed over.
    pub fn over(&self, before: Option<Recorded>) -> Option<Recorded> {
        let Mark { period_start, used, .. } = *self;
        match before {
            Some(before) if before.period_start > period_start => None,
            Some(before) if before.period_start == period_start && !self.lower => {
                Some(Recorded { period_start, used: before.used.max(used) })
            }
            _ => Some(Recorded { period_start, used }),
        }
    }
}

/// Keeps the use of quotas for one limiter.
///
/// It is called by whichever thread needs it, but [`record`](Store::record) by one at a time. Neither call comes while a
/// request is decided within its lease: they happen when a caller is seen for the first time, when a lease has run out
/// before it was renewed, and when the host renews leases ([`Limiter::renew_leases`](crate::Limiter::renew_leases)).
/// Whoever waits for a call waits for as long as it takes: give it a deadline of its own if it can hang.
///
/// Two limiters must not have the same counters in one store at a time.
pub trait Store: Send + Sync + fmt::Debug {
    /// What is recorded of a counter; `None` if nothing is.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be told.
    fn recorded(&self, counter: &CounterName<'_>) -> Result<Option<Recorded>, StoreError>;

    /// Records all of these, or none, so that no crash undoes it once this has returned. An older period than the newest
    /// recorded one is passed over.
    ///
    /// # Errors
    /// [`StoreError`] if it is not certain that they are recorded.
    fn record(&self, marks: &[Mark<'_>]) -> Result<(), StoreError>;

    /// A lease has come near its end: whoever renews leases in the background is to be woken. Called on the path of a
    /// request, once for each lease: it must not wait.
    fn running_low(&self) {}
}

/// A store could not read or record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct StoreError {
    reason: String,
}

impl StoreError {
    /// What went wrong, for whoever operates the store.
    pub fn new(reason: impl fmt::Display) -> Self {
        StoreError { reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_limit_and_whose() {
        let read =
            CounterName::new(r#"["month","total","monthly",["project","key:user"]]"#, b"\x06search\x02\xff\x00").read();
        assert_eq!((&*read.limit, &*read.meter, &*read.period), ("month", "total", "monthly"));
        let scope: Vec<(&str, &[u8])> = read.scope.iter().map(|(part, value)| (&**part, &**value)).collect();
        assert_eq!(scope, [("project", &b"search"[..]), ("key:user", b"\xff\0")]);
    }

    #[test]
    fn a_mark_is_recorded_over_an_older_period_and_over_less_unless_it_gives_back() {
        let over = |period_start, used, lower| {
            let mark = Mark { lower, ..Mark::new(CounterName::new("month", b""), period_start, 30, used) };
            mark.over(Some(Recorded { period_start: 10, used: 5 })).map(|after| (after.period_start, after.used))
        };
        assert_eq!([over(9, 7, false), over(9, 7, true)], [None, None]);
        assert_eq!([over(10, 4, false), over(10, 6, false), over(10, 4, true)], [5, 6, 4].map(|used| Some((10, used))));
        assert_eq!(over(20, 1, false), Some((20, 1)));
        assert_eq!(Mark::new(CounterName::new("month", b""), 0, 10, 3).over(None).map(|after| after.used), Some(3));
    }

    #[test]
    fn a_name_of_another_kind_is_shown_as_it_is() {
        let read = CounterName::new("month", b"\x06search").read();
        assert_eq!((&*read.limit, &*read.meter, &*read.period, read.scope.len()), ("month", "", "", 0));
    }
}
