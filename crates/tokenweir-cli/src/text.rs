//! Words and numbers for a reader: figures grouped, instants as dates, tables that fit the screen.

use tokenweir_replay::instant;
pub use tokenweir_replay::text::{columns, cut, printable};

/// The widest line the command prints.
pub const WIDTH: usize = 100;

/// An instant in UTC to the second: `2023-11-16 18:17:03`.
pub fn utc_text(nanos: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(nanos)) {
        Ok(instant) => instant.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => instant::seconds_text(nanos.unsigned_abs()),
    }
}

/// A whole number in groups of three: `1,234,567`.
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        out.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most six characters where [`grouped`] would be wide: `9,999`, `12.3k`, `4.56M`; rounded down.
pub fn short(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let size = number.unsigned_abs();
    if size < 10_000 {
        return grouped(number);
    }
    let sign = if number < 0 { "-" } else { "" };
    for (unit, name) in [(1_000, 'k'), (1_000_000, 'M'), (1_000_000_000, 'G'), (1_000_000_000_000, 'T')] {
        if size < unit * 1_000 || name == 'T' {
            let (whole, thousandths) = (size / unit, size % unit * 1_000 / unit);
            let fraction = match whole {
                0..10 => format!(".{:02}", thousandths / 10),
                10..100 => format!(".{:01}", thousandths / 100),
                100.. => String::new(),
            };
            let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
            return format!("{sign}{}{fraction}{name}", grouped(whole as i128));
        }
    }
    unreachable!("the last unit takes every number")
}

/// `one` or `many` with its count: `1 request`, `2,000 requests`.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `part` of `whole` as a percentage to the nearest tenth: `12.5%`.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    let tenths = (u128::from(part) * 1_000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{}%", tenths / 10, tenths % 10)
}

/// A table of text: the first columns to the left, the rest to the right, never wider than [`WIDTH`].
#[derive(Debug)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
    left: usize,
    indent: usize,
}

impl Table {
    /// A table whose first `left` columns stand to the left and give way when the line is too long.
    pub fn new(indent: usize, left: usize, heads: &[&str]) -> Self {
        Table { heads: heads.iter().map(|head| head.to_string()).collect(), rows: Vec::new(), left, indent }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.heads.len());
        self.rows.push(cells);
    }

    /// The lines of the table.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self.heads.iter().map(|head| columns(head)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(columns(cell));
            }
        }
        let whole = |widths: &[usize]| self.indent + widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        while whole(&widths) > WIDTH {
            let Some(widest) = (0..self.left).max_by_key(|&i| widths[i]).filter(|&i| widths[i] > 8) else { break };
            widths[widest] -= 1;
        }
        let mut out = String::new();
        for row in std::iter::once(&self.heads).chain(&self.rows) {
            let mut line = " ".repeat(self.indent);
            for (place, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let cell = cut(cell, width);
                let gap = " ".repeat(width - columns(&cell));
                if place > 0 {
                    line.push_str("  ");
                }
                if place < self.left {
                    line.extend([cell, gap]);
                } else {
                    line.extend([gap, cell]);
                }
            }
            out.push_str(cut(line.trim_end(), WIDTH).as_str());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_shortened() {
        assert_eq!(grouped(0_u64), "0");
        assert_eq!(grouped(1_234_567_u64), "1,234,567");
        assert_eq!(grouped(-1_000_i64), "-1,000");
        assert_eq!(short(9_999_u64), "9,999");
        assert_eq!(short(12_345_u64), "12.3k");
        assert_eq!(short(100_000_u64), "100k");
        assert_eq!(short(1_000_000_u64), "1M");
        assert_eq!(short(-4_560_000_i64), "-4.56M");
        assert_eq!(short(9_007_199_254_740_992_u64), "9,007T");
        assert_eq!(percent(1, 3), "33.3%");
        assert_eq!(percent(0, 0), "-");
        assert_eq!(utc_text(1_700_158_623_979_960_000), "2023-11-16 18:17:03");
    }

    #[test]
    fn a_table_never_exceeds_the_width() {
        let mut table = Table::new(2, 1, &["key", "requests"]);
        table.row(vec!["k".repeat(300), "12".into()]);
        table.row(vec!["\u{6f22}".repeat(100), "7".into()]);
        let text = table.render();
        assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
        assert!(text.contains('…'));
    }
}
