//! The figures as ratios in one run on the same work, beside the bars they have to keep.
//!
//! `cargo run --release -p tokenweir-benches --features peers --bin bars [-- --rounds N] [PART OF A NAME ...]`
//!
//! The cases of a group take turns, a round each, so that whatever else the machine does befalls all alike. The figure
//! of a case is its best round; ratios are between best rounds. It prints Markdown.

use std::collections::HashMap;
use std::process::ExitCode;
use tokenweir_benches::machine;
use tokenweir_benches::work::{self, Case};

/// A bar: the first case, in nanoseconds, is at most so many times the second plus so many nanoseconds.
struct Bar {
    what: &'static str,
    case: (&'static str, &'static str),
    times: f64,
    of: (&'static str, &'static str),
    /// Beyond that, so many times this one.
    plus: Option<(f64, (&'static str, &'static str))>,
}

const EMPTY: (&str, &str) = ("floor", "empty loop");
const GOVERNOR: (&str, &str) = ("one limit", "governor direct, quanta clock: check");
const FOUR_GOVERNORS: &str = "governor keyed(String), four times, system clock: check";

const BARS: &[Bar] = &[
    Bar {
        what: "one limit, held route, admit and settle, system clock, beside the floor",
        case: ("one limit", "tokenweir, held route, system clock"),
        times: 1.6,
        of: ("floor", "clock read and compare-and-swap, twice"),
        plus: None,
    },
    // 35 ns where governor direct takes 12.5 ns.
    Bar {
        what: "the same with a coarse clock, above an empty loop, beside governor direct",
        case: ("one limit", "tokenweir, held route, coarse clock"),
        times: 1.0,
        of: EMPTY,
        plus: Some((2.8, GOVERNOR)),
    },
    Bar {
        what: "the same with the caller's now",
        case: ("one limit", "tokenweir, held route, the caller's now"),
        times: 1.0,
        of: EMPTY,
        plus: Some((2.8, GOVERNOR)),
    },
    Bar {
        what: "four limits, string keys, admit and settle, beside four governor checks",
        case: ("four limits", "tokenweir, string keys, system clock"),
        times: 1.0,
        of: ("four limits", FOUR_GOVERNORS),
        plus: None,
    },
    Bar {
        what: "the same, beside limitador",
        case: ("four limits", "tokenweir, string keys, system clock"),
        times: 1.0 / 25.0,
        of: ("four limits", "limitador, four limits: check and update"),
        plus: None,
    },
    Bar {
        what: "four limits, two threads on one held route, beside four governor checks",
        case: ("four limits, two threads", "tokenweir, one held route, system clock"),
        times: 1.0,
        of: ("four limits, two threads", FOUR_GOVERNORS),
        plus: None,
    },
    Bar {
        what: "one denial, four limits, held route, beside an admission",
        case: ("denied, four limits", "tokenweir, held route: denied by the last limit"),
        times: 1.0,
        of: ("denied, four limits", "tokenweir, held route: admitted"),
        plus: None,
    },
    Bar {
        what: "a million string keys, Zipf, two threads, one limit, admit, beside dashmap and a compare-and-swap",
        case: (work::KEYS_GROUP, "tokenweir, string keys, the caller's now: admit"),
        times: 1.3,
        of: (work::KEYS_GROUP, "dashmap of String and one compare-and-swap"),
        plus: None,
    },
];

/// The best rounds of a group's cases, in nanoseconds each.
fn measure(cases: &[Case], rounds: u32) -> Vec<f64> {
    let mut timed: Vec<_> = cases.iter().map(|case| (case.make)()).collect();
    let mut best = vec![f64::INFINITY; cases.len()];
    for _ in 0..rounds {
        for ((case, timed), best) in cases.iter().zip(&mut timed).zip(&mut best) {
            *best = best.min(timed(case.round).as_nanos() as f64 / case.round as f64);
        }
    }
    best
}

fn main() -> ExitCode {
    let mut rounds = 30;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--rounds" {
            match arguments.next().and_then(|number| number.parse().ok()) {
                Some(number) => rounds = number,
                None => {
                    eprintln!("--rounds takes a whole number");
                    return ExitCode::from(2);
                }
            }
        } else {
            wanted.push(argument);
        }
    }
    let is_wanted = |case: &Case| {
        let name = format!("{}: {}", case.group, case.name);
        wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
    };
    let cases: Vec<Case> = work::all().into_iter().filter(is_wanted).collect();
    println!("{}\n\nBest of {rounds} rounds.\n", machine::description());
    println!("| work | ns |\n|---|---:|");
    let mut seen = HashMap::new();
    // Neighbours in the list are one group; what is compared across groups (the floor, one limit) is made together.
    for together in cases.chunk_by(|a, b| a.group == b.group || !a.group.contains("keys") && !b.group.contains("keys"))
    {
        for (case, ns) in together.iter().zip(measure(together, rounds)) {
            println!("| {}: {} | {ns:.1} |", case.group, case.name);
            seen.insert((case.group, case.name), ns);
        }
    }
    println!("\n| bar | is | of | ratio | at most | |\n|---|---:|---:|---:|---:|---|");
    for bar in BARS {
        let Some(is) = seen.get(&bar.case) else { continue };
        let of = match bar.plus {
            None => seen.get(&bar.of).copied(),
            // Above the first, beside the second.
            Some((_, beside)) => seen.get(&beside).copied(),
        };
        let Some(of) = of else { continue };
        let (is, times) = match bar.plus {
            None => (*is, bar.times),
            Some((times, _)) => (is - seen.get(&bar.of).copied().unwrap_or(0.0), times),
        };
        let ratio = is / of;
        let kept = if ratio <= times { "kept" } else { "**missed**" };
        println!("| {} | {is:.1} | {of:.1} | {ratio:.3} | {times:.3} | {kept} |", bar.what);
    }
    ExitCode::SUCCESS
}
