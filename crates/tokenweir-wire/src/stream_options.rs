//! Usage at the end of OpenAI's streams, which comes only to who asks for it.

use crate::api::Api;
use crate::json::{Event, Kind, Name, OneObject, Passage, Scanner, Sink, Take};
use crate::request::RequestError;
use crate::sse::{Events, Splitter};
use std::borrow::Cow;
use std::ops::Range;

/// What has to be done to a request so that its stream ends with its usage.
///
/// Chat Completions and Completions report the usage of a stream only where `stream_options.include_usage` is true; all
/// other APIs always do. The rest of the body stays as it is, to the byte.
///
/// # Example
/// ```
/// use tokenweir_wire::{Api, StreamUsage};
///
/// let body = br#"{"stream": true, "model": "gpt-4o"}"#;
/// let usage = StreamUsage::of(Api::ChatCompletions, body)?;
/// assert!(!usage.client_asked());
/// let sent = usage.ask(body);
/// assert_eq!(&*sent, br#"{"stream_options":{"include_usage":true},"stream": true, "model": "gpt-4o"}"#);
/// # Ok::<(), tokenweir_wire::RequestError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamUsage {
    edit: Option<Edit>,
    client_asked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    at: Range<usize>,
    with: &'static str,
}

impl StreamUsage {
    /// Reads a request.
    ///
    /// # Errors
    /// [`RequestError`] if the body is not one JSON object.
    pub fn of(api: Api, body: &[u8]) -> Result<Self, RequestError> {
        if !matches!(api, Api::ChatCompletions | Api::Completions) {
            return Ok(StreamUsage { edit: None, client_asked: true });
        }
        let mut scanner = Scanner::new();
        let mut found = Found::default();
        scanner.feed(body, &mut found);
        if !scanner.has_ended() {
            return Err(RequestError::NotJson { at: scanner.offset() });
        }
        let Some(root) = found.root.filter(|_| found.whole.holds()) else { return Err(RequestError::NotObject) };
        let client_asked =
            found.stream && matches!(found.options, Options::Object { asked: Some((Some(true), _)), .. });
        let edit = match (found.stream, found.options) {
            (false, _) => None,
            // The object is not empty: it says that it wants a stream.
            (true, Options::Absent) => {
                Some(Edit { at: root..root, with: r#""stream_options":{"include_usage":true},"# })
            }
            (true, Options::Null(at)) => Some(Edit { at, with: r#"{"include_usage":true}"# }),
            (true, Options::Object { asked: Some((Some(false), at)), .. }) => Some(Edit { at, with: "true" }),
            (true, Options::Object { inside, empty, asked: None }) => {
                let with = if empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                Some(Edit { at: inside..inside, with })
            }
            // Asked for, or what the provider will refuse.
            (true, Options::Object { asked: Some(_), .. } | Options::Other) => None,
        };
        Ok(StreamUsage { edit, client_asked })
    }

    /// Whether the client expects the usage: if not, a [`UsageChunkFilter`] keeps it from what it did not ask for.
    pub fn client_asked(&self) -> bool {
        self.client_asked
    }

    /// The body that asks for the usage: `body`, the one that was read, with at most one insertion or replacement.
    pub fn ask<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.edit {
            Some(Edit { at, with }) if at.end <= body.len() => {
                Cow::Owned([&body[..at.start], with.as_bytes(), &body[at.end..]].concat())
            }
            _ => Cow::Borrowed(body),
        }
    }
}

/// Where things stand in a request. Where a member comes twice, the last counts, as it does for most readers.
#[derive(Debug, Default)]
struct Found {
    whole: OneObject,
    /// A list where options should be.
    list: Passage,
    /// Behind the first brace.
    root: Option<usize>,
    stream: bool,
    options: Options,
}

#[derive(Debug, Default)]
enum Options {
    #[default]
    Absent,
    Null(Range<usize>),
    Object {
        /// Behind its brace.
        inside: usize,
        empty: bool,
        /// What `include_usage` says (null says no; nothing: it makes no sense), and where.
        asked: Option<(Option<bool>, Range<usize>)>,
    },
    Other,
}

impl Sink for Found {
    fn take(&mut self, _: &[Name]) -> Take {
        Take::Pass
    }

    fn event(&mut self, path: &[Name], event: Event<'_>, span: Range<u64>) {
        self.whole.follow(path, &event);
        let is_list = path == [Name::StreamOptions] && event == Event::Open(Kind::Array);
        if is_list {
            self.options = Options::Other;
        }
        let was_open = self.list.is_open();
        self.list.follow(is_list, &event, &span);
        if is_list || was_open {
            return;
        }
        // The body is in memory, so its positions are sizes.
        let at = span.start as usize..span.end as usize;
        match (path, event) {
            ([], Event::Open(Kind::Object)) => self.root = self.root.or(Some(at.end)),
            ([Name::Stream], event) => self.stream = event == Event::Bool(true),
            ([Name::StreamOptions], Event::Open(Kind::Object)) => {
                self.options = Options::Object { inside: at.end, empty: true, asked: None };
            }
            ([Name::StreamOptions], Event::Close(Kind::Object)) => {}
            ([Name::StreamOptions], Event::Null) => self.options = Options::Null(at),
            ([Name::StreamOptions], _) => self.options = Options::Other,
            ([Name::StreamOptions, inner @ ..], event) => {
                let Options::Object { empty, asked, .. } = &mut self.options else { return };
                *empty = false;
                match (inner, event) {
                    ([Name::IncludeUsage], Event::Bool(value)) => *asked = Some((Some(value), at)),
                    ([Name::IncludeUsage], Event::Null) => *asked = Some((Some(false), at)),
                    ([Name::IncludeUsage], _) => *asked = Some((None, at)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

/// Withholds from a client the one chunk of a stream that it did not ask for: the one with the usage and no choices.
///
/// All else passes as it came, to the byte, an event at a time: at most one is held back, and of that at most 4 KiB.
/// Feed a [`ResponseMeter`](crate::ResponseMeter) with what the upstream sent, before this.
#[derive(Debug)]
pub struct UsageChunkFilter {
    splitter: Splitter,
    event: HeldEvent,
    held: Vec<u8>,
    /// The event that is passing is longer than may be held.
    passing: bool,
    /// The last event ended in a carriage return, to which a line feed may belong, and whether it was withheld.
    after_cr: Option<bool>,
}

/// What is known of the event that is held back.
#[derive(Debug)]
struct HeldEvent {
    scanner: Scanner,
    chunk: Chunk,
    ended: bool,
}

#[derive(Debug, Default)]
struct Chunk {
    /// Containers opened as `choices` and right in it: one, if it is an empty list.
    choices: u32,
    usage: bool,
}

impl Chunk {
    fn is_usage_alone(&self) -> bool {
        self.usage && self.choices == 1
    }
}

impl Sink for Chunk {
    fn take(&mut self, _: &[Name]) -> Take {
        Take::Pass
    }

    fn event(&mut self, path: &[Name], event: Event<'_>, _: Range<u64>) {
        match (path, event) {
            ([Name::Choices], Event::Open(_)) => self.choices = self.choices.saturating_add(1),
            ([Name::Usage], Event::Open(Kind::Object)) => self.usage = true,
            _ => {}
        }
    }
}

impl Events for HeldEvent {
    fn data(&mut self, bytes: &[u8]) {
        self.scanner.feed(bytes, &mut self.chunk);
    }

    fn end(&mut self, _has_data: bool) {
        self.ended = true;
    }
}

impl Default for UsageChunkFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageChunkFilter {
    /// The most bytes that are held back: an event that is longer is not the one that is sought.
    pub const MOST_HELD: usize = 4096;

    /// A filter for one stream.
    pub fn new() -> Self {
        UsageChunkFilter {
            splitter: Splitter::new(),
            event: HeldEvent { scanner: Scanner::new(), chunk: Chunk::default(), ended: false },
            held: Vec::new(),
            passing: false,
            after_cr: None,
        }
    }

    /// Takes the next chunk in, and adds what the client may have to `out`.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut rest = chunk;
        while let Some(&byte) = rest.first() {
            let used = self.splitter.step(byte, rest, &mut self.event);
            let bytes = &rest[..used];
            rest = &rest[used..];
            if let Some(withheld) = self.after_cr.take().filter(|_| byte == b'\n') {
                if !withheld {
                    out.extend_from_slice(bytes);
                }
                continue;
            }
            if !self.passing && self.held.len() + used > Self::MOST_HELD {
                self.release(out);
                self.passing = true;
            }
            let to = if self.passing { &mut *out } else { &mut self.held };
            to.extend_from_slice(bytes);
            if std::mem::take(&mut self.event.ended) {
                let withhold = !self.passing && self.event.scanner.has_ended() && self.event.chunk.is_usage_alone();
                if withhold {
                    self.held.clear();
                }
                self.after_cr = (byte == b'\r').then_some(withhold);
                self.release(out);
                self.passing = false;
                self.event.scanner.reset();
                self.event.chunk = Chunk::default();
            }
        }
    }

    /// The stream is over: what was held back of an event without an end.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.release(out);
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}
