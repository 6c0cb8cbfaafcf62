//! A JSON reader that is pushed bytes as they come and keeps almost none of them.
//!
//! It walks any number of documents, one after the other, and tells a [`Sink`] what it meets and where: containers,
//! strings (in pieces, as far as the sink wants them), numbers, words. Its memory is bounded whatever the document does:
//! containers nested deeper than [`MAX_DEPTH`] are passed over, keys and words that are too long are nobody's, and text
//! is handed on in pieces of [`PIECE`] bytes. What it tells depends on the bytes alone, never on how they were cut.
//!
//! It is a little more lenient than the standard (control characters in strings, odd numbers), never less: whatever is
//! JSON is read whole.

mod name;
mod one_object;
mod passage;
mod string;

pub(crate) use name::Name;
pub(crate) use one_object::OneObject;
pub(crate) use passage::{Passage, millitokens};

use memchr::memchr2;
use std::ops::Range;
use string::{Role, Text};

/// Containers nested deeper than this are passed over as one value.
pub(crate) const MAX_DEPTH: usize = 64;
/// The longest key, in bytes, that can be a [`Name`].
pub(crate) const LONGEST_KEY: usize = 32;
/// The longest word, in bytes, that a sink may take whole.
pub(crate) const LONGEST_WORD: usize = 256;
/// The longest number, in bytes, that is looked at closely.
const LONGEST_NUMBER: usize = 40;
/// Text goes to the sink in pieces of this many bytes, but for its last.
pub(crate) const PIECE: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
}

/// What to do with a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// Hand it on in pieces, as [`Event::Text`].
    Text,
    /// Hand it on whole, as [`Event::Word`].
    Word,
    /// Say only how long it is, as [`Event::Passed`].
    Pass,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Open(Kind),
    Close(Kind),
    /// A piece of a string, unescaped. What is not UTF-8 is replaced.
    Text(&'a str),
    /// A whole string, unescaped; `None` if it is longer than [`LONGEST_WORD`] or not UTF-8.
    Word(Option<&'a str>),
    /// A string that was passed over, of so many bytes between its quotes.
    Passed(u64),
    Number(Number),
    Bool(bool),
    Null,
    /// A document has ended well. Each element of an array at the top is one, and so is the array.
    Document,
}

/// A number, in both of the ways in which it may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    /// `None` unless it is written as a whole number that 64 bits hold.
    pub(crate) whole: Option<u64>,
    /// The least whole number that is not below it, however it is written; at most what 64 bits hold. `None` below 0.
    pub(crate) ceiling: Option<u64>,
}

/// Who is told what a [`Scanner`] meets.
///
/// `path` is the names of the members that lead to the value; arrays have no part in it. `span` is where the value
/// stands, in bytes since the scanner began; of a text, where its first byte was.
pub(crate) trait Sink {
    /// Asked once for each string that is a value, before anything of it is told.
    fn take(&mut self, path: &[Name]) -> Take;
    fn event(&mut self, path: &[Name], event: Event<'_>, span: Range<u64>);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between documents.
    Root,
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After a comma in an object.
    Key,
    Colon,
    CommaOrEnd,
    String,
    Number,
    /// The rest of `true`, `false` or `null`.
    Literal(&'static [u8], Literal),
    /// In a container that is nested too deep, so many containers further down.
    Deep(u64),
    /// In a string down there; whether after a backslash.
    DeepString(u64, bool),
    /// It is not JSON.
    Bad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literal {
    Bool(bool),
    Null,
}

#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    kinds: [Kind; MAX_DEPTH],
    depth: usize,
    path: [Name; MAX_DEPTH],
    named: usize,
    text: Text,
    number: Digits,
    /// Where the value that is being read began.
    began: u64,
    /// Bytes since the beginning.
    offset: u64,
    /// Whether the first byte of a document has been seen, and not its last.
    open: bool,
    /// Whether a document has ended.
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Digits {
    value: u64,
    whole: bool,
    /// As it is written, as far as there is room.
    text: [u8; LONGEST_NUMBER],
    length: usize,
}

impl Digits {
    const NONE: Digits = Digits { value: 0, whole: true, text: [0; LONGEST_NUMBER], length: 0 };

    /// One byte more, if it is one of a number.
    fn push(&mut self, byte: u8) -> bool {
        match byte {
            b'0'..=b'9' => {
                let next = self.value.checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0')));
                self.whole &= next.is_some();
                self.value = next.unwrap_or(0);
            }
            b'-' | b'+' | b'.' | b'e' | b'E' => self.whole = false,
            _ => return false,
        }
        if let Some(room) = self.text.get_mut(self.length) {
            *room = byte;
        }
        self.length = self.length.saturating_add(1);
        true
    }

    fn number(&self) -> Number {
        let whole = self.whole.then_some(self.value);
        Number { whole, ceiling: whole.or_else(|| self.ceiling()) }
    }

    fn ceiling(&self) -> Option<u64> {
        match self.text.get(..self.length) {
            None if self.text[0] == b'-' => None,
            // So many digits are written by nobody who means a small number.
            None => Some(u64::MAX),
            Some(text) => {
                let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
                // The cast stops at the most there can be.
                (value >= 0.0).then(|| value.ceil() as u64)
            }
        }
    }
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Scanner {
            state: State::Root,
            kinds: [Kind::Object; MAX_DEPTH],
            depth: 0,
            path: [Name::Other; MAX_DEPTH],
            named: 0,
            text: Text::new(),
            number: Digits::NONE,
            began: 0,
            offset: 0,
            open: false,
            ended: false,
        }
    }

    /// Forgets the document that is being read. Positions begin anew.
    pub(crate) fn reset(&mut self) {
        self.state = State::Root;
        self.depth = 0;
        self.named = 0;
        self.offset = 0;
        self.open = false;
        self.ended = false;
    }

    /// Whether a document has begun and not ended well.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether documents have come and each has ended well.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended && self.state == State::Root
    }

    /// Whether what came is not JSON. Only [`reset`](Scanner::reset) gets it out of that.
    pub(crate) fn is_bad(&self) -> bool {
        self.state == State::Bad
    }

    /// Bytes since the beginning or the last reset.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            let used = match self.state {
                State::String => self.string(rest, sink),
                State::Number => self.number(rest, sink),
                State::Literal(end, literal) => self.literal(rest, end, literal, sink),
                State::Deep(depth) => self.deep(first, depth, sink),
                State::DeepString(depth, escaped) => self.deep_string(rest, depth, escaped),
                State::Bad => rest.len(),
                _ if is_space(&first) => rest.iter().take_while(|byte| is_space(byte)).count(),
                // A byte order mark, wherever a document may begin.
                State::Root if matches!(first, 0xef | 0xbb | 0xbf) => 1,
                State::ValueOrEnd if first == b']' => self.close(Kind::Array, rest, sink),
                State::Root | State::Value | State::ValueOrEnd => self.value(rest, first, sink),
                State::KeyOrEnd if first == b'}' => self.close(Kind::Object, rest, sink),
                State::KeyOrEnd | State::Key if first == b'"' => self.key(rest),
                State::Colon if first == b':' => self.go_on(State::Value),
                State::CommaOrEnd if first == b',' => self.go_on(self.after_comma()),
                State::CommaOrEnd if first == b'}' => self.close(Kind::Object, rest, sink),
                State::CommaOrEnd if first == b']' => self.close(Kind::Array, rest, sink),
                _ => self.go_on(State::Bad),
            };
            self.offset += used as u64;
            rest = &rest[used..];
        }
    }

    /// One byte is used, and then.
    fn go_on(&mut self, next: State) -> usize {
        self.state = next;
        1
    }

    fn after_comma(&self) -> State {
        match self.kinds[self.depth - 1] {
            Kind::Object => State::Key,
            Kind::Array => State::Value,
        }
    }

    /// So many bytes of these are used by a value that is done, and the comma behind it if there is one.
    fn with_comma(&mut self, bytes: &[u8], used: usize) -> usize {
        if self.state == State::CommaOrEnd && bytes.get(used) == Some(&b',') {
            self.state = self.after_comma();
            return used + 1;
        }
        used
    }

    /// A key from its quote on: all of it and its colon, where they have come and it has no escapes.
    fn key(&mut self, bytes: &[u8]) -> usize {
        let run = string_run(&bytes[1..]);
        if bytes.get(1 + run) != Some(&b'"') {
            self.text.begin(Role::Key);
            return self.go_on(State::String);
        }
        self.key_done(Name::of(&bytes[1..=run]));
        if bytes.get(run + 2) == Some(&b':') {
            self.state = State::Value;
            return run + 3;
        }
        run + 2
    }

    fn value(&mut self, bytes: &[u8], first: u8, sink: &mut impl Sink) -> usize {
        self.open = true;
        self.began = self.offset;
        match first {
            b'{' => self.container(Kind::Object, State::KeyOrEnd, sink),
            b'[' => self.container(Kind::Array, State::ValueOrEnd, sink),
            b'"' => {
                let take = sink.take(&self.path[..self.named]);
                let run = string_run(&bytes[1..]);
                if bytes.get(1 + run) == Some(&b'"') && self.whole_string(take, &bytes[1..=run], sink) {
                    return self.with_comma(bytes, run + 2);
                }
                self.text.begin(Role::Value(take));
                self.go_on(State::String)
            }
            b'-' | b'0'..=b'9' => {
                self.number = Digits::NONE;
                self.number(bytes, sink)
            }
            b't' => self.go_on(State::Literal(b"rue", Literal::Bool(true))),
            b'f' => self.go_on(State::Literal(b"alse", Literal::Bool(false))),
            b'n' => self.go_on(State::Literal(b"ull", Literal::Null)),
            _ => self.go_on(State::Bad),
        }
    }

    /// Bytes of a word, of which `end` is to come; how many.
    fn literal(&mut self, bytes: &[u8], end: &'static [u8], literal: Literal, sink: &mut impl Sink) -> usize {
        let more = end.len().min(bytes.len());
        if bytes[..more] != end[..more] {
            return self.go_on(State::Bad);
        }
        if more < end.len() {
            self.state = State::Literal(&end[more..], literal);
            return more;
        }
        let event = match literal {
            Literal::Bool(value) => Event::Bool(value),
            Literal::Null => Event::Null,
        };
        let end = self.offset + more as u64;
        sink.event(&self.path[..self.named], event, self.began..end);
        self.value_done(end, sink);
        self.with_comma(bytes, more)
    }

    fn deep(&mut self, byte: u8, depth: u64, sink: &mut impl Sink) -> usize {
        match byte {
            b'"' => self.state = State::DeepString(depth, false),
            b'{' | b'[' => self.state = State::Deep(depth + 1),
            b'}' | b']' if depth > 0 => self.state = State::Deep(depth - 1),
            b'}' | b']' => self.value_done(self.offset + 1, sink),
            _ => {}
        }
        1
    }

    fn container(&mut self, kind: Kind, next: State, sink: &mut impl Sink) -> usize {
        if self.depth == MAX_DEPTH {
            return self.go_on(State::Deep(0));
        }
        sink.event(&self.path[..self.named], Event::Open(kind), self.offset..self.offset + 1);
        self.kinds[self.depth] = kind;
        self.depth += 1;
        self.go_on(next)
    }

    fn close(&mut self, kind: Kind, bytes: &[u8], sink: &mut impl Sink) -> usize {
        if self.kinds[self.depth - 1] != kind {
            return self.go_on(State::Bad);
        }
        self.depth -= 1;
        sink.event(&self.path[..self.named], Event::Close(kind), self.offset..self.offset + 1);
        self.value_done(self.offset + 1, sink);
        self.with_comma(bytes, 1)
    }

    /// The value ends before `end`.
    fn value_done(&mut self, end: u64, sink: &mut impl Sink) {
        let Some(kind) = self.depth.checked_sub(1).map(|top| self.kinds[top]) else {
            self.state = State::Root;
            self.open = false;
            self.ended = true;
            sink.event(&[], Event::Document, end..end);
            return;
        };
        self.state = State::CommaOrEnd;
        match kind {
            // Its name was pushed with its key.
            Kind::Object => self.named -= 1,
            Kind::Array if self.depth == 1 => sink.event(&[], Event::Document, end..end),
            Kind::Array => {}
        }
    }

    /// Bytes of a number, and the comma behind it; how many.
    fn number(&mut self, bytes: &[u8], sink: &mut impl Sink) -> usize {
        let number = &mut self.number;
        let run = bytes.iter().take_while(|byte| number.push(**byte)).count();
        if run == bytes.len() {
            // There may be more of it.
            self.state = State::Number;
            return run;
        }
        let (value, end) = (number.number(), self.offset + run as u64);
        sink.event(&self.path[..self.named], Event::Number(value), self.began..end);
        self.value_done(end, sink);
        self.with_comma(bytes, run)
    }

    /// The bytes of a string, up to its end or theirs; how many.
    fn string(&mut self, bytes: &[u8], sink: &mut impl Sink) -> usize {
        let path = &self.path[..self.named];
        let mut piece = |text: &str| sink.event(path, Event::Text(text), self.began..self.began + 1);
        if self.text.is_escaped() {
            if !self.text.escape(bytes[0], &mut piece) {
                self.state = State::Bad;
            }
            return 1;
        }
        let run = string_run(bytes);
        self.text.push(&bytes[..run], &mut piece);
        match bytes.get(run) {
            None => run,
            Some(b'"') => {
                self.string_done(self.offset + run as u64 + 1, sink);
                run + 1
            }
            Some(_) => {
                self.text.begin_escape();
                run + 1
            }
        }
    }

    /// A string without escapes, all of which has come at once: nothing of it is copied. False if it has to be, because it
    /// is not UTF-8 or longer than a piece.
    fn whole_string(&mut self, take: Take, string: &[u8], sink: &mut impl Sink) -> bool {
        // With its quotes.
        let end = self.began + string.len() as u64 + 2;
        let path = &self.path[..self.named];
        match take {
            Take::Text if string.len() > PIECE => return false,
            Take::Text => {
                let Ok(text) = std::str::from_utf8(string) else { return false };
                if !text.is_empty() {
                    sink.event(path, Event::Text(text), self.began..self.began + 1);
                }
            }
            Take::Word => {
                let word = Some(string).filter(|string| string.len() <= LONGEST_WORD);
                let word = word.and_then(|string| std::str::from_utf8(string).ok());
                sink.event(path, Event::Word(word), self.began..end);
            }
            Take::Pass => sink.event(path, Event::Passed(string.len() as u64), self.began..end),
        }
        self.value_done(end, sink);
        true
    }

    fn key_done(&mut self, name: Name) {
        // There are as many names as open objects, so at most `MAX_DEPTH`.
        self.path[self.named] = name;
        self.named += 1;
        self.state = State::Colon;
    }

    fn string_done(&mut self, end: u64, sink: &mut impl Sink) {
        let path = &self.path[..self.named];
        let span = self.began..end;
        self.text.end(|text| sink.event(path, Event::Text(text), span.start..span.start + 1));
        match self.text.role() {
            Role::Key => {
                return self.key_done(Name::of(self.text.whole().unwrap_or_default()));
            }
            Role::Value(Take::Text) => {}
            Role::Value(Take::Word) => {
                let word = self.text.whole().and_then(|bytes| std::str::from_utf8(bytes).ok());
                sink.event(path, Event::Word(word), span);
            }
            Role::Value(Take::Pass) => {
                // Without its quotes.
                let length = end - self.began - 2;
                sink.event(path, Event::Passed(length), span);
            }
        }
        self.value_done(end, sink);
    }

    fn deep_string(&mut self, bytes: &[u8], depth: u64, escaped: bool) -> usize {
        if escaped {
            self.state = State::DeepString(depth, false);
            return 1;
        }
        let run = memchr2(b'"', b'\\', bytes);
        self.state = match run.map(|run| bytes[run]) {
            None => State::DeepString(depth, false),
            Some(b'"') => State::Deep(depth),
            Some(_) => State::DeepString(depth, true),
        };
        run.map_or(bytes.len(), |run| run + 1)
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// How many bytes of a string come before its end, or an escape.
#[inline]
fn string_run(bytes: &[u8]) -> usize {
    // Most keys are short, and a search for long strings costs more to begin than this many words.
    const SHORT: usize = 4;
    let mut rest = bytes;
    for _ in 0..SHORT {
        let Some((word, more)) = rest.split_first_chunk() else { break };
        let found = first_special(u64::from_le_bytes(*word));
        if let Some(at) = found {
            return bytes.len() - rest.len() + at;
        }
        rest = more;
    }
    bytes.len() - rest.len() + memchr2(b'"', b'\\', rest).unwrap_or(rest.len())
}

/// Which of eight bytes, the first one lowest, is the first quote or backslash.
///
/// A byte less than 1 borrows from the one above it: `zeros` may mark a byte too much above the first, never below. (H. S.
/// Warren, "Hacker's Delight", 6-1.)
#[inline]
fn first_special(word: u64) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & (LOW << 7);
    let found = zeros(word ^ (LOW * b'"' as u64)) | zeros(word ^ (LOW * b'\\' as u64));
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests;
