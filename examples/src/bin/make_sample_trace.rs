//! Writes `examples/data/trace.jsonl` to the standard output: an hour of LLM traffic that never happened.
//!
//!     cargo run -p tokenweir-examples --bin make_sample_trace > examples/data/trace.jsonl
//!
//! Four projects share three deployments. Search is steady and rises at half past; the assistant streams long answers;
//! research sends large prompts for a quarter of an hour; a nightly job that runs in the morning bursts every ten
//! minutes. Some calls are cancelled, some report nothing, most use less than they estimated. The numbers come from a
//! generator of its own, so the file is the same on every machine.

use std::fmt::Write as _;
use std::io::Write as _;

/// The date and hour of the sample.
const HOUR: &str = "2026-03-02T09";

/// A small generator of numbers (SplitMix64): the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// A number from `low` to `high`, the small ones more often: prompts and answers are mostly short.
    fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let (a, b) = (self.within(0, 1_000), self.within(0, 1_000));
        low + (high - low) * a * b / 1_000_000
    }

    /// True `per_mille` times in a thousand.
    fn happens(&mut self, per_mille: u64) -> bool {
        self.next() % 1_000 < per_mille
    }
}

/// How one project calls.
struct Caller {
    project: &'static str,
    /// Deployments and how often each is called, per mille.
    deployments: &'static [(&'static str, u64)],
    /// How many people it serves.
    users: u64,
    /// Of its prompts, in tokens.
    input: (u64, u64),
    /// Of its answers, in tokens.
    output: (u64, u64),
    /// What it expects its answers to take at most.
    expected: u64,
    /// Milliseconds for each token of an answer.
    pace: u64,
}

const CALLERS: [Caller; 4] = [
    Caller {
        project: "search",
        deployments: &[("gpt-4o-mini", 800), ("gpt-4o", 200)],
        users: 60,
        input: (300, 3_000),
        output: (20, 250),
        expected: 300,
        pace: 9,
    },
    Caller {
        project: "assistant",
        deployments: &[("gpt-4o", 700), ("o4-mini", 300)],
        users: 40,
        input: (200, 2_500),
        output: (60, 1_400),
        expected: 1_500,
        pace: 22,
    },
    Caller {
        project: "research",
        deployments: &[("o4-mini", 600), ("gpt-4o", 400)],
        users: 5,
        input: (2_000, 24_000),
        output: (300, 4_000),
        expected: 4_000,
        pace: 12,
    },
    Caller {
        project: "nightly-eval",
        deployments: &[("gpt-4o-mini", 1_000)],
        users: 1,
        input: (500, 2_000),
        output: (10, 120),
        expected: 150,
        pace: 8,
    },
];

/// Calls that `caller` begins in this second, per mille of a call.
fn rate(caller: usize, second: u64) -> u64 {
    match (caller, second) {
        (0, 1_800..2_400) => 1_500,
        (0, _) => 550,
        (1, _) => 330,
        (2, 1_200..2_100) => 220,
        (2, _) => 15,
        // From the third minute of every ten, for twenty seconds.
        (_, second) if (180..200).contains(&(second % 600)) => 2_000,
        _ => 0,
    }
}

/// One request as a line of the trace.
fn line(out: &mut String, numbers: &mut Numbers, caller: &Caller, millis: u64) {
    let mut pick = numbers.within(0, 999);
    let mut deployment = caller.deployments[0].0;
    for (name, share) in caller.deployments {
        deployment = name;
        if pick < *share {
            break;
        }
        pick -= share;
    }
    // The first user of every project is a program that asks more often than the others.
    let user = if numbers.happens(80) { 1 } else { numbers.within(1, caller.users) };
    let input = numbers.skewed(caller.input.0, caller.input.1);
    let output = numbers.skewed(caller.output.0, caller.output.1);
    // The host counts the prompt a little wrong, and now and then an answer is longer than anyone expected.
    let counted = input * numbers.within(97, 104) / 100;
    let output = if numbers.happens(12) { caller.expected * numbers.within(11, 18) / 10 } else { output };
    let cached = if numbers.happens(300) { input * numbers.within(20, 90) / 100 } else { 0 };
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    let _ = write!(
        out,
        "{{\"at\":\"{HOUR}:{:02}:{:02}.{fraction:03}Z\",\"project\":\"{}\",\"deployment\":\"{deployment}\",",
        seconds / 60,
        seconds % 60,
        caller.project
    );
    if caller.users > 1 {
        let _ = write!(out, "\"keys\":{{\"user\":\"{}-{user:02}\"}},", &caller.project[..2]);
    }
    let _ = write!(out, "\"estimate\":{{\"input\":{counted},\"output\":{}}},", caller.expected);
    let duration = 180 + output * caller.pace;
    if numbers.happens(20) {
        out.push_str("\"cancel\":true,\"duration\":0.2}\n");
        return;
    }
    if numbers.happens(10) {
        out.push_str("\"usage\":null,");
    } else {
        let _ = write!(out, "\"usage\":{{\"input\":{input}");
        if cached > 0 {
            let _ = write!(out, ",\"cached_input\":{cached}");
        }
        let _ = write!(out, ",\"output\":{output}}},");
    }
    let _ = writeln!(out, "\"duration\":{}.{:03}}}", duration / 1_000, duration % 1_000);
}

/// The whole trace.
fn sample() -> String {
    let mut numbers = Numbers(0x7457);
    let mut out = String::new();
    for second in 0..3_600 {
        let mut arrivals = Vec::new();
        for caller in 0..CALLERS.len() {
            let rate = rate(caller, second);
            let count = rate / 1_000 + u64::from(numbers.happens(rate % 1_000));
            arrivals.extend((0..count).map(|_| (numbers.within(0, 999), caller)));
        }
        arrivals.sort_unstable();
        for (fraction, caller) in arrivals {
            line(&mut out, &mut numbers, &CALLERS[caller], second * 1_000 + fraction);
        }
    }
    out
}

fn main() -> std::io::Result<()> {
    std::io::stdout().lock().write_all(sample().as_bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_trace_is_what_this_writes() {
        let committed = include_str!("../../data/trace.jsonl");
        assert!(super::sample() == committed, "run this program and commit what it prints");
    }
}
