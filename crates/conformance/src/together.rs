//! Many at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokenweir::{Estimate, Request, Usage};

use crate::{Answer, Stage, of_each_kind};

const THREADS: usize = 4;

pub(crate) fn no_more_is_admitted_than_the_limit_and_every_token_is_accounted_for(stage: &Stage<'_>) {
    const AMOUNT: u64 = 3000;
    of_each_kind(AMOUNT, |policy| {
        let limiters = stage.begin(policy);
        let (used, held, returns) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (limiters, used, held, returns) = (&limiters, &used, &held, &returns);
                scope.spawn(move || {
                    let request = Request::new("search", "gpt-4o");
                    for number in 0..150 {
                        let turn = thread + number;
                        let Answer::Admitted(permit) = limiters.turn(turn).admit(&request, Estimate::new(6, 4)) else {
                            continue;
                        };
                        // What is held and what is used, seen by somebody, is within the limit.
                        let seen = held.fetch_add(10, Relaxed) + 10 + used.load(Relaxed);
                        assert!(seen <= AMOUNT + 10 * THREADS as u64, "{seen}");
                        let ends = limiters.turn(turn + number % 2);
                        match number % 4 {
                            0 => assert!(ends.cancel(permit)),
                            1 => assert_eq!(ends.settle(permit, Usage::new(6, 1)), Some((6, 1))),
                            2 => {
                                ends.abandon(permit);
                            }
                            _ => assert_eq!(ends.settle(permit, Usage::new(5, 4)), Some((5, 4))),
                        }
                        returns.fetch_add(1, Relaxed);
                        let came_to = [0, 7, 10, 9][number % 4];
                        // In this order, so that nobody counts a request twice.
                        held.fetch_sub(10, Relaxed);
                        used.fetch_add(came_to, Relaxed);
                    }
                });
            }
        });
        let used = used.load(Relaxed);
        assert!(used <= AMOUNT, "{used} of {AMOUNT}: {policy}");
        limiters.has(0, AMOUNT - used, returns.load(Relaxed));
    });
}

pub(crate) fn no_more_are_in_flight_than_there_are_places(stage: &Stage<'_>) {
    let limiters =
        stage.begin("[[limit]]\nname = 'places'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 3\n");
    let (now, most, admitted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (limiters, now, most, admitted) = (&limiters, &now, &most, &admitted);
            scope.spawn(move || {
                let request = Request::new("search", "gpt-4o");
                for number in 0..100 {
                    let turn = thread + number;
                    let Answer::Admitted(permit) = limiters.turn(turn).admit(&request, Estimate::new(1, 1)) else {
                        continue;
                    };
                    admitted.fetch_add(1, Relaxed);
                    most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                    std::thread::yield_now();
                    now.fetch_sub(1, Relaxed);
                    assert_eq!(limiters.turn(turn + 1).settle(permit, Usage::new(1, 1)), Some((1, 1)));
                }
            });
        }
    });
    let (most, admitted) = (most.load(Relaxed), admitted.load(Relaxed));
    assert!(most <= 3 && admitted >= 3, "{most} at a time, {admitted} in all");
    for turn in 0..3 {
        limiters.admitted(turn, 1, 1);
    }
    limiters.refuses(3, 1, 1);
}
