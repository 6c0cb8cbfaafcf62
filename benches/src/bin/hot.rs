//! One of the hottest calls, so many times and nothing else, for counting instructions: `hot CALL TIMES`.
//! `scripts/instructions` runs it under callgrind.

use std::hint::black_box;
use std::process::ExitCode;
use tokenweir::Request;
use tokenweir_benches::policies::{FOUR, ONE, four_of_which_the_last_refuses, frozen};
use tokenweir_benches::work::one_limit::{ESTIMATE, REQUEST, USAGE, now, round_at};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let call = arguments.next().unwrap_or_default();
    let Some(times) = arguments.next().and_then(|times| times.parse::<u64>().ok()) else {
        eprintln!("usage: hot one-limit-held-route|four-limits-string-keys|denied TIMES");
        return ExitCode::from(2);
    };
    match call.as_str() {
        "one-limit-held-route" => {
            let limiter = frozen(ONE);
            let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
            (1..=times).for_each(|count| round_at(route.admit_at(black_box(ESTIMATE), now(count)), USAGE, now(count)));
        }
        "four-limits-string-keys" => {
            let limiter = frozen(FOUR);
            for count in 1..=times {
                let request = Request::new(black_box(REQUEST.0), black_box(REQUEST.1));
                round_at(limiter.admit_at(&request, black_box(ESTIMATE), now(count)), USAGE, now(count));
            }
        }
        "denied" => {
            let limiter = frozen(&four_of_which_the_last_refuses());
            let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
            round_at(route.admit_at(ESTIMATE, now(0)), USAGE, now(0));
            for count in 1..=times {
                assert!(!black_box(route.admit_at(black_box(ESTIMATE), now(count))).is_ok_and(|d| d.is_admitted()));
            }
        }
        _ => {
            eprintln!("no such call: {call}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
