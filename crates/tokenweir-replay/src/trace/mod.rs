//! Recorded traffic: requests in order of time, read one line at a time and checked in full.
//!
//! - [`lines`]: lines of a bounded length, with their numbers;
//! - [`jsonl`]: one JSON object per request;
//! - [`azure`]: the CSV of the public Azure LLM inference traces.
//!
//! Nothing is skipped and nothing is guessed: the first line that is wrong ends the run.

mod azure;
mod jsonl;
mod lines;

use std::io::{BufRead, Read, Seek, SeekFrom};

use tokenweir::{Estimate, Usage};

pub use azure::{Azure, OutputRule};
pub use jsonl::Jsonl;

use crate::{Error, instant};
use lines::Lines;

/// The most tokens that one number may say: 2^53.
const MAX_TOKENS: u64 = 1 << 53;

/// How a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The provider reported these tokens.
    Usage(Usage),
    /// It never reached the provider.
    Cancel,
    /// It was dropped without a word.
    Silence,
}

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its line in the file, counted from 1.
    pub line: u64,
    /// When it asks, in nanoseconds since 1970.
    pub at: i64,
    /// `at` as the trace has it, as JSON text.
    pub at_text: String,
    /// Who calls.
    pub project: Vec<u8>,
    /// What it calls.
    pub deployment: Vec<u8>,
    /// Further keys of the caller.
    pub keys: Vec<(String, Vec<u8>)>,
    /// What it expects to take.
    pub estimate: Estimate,
    /// How it ends, if it is admitted.
    pub ending: Ending,
    /// When it ends, in nanoseconds since 1970.
    pub due: i64,
}

/// What is wrong with a line, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    reason: String,
    remedy: String,
}

impl Wrong {
    fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Wrong { reason: reason.into(), remedy: remedy.into() }
    }
}

/// How the lines of a trace are to be read.
#[derive(Debug)]
pub enum Format {
    /// JSON lines.
    Jsonl(Jsonl),
    /// The CSV of the Azure LLM inference traces.
    Azure(Azure),
}

/// Reads the requests of a trace.
#[derive(Debug)]
pub struct Trace<R> {
    lines: Lines<R>,
    format: Format,
    /// The instant and line of the request before.
    last: Option<(i64, u64)>,
}

impl<R: BufRead> Trace<R> {
    /// The trace in `source`.
    pub fn new(source: R, format: Format) -> Self {
        Trace { lines: Lines::new(source), format, last: None }
    }

    /// How many bytes have been read.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// The next request; `None` after the last.
    ///
    /// # Errors
    /// The first line that is wrong, by its number: malformed, longer than 1 MiB, empty, or earlier than the one
    /// before it. There is nothing to be read after it.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let wrong = |line: u64, Wrong { reason, remedy }: Wrong| Error::Line { line, reason, remedy };
        if let (0, Format::Azure(_)) = (self.lines.number(), &self.format) {
            match self.lines.next() {
                Ok(header) => azure::header(header.unwrap_or("")).map_err(|w| wrong(1, w))?,
                Err(w) => return Err(wrong(1, w)),
            }
        }
        let number = self.lines.number() + 1;
        let text = match self.lines.next() {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(w) => return Err(wrong(number, w)),
        };
        let entry = match &self.format {
            Format::Jsonl(format) => format.entry(number, text),
            Format::Azure(format) => format.entry(number, text),
        };
        let entry = entry.map_err(|w| wrong(number, w))?;
        if let Some((last, line)) = self.last.filter(|&(last, _)| entry.at < last) {
            let behind = instant::span_text(last.abs_diff(entry.at));
            let reason = format!("is {behind} before line {line}");
            return Err(wrong(number, Wrong::new(reason, "sort the trace by time")));
        }
        self.last = Some((entry.at, number));
        Ok(Some(entry))
    }
}

/// The instant of the last line of a file, if that line is right. Leaves the file at its end.
///
/// A trace is sorted or the run fails, so this is when the trace ends.
pub fn last_instant(file: &mut (impl Read + Seek), format: &Format) -> Option<i64> {
    const TAIL: u64 = 1 << 16;
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let text = tail.trim_ascii_end().rsplit(|&byte| byte == b'\n').next()?;
    let text = std::str::from_utf8(text).ok()?;
    let entry = match format {
        Format::Jsonl(format) => format.entry(0, text),
        Format::Azure(format) => format.entry(0, text),
    };
    Some(entry.ok()?.at)
}

/// A whole number of tokens, 0 to 2^53, in decimal digits.
pub fn tokens(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&n| digits && n <= MAX_TOKENS)
}

/// The instant at which something that starts at `at` and takes `duration` ends.
fn due(at: i64, duration: i64) -> Result<i64, Wrong> {
    at.checked_add(duration).ok_or_else(|| Wrong::new("it ends beyond the year 2262", "give a shorter duration"))
}
