//! Calendar periods, zones and anchors.
//!
//! A period begins at a local instant, of a zone whose clocks jump. What makes that safe for counting is that each
//! boundary is a function of the calendar alone, never of the instant asked about: periods then tile the time line,
//! without gap or overlap, however the clocks jump.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

const SECOND: i128 = 1_000_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// 0001-01-01T00:00:00Z, a Monday, in seconds since 1970: the anchor of periods that name none.
pub(super) const DEFAULT_ANCHOR: i64 = -62_135_596_800;

/// When a quota begins anew.
///
/// Shown in words that are the same for equal periods: `monthly`, `weekly from sunday in Europe/Berlin`,
/// `every 5400s from 2026-01-31T08:00:00Z`, `never`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Calendar {
        unit: Unit,
        zone: TimeZone,
    },
    /// Both in seconds; the anchor since 1970.
    Every {
        length: u64,
        anchor: i64,
    },
    Never,
}

/// The units a calendar is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Hourly,
    Daily,
    /// With the weekday it starts on.
    Weekly(Weekday),
    Monthly,
    Yearly,
}

/// One period of a quota: from `start` up to but not including `end`.
///
/// Both in nanoseconds since 1970-01-01T00:00:00Z, clamped to what 64 bits hold (1677 to 2262). The instant
/// `i64::MAX` itself counts to the last period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodBounds {
    /// The first instant of the period.
    pub start: i64,
    /// The first instant after it.
    pub end: i64,
}

impl Period {
    /// The whole of time: used up once and for all.
    pub(super) const NEVER: Period = Period(Kind::Never);

    /// A unit of the calendar, as the clocks of `zone` show it.
    pub(super) fn calendar(unit: Unit, zone: TimeZone) -> Self {
        Period(Kind::Calendar { unit, zone })
    }

    /// Periods of `length` seconds, of which one starts at `anchor` (seconds since 1970). A length of 0 is taken
    /// for 1.
    pub(super) fn every(length: u64, anchor: i64) -> Self {
        Period(Kind::Every { length: length.max(1), anchor })
    }

    /// The period that holds the instant `wall` (nanoseconds since 1970-01-01T00:00:00Z).
    ///
    /// `start <= wall < end`, but for `wall = i64::MAX`, and every instant of a period has the same bounds.
    ///
    /// - Days and longer units begin at local midnight: where clocks skip it, at the instant of the jump; where it
    ///   strikes twice, at the first stroke, so that a period that has begun is never left again.
    /// - Hours last one elapsed hour, on the grid of local time. An hour that is repeated counts as two; where
    ///   clocks jump by half an hour, the jump ends an hour early and the rest of the local hour stands alone.
    pub fn bounds(&self, wall: i64) -> PeriodBounds {
        match &self.0 {
            Kind::Never => PeriodBounds { start: i64::MIN, end: i64::MAX },
            Kind::Every { length, anchor } => every(*length, *anchor, wall),
            Kind::Calendar { unit, zone } if *zone == TimeZone::UTC => match unit {
                Unit::Hourly => every(HOUR as u64, 0, wall),
                Unit::Daily => every(DAY as u64, 0, wall),
                Unit::Weekly(start) => {
                    // 1970-01-01 was a Thursday.
                    let anchor = i64::from(start.to_monday_one_offset() - Weekday::Thursday.to_monday_one_offset());
                    every(7 * DAY as u64, anchor * DAY, wall)
                }
                Unit::Monthly | Unit::Yearly => calendar(*unit, zone, wall),
            },
            Kind::Calendar { unit: Unit::Hourly, zone } => hour(zone, wall),
            Kind::Calendar { unit, zone } => calendar(*unit, zone, wall),
        }
    }
}

/// A period as policies write it.
#[derive(serde::Serialize)]
pub(super) struct Written<'a> {
    period: WrittenKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    week_start: Option<&'static str>,
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum WrittenKind {
    Word(&'static str),
    Every {
        every: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        anchor: Option<String>,
    },
}

impl Period {
    /// The fields of a limit that say it.
    pub(super) fn written(&self) -> Written<'_> {
        let (unit, zone) = match &self.0 {
            Kind::Never => return Written { period: WrittenKind::Word("never"), time_zone: None, week_start: None },
            Kind::Every { length, anchor } => {
                // Every anchor was an instant.
                let at = Timestamp::from_second(*anchor).ok().filter(|_| *anchor != DEFAULT_ANCHOR);
                let anchor = at.map(|at| at.to_string());
                let period = WrittenKind::Every { every: format!("{length}s"), anchor };
                return Written { period, time_zone: None, week_start: None };
            }
            Kind::Calendar { unit, zone } => (unit, zone),
        };
        let (word, week_start) = match unit {
            Unit::Hourly => ("hourly", None),
            Unit::Daily => ("daily", None),
            Unit::Weekly(start) => ("weekly", (*start != Weekday::Monday).then(|| weekday_name(*start))),
            Unit::Monthly => ("monthly", None),
            Unit::Yearly => ("yearly", None),
        };
        let time_zone = zone.iana_name().filter(|name| *name != "UTC");
        Written { period: WrittenKind::Word(word), time_zone, week_start }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, zone) = match &self.0 {
            Kind::Never => return f.write_str("never"),
            Kind::Every { length, anchor } => {
                write!(f, "every {length}s")?;
                return match Timestamp::from_second(*anchor) {
                    Ok(_) if *anchor == DEFAULT_ANCHOR => Ok(()),
                    Ok(anchor) => write!(f, " from {anchor}"),
                    Err(_) => write!(f, " from {anchor}s"),
                };
            }
            Kind::Calendar { unit, zone } => (unit, zone),
        };
        match unit {
            Unit::Hourly => f.write_str("hourly")?,
            Unit::Daily => f.write_str("daily")?,
            Unit::Weekly(Weekday::Monday) => f.write_str("weekly")?,
            Unit::Weekly(start) => write!(f, "weekly from {}", weekday_name(*start))?,
            Unit::Monthly => f.write_str("monthly")?,
            Unit::Yearly => f.write_str("yearly")?,
        }
        match zone.iana_name() {
            Some("UTC") | None => Ok(()),
            Some(name) => write!(f, " in {name}"),
        }
    }
}

impl Period {
    /// The period that is shown like this; `None` if there is none.
    pub(super) fn shown(words: &str) -> Option<Self> {
        if words == "never" {
            return Some(Period::NEVER);
        }
        if let Some(every) = words.strip_prefix("every ") {
            let (length, anchor) = match every.split_once(" from ") {
                Some((length, anchor)) => (length, anchor.parse::<Timestamp>().ok()?.as_second()),
                None => (every, DEFAULT_ANCHOR),
            };
            return Some(Period::every(length.strip_suffix('s')?.parse().ok()?, anchor));
        }
        let (unit, zone) = match words.split_once(" in ") {
            Some((unit, zone)) => (unit, TimeZone::get(zone).ok().filter(|zone| !zone.is_unknown())?),
            None => (words, TimeZone::UTC),
        };
        let unit = match unit {
            "hourly" => Unit::Hourly,
            "daily" => Unit::Daily,
            "weekly" => Unit::Weekly(Weekday::Monday),
            "monthly" => Unit::Monthly,
            "yearly" => Unit::Yearly,
            _ => {
                let start = unit.strip_prefix("weekly from ")?;
                Unit::Weekly(WEEKDAYS.into_iter().find(|day| weekday_name(*day) == start)?)
            }
        };
        Some(Period::calendar(unit, zone))
    }
}

pub(super) const WEEKDAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// The word that policies use.
pub(super) fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    }
}

fn clamp(nanos: i128) -> i64 {
    nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Fixed length, counted from an anchor in both directions.
fn every(length: u64, anchor: i64, wall: i64) -> PeriodBounds {
    let (length, anchor) = (i128::from(length) * SECOND, i128::from(anchor) * SECOND);
    let start = anchor + (i128::from(wall) - anchor).div_euclid(length) * length;
    PeriodBounds { start: clamp(start), end: clamp(start + length) }
}

/// 64 bits of nanoseconds lie well within what a timestamp holds; the fallback is never taken.
fn timestamp(wall: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(wall)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How far the local clock's full hours lie from the full hours of UTC, in nanoseconds.
fn hour_phase(zone: &TimeZone, at: Timestamp) -> i128 {
    i128::from(i64::from(zone.to_offset(at).seconds()).rem_euclid(HOUR)) * SECOND
}

/// An elapsed hour of local time, cut where the clocks jump by a part of an hour.
///
/// A jump by whole hours leaves the grid of hours where it is, so it needs no cut: that is what makes a repeated
/// hour two periods, not one of two hours in which the second would find the quota spent.
fn hour(zone: &TimeZone, wall: i64) -> PeriodBounds {
    let now = timestamp(wall);
    let phase = hour_phase(zone, now);
    let length = i128::from(HOUR) * SECOND;
    let mut start = (i128::from(wall) + phase).div_euclid(length) * length - phase;
    let mut end = start + length;
    // A transition at `now` itself belongs to what follows it; `preceding` excludes its argument.
    let next_nano = timestamp(wall.saturating_add(1));
    for jump in zone.preceding(next_nano) {
        let at = jump.timestamp();
        if at.as_nanosecond() <= start {
            break;
        }
        if hour_phase(zone, just_before(at)) != phase {
            start = at.as_nanosecond();
            break;
        }
    }
    for jump in zone.following(now) {
        let at = jump.timestamp();
        if at.as_nanosecond() >= end {
            break;
        }
        if hour_phase(zone, at) != phase {
            end = at.as_nanosecond();
            break;
        }
    }
    PeriodBounds { start: clamp(start), end: clamp(end) }
}

fn just_before(at: Timestamp) -> Timestamp {
    Timestamp::from_nanosecond(at.as_nanosecond() - 1).unwrap_or(at)
}

/// Days and longer, from midnight to midnight.
fn calendar(unit: Unit, zone: &TimeZone, wall: i64) -> PeriodBounds {
    let now = i128::from(wall);
    let mut first = first_day(unit, zone.to_datetime(timestamp(wall)).date());
    // The local date names the period, except around a midnight that strikes twice: then the date may fall back to
    // a day that is over, and the boundaries decide. One step is enough; the bound is only there to end.
    for _ in 0..8 {
        let next = following_day(unit, first);
        let (start, end) = (midnight(zone, first), midnight(zone, next));
        if now < start {
            match first.yesterday() {
                Ok(day) => first = first_day(unit, day),
                Err(_) => break,
            }
        } else if now >= end {
            first = next;
        } else {
            return PeriodBounds { start: clamp(start), end: clamp(end) };
        }
    }
    PeriodBounds { start: wall, end: wall.saturating_add(1) }
}

/// The first day of the period that holds `day`. Years 1677 to 2262 leave no room for overflow.
fn first_day(unit: Unit, day: Date) -> Date {
    match unit {
        Unit::Hourly | Unit::Daily => day,
        Unit::Weekly(start) => {
            let into = i64::from(start.until(day.weekday()));
            day.saturating_sub(jiff::Span::new().days(into))
        }
        Unit::Monthly => day.first_of_month(),
        Unit::Yearly => day.first_of_year(),
    }
}

/// The first day of the period after the one that starts on `first`.
fn following_day(unit: Unit, first: Date) -> Date {
    let span = jiff::Span::new();
    first.saturating_add(match unit {
        Unit::Hourly | Unit::Daily => span.days(1),
        Unit::Weekly(_) => span.days(7),
        Unit::Monthly => span.months(1),
        Unit::Yearly => span.years(1),
    })
}

/// The instant at which `day` begins, in nanoseconds since 1970.
fn midnight(zone: &TimeZone, day: Date) -> i128 {
    let local = day.to_datetime(Time::midnight());
    let instant = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local),
        // It strikes twice: the first stroke is the one at the offset before the jump.
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local),
        // It is skipped. At the offset after the jump its instant comes before the jump, and the jump is next.
        AmbiguousOffset::Gap { after, .. } => after.to_timestamp(local).map(|early| {
            zone.following(early).find(|jump| jump.offset() == after).map_or(early, |jump| jump.timestamp())
        }),
    };
    // Not reached within the years that 64 bits hold.
    instant.map_or(i128::from(i64::MAX), |instant| instant.as_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        clamp(text.parse::<Timestamp>().unwrap().as_nanosecond())
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn utc(unit: Unit) -> Period {
        Period::calendar(unit, TimeZone::UTC)
    }

    /// Whole seconds to the end of the period, rounded up: what a denied request is told.
    fn retry(bounds: PeriodBounds, now: i64) -> i64 {
        (i128::from(bounds.end) - i128::from(now) + SECOND - 1).div_euclid(SECOND) as i64
    }

    #[track_caller]
    fn check(period: &Period, now: &str, start: &str, end: &str, wait: i64) {
        let bounds = period.bounds(at(now));
        assert_eq!((bounds.start, bounds.end), (at(start), at(end)), "{period} at {now}");
        assert_eq!(retry(bounds, at(now)), wait, "{period} at {now}");
        assert_eq!(period.bounds(bounds.start), bounds);
        assert_eq!(period.bounds(bounds.end - 1), bounds);
        assert_eq!(period.bounds(bounds.end).start, bounds.end);
        assert_eq!(period.bounds(bounds.start - 1).end, bounds.start);
    }

    #[test]
    fn e_05_truncation_in_utc() {
        use Unit::*;
        for (now, unit, start, end, length, wait) in [
            ("2028-02-29T23:59:59Z", Hourly, "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z", 3600, 1),
            ("2026-12-31T23:59:59.250Z", Hourly, "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z", 3600, 1),
            ("2028-02-28T23:59:59Z", Daily, "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z", 86_400, 1),
            ("2027-02-28T12:00:00Z", Daily, "2027-02-28T00:00:00Z", "2027-03-01T00:00:00Z", 86_400, 43_200),
            ("2027-02-10T06:30:00Z", Monthly, "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z", 2_419_200, 1_618_200),
            ("2028-02-10T06:30:00Z", Monthly, "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z", 2_505_600, 1_704_600),
            ("2100-02-28T23:00:00Z", Monthly, "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z", 2_419_200, 3600),
            ("2000-02-29T12:00:00Z", Monthly, "2000-02-01T00:00:00Z", "2000-03-01T00:00:00Z", 2_505_600, 43_200),
            ("2026-04-30T23:59:30Z", Monthly, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", 2_592_000, 30),
            ("2026-12-15T00:00:00Z", Monthly, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", 2_678_400, 1_468_800),
            ("2026-08-07T10:00:00Z", Monthly, "2026-08-01T00:00:00Z", "2026-09-01T00:00:00Z", 2_678_400, 2_124_000),
            ("2027-06-15T00:00:00Z", Yearly, "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", 31_536_000, 17_280_000),
            ("2028-06-15T00:00:00Z", Yearly, "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z", 31_622_400, 17_280_000),
            ("2028-12-31T23:59:59Z", Yearly, "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z", 31_622_400, 1),
        ] {
            check(&utc(unit), now, start, end, wait);
            assert_eq!(at(end) - at(start), length * SECOND as i64, "{now}");
        }
    }

    #[test]
    fn e_06_weeks() {
        use Weekday::*;
        for (now, weeks) in [
            (
                "2026-11-22T23:59:59Z",
                [
                    (Monday, "2026-11-16", "2026-11-23", 1),
                    (Sunday, "2026-11-22", "2026-11-29", 518_401),
                    (Thursday, "2026-11-19", "2026-11-26", 259_201),
                ],
            ),
            (
                "2026-11-23T00:00:00Z",
                [
                    (Monday, "2026-11-23", "2026-11-30", 604_800),
                    (Sunday, "2026-11-22", "2026-11-29", 518_400),
                    (Thursday, "2026-11-19", "2026-11-26", 259_200),
                ],
            ),
            (
                "2027-01-01T00:00:00Z",
                [
                    (Monday, "2026-12-28", "2027-01-04", 259_200),
                    (Sunday, "2026-12-27", "2027-01-03", 172_800),
                    (Thursday, "2026-12-31", "2027-01-07", 518_400),
                ],
            ),
            (
                "2028-02-29T12:00:00Z",
                [
                    (Monday, "2028-02-28", "2028-03-06", 475_200),
                    (Sunday, "2028-02-27", "2028-03-05", 388_800),
                    (Thursday, "2028-02-24", "2028-03-02", 129_600),
                ],
            ),
        ] {
            for (day, start, end, wait) in weeks {
                let (start, end) = (format!("{start}T00:00:00Z"), format!("{end}T00:00:00Z"));
                check(&utc(Unit::Weekly(day)), now, &start, &end, wait);
                // The same by the calendar of a zone that never leaves UTC.
                check(&Period::calendar(Unit::Weekly(day), zone("Africa/Abidjan")), now, &start, &end, wait);
            }
        }
    }

    #[test]
    fn e_18_fixed_lengths() {
        let now = "2026-11-23T17:30:00Z";
        for (length, start, end, wait) in [
            (3600, "2026-11-23T17:00:00Z", "2026-11-23T18:00:00Z", 1800),
            (86_400, "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", 23_400),
            (604_800, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", 541_800),
            (2_592_000, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", 628_200),
            (2_629_800, "2026-11-16T15:00:00Z", "2026-12-17T01:30:00Z", 2_016_000),
        ] {
            check(&Period::every(length, DEFAULT_ANCHOR), now, start, end, wait);
        }
        let anchored = Period::every(2_592_000, at("2026-01-31T08:00:00Z") / SECOND as i64);
        check(&anchored, "2026-03-01T08:00:00Z", "2026-01-31T08:00:00Z", "2026-03-02T08:00:00Z", 86_400);
        check(&anchored, "2026-01-15T08:00:00Z", "2026-01-01T08:00:00Z", "2026-01-31T08:00:00Z", 1_382_400);
        let never = Period::NEVER.bounds(at(now));
        assert_eq!((never.start, never.end), (i64::MIN, i64::MAX));
    }

    #[test]
    fn default_anchor_is_the_first_day_of_the_common_era() {
        assert_eq!(Timestamp::from_second(DEFAULT_ANCHOR).unwrap().to_string(), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn midnights_of_a_zone() {
        let days = |name| Period::calendar(Unit::Daily, zone(name));
        check(&days("Asia/Kathmandu"), "2026-06-01T00:00:00Z", "2026-05-31T18:15:00Z", "2026-06-01T18:15:00Z", 65_700);
        // A day of 23 and one of 25 hours.
        let york = days("America/New_York");
        check(&york, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 57_600);
        check(&york, "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 61_200);
        // São Paulo skipped midnight of 2018-11-04: 23:59:59-03 was followed by 01:00:00-02.
        check(
            &days("America/Sao_Paulo"),
            "2018-11-04T12:00:00Z",
            "2018-11-04T03:00:00Z",
            "2018-11-05T02:00:00Z",
            50_400,
        );
        check(&days("America/Sao_Paulo"), "2018-11-04T02:59:59Z", "2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", 1);
        // Cairo skipped midnight of 2024-04-26 and went back at the midnight of 2024-11-01.
        check(&days("Africa/Cairo"), "2024-04-26T00:00:00Z", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z", 75_600);
        check(&days("Africa/Cairo"), "2024-10-31T21:30:00Z", "2024-10-30T21:00:00Z", "2024-10-31T22:00:00Z", 1800);
        // Newfoundland went back at 00:01, so that midnight of 2010-11-07 struck twice: the first stroke counts.
        check(
            &days("America/St_Johns"),
            "2010-11-07T03:00:00Z",
            "2010-11-07T02:30:00Z",
            "2010-11-08T03:30:00Z",
            88_200,
        );
        // Samoa had no 2011-12-30: that day is a boundary and no period.
        check(&days("Pacific/Apia"), "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", 1);
        check(&days("Pacific/Apia"), "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z", 86_400);
    }

    #[test]
    fn months_and_weeks_of_a_zone() {
        let berlin = zone("Europe/Berlin");
        let month = Period::calendar(Unit::Monthly, berlin.clone());
        check(&month, "2026-03-31T22:00:00Z", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z", 2_592_000);
        check(&month, "2026-03-31T21:59:59Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z", 1);
        let week = Period::calendar(Unit::Weekly(Weekday::Monday), berlin.clone());
        check(&week, "2026-10-25T12:00:00Z", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z", 39_600);
        let year = Period::calendar(Unit::Yearly, berlin);
        check(&year, "2026-06-01T00:00:00Z", "2025-12-31T23:00:00Z", "2026-12-31T23:00:00Z", 18_486_000);
    }

    #[test]
    fn hours_of_a_zone() {
        let hours = |name| Period::calendar(Unit::Hourly, zone(name));
        // The repeated hour is two hours.
        let york = hours("America/New_York");
        check(&york, "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", 1800);
        check(&york, "2026-11-01T06:30:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z", 1800);
        check(&york, "2026-03-08T06:30:00Z", "2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z", 1800);
        check(&hours("Asia/Kathmandu"), "2026-06-01T00:00:00Z", "2026-05-31T23:15:00Z", "2026-06-01T00:15:00Z", 900);
        // Lord Howe goes from 02:00 to 02:30 (at 15:30Z) and from 02:00 back to 01:30 (at 15:00Z).
        let howe = hours("Australia/Lord_Howe");
        check(&howe, "2026-10-03T15:29:59Z", "2026-10-03T14:30:00Z", "2026-10-03T15:30:00Z", 1);
        check(&howe, "2026-10-03T15:30:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z", 1800);
        check(&howe, "2026-10-03T16:00:00Z", "2026-10-03T16:00:00Z", "2026-10-03T17:00:00Z", 3600);
        check(&howe, "2026-04-04T14:59:59Z", "2026-04-04T14:00:00Z", "2026-04-04T15:00:00Z", 1);
        check(&howe, "2026-04-04T15:00:00Z", "2026-04-04T15:00:00Z", "2026-04-04T15:30:00Z", 1800);
        check(&howe, "2026-04-04T15:30:00Z", "2026-04-04T15:30:00Z", "2026-04-04T16:30:00Z", 3600);
    }

    #[test]
    fn the_ends_of_time_saturate() {
        let zones = ["UTC", "America/New_York", "Asia/Kathmandu"];
        let units = [Unit::Hourly, Unit::Daily, Unit::Weekly(Weekday::Sunday), Unit::Monthly, Unit::Yearly];
        let mut periods = vec![Period::every(3_000_000_000, i64::MAX), Period::every(1, i64::MIN), Period::NEVER];
        for name in zones {
            periods.extend(units.map(|unit| Period::calendar(unit, zone(name))));
        }
        for period in periods {
            let first = period.bounds(i64::MIN);
            assert_eq!(first.start, i64::MIN, "{period}");
            assert!(first.end > i64::MIN, "{period}");
            let last = period.bounds(i64::MAX);
            assert_eq!(last.end, i64::MAX, "{period}");
            assert!(last.start < i64::MAX, "{period}");
            assert_eq!(period.bounds(i64::MAX - 1), last, "{period}");
        }
    }

    #[test]
    fn shown_in_words() {
        assert_eq!(utc(Unit::Monthly).to_string(), "monthly");
        let week = Period::calendar(Unit::Weekly(Weekday::Sunday), zone("Europe/Berlin"));
        assert_eq!(week.to_string(), "weekly from sunday in Europe/Berlin");
        assert_eq!(Period::every(5400, DEFAULT_ANCHOR).to_string(), "every 5400s");
        assert_eq!(Period::every(5400, 0).to_string(), "every 5400s from 1970-01-01T00:00:00Z");
        assert_eq!(Period::NEVER.to_string(), "never");
    }

    /// From one period to the next for `count` periods: what one leaves off the other takes up.
    fn tiles(period: &Period, from: i64, count: usize) {
        let mut bounds = period.bounds(from);
        for _ in 0..count {
            assert!(bounds.start < bounds.end, "{period} {bounds:?}");
            for inside in [bounds.start, bounds.start + (bounds.end - bounds.start) / 2, bounds.end - 1] {
                assert_eq!(period.bounds(inside), bounds, "{period} at {inside}");
            }
            if bounds.end == i64::MAX {
                return;
            }
            let next = period.bounds(bounds.end);
            assert_eq!(next.start, bounds.end, "{period} after {bounds:?}");
            bounds = next;
        }
    }

    #[test]
    fn periods_tile_across_clock_changes() {
        let units = [Unit::Daily, Unit::Weekly(Weekday::Wednesday), Unit::Monthly, Unit::Yearly];
        for (name, from) in [
            ("America/New_York", "2026-01-01T00:00:00Z"),
            ("Europe/Berlin", "2026-01-01T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-01-01T00:00:00Z"),
            ("Asia/Kathmandu", "1985-06-01T00:00:00Z"),
            ("America/Sao_Paulo", "2018-01-01T00:00:00Z"),
            ("Africa/Cairo", "2024-01-01T00:00:00Z"),
            ("America/St_Johns", "2010-01-01T00:00:00Z"),
            ("Pacific/Apia", "2011-06-01T00:00:00Z"),
            ("Europe/Amsterdam", "1936-12-01T00:00:00Z"),
            ("America/New_York", "2150-01-01T00:00:00Z"),
        ] {
            for unit in units {
                tiles(&Period::calendar(unit, zone(name)), at(from), 370);
            }
            tiles(&Period::calendar(Unit::Hourly, zone(name)), at(from), 24 * 370);
        }
    }

    proptest! {
        #[test]
        fn any_instant_lies_in_its_period(wall in any::<i64>(), unit in 0..5usize, place in 0..7usize) {
            let name = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu",
                "America/Sao_Paulo", "Africa/Cairo", "UTC"][place];
            let unit = [Unit::Hourly, Unit::Daily, Unit::Weekly(Weekday::Friday), Unit::Monthly, Unit::Yearly][unit];
            let period = Period::calendar(unit, zone(name));
            let bounds = period.bounds(wall);
            prop_assert!(bounds.start <= wall && (wall < bounds.end || wall == i64::MAX));
            prop_assert_eq!(period.bounds(bounds.start), bounds);
            prop_assert_eq!(period.bounds(bounds.end - 1), bounds);
        }

        #[test]
        fn any_fixed_length_tiles(wall in any::<i64>(), length in 0..10_000_000_000u64, anchor in any::<i64>()) {
            let period = Period::every(length, anchor);
            let bounds = period.bounds(wall);
            prop_assert!(bounds.start <= wall && (wall < bounds.end || wall == i64::MAX));
            prop_assert_eq!(period.bounds(bounds.start), bounds);
        }
    }
}
