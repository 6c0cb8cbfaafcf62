//! Admit and settle while another thread puts a new policy in force every millisecond.

use super::one_limit::{ESTIMATE, REQUEST, USAGE, round};
use super::{Case, Timed, case};
use crate::policies::{FOUR, system};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tokenweir::{Policy, Request};

pub const GROUP: &str = "policy swap";

fn under_swaps() -> Timed {
    let limiter = system(FOUR);
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    let raised = FOUR.replace("100_000_000_000", "90_000_000_000");
    let policies = [FOUR, &raised].map(|text| Policy::from_toml(text).expect("a valid policy"));
    Box::new(move |times| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for policy in policies.iter().cycle() {
                    if done.load(Relaxed) {
                        break;
                    }
                    limiter.swap_policy(policy.clone());
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let start = Instant::now();
            for _ in 0..times {
                round(route.admit(black_box(ESTIMATE)), USAGE);
            }
            let took = start.elapsed();
            done.store(true, Relaxed);
            took
        })
    })
}

pub fn add(cases: &mut Vec<Case>) {
    cases.push(case(GROUP, "tokenweir, four limits, held route, a swap every millisecond", under_swaps));
}
