//! TOML and JSON read into one tree that remembers its lines.
//!
//! Both parsers answer for syntax alone. What a document means, and everything that is wrong with its meaning, is
//! for `decode`, which then does not know which of the two it reads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// The longest document in bytes: five times a policy of 10,000 limits.
const MAX_BYTES: usize = 16 << 20;

/// How deep tables and lists may be nested. Policies need four levels; recursion needs an end.
const MAX_DEPTH: usize = 32;

/// How many syntax errors are reported: one mistake can look like many.
const MAX_SYNTAX_ERRORS: usize = 10;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Toml,
    Json,
}

/// A value and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the order of the document; a key that stands twice is here twice.
    Table(Vec<Entry>),
    List(Vec<Node>),
    Text(String),
    /// A whole number as written, and its value if it fits.
    Integer(String, Option<i128>),
    /// A number with a fraction or an exponent, or none at all, as written.
    Fraction(String),
    Bool(bool),
    /// A date or time of TOML, as written.
    Moment(String),
    Null,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

impl Kind {
    /// What it is, in words.
    pub(super) fn describe(&self) -> Cow<'static, str> {
        match self {
            Kind::Table(_) => "a table".into(),
            Kind::List(_) => "a list".into(),
            Kind::Text(text) => format!("the text {text:?}").into(),
            Kind::Integer(text, _) => format!("the number {text}").into(),
            Kind::Fraction(text) => format!("{text}, which is not a whole number").into(),
            Kind::Bool(value) => format!("{value}").into(),
            Kind::Moment(text) => format!("the date or time {text}").into(),
            Kind::Null => "null".into(),
        }
    }
}

/// Reads a document; its root is a table.
pub(super) fn read(text: &str, syntax: Syntax) -> Result<Node, Vec<Problem>> {
    if text.len() > MAX_BYTES {
        return Err(vec![problem(
            None,
            format!("the policy is {} bytes long", text.len()),
            format!("keep it within {MAX_BYTES} bytes: limits that differ only in a value share one with a scope"),
        )]);
    }
    let lines = Lines::new(text);
    match syntax {
        Syntax::Toml => read_toml(text, &lines),
        Syntax::Json => read_json(text, &lines).map_err(|problem| vec![problem]),
    }
}

fn problem(line: Option<usize>, message: String, remedy: String) -> Problem {
    Problem { line, limit: None, message, remedy }
}

fn too_deep(line: usize) -> Problem {
    problem(
        Some(line),
        format!("tables and lists are nested more than {MAX_DEPTH} deep"),
        "a policy needs four levels: remove the others".into(),
    )
}

/// Where lines begin, to tell the line of an offset.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect())
    }

    /// The line of the byte at `offset`, counted from 1.
    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset) + 1
    }
}

fn read_toml(text: &str, lines: &Lines) -> Result<Node, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problems = errors.iter().take(MAX_SYNTAX_ERRORS).map(|error| {
            let line = error.span().map(|span| lines.of(span.start));
            let reason = error.message().replace('\n', ", ");
            problem(line, format!("this is not TOML: {reason}"), "correct the syntax".into())
        });
        return Err(problems.collect());
    }
    toml_table(table.get_ref(), 1, lines, 0).map_err(|problem| vec![problem])
}

fn toml_table(table: &DeTable<'_>, line: usize, lines: &Lines, depth: usize) -> Result<Node, Problem> {
    if depth > MAX_DEPTH {
        return Err(too_deep(line));
    }
    // The parser sorts keys by name; where they stand puts them back in order.
    let mut entries = BTreeMap::new();
    for (key, value) in table {
        let line = lines.of(key.span().start);
        let node = toml_value(value, line, lines, depth + 1)?;
        let entry = Entry { key: key.get_ref().clone().into_owned(), line, node };
        entries.entry(key.span().start).or_insert_with(Vec::new).push(entry);
    }
    Ok(Node { line, kind: Kind::Table(entries.into_values().flatten().collect()) })
}

fn toml_value(value: &Spanned<DeValue<'_>>, key_line: usize, lines: &Lines, depth: usize) -> Result<Node, Problem> {
    let span = value.span();
    // Tables that only a dotted key or a longer header opens have no place of their own: they stand with the key.
    let line = if span.is_empty() { key_line } else { lines.of(span.start) };
    if depth > MAX_DEPTH {
        return Err(too_deep(line));
    }
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.clone().into_owned()),
        DeValue::Integer(integer) => {
            Kind::Integer(integer.to_string(), i128::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(float) => Kind::Fraction(float.as_str().to_owned()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Datetime(moment) => Kind::Moment(moment.to_string()),
        DeValue::Array(list) => {
            let nodes = list.iter().map(|node| toml_value(node, line, lines, depth + 1));
            Kind::List(nodes.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return toml_table(table, line, lines, depth),
    };
    Ok(Node { line, kind })
}

/// A JSON table as its raw text: every key with its value, duplicates and order kept, which maps would lose.
struct RawTable<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawTable<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Pairs).map(RawTable)
    }
}

/// A JSON list as its raw text.
struct RawList<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawList<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(Items).map(RawList)
    }
}

fn read_json(text: &str, lines: &Lines) -> Result<Node, Problem> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The whole is checked once; what is below reads parts of it that are known to be JSON, but for the escapes.
    let root: &RawValue = serde_json::from_str(body).map_err(|error| json_problem(&error, 1))?;
    json_value(root, text, lines, 0)
}

/// A raw value is a slice of the source, so where it begins is what tells its line.
fn json_line(raw: &RawValue, source: &str, lines: &Lines) -> usize {
    lines.of((raw.get().as_ptr() as usize).wrapping_sub(source.as_ptr() as usize).min(source.len()))
}

fn json_value(raw: &RawValue, source: &str, lines: &Lines, depth: usize) -> Result<Node, Problem> {
    let line = json_line(raw, source, lines);
    if depth > MAX_DEPTH {
        return Err(too_deep(line));
    }
    let text = raw.get();
    let wrong = |error: serde_json::Error| json_problem(&error, line);
    let kind = match text.as_bytes().first() {
        Some(b'{') => {
            let RawTable(pairs) = serde_json::from_str(text).map_err(wrong)?;
            let mut entries = Vec::with_capacity(pairs.len());
            for (key, value) in pairs {
                let line = json_line(key, source, lines);
                let key = serde_json::from_str(key.get()).map_err(|error| json_problem(&error, line))?;
                entries.push(Entry { key, line, node: json_value(value, source, lines, depth + 1)? });
            }
            Kind::Table(entries)
        }
        Some(b'[') => {
            let RawList(items) = serde_json::from_str(text).map_err(wrong)?;
            let nodes = items.into_iter().map(|item| json_value(item, source, lines, depth + 1));
            Kind::List(nodes.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Kind::Text(serde_json::from_str(text).map_err(wrong)?),
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'n') | None => Kind::Null,
        Some(_) if text.contains(['.', 'e', 'E']) => Kind::Fraction(text.to_owned()),
        Some(_) => Kind::Integer(text.to_owned(), text.parse().ok()),
    };
    Ok(Node { line, kind })
}

/// `first` is the line on which the text begins that the error counts its lines in.
fn json_problem(error: &serde_json::Error, first: usize) -> Problem {
    let line = first + error.line().saturating_sub(1);
    let full = error.to_string();
    // The parser's own "at line 3 column 9" counts from the start of a part.
    let reason = full.split(" at line ").next().unwrap_or(&full);
    problem(Some(line), format!("this is not JSON: {reason}"), "correct the syntax".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(node: &Node) -> Vec<(&str, usize)> {
        match &node.kind {
            Kind::Table(entries) => entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect(),
            _ => vec![],
        }
    }

    fn child<'n>(node: &'n Node, key: &str) -> &'n Node {
        match &node.kind {
            Kind::Table(entries) => &entries.iter().find(|entry| entry.key == key).unwrap().node,
            _ => panic!("not a table"),
        }
    }

    fn item(node: &Node, at: usize) -> &Node {
        match &node.kind {
            Kind::List(nodes) => &nodes[at],
            _ => panic!("not a list"),
        }
    }

    #[test]
    fn toml_keeps_order_and_lines() {
        let text = "# a comment\nz = 1\n\n[[limit]]\nname = 'n'\namount = 1_000\n[limit.match]\nproject = 'p'\n\n[[limit]]\nb = 2\na = [\n  0x10,\n  1.5,\n]\n";
        let root = read(text, Syntax::Toml).unwrap();
        assert_eq!(keys(&root).first(), Some(&("z", 2)));
        let limits = child(&root, "limit");
        assert_eq!(keys(item(limits, 0)), [("name", 5), ("amount", 6), ("match", 7)]);
        assert_eq!(item(limits, 0).line, 4);
        assert_eq!(item(limits, 1).line, 10);
        assert_eq!(child(item(limits, 0), "amount").kind, Kind::Integer("1000".into(), Some(1000)));
        assert_eq!(keys(child(item(limits, 0), "match")), [("project", 8)]);
        assert_eq!(keys(item(limits, 1)), [("b", 11), ("a", 12)]);
        let list = child(item(limits, 1), "a");
        assert_eq!(item(list, 0), &Node { line: 13, kind: Kind::Integer("0x10".into(), Some(16)) });
        assert_eq!(item(list, 1), &Node { line: 14, kind: Kind::Fraction("1.5".into()) });
    }

    #[test]
    fn json_keeps_order_lines_and_duplicates() {
        let text = "\u{feff}{\n \"limit\": [\n  {\"b\": 1,\n   \"a\": -2.5, \"b\": null},\n  true\n ],\n \"\\u0078\": \"y\\n\"\n}";
        let root = read(text, Syntax::Json).unwrap();
        assert_eq!(keys(&root), [("limit", 2), ("x", 7)]);
        let limits = child(&root, "limit");
        assert_eq!(keys(item(limits, 0)), [("b", 3), ("a", 4), ("b", 4)]);
        assert_eq!(child(item(limits, 0), "a").kind, Kind::Fraction("-2.5".into()));
        assert_eq!(item(limits, 1), &Node { line: 5, kind: Kind::Bool(true) });
        assert_eq!(child(&root, "x").kind, Kind::Text("y\n".into()));
    }

    #[test]
    fn syntax_errors_have_a_line_and_a_reason() {
        for (text, syntax, line) in [
            ("a = 1\nb = = 2\n", Syntax::Toml, 2),
            ("a = 1\n\na = 2\n", Syntax::Toml, 3),
            ("a = \"x", Syntax::Toml, 1),
            ("{\"a\": 1,\n\"b\" 2}", Syntax::Json, 2),
            ("{\"a\": 1}\n{}", Syntax::Json, 2),
            ("{\n\"a\":\n\"\\ud800\"}", Syntax::Json, 3),
            ("", Syntax::Json, 1),
        ] {
            let problems = read(text, syntax).unwrap_err();
            assert_eq!(problems[0].line, Some(line), "{text:?}: {problems:?}");
            assert!(problems[0].message.starts_with("this is not "), "{problems:?}");
            assert!(!problems[0].message.contains('\n'));
        }
    }

    #[test]
    fn depth_and_length_end() {
        for deep in [100_000, 40, 79] {
            let json = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
            assert!(read(&json, Syntax::Json).is_err());
            assert!(read(&format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep)), Syntax::Json).is_err());
            assert!(read(&format!("a = {json}"), Syntax::Toml).is_err());
            assert!(read(&format!("a{} = 1", ".a".repeat(deep)), Syntax::Toml).is_err());
            assert!(read(&format!("[a{}]", ".a".repeat(deep)), Syntax::Toml).is_err());
        }
        let long = format!("#{}", " ".repeat(MAX_BYTES));
        assert!(read(&long, Syntax::Toml).unwrap_err()[0].message.contains("bytes long"));
    }

    #[test]
    fn numbers_that_do_not_fit_are_kept_as_written() {
        let huge = "9".repeat(60);
        let root = read(&format!("{{\"a\": {huge}}}"), Syntax::Json).unwrap();
        assert_eq!(child(&root, "a").kind, Kind::Integer(huge.clone(), None));
        let root = read(&format!("a = {huge}"), Syntax::Toml).unwrap();
        assert_eq!(child(&root, "a").kind, Kind::Integer(huge, None));
    }
}
