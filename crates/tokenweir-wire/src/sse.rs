//! Server-sent events, pushed in chunks that may be cut anywhere; nothing of them is kept.

use memchr::memchr2;

/// Who is told what the events carry.
pub(crate) trait Events {
    /// More of an event's data. Lines are joined by a line feed, as the standard has it.
    fn data(&mut self, bytes: &[u8]);
    /// An empty line: the event has ended, if there was one that had data.
    fn end(&mut self, has_data: bool);
}

/// Where in a line the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// After so many bytes that are those of `data`; after none of them the line is empty so far.
    Name(u8),
    /// After `data:`, where one space may follow.
    Colon,
    /// In the value of `data`.
    Data,
    /// In a comment or another field.
    Other,
}

const FIELD: &[u8] = b"data";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts a stream into lines and the lines into events, as the WHATWG standard says: lines end in CR, LF or both.
#[derive(Debug)]
pub(crate) struct Splitter {
    place: Place,
    /// The last byte was a carriage return, so a line feed belongs to it.
    after_cr: bool,
    /// How much of a byte order mark has been seen at the very beginning; past it, all.
    mark: u8,
    /// Whether the event has had a line of data.
    has_data: bool,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Splitter { place: Place::Name(0), after_cr: false, mark: 0, has_data: false }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut impl Events) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let used = self.step(byte, rest, events);
            rest = &rest[used..];
        }
    }
    /// Takes in what begins with `byte` and is the same in kind; how many bytes.
    pub(crate) fn step(&mut self, byte: u8, rest: &[u8], events: &mut impl Events) -> usize {
        if let Some(&expected) = BYTE_ORDER_MARK.get(usize::from(self.mark)) {
            if byte == expected {
                self.mark += 1;
                return 1;
            }
            if self.mark > 0 {
                // Not a mark after all: a line that begins with what cannot begin a field that is known.
                self.place = Place::Other;
            }
            self.mark = BYTE_ORDER_MARK.len() as u8;
        }
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return 1;
        }
        if matches!(byte, b'\r' | b'\n') {
            self.after_cr = byte == b'\r';
            self.line_done(events);
            return 1;
        }
        match self.place {
            Place::Name(seen) => {
                self.place = match FIELD.get(usize::from(seen)) {
                    Some(&expected) if byte == expected => Place::Name(seen + 1),
                    None if byte == b':' => {
                        self.begin_data(events);
                        Place::Colon
                    }
                    _ => Place::Other,
                };
                1
            }
            Place::Colon => {
                self.place = Place::Data;
                usize::from(byte == b' ')
            }
            Place::Data | Place::Other => {
                let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                if self.place == Place::Data {
                    events.data(&rest[..run]);
                }
                run
            }
        }
    }

    fn begin_data(&mut self, events: &mut impl Events) {
        if std::mem::replace(&mut self.has_data, true) {
            events.data(b"\n");
        }
    }

    fn line_done(&mut self, events: &mut impl Events) {
        match std::mem::replace(&mut self.place, Place::Name(0)) {
            Place::Name(0) => {
                events.end(std::mem::take(&mut self.has_data));
            }
            // A field without a colon has an empty value.
            Place::Name(4) => self.begin_data(events),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        data: Vec<u8>,
        events: Vec<String>,
    }

    impl Events for Seen {
        fn data(&mut self, bytes: &[u8]) {
            self.data.extend_from_slice(bytes);
        }
        fn end(&mut self, has_data: bool) {
            if !has_data {
                assert!(self.data.is_empty());
                return;
            }
            self.events.push(String::from_utf8(std::mem::take(&mut self.data)).expect("text"));
        }
    }

    fn events(stream: &str) -> Vec<String> {
        let mut whole = Seen::default();
        Splitter::new().feed(stream.as_bytes(), &mut whole);
        let mut bytewise = Seen::default();
        let mut splitter = Splitter::new();
        for byte in stream.as_bytes() {
            splitter.feed(&[*byte], &mut bytewise);
        }
        assert_eq!((&whole.events, &whole.data), (&bytewise.events, &bytewise.data), "{stream:?}");
        whole.events
    }

    #[test]
    fn lines_end_in_any_of_three_ways() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["data: one", "", "event: x", "data: two", "data:three", "", ""].join(end);
            assert_eq!(events(&stream), ["one", "two\nthree"], "{end:?}");
        }
    }

    #[test]
    fn comments_other_fields_and_a_byte_order_mark_are_no_data() {
        assert_eq!(
            events("\u{feff}data: a\n\n: keep-alive\n\nid: 7\nretry: 10\ndatum: x\ndata : y\n\ndata:  b\n\n"),
            ["a", " b"]
        );
        assert_eq!(events("\u{fefe}data: a\n\ndata: b\n\n"), ["b"]);
    }

    #[test]
    fn an_empty_field_is_an_empty_line_and_an_event_without_data_is_none() {
        assert_eq!(events("data\ndata: a\ndata:\n\nevent: ping\n\n\n\n"), ["\na\n"]);
    }

    #[test]
    fn what_does_not_end_is_not_an_event() {
        assert!(events("data: a\n").is_empty());
    }
}
