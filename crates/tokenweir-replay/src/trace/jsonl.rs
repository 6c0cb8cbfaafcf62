//! One JSON object per request.
//!
//! Numbers are kept as the text of the trace until they are converted, so that none passes through a float.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokenweir::{Estimate, Usage};

use super::{Ending, Entry, Wrong, due, tokens};
use crate::instant;

/// JSON lines whose numbers in `at` count from `start`, in nanoseconds since 1970.
#[derive(Debug, Default)]
pub struct Jsonl {
    /// The instant that `at` 0 names.
    pub start: i64,
}

impl Jsonl {
    pub(super) fn entry(&self, line: u64, text: &str) -> Result<Entry, Wrong> {
        const FIELDS: [&str; 8] = ["at", "project", "deployment", "keys", "estimate", "usage", "duration", "cancel"];
        let [at, project, deployment, keys, estimate, usage, duration, cancel] = fields("", text, FIELDS)?;
        let at = at.ok_or_else(|| missing("at", "seconds since 1970 or RFC 3339 text"))?;
        let instant = self.instant(at)?;
        let duration = match duration {
            Some(text) => instant::seconds(text).map_err(|reason| {
                Wrong::new(format!("duration {} {reason}", shown(text)), "write seconds, for instance 3.5")
            })?,
            None => 0,
        };
        let cancel = match cancel {
            None | Some("false") => false,
            Some("true") => true,
            Some(text) => {
                return Err(Wrong::new(format!("cancel is {}", shown(text)), "write true or false"));
            }
        };
        let usage = usage.filter(|&text| text != "null").map(reported).transpose()?;
        Ok(Entry {
            line,
            at: instant,
            at_text: at.to_string(),
            project: name("project", project.ok_or_else(|| missing("project", "who calls"))?)?,
            deployment: name("deployment", deployment.ok_or_else(|| missing("deployment", "what it calls"))?)?,
            keys: keys.map_or(Ok(Vec::new()), caller_keys)?,
            estimate: estimate.map_or(Ok(Estimate::default()), estimated)?,
            ending: match usage {
                _ if cancel => Ending::Cancel,
                Some(usage) => Ending::Usage(usage),
                None => Ending::Silence,
            },
            due: due(instant, duration)?,
        })
    }

    fn instant(&self, text: &str) -> Result<i64, Wrong> {
        let remedy = "write seconds since 1970, for instance 12.25, or RFC 3339, for instance \"2026-01-31T08:00:00Z\"";
        let wrong = |reason: &str| Wrong::new(format!("at {} {reason}", shown(text)), remedy);
        if text.starts_with('"') {
            let text: Cow<'_, str> = serde_json::from_str(text).map_err(|_| wrong("is not text"))?;
            return instant::rfc3339(&text).map_err(wrong);
        }
        let seconds = instant::seconds(text).map_err(wrong)?;
        self.start.checked_add(seconds).ok_or_else(|| wrong("is beyond the year 2262"))
    }
}

fn missing(field: &str, meaning: &str) -> Wrong {
    Wrong::new(format!("the field {field:?} is missing"), format!("add it: {meaning}"))
}

/// A value of the trace in a message: short, whatever it is.
fn shown(text: &str) -> String {
    crate::text::cut(&crate::text::printable(text.as_bytes()), 40)
}

/// A name of the request: text, not empty.
fn name(field: &str, text: &str) -> Result<Vec<u8>, Wrong> {
    match serde_json::from_str::<String>(text) {
        Ok(name) if name.is_empty() => Err(Wrong::new(format!("{field} is empty"), "give its name")),
        Ok(name) => Ok(name.into_bytes()),
        Err(_) => Err(Wrong::new(format!("{field} is {}", shown(text)), "write it as text, in quotes")),
    }
}

fn caller_keys(text: &str) -> Result<Vec<(String, Vec<u8>)>, Wrong> {
    let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
    for (key, value) in members("keys", text)? {
        if keys.iter().any(|(name, _)| *name == key) {
            return Err(Wrong::new(format!("keys has {:?} twice", shown(&key)), "write it once"));
        }
        let value = name(&format!("keys.{}", shown(&key)), value)?;
        keys.push((key.into_owned(), value));
    }
    Ok(keys)
}

fn estimated(text: &str) -> Result<Estimate, Wrong> {
    let [input, output] = fields("estimate", text, ["input", "output"])?;
    let count = |field, text: Option<&str>| text.map_or(Ok(0), |text| number("estimate", field, text));
    Ok(Estimate::new(count("input", input)?, count("output", output)?))
}

/// What the provider reported. A part that is null or absent is unknown.
fn reported(text: &str) -> Result<Usage, Wrong> {
    let [input, cached_input, output] = fields("usage", text, ["input", "cached_input", "output"])?;
    let count = |field, text: Option<&str>| {
        text.filter(|&text| text != "null").map(|text| number("usage", field, text)).transpose()
    };
    let usage = Usage {
        input: count("input", input)?,
        cached_input: count("cached_input", cached_input)?,
        output: count("output", output)?,
    };
    if let (Some(input), Some(cached)) = (usage.input, usage.cached_input)
        && cached > input
    {
        let reason = format!("usage.cached_input {cached} is more than usage.input {input}");
        return Err(Wrong::new(reason, "input counts the cached tokens as well"));
    }
    Ok(usage)
}

fn number(object: &str, field: &str, text: &str) -> Result<u64, Wrong> {
    tokens(text).ok_or_else(|| {
        let reason = format!("{object}.{field} is {}", shown(text));
        Wrong::new(reason, "write a whole number of tokens from 0 to 9007199254740992 (2^53)")
    })
}

/// The members of a JSON object by name, each as its own JSON text; those that are absent are `None`.
///
/// A name that is not expected, or that comes twice, is an error. `object` names it in messages, empty for the line.
fn fields<'a, const N: usize>(object: &str, text: &'a str, names: [&str; N]) -> Result<[Option<&'a str>; N], Wrong> {
    let mut found = [None; N];
    for (key, value) in members(object, text)? {
        let of = if object.is_empty() { String::new() } else { format!(" in {object}") };
        let Some(place) = names.iter().position(|name| *name == key) else {
            let reason = format!("unknown field \"{}\"{of}", shown(&key));
            return Err(Wrong::new(reason, format!("the fields are {}", names.join(", "))));
        };
        if found[place].replace(value).is_some() {
            return Err(Wrong::new(format!("the field {key:?} comes twice{of}"), "write it once"));
        }
    }
    Ok(found)
}

/// The members of a JSON object in order, each as its own JSON text.
fn members<'a>(object: &str, text: &'a str) -> Result<Vec<(Cow<'a, str>, &'a str)>, Wrong> {
    let mut source = serde_json::Deserializer::from_str(text);
    let members = Members.deserialize(&mut source).and_then(|members| source.end().map(|()| members));
    members.map_err(|e| {
        let (what, remedy) = match object {
            "" => ("the line", "write one JSON object on each line"),
            _ => (object, "write a JSON object"),
        };
        if !text.trim_ascii_start().starts_with('{') {
            return Wrong::new(format!("{what} is not a JSON object but {}", shown(text.trim_ascii())), remedy);
        }
        // Every value is a line of its own, so "at line 1" of serde_json says nothing.
        let message = e.to_string();
        let cause = message.split(" at line ").next().unwrap_or(&message);
        Wrong::new(format!("{what} is not JSON at column {}: {cause}", e.column()), remedy)
    })
}

/// Reads an object without interpreting its values.
struct Members;

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            members.push((key.0, value.get()));
        }
        Ok(members)
    }
}

/// A name of a member, borrowed from the line where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<Entry, String> {
        Jsonl::default().entry(1, text).map_err(|wrong| format!("{}; {}", wrong.reason, wrong.remedy))
    }

    #[test]
    fn a_full_line() {
        let entry = entry(
            r#"{"at": 12.25, "project": "search", "deployment": "gpt-4o", "keys": {"user": "u-17"},
            "estimate": {"input": 900, "output": 400}, "usage": {"input": 912, "cached_input": 0, "output": 77},
            "duration": 3.5}"#,
        );
        let entry = entry.expect("is right");
        assert_eq!((entry.at, entry.due, entry.at_text.as_str()), (12_250_000_000, 15_750_000_000, "12.25"));
        assert_eq!(entry.keys, [("user".to_string(), b"u-17".to_vec())]);
        assert_eq!(entry.estimate, Estimate::new(900, 400));
        assert_eq!(entry.ending, Ending::Usage(Usage::new(912, 77).with_cached(0)));
    }

    #[test]
    fn what_may_be_absent() {
        let entry = entry(r#"{"at":"1970-01-01T00:00:01Z","project":"a","deployment":"b"}"#).expect("is right");
        assert_eq!((entry.at, entry.due, entry.ending), (1_000_000_000, 1_000_000_000, Ending::Silence));
        assert_eq!(entry.at_text, "\"1970-01-01T00:00:01Z\"");
        assert_eq!(entry.estimate, Estimate::default());
    }

    #[test]
    fn how_it_ends() {
        let ending =
            |more: &str| entry(&format!(r#"{{"at":0,"project":"a","deployment":"b",{more}}}"#)).map(|e| e.ending);
        assert_eq!(ending(r#""usage":null"#), Ok(Ending::Silence));
        assert_eq!(ending(r#""usage":null,"cancel":true"#), Ok(Ending::Cancel));
        assert_eq!(
            ending(r#""usage":{"output":5},"cancel":false"#),
            Ok(Ending::Usage(Usage { output: Some(5), ..Usage::UNKNOWN }))
        );
        assert_eq!(ending(r#""usage":{"input":null}"#), Ok(Ending::Usage(Usage::UNKNOWN)));
    }

    #[test]
    fn wrong_lines_say_why() {
        for (more, reason) in [
            (r#""ussage":null"#, "unknown field \"ussage\"; the fields are at"),
            (r#""estimate":{"tokens":1}"#, "unknown field \"tokens\" in estimate"),
            (r#""at":1"#, "the field \"at\" comes twice"),
            (r#""keys":{"user":"a","us\u0065r":"b"}"#, "keys has \"user\" twice"),
            (r#""keys":{"user":""}"#, "keys.user is empty"),
            (r#""keys":["user"]"#, "keys is not a JSON object but [\"user\"]"),
            (r#""keys":null"#, "keys is not a JSON object but null"),
            (r#""estimate":{"input":-1}"#, "estimate.input is -1"),
            (r#""estimate":{"input":1.0}"#, "estimate.input is 1.0"),
            (r#""estimate":{"input":1e3}"#, "estimate.input is 1e3"),
            (r#""estimate":{"output":9007199254740993}"#, "estimate.output is 9007199254740993"),
            (r#""usage":{"input":"7"}"#, "usage.input is \"7\""),
            (r#""usage":{"input":7,"cached_input":8}"#, "usage.cached_input 8 is more than usage.input 7"),
            (r#""usage":7"#, "usage is not a JSON object but 7"),
            (r#""duration":-1"#, "duration -1 is negative"),
            (r#""duration":1e10"#, "duration 1e10 is beyond the year 2262"),
            (r#""duration":"3""#, "duration \"3\" is not a number of seconds"),
            (r#""duration":null"#, "duration null is not a number"),
            (r#""cancel":1"#, "cancel is 1"),
            (r#""cancel":tru"#, "the line is not JSON at column"),
        ] {
            let line = format!(r#"{{"at":0,"project":"a","deployment":"b",{more}}}"#);
            let error = entry(&line).expect_err(&line);
            assert!(error.starts_with(reason), "{line}: {error}");
        }
        for (line, reason) in [
            (r#"{"at":-1,"project":"a","deployment":"b"}"#, "at -1 is negative"),
            (
                r#"{"at":"2026-01-31T08:00:00","project":"a","deployment":"b"}"#,
                "at \"2026-01-31T08:00:00\" names no offset",
            ),
            (r#"{"project":"a","deployment":"b"}"#, "the field \"at\" is missing"),
            (r#"{"at":1,"deployment":"b"}"#, "the field \"project\" is missing"),
            (r#"{"at":1,"project":"","deployment":"b"}"#, "project is empty"),
            (r#"{"at":1,"project":7,"deployment":"b"}"#, "project is 7"),
            (r#"{"at":1,"project":"\ud800","deployment":"b"}"#, "project is \"\\\\ud800\""),
            (r#"{"at":1,"project":"a","deployment":"b"} {}"#, "the line is not JSON at column 41: trailing"),
            (r#"{"at":1,"project":"a""#, "the line is not JSON at column"),
            ("[1]", "the line is not a JSON object but [1]"),
            ("null", "the line is not a JSON object but null"),
        ] {
            let error = entry(line).expect_err(line);
            assert!(error.starts_with(reason), "{line}: {error}");
        }
    }

    #[test]
    fn start_moves_numbers_only() {
        let format = Jsonl { start: 5_000_000_000 };
        let at = |at: &str| format.entry(1, &format!(r#"{{"at":{at},"project":"a","deployment":"b"}}"#)).map(|e| e.at);
        assert_eq!(at("1.5"), Ok(6_500_000_000));
        assert_eq!(at("\"1970-01-01T00:00:01Z\""), Ok(1_000_000_000));
        assert!(at("9223372036.854775807").is_err());
    }
}
