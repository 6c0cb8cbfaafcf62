//! Lines of a file, with their numbers and a bound on their length.

use std::io::{BufRead, Read};

use super::Wrong;

/// The longest line, in bytes: 1 MiB.
const LONGEST: u64 = 1 << 20;

/// Reads lines into one buffer.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `source`.
    pub fn new(source: R) -> Self {
        Lines { source, buffer: Vec::new(), number: 0, bytes: 0 }
    }

    /// The number of the line that was read last, counted from 1; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes have been read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line without its end (`\n` or `\r\n`); `None` at the end of the file.
    pub fn next(&mut self) -> Result<Option<&str>, Wrong> {
        self.buffer.clear();
        // One byte more than allowed tells a line that is just short enough from one that is not.
        let read = (&mut self.source).take(LONGEST + 1).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|e| Wrong::new(format!("cannot read: {e}"), "check that it is a readable file"))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += read as u64;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        } else if self.buffer.len() as u64 > LONGEST {
            return Err(Wrong::new("the line is longer than 1 MiB", "write one request on each line"));
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) if text.trim_ascii().is_empty() => Err(Wrong::new("the line is empty", "delete it")),
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let reason = format!("column {} is not UTF-8", e.valid_up_to() + 1);
                Err(Wrong::new(reason, "save the trace as UTF-8 text"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ends_and_bounds() {
        let mut lines = Lines::new(&b"one\r\ntwo\nthree"[..]);
        assert_eq!(lines.next(), Ok(Some("one")));
        assert_eq!(lines.next(), Ok(Some("two")));
        assert_eq!(lines.next(), Ok(Some("three")));
        assert_eq!((lines.number(), lines.bytes()), (3, 14));
        assert_eq!(lines.next(), Ok(None));
        assert!(Lines::new(&b"\n"[..]).next().is_err());
        assert!(Lines::new(&b" \r\n"[..]).next().is_err());
        assert!(Lines::new(&b"\xff\n"[..]).next().is_err());
        let mut long = vec![b'x'; 1 << 20];
        assert!(Lines::new(&long[..]).next().is_ok());
        long.push(b'x');
        assert!(Lines::new(&long[..]).next().is_err());
    }
}
