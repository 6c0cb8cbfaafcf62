//! Names and values of a trace as they stand in messages: safe to print, and short.

use std::fmt::Write;

/// A key or name, safe to print: what is not plain text is escaped, and no two different keys look alike.
///
/// Control characters, marks that turn the direction of writing, and bytes that are not UTF-8 come out as
/// `\u{202e}` and `\xff`, a backslash as `\\`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() || invisible(c) => {
                    let _ = write!(out, "{}", c.escape_unicode());
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Characters that change how their neighbours look, or do not show at all.
fn invisible(c: char) -> bool {
    matches!(u32::from(c), 0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F
        | 0xFEFF | 0xFFF9..=0xFFFB | 0xE0000..=0xE0FFF)
}

/// How many columns of a terminal the text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x1AB0..=0x1AFF | 0x20D0..=0x20FF => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// The text cut to this many columns, its end shown as `…`.
pub fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_string();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_columns(c);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_keys_print_as_plain_text() {
        assert_eq!(printable(b"plain \xC3\xA9"), "plain \u{e9}");
        assert_eq!(printable(b"a\xffb\x1b[2J\n\\"), "a\\xffb\\u{1b}[2J\\n\\\\");
        assert_eq!(printable("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
