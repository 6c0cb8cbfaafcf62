//! Admit and settle while another thread puts a new policy in force every millisecond; and what that change itself takes.

use super::one_limit::{ESTIMATE, REQUEST, USAGE, now, round, round_at};
use super::{Case, Timed, case, keys, looped};
use crate::policies::{FOUR, builder, system};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use tokenweir::{ManualClock, Policy, Request};

pub const GROUP: &str = "policy swap";

/// Two policies of the same limits, of different amounts.
fn policies() -> [Policy; 2] {
    let lowered = FOUR.replace("100_000_000_000", "90_000_000_000");
    [FOUR, &lowered].map(|text| Policy::from_toml(text).expect("a valid policy"))
}

/// Changes of policy where so many projects have been seen, on one deployment: three counters each, and one for all.
fn swaps(projects: u64) -> Timed {
    let limiter = builder(FOUR).clock(Arc::new(ManualClock::default())).max_counters(projects as usize * 3 + 1).build();
    for number in 0..projects {
        let project = keys::key(number);
        round_at(limiter.admit_at(&Request::new(&project, REQUEST.1), ESTIMATE, now(0)), USAGE, now(0));
    }
    assert_eq!(limiter.stats().counters as u64, projects * 3 + 1);
    let policies = policies();
    looped(move |count| {
        limiter.swap_policy_at(policies[count as usize % 2].clone(), now(count)).expect("it has no region")
    })
}

fn under_swaps() -> Timed {
    let limiter = system(FOUR);
    let route = limiter.route(&Request::new(REQUEST.0, REQUEST.1)).expect("a route");
    let policies = policies();
    Box::new(move |times| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for policy in policies.iter().cycle() {
                    if done.load(Relaxed) {
                        break;
                    }
                    limiter.swap_policy(policy.clone()).expect("it has no region");
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
    let one = case(GROUP, "tokenweir, the swap itself, four counters", || swaps(1));
    cases.push(Case { round: 5_000, ..one });
    let many = case(GROUP, "tokenweir, the swap itself, 30,001 counters", || swaps(10_000));
    cases.push(Case { round: 20, ..many });
}
