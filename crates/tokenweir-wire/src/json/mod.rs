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
        while !rest.is_empty() {
            let used = match self.state {
                State::String => self.string(rest, sink),
                State::DeepString(depth, escaped) => self.deep_string(rest, depth, escaped),
                State::Bad => rest.len(),
                _ => usize::from(self.byte(rest[0], sink)),
            };
            self.offset += used as u64;
            rest = &rest[used..];
        }
    }

    /// One byte outside strings; whether it is used up.
    fn byte(&mut self, byte: u8, sink: &mut impl Sink) -> bool {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.state {
            State::Number => return self.digit(byte, sink),
            State::Literal(rest, literal) => {
                if rest.first() != Some(&byte) {
                    self.state = State::Bad;
                } else if rest.len() > 1 {
                    self.state = State::Literal(&rest[1..], literal);
                } else {
                    let event = match literal {
                        Literal::Bool(value) => Event::Bool(value),
                        Literal::Null => Event::Null,
                    };
                    sink.event(&self.path[..self.named], event, self.began..self.offset + 1);
                    self.value_done(self.offset + 1, sink);
                }
            }
            State::Deep(depth) => match byte {
                b'"' => self.state = State::DeepString(depth, false),
                b'{' | b'[' => self.state = State::Deep(depth + 1),
                b'}' | b']' if depth > 0 => self.state = State::Deep(depth - 1),
                b'}' | b']' => self.value_done(self.offset + 1, sink),
                _ => {}
            },
            _ if space => {}
            // A byte order mark, wherever a document may begin.
            State::Root if matches!(byte, 0xef | 0xbb | 0xbf) => {}
            State::Root | State::Value => self.value(byte, sink),
            State::ValueOrEnd if byte == b']' => self.close(Kind::Array, sink),
            State::ValueOrEnd => self.value(byte, sink),
            State::KeyOrEnd if byte == b'}' => self.close(Kind::Object, sink),
            State::KeyOrEnd | State::Key if byte == b'"' => {
                self.text.begin(Role::Key);
                self.state = State::String;
            }
            State::Colon if byte == b':' => self.state = State::Value,
            State::CommaOrEnd if byte == b',' => {
                self.state = match self.kinds[self.depth - 1] {
                    Kind::Object => State::Key,
                    Kind::Array => State::Value,
                };
            }
            State::CommaOrEnd if byte == b'}' => self.close(Kind::Object, sink),
            State::CommaOrEnd if byte == b']' => self.close(Kind::Array, sink),
            _ => self.state = State::Bad,
        }
        true
    }

    fn value(&mut self, byte: u8, sink: &mut impl Sink) {
        self.open = true;
        self.began = self.offset;
        match byte {
            b'{' => self.container(Kind::Object, State::KeyOrEnd, sink),
            b'[' => self.container(Kind::Array, State::ValueOrEnd, sink),
            b'"' => {
                let take = sink.take(&self.path[..self.named]);
                self.text.begin(Role::Value(take));
                self.state = State::String;
            }
            b'-' | b'0'..=b'9' => {
                self.number = Digits::NONE;
                self.state = State::Number;
                self.digit(byte, sink);
            }
            b't' => self.state = State::Literal(b"rue", Literal::Bool(true)),
            b'f' => self.state = State::Literal(b"alse", Literal::Bool(false)),
            b'n' => self.state = State::Literal(b"ull", Literal::Null),
            _ => self.state = State::Bad,
        }
    }

    fn container(&mut self, kind: Kind, next: State, sink: &mut impl Sink) {
        if self.depth == MAX_DEPTH {
            self.state = State::Deep(0);
            return;
        }
        sink.event(&self.path[..self.named], Event::Open(kind), self.offset..self.offset + 1);
        self.kinds[self.depth] = kind;
        self.depth += 1;
        self.state = next;
    }

    fn close(&mut self, kind: Kind, sink: &mut impl Sink) {
        if self.kinds[self.depth - 1] != kind {
            self.state = State::Bad;
            return;
        }
        self.depth -= 1;
        sink.event(&self.path[..self.named], Event::Close(kind), self.offset..self.offset + 1);
        self.value_done(self.offset + 1, sink);
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

    /// One more byte of a number, or the first behind it.
    fn digit(&mut self, byte: u8, sink: &mut impl Sink) -> bool {
        let number = &mut self.number;
        if let b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E' = byte {
            if let Some(room) = number.text.get_mut(number.length) {
                *room = byte;
            }
            number.length = number.length.saturating_add(1);
        }
        match byte {
            b'0'..=b'9' => {
                let next = number.value.checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0')));
                number.whole &= next.is_some();
                number.value = next.unwrap_or(0);
                true
            }
            b'-' | b'+' | b'.' | b'e' | b'E' => {
                number.whole = false;
                true
            }
            _ => {
                let value = number.number();
                sink.event(&self.path[..self.named], Event::Number(value), self.began..self.offset);
                self.value_done(self.offset, sink);
                false
            }
        }
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
        if bytes.get(run) == Some(&b'"') && self.text.is_fresh() && self.whole_string(&bytes[..run], sink) {
            return run + 1;
        }
        let path = &self.path[..self.named];
        let mut piece = |text: &str| sink.event(path, Event::Text(text), self.began..self.began + 1);
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
    fn whole_string(&mut self, string: &[u8], sink: &mut impl Sink) -> bool {
        let end = self.offset + string.len() as u64 + 1;
        let path = &self.path[..self.named];
        match self.text.role() {
            Role::Key => self.key_done(Name::of(string)),
            Role::Value(Take::Text) if string.len() <= PIECE => {
                let Ok(text) = std::str::from_utf8(string) else { return false };
                if !text.is_empty() {
                    sink.event(path, Event::Text(text), self.began..self.began + 1);
                }
                self.value_done(end, sink);
            }
            Role::Value(Take::Text) => return false,
            Role::Value(Take::Word) => {
                let word = Some(string).filter(|string| string.len() <= LONGEST_WORD);
                let word = word.and_then(|string| std::str::from_utf8(string).ok());
                sink.event(path, Event::Word(word), self.began..end);
                self.value_done(end, sink);
            }
            Role::Value(Take::Pass) => {
                // Without its quotes.
                sink.event(path, Event::Passed(end - self.began - 2), self.began..end);
                self.value_done(end, sink);
            }
        }
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

/// How many bytes of a string come before its end, or an escape.
#[inline]
fn string_run(bytes: &[u8]) -> usize {
    // Most keys are short, and a search for long ones costs more to begin than to look at each of their bytes.
    const SHORT: usize = 24;
    let special = |byte: &u8| matches!(byte, b'"' | b'\\');
    let (short, long) = bytes.split_at(bytes.len().min(SHORT));
    match short.iter().position(special) {
        Some(run) => run,
        None => short.len() + memchr2(b'"', b'\\', long).unwrap_or(long.len()),
    }
}

#[cfg(test)]
mod tests;
