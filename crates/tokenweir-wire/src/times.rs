//! Times as providers write them in headers and messages.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use std::fmt::Write;
use std::time::Duration;

const SECOND: u128 = 1_000_000_000;
/// No wait is longer: what says so is not believed. A hundred years.
const LONGEST: u128 = 3_155_760_000 * SECOND;

/// A duration as Go writes it: `6m0s`, `120ms`, `1h2m3.5s`. A bare number is seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if let Some(seconds) = decimal(&mut rest, SECOND).filter(|_| rest.is_empty()) {
        return from_nanos(seconds);
    }
    rest = text.trim();
    let mut sum: u128 = 0;
    loop {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (mut number, tail) = rest.split_at(digits);
        let units = [
            ("ms", 1_000_000),
            ("us", 1000),
            ("µs", 1000),
            ("ns", 1),
            ("h", 3600 * SECOND),
            ("m", 60 * SECOND),
            ("s", SECOND),
        ];
        let (unit, nanos) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        sum = sum.checked_add(decimal(&mut number, nanos).filter(|_| number.is_empty())?)?;
        rest = &tail[unit.len()..];
        if rest.is_empty() {
            return from_nanos(sum);
        }
    }
}

/// A duration by the clock: `00:06:46`, hours first.
pub fn parse_clock(text: &str) -> Option<Duration> {
    let mut parts = text.trim().split(':').map(|part| {
        let digits = (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse::<u64>().ok() } else { None }
    });
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let valid = parts.next().is_none() && minutes < 60 && seconds < 60;
    valid.then(|| Duration::from_secs(hours * 3600 + minutes * 60 + seconds))
}

/// How long from `wall` (nanoseconds since 1970) to an instant of RFC 3339; nothing if it has passed.
pub fn parse_instant(text: &str, wall: i64) -> Option<Duration> {
    until(text.trim().parse().ok()?, wall)
}

/// `Retry-After`: seconds, or how long it is from `wall` (nanoseconds since 1970) to an HTTP date.
pub fn parse_retry_after(text: &str, wall: i64) -> Option<Duration> {
    let mut rest = text.trim();
    if let Some(seconds) = decimal(&mut rest, SECOND).filter(|_| rest.is_empty()) {
        return from_nanos(seconds);
    }
    static PARSER: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new();
    until(PARSER.parse_timestamp(text.trim()).ok()?, wall)
}

/// The wait that the text of a refusal names: `Try again in 21 minutes and 33 seconds.`, `try again in 6m0s`,
/// `replenished in 00:06:46.` Only its first 4 KiB are looked at.
pub fn parse_message(text: &str) -> Option<Duration> {
    let mut end = text.len().min(4096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text[..end].to_ascii_lowercase();
    let rest = ["again in ", "after ", "replenished in "].into_iter().find_map(|before| {
        let at = text.find(before)? + before.len();
        text[at..].starts_with(|first: char| first.is_ascii_digit()).then(|| &text[at..])
    })?;
    let mut words = rest.split_whitespace().map(|word| word.trim_end_matches([',', '.', '"']));
    let first = words.next()?;
    if !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_clock(first).or_else(|| parse_duration(first));
    }
    let mut number = first;
    let mut sum: u128 = 0;
    loop {
        let nanos = match words.next()?.trim_end_matches('s') {
            "second" | "sec" => SECOND,
            "minute" => 60 * SECOND,
            "hour" => 3600 * SECOND,
            "day" => 86_400 * SECOND,
            "millisecond" => 1_000_000,
            _ => return None,
        };
        let mut digits = number;
        sum = sum.checked_add(decimal(&mut digits, nanos).filter(|_| digits.is_empty())?)?;
        let next = words.find(|word| *word != "and");
        match next {
            Some(word) if word.starts_with(|first: char| first.is_ascii_digit()) => number = word,
            _ => return from_nanos(sum),
        }
    }
}

/// Takes a number of units of `nanos` each from the front of `text`; digits beyond a nanosecond are cut off.
fn decimal(text: &mut &str, nanos: u128) -> Option<u128> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    if whole == 0 || whole > 18 {
        return None;
    }
    // At most 18 digits.
    let mut sum = text[..whole].parse::<u128>().ok()?.checked_mul(nanos)?;
    *text = &text[whole..];
    if let Some(rest) = text.strip_prefix('.') {
        let places = digits(rest);
        let mut unit = nanos;
        for digit in rest[..places].bytes() {
            unit /= 10;
            sum += u128::from(digit - b'0') * unit;
        }
        *text = &rest[places..];
    }
    Some(sum)
}

fn from_nanos(nanos: u128) -> Option<Duration> {
    (nanos <= LONGEST).then(|| Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32))
}

fn until(instant: Timestamp, wall: i64) -> Option<Duration> {
    let nanos = instant.as_nanosecond() - i128::from(wall);
    from_nanos(u128::try_from(nanos).unwrap_or(0))
}

/// Writes a number in decimal behind a text.
pub(crate) fn push_number(text: &mut String, number: u64) {
    // A text takes whatever is written to it.
    let _ = write!(text, "{number}");
}

/// As Go writes it, rounded up to the millisecond: `6m0s`, `120ms`, `1h2m3.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let mut text = String::new();
    push_go_duration(&mut text, duration);
    text
}

/// Writes [`go_duration`] behind a text.
pub(crate) fn push_go_duration(text: &mut String, duration: Duration) {
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if millis < 1000 {
        push_number(text, millis);
        text.push_str(if millis == 0 { "s" } else { "ms" });
        return;
    }
    let (seconds, rest) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        push_number(text, hours);
        text.push('h');
    }
    if hours > 0 || minutes > 0 {
        push_number(text, minutes);
        text.push('m');
    }
    push_number(text, seconds);
    if rest > 0 {
        text.push('.');
        // Of three places, without the zeros at the end.
        let (mut rest, mut place) = (rest, 100);
        while rest > 0 {
            push_number(text, rest / place);
            rest %= place;
            place /= 10;
        }
    }
    text.push('s');
}

/// The two largest units, as API Management's messages have them; whole seconds, rounded up.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = whole_seconds(duration);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} seconds"),
        (0, 0, _) => joined(minutes, "minutes", " and ", seconds % 60, "seconds"),
        (0, _, _) => joined(hours, "hours", " and ", minutes, "minutes"),
        _ => joined(days, "days", ", ", hours, "hours"),
    }
}

fn joined(large: u64, unit: &str, with: &str, small: u64, smaller: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit}{with}{small} {smaller}") }
}

/// `00:06:46`.
pub(crate) fn by_the_clock(duration: Duration) -> String {
    let seconds = whole_seconds(duration);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The instant `wait` after `wall`, in RFC 3339 and whole seconds, rounded up; `None` beyond the year 9999.
pub(crate) fn instant(wall: i64, wait: Duration) -> Option<String> {
    let nanos = i128::from(wall) + i128::try_from(wait.as_nanos()).ok()?;
    // Rounded up, whatever the sign.
    let seconds = nanos.div_euclid(SECOND as i128) + i128::from(nanos.rem_euclid(SECOND as i128) != 0);
    Some(Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}

/// Rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-19 of the golden scenarios.
    #[test]
    fn e_19_header_parsing() {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        assert_eq!(seconds(parse_duration("6m0s")), Some(360.0));
        assert_eq!(seconds(parse_duration("1s")), Some(1.0));
        assert_eq!(seconds(parse_duration("120ms")), Some(0.12));
        assert_eq!(seconds(parse_duration("1h2m3.5s")), Some(3723.5));
        assert_eq!(seconds(parse_duration("300")), Some(300.0));
        // 2026-09-27T10:00:00Z.
        let now = 1_790_503_200_000_000_000;
        assert_eq!(seconds(parse_instant("2026-09-27T10:00:45Z", now)), Some(45.0));
        assert_eq!(seconds(parse_retry_after("7", now)), Some(7.0));
        assert_eq!(seconds(parse_retry_after("Sun, 27 Sep 2026 10:01:30 GMT", now)), Some(90.0));
        assert_eq!(seconds(parse_clock("00:06:46")), Some(406.0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "s", "1", "m", "1x", "1.2.3s", "-1s", "1m-", "99999999999h", "1ss", "9".repeat(400).as_str()] {
            assert_eq!(parse_duration(text).is_some(), text == "1", "{text}");
        }
        for text in ["", "6:46", "00:60:00", "00:00:60", "1:2:3:4", "+1:02:03", "aa:bb:cc"] {
            assert_eq!(parse_clock(text), None, "{text}");
        }
        assert_eq!(parse_instant("soon", 0), None);
        assert_eq!(parse_instant("9999-12-31T00:00:00Z", 0), None);
        assert_eq!(parse_retry_after("soon", 0), None);
        assert_eq!(parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT", 5), Some(Duration::ZERO));
    }

    #[test]
    fn messages_name_their_wait() {
        let seconds = |text| parse_message(text).map(|wait| wait.as_millis());
        assert_eq!(seconds("Token limit is exceeded. Try again in 41 seconds."), Some(41_000));
        assert_eq!(seconds("Token quota is exceeded. Try again in 21 minutes and 33 seconds."), Some(1_293_000));
        assert_eq!(seconds("Token quota is exceeded. Try again in 24 days, 14 hours"), Some(2_124_000_000));
        assert_eq!(seconds("Out of call volume quota. Quota will be replenished in 00:06:46."), Some(406_000));
        assert_eq!(seconds("Rate limit reached. Please try again in 6m0s. Visit ..."), Some(360_000));
        assert_eq!(seconds("Please retry after 7 seconds."), Some(7_000));
        for none in ["", "Try again in", "Try again in 5", "Try again in 5 moons", "Try again later", "again in 1é"] {
            assert_eq!(seconds(none), None, "{none}");
        }
    }

    #[test]
    fn durations_are_written_as_go_and_api_management_write_them() {
        let go = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!(
            [go(0), go(120), go(1000), go(360_000), go(3_723_500), go(86_400_000)],
            ["0s", "120ms", "1s", "6m0s", "1h2m3.5s", "24h0m0s"]
        );
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms");
        assert_eq!([go(1_050), go(1_005), go(61_120)], ["1.05s", "1.005s", "1m1.12s"]);
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(
            [words(41), words(1293), words(82_800), words(2_124_000)],
            ["41 seconds", "21 minutes and 33 seconds", "23 hours", "24 days, 14 hours"]
        );
        assert_eq!(by_the_clock(Duration::from_secs(406)), "00:06:46");
        assert_eq!(
            instant(1_790_503_200_000_000_001, Duration::from_secs(44)).as_deref(),
            Some("2026-09-27T10:00:45Z")
        );
        assert_eq!(instant(-1, Duration::ZERO).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(instant(i64::MAX, Duration::MAX), None);
    }
}
