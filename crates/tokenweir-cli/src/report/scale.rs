//! Where ticks stand on an axis, and what they say.

use tokenweir_replay::instant;

use crate::text::utc_text;

const S: i64 = instant::SECOND;
const MINUTE: i64 = 60 * S;
const DAY: i64 = 86_400 * S;

/// Round distances between ticks of a time axis, in nanoseconds.
const TIMES: [i64; 30] = [
    S / 1000,
    S / 200,
    S / 100,
    S / 20,
    S / 10,
    S / 5,
    S / 2,
    S,
    2 * S,
    5 * S,
    10 * S,
    15 * S,
    30 * S,
    60 * S,
    120 * S,
    300 * S,
    600 * S,
    900 * S,
    1_800 * S,
    3_600 * S,
    7_200 * S,
    10_800 * S,
    21_600 * S,
    43_200 * S,
    86_400 * S,
    172_800 * S,
    7 * 86_400 * S,
    28 * 86_400 * S,
    91 * 86_400 * S,
    365 * 86_400 * S,
];

/// Ticks of a time axis from `from` up to `to`, at most `most` of them: the instant and its label.
pub fn times(from: i64, to: i64, most: i64) -> Vec<(i64, String)> {
    let span = to - from;
    let mut step = TIMES.iter().copied().find(|step| span / step < most).unwrap_or(TIMES[TIMES.len() - 1]);
    while span / step >= most {
        step = step.saturating_mul(2);
    }
    let first = from.div_euclid(step) * step;
    let first = if first < from { first.saturating_add(step) } else { first };
    let mut ticks = Vec::new();
    let mut at = first;
    while at <= to {
        ticks.push((at, label(at, step)));
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    ticks
}

/// What a tick says: as much of the instant as ticks `step` apart need.
fn label(at: i64, step: i64) -> String {
    let text = utc_text(at);
    let (day, time) = text.split_once(' ').unwrap_or((&text, ""));
    match step {
        ..S => format!("{time}.{:03}", at % S / 1_000_000),
        S..MINUTE => time.to_string(),
        // Midnight says which day begins.
        MINUTE..DAY if time != "00:00:00" || at == 0 => time.get(..5).unwrap_or(time).to_string(),
        MINUTE..DAY => day.get(5..).unwrap_or(day).to_string(),
        DAY.. => day.to_string(),
    }
}

/// Ticks of an axis of amounts from 0 up to `top`: three to six round numbers, 0 among them.
pub fn amounts(top: u64) -> Vec<u64> {
    let rough = top.div_ceil(5).max(1);
    let tenth = 10_u64.pow(rough.ilog10()).div_ceil(10);
    let factors = if rough < 10 { [1, 2, 5, 10, 10] } else { [10, 20, 25, 50, 100] };
    let step = factors.iter().map(|factor| factor * tenth).find(|&step| step >= rough).unwrap_or(rough);
    (0..).map(|count| count * step).take_while(|&tick| tick <= top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_round_and_few() {
        assert_eq!(amounts(0), [0]);
        assert_eq!(amounts(3), [0, 1, 2, 3]);
        assert_eq!(amounts(100_000), [0, 20_000, 40_000, 60_000, 80_000, 100_000]);
        assert_eq!(amounts(108_333), [0, 25_000, 50_000, 75_000, 100_000]);
        for top in [1, 7, 40, 99, 12_345, 1 << 53] {
            let ticks = amounts(top);
            assert!((2..=6).contains(&ticks.len()), "{top}: {ticks:?}");
        }
    }

    #[test]
    fn times_are_round_and_few() {
        let ticks = times(0, 3_600 * S, 7);
        let labels: Vec<&str> = ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["00:00", "00:10", "00:20", "00:30", "00:40", "00:50", "01:00"]);
        assert_eq!(times(0, S / 4, 6)[1].1, "00:00:00.050");
        assert!(times(0, i64::MAX, 7).len() <= 8);
        assert!(times(i64::MAX - 5, i64::MAX, 7).len() <= 8);
    }
}
