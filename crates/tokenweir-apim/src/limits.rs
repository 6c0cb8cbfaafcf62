//! The elements that limit something: what their attributes say, case by case.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::attributes::{Range, Reader};
use crate::value::{Cases, Guard, Piece, Plain};

/// What a limit counts, and over what time. Limits of one dimension and counter key share a counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dimension {
    /// Tokens in any minute.
    TokenRate,
    /// Tokens in a calendar period, by the word that policies here use.
    TokenQuota { period: &'static str },
    /// Calls in any stretch of so many seconds.
    CallRate { seconds: u64 },
    /// Calls in a period of so many seconds, 0 for ever; begun at an anchor that is not the default one.
    CallQuota { seconds: u64, anchor: Option<String> },
    /// Calls at a time.
    Concurrency,
}

/// One limit in one case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) dimension: Dimension,
    pub(crate) key: Vec<Piece>,
    pub(crate) amount: u64,
    /// Its counters are the element's own, whatever else counts by this key.
    pub(crate) own: bool,
}

/// A case of an element: the limit it is, or why it is none here.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) guard: Guard,
    pub(crate) slot: Result<Slot, String>,
}

/// What an element says.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) found: Vec<Found>,
    /// The elements that set the variables it reads.
    pub(crate) read: BTreeSet<usize>,
    /// What differs from API Management.
    pub(crate) differs: BTreeSet<String>,
    /// Attributes that concern what is answered, not what is limited.
    pub(crate) answers: Vec<(String, String)>,
    pub(crate) faults: Vec<Fault>,
}

/// Something that API Management refuses, or ought to.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) remedy: String,
}

/// Elements that limit something.
pub(crate) const LIMITS: &[&str] = &[
    "llm-token-limit",
    "azure-openai-token-limit",
    "rate-limit",
    "rate-limit-by-key",
    "quota",
    "quota-by-key",
    "limit-concurrency",
];
const PERIODS: &[&str] = &["hourly", "daily", "weekly", "monthly", "yearly"];
/// The longest fixed period of a policy here, in seconds.
const LONGEST: u64 = 36_600 * 86_400;
/// The highest rate of a policy here, per minute.
const FASTEST: u128 = 100_000_000_000;

impl Reader<'_> {
    /// All that the element says.
    pub(crate) fn read(mut self) -> Reading {
        match self.element.name.as_str() {
            "llm-token-limit" | "azure-openai-token-limit" => self.token_limit(),
            "rate-limit" => self.per_subscription(true),
            "quota" => self.per_subscription(false),
            "rate-limit-by-key" => self.rate_by_key(),
            "quota-by-key" => self.quota_by_key(),
            _ => self.concurrency(),
        }
        // A case whose key is empty is taken up by the one that has the key: there it is required.
        for empty in &self.empty {
            for found in &mut self.reading.found {
                found.guard = found.guard.union(empty).unwrap_or_else(|| found.guard.clone());
            }
        }
        self.reading
    }

    /// A limit of a nested `api` or `operation`, counted for each subscription.
    pub(crate) fn read_nested(mut self, rate: bool) -> Reading {
        self.per_subscription(rate);
        self.reading
    }

    fn token_limit(&mut self) {
        self.others(&[
            "id",
            "counter-key",
            "tokens-per-minute",
            "token-quota",
            "token-quota-period",
            "estimate-prompt-tokens",
        ]);
        let line = self.element.line;
        let Some(key) = self.required("counter-key") else { return };
        let rate = self.attribute("tokens-per-minute");
        let quota = self.attribute("token-quota");
        let period = self.attribute("token-quota-period");
        let name = self.element.name.clone();
        if rate.is_none() && quota.is_none() && period.is_none() {
            let message = format!("<{name}> has neither tokens-per-minute nor token-quota");
            self.fault(line, "LIMIT_EMPTY", message, "add one of them, or remove the element");
            return;
        }
        if quota.is_some() != period.is_some() {
            let message = format!("<{name}> has one of token-quota and token-quota-period");
            self.fault(line, "QUOTA_PERIOD_MISMATCH", message, "write both, or neither");
            return;
        }
        match self.element.attribute("estimate-prompt-tokens").map(|attribute| attribute.value.trim()) {
            Some("true") => self.reading.answers.push(("estimate-prompt-tokens".into(), "true".into())),
            Some("false") | None => {}
            Some(_) => drop(self.reading.differs.insert("whether prompts are estimated is for the host to say".into())),
        }
        if let Some(rate) = rate {
            for (guard, list) in self.cases(&[key.clone(), rate]) {
                let slot = self.slot("counter-key", &list[0], |reader| {
                    let amount = reader.number("tokens-per-minute", &list[1], Range::Tokens)?;
                    Ok((Dimension::TokenRate, amount))
                });
                self.maybe(guard, slot);
            }
        }
        if let (Some(quota), Some(period)) = (quota, period) {
            for (guard, list) in self.cases(&[key, quota, period]) {
                let slot = self.slot("counter-key", &list[0], |reader| {
                    let amount = reader.number("token-quota", &list[1], Range::Quota)?;
                    Ok((Dimension::TokenQuota { period: reader.period(&list[2])? }, reader.at_most(amount)))
                });
                self.maybe(guard, slot);
            }
        }
    }

    fn period(&mut self, plain: &Plain) -> Result<&'static str, String> {
        let text = match plain {
            Plain::Opaque(reason) => return Err(format!("token-quota-period: {reason}")),
            other => other.known_text().ok_or("token-quota-period comes from the request")?.trim(),
        };
        let known = PERIODS.iter().find(|period| period.eq_ignore_ascii_case(text));
        known.copied().ok_or_else(|| {
            let message = format!("token-quota-period of <{}> is {text:?}", self.element.name);
            let remedy = "write one of Hourly, Daily, Weekly, Monthly, Yearly";
            self.fault(self.line("token-quota-period"), "QUOTA_PERIOD_UNKNOWN", message, remedy);
            "token-quota-period is not known".into()
        })
    }

    /// A slot of a key and what `rest` says; `Ok(None)` where the key is empty.
    fn slot(
        &mut self,
        name: &'static str,
        key: &Plain,
        rest: impl FnOnce(&mut Self) -> Result<(Dimension, u64), String>,
    ) -> Result<Option<Slot>, String> {
        // Both are looked at, so that everything that is wrong is said.
        let (key, rest) = (self.key(name, key), rest(self));
        let (dimension, amount) = rest?;
        let own = self.own;
        Ok(key?.map(|key| Slot { dimension, key, amount, own }))
    }

    fn maybe(&mut self, guard: Guard, slot: Result<Option<Slot>, String>) {
        match slot {
            Ok(Some(slot)) => self.found(guard, Ok(slot)),
            Err(reason) => self.found(guard, Err(reason)),
            Ok(None) => {
                self.empty.push(guard);
                self.reading.differs.insert(
                    "where the counter key is empty API Management counts all such callers together; here the request \
                     lacks a required key, which is an error"
                        .into(),
                );
            }
        }
    }

    /// `rate-limit` and `quota`, and the `api` and `operation` in them: for each subscription.
    fn per_subscription(&mut self, rate: bool) {
        let element = self.element;
        self.others(&["id", "name", "calls", "bandwidth", "renewal-period"]);
        self.own = true;
        let key = Plain::part("key:subscription", false);
        let nested = matches!(element.name.as_str(), "api" | "operation");
        let has_operations = element.children.iter().len() > 0;
        if nested
            && has_operations
            && self.element.attribute("calls").is_none()
            && self.element.attribute("bandwidth").is_none()
        {
            return;
        }
        if rate {
            self.rate(&key.into());
        } else {
            self.reading.differs.insert(
                "API Management begins its periods when the subscription began; here they begin at 0001-01-01T00:00:00Z"
                    .into(),
            );
            self.quota(&key.into(), 0);
        }
    }

    fn rate_by_key(&mut self) {
        self.others(&[
            "id",
            "calls",
            "renewal-period",
            "counter-key",
            "increment-condition",
            "increment-count",
            "increment-after-response",
        ]);
        if let Some(key) = self.required("counter-key") {
            self.rate(&key);
        }
    }

    /// Calls to renewal-period.
    fn rate(&mut self, key: &Cases) {
        let (Some(calls), Some(renewal)) = (self.required("calls"), self.required("renewal-period")) else { return };
        let count = self.increment();
        for (guard, list) in self.cases(&[key.clone(), calls, renewal, count]) {
            let slot = self.slot("counter-key", &list[0], |reader| {
                let amount = reader.number("calls", &list[1], Range::Calls);
                let seconds = reader.number("renewal-period", &list[2], Range::RateSeconds)?;
                let amount = reader.divided(amount?, &list[3])?;
                if u128::from(amount) * 60 > FASTEST * u128::from(seconds) {
                    return Err(format!("{amount} calls in {seconds} s are more than {FASTEST} a minute"));
                }
                Ok((Dimension::CallRate { seconds }, amount))
            });
            self.maybe(guard, slot);
        }
    }

    /// By how much a call counts; conditions are noted.
    fn increment(&mut self) -> Cases {
        if self.element.attribute("increment-condition").is_some() {
            self.reading.differs.insert(
                "increment-condition is not mapped: every request counts when it is admitted, which is stricter".into(),
            );
        }
        if self.element.attribute("increment-after-response").is_some_and(|attribute| attribute.value != "false") {
            self.reading.differs.insert(
                "increment-after-response is not mapped: a request counts when it is admitted, which is stricter"
                    .into(),
            );
        }
        self.attribute("increment-count").unwrap_or_else(|| Plain::Integer(1).into())
    }

    fn divided(&mut self, amount: u64, count: &Plain) -> Result<u64, String> {
        match self.number("increment-count", count, Range::Calls)? {
            1 => Ok(amount),
            count if count <= amount => {
                let calls = amount / count;
                self.reading.differs.insert(format!("each call counts {count}: {amount} are {calls} calls"));
                Ok(calls)
            }
            count => Err(format!("each call counts {count}, and {amount} are allowed: none fits")),
        }
    }

    fn quota_by_key(&mut self) {
        self.others(&[
            "id",
            "calls",
            "bandwidth",
            "renewal-period",
            "counter-key",
            "increment-condition",
            "increment-count",
            "first-period-start",
        ]);
        if !self.classic {
            self.reading.differs.insert("the v2 tiers of API Management do not have quota-by-key".into());
        }
        if let Some(key) = self.required("counter-key") {
            self.quota(&key, 300);
        }
    }

    fn quota(&mut self, key: &Cases, least: u64) {
        let renewal = self.required("renewal-period");
        let (calls, bandwidth) = (self.attribute("calls"), self.element.attribute("bandwidth"));
        // A bandwidth of 0 stands for none in documents of old.
        let bandwidth = bandwidth.filter(|attribute| attribute.value.trim() != "0");
        let Some(calls) = calls else {
            if let Some(bandwidth) = bandwidth {
                let reason = format!("bandwidth ({} kB) is not mapped: bytes are not counted", bandwidth.value);
                self.found(self.guard.clone(), Err(reason));
            } else {
                let message = format!("<{}> has neither calls nor bandwidth", self.element.name);
                self.fault(self.element.line, "QUOTA_EMPTY", message, "add one of them");
            }
            return;
        };
        if let Some(bandwidth) = bandwidth {
            let reason = format!("bandwidth ({} kB) is not mapped: bytes are not counted", bandwidth.value);
            self.reading.differs.insert(reason);
        }
        let Some(renewal) = renewal else { return };
        let count = self.increment();
        let anchor = self.attribute("first-period-start").unwrap_or_else(|| Plain::Null.into());
        for (guard, list) in self.cases(&[key.clone(), calls, renewal, count, anchor]) {
            let slot = self.slot("counter-key", &list[0], |reader| {
                let amount = reader.number("calls", &list[1], Range::Quota);
                let mut seconds = reader.number("renewal-period", &list[2], Range::QuotaSeconds { least })?;
                let amount = reader.divided(amount?, &list[3])?;
                if seconds > LONGEST {
                    let longer = format!(
                        "{seconds} s are longer than a century; the quota never begins anew, which is stricter"
                    );
                    reader.reading.differs.insert(longer);
                    seconds = 0;
                }
                let anchor = reader.anchor(&list[4])?.filter(|_| seconds > 0);
                Ok((Dimension::CallQuota { seconds, anchor }, reader.at_most(amount)))
            });
            self.maybe(guard, slot);
        }
    }

    /// The start of a first period, in UTC; `None` for the default.
    fn anchor(&mut self, plain: &Plain) -> Result<Option<String>, String> {
        if *plain == Plain::Null {
            return Ok(None);
        }
        if let Plain::Opaque(reason) = plain {
            return Err(format!("first-period-start: {reason}"));
        }
        let text = plain.known_text().ok_or("first-period-start comes from the request")?.trim();
        let instant = text.parse::<Timestamp>().ok().or_else(|| {
            // Without an offset it is UTC.
            TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()
        });
        match instant.filter(|instant| instant.subsec_nanosecond() == 0) {
            Some(instant) if instant.as_second() == -62_135_596_800 => Ok(None),
            Some(instant) => Ok(Some(instant.to_string())),
            None => {
                let message = format!("first-period-start of <{}> is {text:?}", self.element.name);
                let remedy = "write an instant of whole seconds in UTC, for instance 2026-01-31T08:00:00Z";
                self.fault(self.line("first-period-start"), "INSTANT_MALFORMED", message, remedy);
                Err("first-period-start is no instant".into())
            }
        }
    }

    fn concurrency(&mut self) {
        self.others(&["id", "key", "max-count"]);
        let (Some(key), Some(most)) = (self.required("key"), self.required("max-count")) else { return };
        for (guard, list) in self.cases(&[key, most]) {
            let slot = self.slot("key", &list[0], |reader| {
                Ok((Dimension::Concurrency, reader.number("max-count", &list[1], Range::Calls)?))
            });
            self.maybe(guard, slot);
        }
    }
}
