//! The terms of a limit: its algorithm with amount, rate, window or period.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use super::MAX_TOKENS;
use super::document::{Entry, Kind, Node};
use super::fields::{Checker, DAY, Fields, Owner};
use super::limit::{Algorithm, Meter};
use super::period::{self, Period, Unit, WEEKDAYS};
use crate::counter::window::SUB_WINDOWS_MAX;

const PERIOD_FIELDS: &[&str] = &["every", "anchor"];
const PERIODS: &[&str] = &["hourly", "daily", "weekly", "monthly", "yearly", "never"];
const SECOND: u64 = 1_000_000_000;
/// The longest `per`, in seconds.
const LONGEST_PER: u64 = 366 * DAY;
/// The longest `every`, in seconds: a century.
const LONGEST_EVERY: u64 = 36_600 * DAY;
/// The highest rate of a bucket or window, per minute.
const FASTEST: u128 = 100_000_000_000;
const DEFAULT_SUB_WINDOWS: u32 = 60;

impl Checker {
    pub(super) fn algorithm(
        &mut self,
        owner: Owner<'_>,
        fields: &Fields<'_>,
        word: &str,
        amount: Option<u64>,
        line: usize,
    ) -> Option<Algorithm> {
        self.misplaced(owner, fields, word);
        match word {
            "bucket" => {
                let per = self.per(owner, fields, line);
                self.rate(owner, fields, amount, per);
                let burst = match fields.get("burst") {
                    None => amount,
                    Some(entry) => self.number(owner, "burst", &entry.node, 1..=MAX_TOKENS),
                };
                Some(Algorithm::Bucket { amount: amount?, per: per?, burst: burst? })
            }
            "window" => {
                let per = self.per(owner, fields, line);
                self.rate(owner, fields, amount, per);
                let Some(given) = fields.get("sub_windows") else {
                    // Sixty, or as near below it as divides: a window of 10 s has 50.
                    let per = per?;
                    let sub_windows = dividing(per, DEFAULT_SUB_WINDOWS);
                    return Some(Algorithm::Window { amount: amount?, per, sub_windows });
                };
                let sub_windows = self.number(owner, "sub_windows", &given.node, 1..=SUB_WINDOWS_MAX.into());
                let sub_windows = sub_windows.and_then(|number| u32::try_from(number).ok());
                let (per, sub_windows) = (per?, sub_windows?);
                let fitting = dividing(per, sub_windows);
                if fitting != sub_windows {
                    self.problem(
                        owner,
                        given.line,
                        format!("per, {per} nanoseconds, does not divide into {sub_windows} sub_windows"),
                        format!("write sub_windows = {fitting}, or a per that is a multiple"),
                    );
                    return None;
                }
                Some(Algorithm::Window { amount: amount?, per, sub_windows })
            }
            "quota" => {
                let remedy = format!("add one of {}, or {{ every = \"90m\" }}", PERIODS.join(", "));
                let period = self
                    .required(owner, fields, "period", line, &remedy)
                    .and_then(|node| self.period(owner, fields, node));
                Some(Algorithm::Quota { amount: amount?, period: period? })
            }
            _ => Some(Algorithm::InFlight { amount: amount? }),
        }
    }

    /// Fields that another algorithm has.
    fn misplaced(&mut self, owner: Owner<'_>, fields: &Fields<'_>, word: &str) {
        let own: &[&str] = match word {
            "bucket" => &["per", "burst"],
            "window" => &["per", "sub_windows", "until"],
            "quota" => &["period", "time_zone", "week_start", "until"],
            _ => &[],
        };
        for (field, of) in [
            ("per", "a bucket or window"),
            ("burst", "a bucket"),
            ("sub_windows", "a window"),
            ("period", "a quota"),
            ("time_zone", "a quota"),
            ("week_start", "a quota"),
            ("until", "a window or quota"),
        ] {
            let Some(entry) = fields.get(field).filter(|_| !own.contains(&field)) else { continue };
            let remedy = match (word, field) {
                ("bucket" | "window", "period") => "remove it and say per = \"1m\"",
                ("quota", "per") => "remove it and say period = \"monthly\", or { every = \"90m\" }",
                ("window", "burst") => "remove it: a window holds amount in any per and has no burst",
                ("in_flight", _) => "remove it: amount alone says how many permits there are",
                _ => "remove it, or choose that algorithm",
            };
            let message = format!("{field} belongs to {of}, and the algorithm is {word:?}");
            self.problem(owner, entry.line, message, remedy.into());
        }
    }

    fn per(&mut self, owner: Owner<'_>, fields: &Fields<'_>, line: usize) -> Option<u64> {
        let node = self.required(owner, fields, "per", line, "say per what time, for instance per = \"1m\"")?;
        self.duration(owner, "per", node, LONGEST_PER).map(|seconds| seconds * SECOND)
    }

    fn rate(&mut self, owner: Owner<'_>, fields: &Fields<'_>, amount: Option<u64>, per: Option<u64>) {
        let (Some(amount), Some(per)) = (amount, per) else { return };
        let most = FASTEST * u128::from(per) / u128::from(60 * SECOND);
        if u128::from(amount) > most {
            let line = fields.get("amount").map_or(0, |entry| entry.line);
            self.problem(
                owner,
                line,
                format!("amount = {amount} in this per is more than {FASTEST} per minute"),
                format!("write at most {most}, or a longer per"),
            );
        }
    }

    pub(super) fn meter_fits(&mut self, owner: Owner<'_>, fields: &Fields<'_>, meter: Meter, algorithm: &str) {
        let line = |field: &str| fields.get(field).map_or(0, |entry| entry.line);
        if meter == Meter::InFlight && algorithm != "in_flight" {
            let message = format!("the meter \"in_flight\" cannot be counted by a {algorithm}");
            self.problem(
                owner,
                line("algorithm"),
                message,
                "write algorithm = \"in_flight\", or count requests".into(),
            );
        } else if meter != Meter::InFlight && algorithm == "in_flight" {
            let message = format!("the algorithm \"in_flight\" cannot count {:?}", meter.as_str());
            self.problem(owner, line("meter"), message, "write meter = \"in_flight\", or another algorithm".into());
        }
    }

    fn period(&mut self, owner: Owner<'_>, fields: &Fields<'_>, node: &Node) -> Option<Period> {
        if let Kind::Table(entries) = &node.kind {
            self.no_calendar(owner, fields, "a period with every: its anchor carries its own offset");
            return self.every(owner, entries, node.line);
        }
        let word = self.word(owner, "period", node, PERIODS)?;
        if word == "never" {
            self.no_calendar(owner, fields, "a quota that never begins anew");
            return Some(Period::NEVER);
        }
        let zone = match fields.get("time_zone") {
            None => Some(TimeZone::UTC),
            Some(entry) => self.zone(owner, &entry.node),
        };
        let start = match fields.get("week_start") {
            None => Some(Weekday::Monday),
            Some(entry) => self.weekday(owner, &entry.node),
        };
        let unit = match word {
            "hourly" => Unit::Hourly,
            "daily" => Unit::Daily,
            "weekly" => Unit::Weekly(start?),
            "monthly" => Unit::Monthly,
            _ => Unit::Yearly,
        };
        // A start of the week that other periods do not use must be a weekday all the same.
        start?;
        Some(Period::calendar(unit, zone?))
    }

    /// Fields of a calendar where there is none.
    fn no_calendar(&mut self, owner: Owner<'_>, fields: &Fields<'_>, of: &str) {
        for field in ["time_zone", "week_start"] {
            if let Some(entry) = fields.get(field) {
                let message = format!("{field} means nothing to {of}");
                self.problem(owner, entry.line, message, "remove it".into());
            }
        }
    }

    fn every(&mut self, owner: Owner<'_>, entries: &[Entry], line: usize) -> Option<Period> {
        let owner = Owner { prefix: "period.", ..owner };
        let fields = self.fields(owner, entries, PERIOD_FIELDS, "a period");
        let length = self
            .required(owner, &fields, "every", line, "say how long it is, for instance every = \"90m\"")
            .and_then(|node| self.duration(owner, "every", node, LONGEST_EVERY));
        let remedy = "write an instant of whole seconds with its offset, for instance \"2026-01-31T08:00:00Z\"";
        let anchor = match fields.get("anchor").map(|entry| &entry.node) {
            None => Some(period::DEFAULT_ANCHOR),
            Some(Node { line, kind: Kind::Text(text) | Kind::Moment(text) }) => match text.parse::<jiff::Timestamp>() {
                Ok(instant) if instant.subsec_nanosecond() == 0 => Some(instant.as_second()),
                Ok(_) => {
                    let message = format!("period.anchor is not a whole second: {text:?}");
                    self.problem(owner, *line, message, remedy.into());
                    None
                }
                Err(_) => {
                    let message = format!("period.anchor is not an RFC 3339 instant: {text:?}");
                    self.problem(owner, *line, message, remedy.into());
                    None
                }
            },
            Some(node) => {
                self.wrong_type(owner, "anchor", node, "an RFC 3339 instant", remedy);
                None
            }
        };
        Some(Period::every(length?, anchor?))
    }

    fn zone(&mut self, owner: Owner<'_>, node: &Node) -> Option<TimeZone> {
        let remedy = "write a name of the IANA database, for instance \"Europe/Berlin\", or \"UTC\"";
        let text = self.text(owner, "time_zone", node, remedy)?;
        let zone = self
            .zones
            .entry(text.to_owned())
            .or_insert_with(|| TimeZone::get(text).ok().filter(|zone| !zone.is_unknown()))
            .clone();
        if zone.is_none() {
            let near = self.search(text, || jiff::tz::db().available().map(|name| name.to_string()).collect());
            let remedy = match near {
                Some(near) => format!("did you mean {near:?}? {remedy}"),
                None => remedy.to_owned(),
            };
            self.problem(owner, node.line, format!("unknown time_zone {text:?}"), remedy);
        }
        zone
    }

    fn weekday(&mut self, owner: Owner<'_>, node: &Node) -> Option<Weekday> {
        let words = WEEKDAYS.map(period::weekday_name);
        let word = self.word(owner, "week_start", node, &words)?;
        WEEKDAYS.into_iter().find(|day| period::weekday_name(*day) == word)
    }
}

/// The largest number up to `most` into which `per` nanoseconds divide; 1 divides everything.
fn dividing(per: u64, most: u32) -> u32 {
    (1..=most).rev().find(|number| per.is_multiple_of(u64::from(*number))).unwrap_or(1)
}
