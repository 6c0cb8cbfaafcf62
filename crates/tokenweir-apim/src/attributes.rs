//! The attributes of an element that limits something: texts, numbers and counter keys, case by case.

use crate::eval::{self, Variables};
use crate::limits::{Fault, Found, Reading, Slot};
use crate::source::Values;
use crate::value::{Cases, Guard, Piece, Plain};
use crate::xml::Element;

/// Attributes that name headers and variables for the answer.
const ANSWERS: &[&str] = &["-header-name", "-variable-name"];
/// The most that a policy here can allow.
const MOST: u64 = 1 << 53;

/// What an attribute may say.
#[derive(Clone, Copy)]
pub(crate) enum Range {
    Tokens,
    Quota,
    Calls,
    RateSeconds,
    QuotaSeconds { least: u64 },
}

/// Reads one element.
pub(crate) struct Reader<'r> {
    pub(crate) element: &'r Element,
    variables: &'r Variables,
    values: &'r Values,
    /// What requests that come to it look like.
    pub(crate) guard: &'r Guard,
    pub(crate) classic: bool,
    pub(crate) reading: Reading,
    /// Whether its counters are its own, whatever else counts by the same key.
    pub(crate) own: bool,
    /// Where the counter key is empty.
    pub(crate) empty: Vec<Guard>,
}

impl<'r> Reader<'r> {
    pub(crate) fn new(
        element: &'r Element,
        variables: &'r Variables,
        values: &'r Values,
        guard: &'r Guard,
        classic: bool,
    ) -> Self {
        Reader {
            element,
            variables,
            values,
            guard,
            classic,
            reading: Reading::default(),
            own: false,
            empty: Vec::new(),
        }
    }

    pub(crate) fn fault(
        &mut self,
        line: usize,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.reading.faults.push(Fault { line, code, message: message.into(), remedy: remedy.into() });
    }

    pub(crate) fn found(&mut self, guard: Guard, slot: Result<Slot, String>) {
        self.reading.found.push(Found { guard, slot });
    }

    /// Notes the attributes that no limit is made of.
    pub(crate) fn others(&mut self, known: &[&str]) {
        for attribute in &self.element.attributes {
            let name = attribute.name.as_str();
            if known.contains(&name) {
                continue;
            }
            if ANSWERS.iter().any(|end| name.ends_with(end)) {
                self.reading.answers.push((name.to_owned(), attribute.value.clone()));
            } else {
                self.reading.differs.insert(format!("the attribute {name} is not known and says nothing here"));
            }
        }
    }

    /// An attribute worked out; `None` where it is not there.
    pub(crate) fn attribute(&mut self, name: &str) -> Option<Cases> {
        let attribute = self.element.attribute(name)?;
        Some(match self.values.fill(&attribute.value) {
            Err(reason) => Plain::opaque(reason).into(),
            Ok(text) => {
                let worked = eval::work_out(&text, self.variables);
                self.reading.read.extend(worked.read);
                self.reading.differs.extend(worked.notes);
                worked.cases
            }
        })
    }

    pub(crate) fn required(&mut self, name: &'static str) -> Option<Cases> {
        let found = self.attribute(name);
        if found.is_none() {
            let code = if name.ends_with("key") { "COUNTER_KEY_INVALID" } else { "ATTRIBUTE_MISSING" };
            let message = format!("<{}> has no {name}", self.element.name);
            self.fault(self.element.line, code, message, format!("add {name}=\"...\""));
        }
        found
    }

    pub(crate) fn line(&self, name: &str) -> usize {
        self.element.attribute(name).map_or(self.element.line, |attribute| attribute.line)
    }

    /// The counter key. A key that is empty where something is absent is left out: here such a request is refused.
    pub(crate) fn key(&mut self, name: &'static str, plain: &Plain) -> Result<Option<Vec<Piece>>, String> {
        let (line, element) = (self.line(name), self.element.name.clone());
        match plain.clone().into_pieces() {
            Ok(pieces) if pieces.iter().all(|piece| matches!(piece, Piece::Known(text) if text.trim().is_empty())) => {
                if self.element.attribute(name).is_some_and(|attribute| !attribute.value.contains('@')) {
                    self.fault(
                        line,
                        "COUNTER_KEY_INVALID",
                        format!("{name} of <{element}> is empty"),
                        "write what tells counters apart, or any text for one counter of all",
                    );
                }
                Ok(None)
            }
            Ok(pieces) => Ok(Some(pieces)),
            Err(Plain::Volatile(what)) => {
                self.fault(
                    line,
                    "COUNTER_KEY_INVALID",
                    format!("{name} of <{element}> reads {what}: it is another one for each request or with time"),
                    "count by who calls or by what is called",
                );
                Err(format!("its {name} is another one for each request"))
            }
            Err(Plain::Opaque(reason)) => Err(format!("{name}: {reason}")),
            Err(_) => Err(format!("{name} is no text")),
        }
    }

    pub(crate) fn number(&mut self, name: &'static str, plain: &Plain, range: Range) -> Result<u64, String> {
        let text = match plain {
            Plain::Integer(number) => number.to_string(),
            Plain::Opaque(reason) => return Err(format!("{name}: {reason}")),
            Plain::Volatile(what) => return Err(format!("{name} reads {what}")),
            other => match other.known_text() {
                Some(text) => text.trim().to_owned(),
                None => return Err(format!("{name} comes from the request")),
            },
        };
        let (line, element) = (self.line(name), self.element.name.clone());
        let Ok(number) = text.parse::<i128>() else {
            let code = "NUMBER_MALFORMED";
            self.fault(line, code, format!("{name} of <{element}> is {text:?}"), "write a whole number");
            return Err(format!("{name} is no number"));
        };
        let (least, most, code) = match range {
            Range::Tokens | Range::Calls => (1, i128::from(i32::MAX), "LIMIT_NOT_POSITIVE"),
            Range::Quota => (1, i128::from(i64::MAX), "LIMIT_NOT_POSITIVE"),
            Range::RateSeconds => (1, 300, "RENEWAL_OUT_OF_RANGE"),
            Range::QuotaSeconds { .. } => (0, i128::from(i64::MAX), "RENEWAL_OUT_OF_RANGE"),
        };
        let too_short = matches!(range, Range::QuotaSeconds { least } if number > 0 && number < i128::from(least));
        if number >= least && number <= most && !too_short {
            return u64::try_from(number).map_err(|_| format!("{name} is too large"));
        }
        let code = if number > most && code == "LIMIT_NOT_POSITIVE" { "OUT_OF_RANGE" } else { code };
        let remedy = match range {
            Range::QuotaSeconds { least } if least > 0 => format!("write 0 for never, or at least {least} seconds"),
            Range::QuotaSeconds { .. } => "write 0 for never, or a number of seconds".to_owned(),
            Range::RateSeconds => "write 1 to 300 seconds".to_owned(),
            _ => format!("write a whole number from {least} to {most}, or remove it where nothing is limited"),
        };
        self.fault(line, code, format!("{name} of <{element}> is {number}"), remedy);
        Err(format!("{name} is out of range"))
    }

    /// No more than a policy here can allow: stricter is right.
    pub(crate) fn at_most(&mut self, amount: u64) -> u64 {
        if amount > MOST {
            self.reading
                .differs
                .insert(format!("{amount} is more than can be counted; the limit is {MOST}, which is stricter"));
        }
        amount.min(MOST)
    }

    pub(crate) fn cases(&mut self, cases: &[Cases]) -> Vec<(Guard, Vec<Plain>)> {
        let Some(all) = Cases::all(cases) else {
            self.found(self.guard.clone(), Err("it has too many cases".into()));
            return Vec::new();
        };
        all.into_iter().filter_map(|(guard, list)| self.guard.and(&guard).map(|guard| (guard, list))).collect()
    }
}
