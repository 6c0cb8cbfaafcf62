//! Fields read one by one, every mistake noted with its line and remedy.
//!
//! What is here knows words, numbers and durations, and nothing of limits: that is for `decode`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ahash::HashMap;
use jiff::tz::TimeZone;

use super::document::{Entry, Kind, Node, Syntax};
use super::error::Problem;
use super::pattern::{MAX_PATTERN, Pattern};

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// How often the nearest of many words is looked for; after that many, remedies do without.
const MAX_SEARCHES: usize = 20;

/// Reads the tree of one document and keeps what is wrong with it.
#[derive(Debug)]
pub(super) struct Checker {
    /// How the document is written, for remedies that show how to write it.
    pub(super) syntax: Syntax,
    pub(super) problems: Vec<Problem>,
    /// Looking up a zone reads files; a policy names few zones many times.
    pub(super) zones: HashMap<String, Option<TimeZone>>,
    searches: usize,
}

/// What a field belongs to: problems name it.
#[derive(Clone, Copy)]
pub(super) struct Owner<'n> {
    /// The name of the limit.
    pub(super) limit: Option<&'n str>,
    /// What stands before the name of a field, for instance `weights.`.
    pub(super) prefix: &'n str,
}

/// The fields of a table, each once.
pub(super) type Fields<'n> = BTreeMap<&'n str, &'n Entry>;

impl Checker {
    pub(super) fn new(syntax: Syntax) -> Self {
        Checker { syntax, problems: Vec::new(), zones: HashMap::default(), searches: 0 }
    }

    pub(super) fn problem(&mut self, owner: Owner<'_>, line: usize, message: String, remedy: String) {
        let limit = owner.limit.map(str::to_owned);
        self.problems.push(Problem { line: Some(line), limit, message, remedy });
    }

    /// Sorts the entries of a table by name; reports the ones that are unknown or stand twice.
    pub(super) fn fields<'n>(
        &mut self,
        owner: Owner<'_>,
        entries: &'n [Entry],
        known: &[&str],
        of: &str,
    ) -> Fields<'n> {
        let mut fields = Fields::new();
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let message = format!("unknown field {:?} in {of}", format!("{}{}", owner.prefix, entry.key));
                let remedy = self.one_of(&entry.key, known, "the fields are");
                self.problem(owner, entry.line, message, remedy);
            } else if let Some(first) = fields.insert(&entry.key, entry) {
                self.twice(owner, &entry.key, first.line, entry.line);
            }
        }
        fields
    }

    pub(super) fn twice(&mut self, owner: Owner<'_>, key: &str, first: usize, second: usize) {
        let message = format!("{}{key} is given twice, first on line {first}", owner.prefix);
        self.problem(owner, second, message, "remove one of the two".into());
    }

    /// A remedy for a word that is not among the known ones.
    pub(super) fn one_of(&mut self, word: &str, known: &[&str], intro: &str) -> String {
        let all = known.join(", ");
        match nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}? {intro} {all}"),
            None => format!("{intro} {all}"),
        }
    }

    pub(super) fn wrong_type(&mut self, owner: Owner<'_>, field: &str, node: &Node, wanted: &str, remedy: &str) {
        let message = format!("{}{field} must be {wanted}, and is {}", owner.prefix, node.kind.describe());
        self.problem(owner, node.line, message, remedy.to_owned());
    }

    pub(super) fn text<'n>(&mut self, owner: Owner<'_>, field: &str, node: &'n Node, remedy: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Text(text) => Some(text),
            _ => {
                self.wrong_type(owner, field, node, "text", remedy);
                None
            }
        }
    }

    /// One of a few words; `remedy` is for what is not even text.
    pub(super) fn word<'n>(
        &mut self,
        owner: Owner<'_>,
        field: &str,
        node: &'n Node,
        words: &[&str],
    ) -> Option<&'n str> {
        let text = self.text(owner, field, node, &format!("write one of {}", words.join(", ")))?;
        if words.contains(&text) {
            return Some(text);
        }
        let message = format!("unknown {}{field} {text:?}", owner.prefix);
        let remedy = self.one_of(text, words, "write one of");
        self.problem(owner, node.line, message, remedy);
        None
    }

    pub(super) fn number(
        &mut self,
        owner: Owner<'_>,
        field: &str,
        node: &Node,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
        let Kind::Integer(written, value) = &node.kind else {
            self.wrong_type(owner, field, node, "a whole number", &remedy);
            return None;
        };
        let found = value.and_then(|value| u64::try_from(value).ok()).filter(|value| range.contains(value));
        if found.is_none() {
            let why = match value {
                Some(0) => "is 0",
                Some(value) if *value < 0 => "is negative",
                _ if written.starts_with('-') => "is negative",
                _ => "is too large",
            };
            // A number of a million digits is a document of its own.
            let shown: String = written.chars().take(40).collect();
            let shown = if *value == Some(0) { String::new() } else { format!(": {shown}") };
            self.problem(owner, node.line, format!("{}{field} {why}{shown}", owner.prefix), remedy);
        }
        found
    }

    /// A duration in seconds, written `90s`, `1h30m`, `2d`.
    pub(super) fn duration(&mut self, owner: Owner<'_>, field: &str, node: &Node, longest: u64) -> Option<u64> {
        let remedy = format!(
            "write whole numbers with the units d, h, m, s, the largest first, for instance \"90s\", \"1m\" or \
             \"1h30m\", from \"1s\" to \"{}d\"",
            longest / DAY
        );
        let text = self.text(owner, field, node, &remedy)?;
        match seconds(text) {
            Some(seconds) if seconds >= 1 && seconds <= u128::from(longest) => Some(seconds as u64),
            Some(0) => {
                self.problem(owner, node.line, format!("{}{field} is no time at all: {text:?}", owner.prefix), remedy);
                None
            }
            Some(_) => {
                self.problem(owner, node.line, format!("{}{field} is too long: {text:?}", owner.prefix), remedy);
                None
            }
            None => {
                let message = format!("{}{field} is not a duration: {text:?}", owner.prefix);
                self.problem(owner, node.line, message, remedy);
                None
            }
        }
    }

    pub(super) fn required<'n>(
        &mut self,
        owner: Owner<'_>,
        fields: &Fields<'n>,
        field: &str,
        line: usize,
        remedy: &str,
    ) -> Option<&'n Node> {
        match fields.get(field) {
            Some(entry) => Some(&entry.node),
            None => {
                self.problem(owner, line, format!("{}{field} is missing", owner.prefix), remedy.to_owned());
                None
            }
        }
    }

    pub(super) fn pattern(&mut self, owner: Owner<'_>, field: &str, line: usize, text: &str) -> Option<Pattern> {
        if text.is_empty() {
            let message = format!("{}{field} is an empty pattern, which nothing can match", owner.prefix);
            self.problem(owner, line, message, "write a name, or \"*\" for any".into());
            return None;
        }
        if text.len() > MAX_PATTERN {
            let message = format!("the pattern of {}{field} is {} bytes long", owner.prefix, text.len());
            self.problem(owner, line, message, format!("keep it within {MAX_PATTERN} bytes: put a * for a part of it"));
            return None;
        }
        Some(Pattern::new(text))
    }

    /// The nearest of many words, which are gathered only if there have not been too many searches.
    pub(super) fn search(&mut self, word: &str, words: impl FnOnce() -> Vec<String>) -> Option<String> {
        if self.searches >= MAX_SEARCHES {
            return None;
        }
        self.searches += 1;
        let words = words();
        nearest(word, words.iter().map(String::as_str)).map(str::to_owned)
    }
}

/// The seconds of `1h30m`; units once each, the largest first. `None`: not a duration. Saturates.
pub(super) fn seconds(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut sum = 0u128;
    let mut units = [('d', DAY), ('h', 3600), ('m', 60), ('s', 1)].into_iter();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return None;
        }
        // More digits than 128 bits hold are too long in any case.
        let number: u128 = number.parse().unwrap_or(u128::MAX);
        let unit = tail.chars().next()?;
        let (_, length) = units.find(|(known, _)| *known == unit)?;
        sum = sum.saturating_add(number.saturating_mul(u128::from(length)));
        rest = tail.split_at(unit.len_utf8()).1;
    }
    Some(sum)
}

/// The word closest to `word`, if one is close: a slip of the finger, not another word.
pub(super) fn nearest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let letters: Vec<char> = word.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    // A third of the letters may differ, of a long word no more than three.
    let most = (letters.len() / 3).clamp(1, 3);
    if letters.is_empty() || letters.len() > 64 {
        return None;
    }
    words
        .into_iter()
        .filter_map(|known| {
            let distance = distance(&letters, known, most)?;
            // The first of several is the same in every run only if ties are broken by the word itself.
            Some((distance, known))
        })
        .min()
        .map(|(_, known)| known)
}

/// How many letters have to be put in, taken out, replaced or swapped; `None`: more than `most`.
fn distance(a: &[char], b: &str, most: usize) -> Option<usize> {
    let b: Vec<char> = b.chars().take(a.len() + most + 1).map(|letter| letter.to_ascii_lowercase()).collect();
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= most)
}
