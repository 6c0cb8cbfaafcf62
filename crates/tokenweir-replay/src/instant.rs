//! Instants and durations as people and traces write them, in whole nanoseconds since 1970.
//!
//! Nothing here goes through floating point: `0.1` is exactly 100,000,000 ns. Digits beyond the nanosecond are
//! dropped (rounded down), never rounded up, so that a sorted trace stays sorted.

use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Nanoseconds in a second.
pub const SECOND: i64 = 1_000_000_000;

/// The nanoseconds of a JSON number of seconds, `12.25` or `1.7e9`.
///
/// # Errors
/// The reason in words, where the text is negative, no number, or beyond the year 2262.
pub fn seconds(text: &str) -> Result<i64, &'static str> {
    const TOO_FAR: &str = "is beyond the year 2262";
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.trim_start_matches(['+', '-']);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || exponent.len() > digits.len() + 1 {
                return Err("is not a number of seconds");
            }
            // An exponent too long for a number is as good as the largest.
            let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
            (mantissa, if exponent.starts_with('-') { -size } else { size })
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || mantissa.ends_with('.') || !digits().all(|b| b.is_ascii_digit()) {
        return Err("is not a number of seconds");
    }
    if digits().all(|b| b == b'0') {
        return Ok(0);
    }
    if negative {
        return Err("is negative");
    }
    // nanoseconds = digits * 10^shift
    let shift = 9 + exponent - fraction.len() as i64;
    let keep = (whole.len() + fraction.len()) as i64 + shift.min(0);
    let mut nanos: i64 = 0;
    for digit in digits().take(keep.max(0) as usize) {
        nanos = nanos.checked_mul(10).and_then(|n| n.checked_add(i64::from(digit - b'0'))).ok_or(TOO_FAR)?;
    }
    for _ in 0..shift.max(0) {
        if nanos == 0 {
            break;
        }
        nanos = nanos.checked_mul(10).ok_or(TOO_FAR)?;
    }
    Ok(nanos)
}

/// The instant of an RFC 3339 date and time, `2026-01-31T08:00:00.5Z` or with an offset `+01:00`.
///
/// # Errors
/// The reason in words. An instant before 1970 is an error: a limiter's clock starts there.
pub fn rfc3339(text: &str) -> Result<i64, &'static str> {
    timestamp(text, &['T', 't', ' '], true)
}

/// The instant of a time stamp of the Azure LLM traces, `2023-11-16 18:17:03.9799600`: UTC where it names no offset.
///
/// # Errors
/// As [`rfc3339`].
pub fn azure(text: &str) -> Result<i64, &'static str> {
    timestamp(text, &[' ', 'T'], false)
}

fn timestamp(text: &str, separators: &[char], offset_required: bool) -> Result<i64, &'static str> {
    const FORM: &str = "is not a date and time";
    if !text.is_ascii() || text.len() < 19 {
        return Err(FORM);
    }
    let (date, rest) = text.split_at(10);
    let time = rest.strip_prefix(separators).ok_or(FORM)?;
    let (clock, mut rest) = time.split_at(8);
    let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or(FORM)?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2]).ok_or(FORM)?;
    // A leap second is the second that follows it, as in Unix time.
    if hour > 23 || minute > 59 || second > 60 {
        return Err("names an hour, minute or second that does not exist");
    }
    let mut nanos: i64 = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(FORM);
        }
        for place in 0..9 {
            let digit = if place < digits { fraction.as_bytes()[place] - b'0' } else { 0 };
            nanos = nanos * 10 + i64::from(digit);
        }
        rest = &fraction[digits..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        "" if !offset_required => 0,
        "" => return Err("names no offset from UTC"),
        _ => {
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            let clock = rest.strip_prefix(['+', '-']).ok_or(FORM)?;
            let [hours, minutes] = numbers(clock, ':', [2, 2]).ok_or(FORM)?;
            if hours > 23 || minutes > 59 {
                return Err("names an offset that does not exist");
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let day = Date::new(year as i16, month as i8, day as i8).map_err(|_| "names a day that does not exist")?;
    let midnight = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).map_err(|_| FORM)?.as_second();
    let seconds = midnight + hour * 3600 + minute * 60 + second - offset;
    if seconds < 0 {
        return Err("is before 1970");
    }
    seconds.checked_mul(SECOND).and_then(|n| n.checked_add(nanos)).ok_or("is beyond the year 2262")
}

/// The numbers of `text`, which must have exactly these widths and separators.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut out = [0; N];
    for (slot, width) in out.iter_mut().zip(widths) {
        let part = parts.next()?;
        if part.len() != width || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// A length of time in seconds, exact: `1.734`, `60`, `0.000000001`.
pub fn seconds_text(nanos: u64) -> String {
    let (whole, fraction) = (nanos / SECOND as u64, nanos % SECOND as u64);
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:09}").trim_end_matches('0').to_string()
}

/// A length of time for a reader: two units at most, `3.2 s`, `4 min 10 s`, `12 d 6 h`.
pub fn span_text(nanos: u64) -> String {
    let seconds = nanos / SECOND as u64;
    let pair = |big: u64, small: u64, names: (&str, &str)| {
        let (whole, rest) = (seconds / big, seconds % big / small);
        if rest == 0 { format!("{whole} {}", names.0) } else { format!("{whole} {} {rest} {}", names.0, names.1) }
    };
    match (nanos, seconds) {
        (0, _) => "0 s".into(),
        (1..1_000, _) => format!("{nanos} ns"),
        (1_000..1_000_000, _) => format!("{} us", nanos / 1_000),
        (1_000_000..1_000_000_000, _) => format!("{} ms", nanos / 1_000_000),
        (_, ..60) => {
            let tenths = nanos / 100_000_000;
            let fraction = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
            format!("{seconds}{fraction} s")
        }
        (_, 60..3_600) => pair(60, 1, ("min", "s")),
        (_, 3_600..86_400) => pair(3_600, 60, ("h", "min")),
        (_, 86_400..) => pair(86_400, 3_600, ("d", "h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_cut_at_the_nanosecond() {
        assert_eq!(seconds("0.1"), Ok(100_000_000));
        assert_eq!(seconds("12.25"), Ok(12_250_000_000));
        assert_eq!(seconds("1700123456.123456789"), Ok(1_700_123_456_123_456_789));
        assert_eq!(seconds("0.0000000019"), Ok(1));
        assert_eq!(seconds("1.7e9"), Ok(1_700_000_000 * SECOND));
        assert_eq!(seconds("25E-1"), Ok(2_500_000_000));
        assert_eq!(seconds("1e-30"), Ok(0));
        assert_eq!(seconds("0e999999999999999999999"), Ok(0));
        assert_eq!(seconds("-0"), Ok(0));
        assert_eq!(seconds("9223372036.854775807"), Ok(i64::MAX));
        assert!(seconds("9223372036.854775808").is_err());
        assert!(seconds("1e99999999999999999999").is_err());
        for wrong in ["-1", "", ".", "1.", ".5", "1e", "1e+-2", "x", "1 ", "+1"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dates_with_offsets_and_fractions() {
        assert_eq!(rfc3339("1970-01-01T00:00:01Z"), Ok(SECOND));
        assert_eq!(rfc3339("1970-01-01T01:00:00.5+01:00"), Ok(SECOND / 2));
        assert_eq!(rfc3339("2023-11-16T18:17:03.9799600Z"), azure("2023-11-16 18:17:03.9799600"));
        assert_eq!(azure("2023-11-16 18:17:03.9799600"), Ok(1_700_158_623_979_960_000));
        assert_eq!(azure("2024-05-10 00:00:00.009930+00:00"), Ok(1_715_299_200_009_930_000));
        assert_eq!(rfc3339("2016-12-31T23:59:60Z"), rfc3339("2017-01-01T00:00:00Z"));
        for wrong in [
            "1970-01-01T00:00:01",
            "1970-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2300-01-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-1-01T00:00:000Z",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00+25:00",
            "yesterday",
        ] {
            assert!(rfc3339(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_read_well() {
        assert_eq!(seconds_text(1_734_000_000), "1.734");
        assert_eq!(seconds_text(60 * SECOND as u64), "60");
        assert_eq!(seconds_text(1), "0.000000001");
        assert_eq!(span_text(3_250_000_000), "3.2 s");
        assert_eq!(span_text(60_000_000_000), "1 min");
        assert_eq!(span_text(250_000_000_000), "4 min 10 s");
        assert_eq!(span_text(90_000 * SECOND as u64), "1 d 1 h");
    }
}
