//! A string as it is read: escapes undone, handed on in pieces or kept up to a bound.

use super::{LONGEST_KEY, LONGEST_WORD, PIECE, Take};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Value(Take),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    /// After the backslash.
    Begun,
    /// After `\u` and so many of its four digits.
    Unit {
        digits: u8,
        value: u16,
    },
}

#[derive(Debug)]
pub(super) struct Text {
    role: Role,
    escape: Escape,
    /// The first half of a surrogate pair, whose second has yet to come.
    high: Option<u16>,
    /// What has been read and not been handed on; never more than `PIECE + 3` bytes.
    bytes: Vec<u8>,
    too_long: bool,
}

impl Text {
    pub(super) fn new() -> Self {
        Text { role: Role::Key, escape: Escape::No, high: None, bytes: Vec::new(), too_long: false }
    }

    pub(super) fn begin(&mut self, role: Role) {
        self.role = role;
        self.escape = Escape::No;
        self.high = None;
        self.bytes.clear();
        self.too_long = false;
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// The string, unless it is too long to be kept.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (!self.too_long).then_some(self.bytes.as_slice())
    }

    pub(super) fn is_escaped(&self) -> bool {
        self.escape != Escape::No
    }

    pub(super) fn begin_escape(&mut self) {
        self.escape = Escape::Begun;
    }

    /// One byte of an escape; whether it can be one.
    pub(super) fn escape(&mut self, byte: u8, piece: &mut impl FnMut(&str)) -> bool {
        let plain = match (self.escape, byte) {
            (Escape::Begun, b'u') => {
                self.escape = Escape::Unit { digits: 0, value: 0 };
                return true;
            }
            (Escape::Begun, b'"' | b'\\' | b'/') => byte,
            (Escape::Begun, b'b') => 0x08,
            (Escape::Begun, b'f') => 0x0c,
            (Escape::Begun, b'n') => b'\n',
            (Escape::Begun, b'r') => b'\r',
            (Escape::Begun, b't') => b'\t',
            (Escape::Unit { digits, value }, _) => {
                let Some(digit) = char::from(byte).to_digit(16) else { return false };
                // A hexadecimal digit is below 16.
                let value = value << 4 | digit as u16;
                if digits < 3 {
                    self.escape = Escape::Unit { digits: digits + 1, value };
                } else {
                    self.escape = Escape::No;
                    self.unit(value, piece);
                }
                return true;
            }
            _ => return false,
        };
        self.escape = Escape::No;
        self.push(&[plain], piece);
        true
    }

    /// A UTF-16 unit that was escaped.
    fn unit(&mut self, unit: u16, piece: &mut impl FnMut(&str)) {
        let high = self.high.take();
        if let (Some(high), 0xdc00..=0xdfff) = (high, unit) {
            let code = 0x10000 + (u32::from(high - 0xd800) << 10) + u32::from(unit - 0xdc00);
            self.character(char::from_u32(code), piece);
            return;
        }
        if high.is_some() {
            self.character(None, piece);
        }
        match unit {
            0xd800..=0xdbff => self.high = Some(unit),
            _ => self.character(char::from_u32(u32::from(unit)), piece),
        }
    }

    fn character(&mut self, character: Option<char>, piece: &mut impl FnMut(&str)) {
        let mut utf8 = [0; 4];
        self.add(character.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes(), piece);
    }

    /// Bytes of the string without escapes.
    pub(super) fn push(&mut self, bytes: &[u8], piece: &mut impl FnMut(&str)) {
        if bytes.is_empty() {
            return;
        }
        if self.high.take().is_some() {
            self.character(None, piece);
        }
        self.add(bytes, piece);
    }

    fn add(&mut self, bytes: &[u8], piece: &mut impl FnMut(&str)) {
        match self.role {
            Role::Value(Take::Pass) => {}
            Role::Key => self.keep(bytes, LONGEST_KEY),
            Role::Value(Take::Word) => self.keep(bytes, LONGEST_WORD),
            Role::Value(Take::Text) => {
                let mut rest = bytes;
                while let Some(&next) = rest.first() {
                    // A piece ends before the character that does not fit. (Should bytes of the inside of characters
                    // never end, they are no text.)
                    let inside = next & 0xc0 == 0x80 && self.bytes.len() < PIECE + 3;
                    if self.bytes.len() < PIECE || inside {
                        let room = PIECE.saturating_sub(self.bytes.len()).max(1).min(rest.len());
                        self.bytes.extend_from_slice(&rest[..room]);
                        rest = &rest[room..];
                    } else {
                        self.hand_on(piece);
                    }
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], most: usize) {
        if self.bytes.len() + bytes.len() > most {
            self.too_long = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    fn hand_on(&mut self, piece: &mut impl FnMut(&str)) {
        // Almost all text is valid, and that is quickly found out.
        if let Ok(text) = std::str::from_utf8(&self.bytes) {
            if !text.is_empty() {
                piece(text);
            }
            self.bytes.clear();
            return;
        }
        // Without a copy, which would be three times as long.
        for chunk in self.bytes.utf8_chunks() {
            if !chunk.valid().is_empty() {
                piece(chunk.valid());
            }
            if !chunk.invalid().is_empty() {
                piece("\u{fffd}");
            }
        }
        self.bytes.clear();
    }

    /// The string has ended: what is left of a text is handed on.
    pub(super) fn end(&mut self, mut piece: impl FnMut(&str)) {
        if self.high.take().is_some() {
            self.character(None, &mut piece);
        }
        if self.role == Role::Value(Take::Text) {
            self.hand_on(&mut piece);
        }
    }
}
