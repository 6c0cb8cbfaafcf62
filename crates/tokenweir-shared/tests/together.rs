//! What several workers on one region have in common, while all of them live.

#![cfg(target_os = "linux")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use support::{ALL, MINUTE, Stage, Worker};
use tokenweir::{Error, Estimate, LeftOutReason, Request, Usage, UsageFilter};

#[test]
fn a_limit_counts_once_and_not_once_for_each_worker() {
    let stage = Stage::new(&ALL.replace("1_000_000", "10_000"));
    let workers = [stage.worker(), stage.worker(), stage.worker()];
    let mut admitted = 0;
    for turn in 0..60 {
        admitted += u64::from(workers[turn % 3].admit("search", Estimate::new(300, 200)).is_some());
    }
    assert_eq!(admitted, 20, "10,000 tokens are 20 requests of 500");
    for worker in &workers {
        let window = worker.usage("window").expect("it is there");
        assert_eq!((window.used, window.held, window.settled_total), (10_000, 10_000, 0));
        assert_eq!(worker.usage("places").expect("it is there").used, 20);
    }
}

#[test]
fn a_permit_is_settled_by_its_id_in_another_worker_and_only_once() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    let id = one.admit("search", Estimate::new(300, 200)).expect("room");
    let settlement = other.limiter.settle(id, Usage::new(250, 10)).expect("it is open");
    assert_eq!((settlement.input, settlement.output), (250, 10));
    assert!(matches!(one.limiter.settle(id, Usage::new(1, 1)), Err(Error::PermitSettled { .. })));
    for worker in [&one, &other] {
        for limit in ["bucket", "window", "quota"] {
            let usage = worker.usage(limit).expect("it is there");
            assert_eq!((usage.used, usage.held, usage.settled_total), (260, 0, 260), "{limit}");
        }
        assert_eq!(worker.usage("places").expect("it is there").used, 0);
    }
}

#[test]
fn a_stream_is_observed_here_and_settled_there() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    let id = one.admit("search", Estimate::new(100, 100)).expect("room");
    one.limiter.observe(id, 0, 150).expect("it is open");
    other.limiter.observe(id, 0, 50).expect("it is open");
    assert_eq!(one.usage("quota").expect("it is there").used, 300);
    other.limiter.settle(id, Usage::new(100, 120)).expect("it is open");
    let quota = one.usage("quota").expect("it is there");
    assert_eq!((quota.used, quota.held, quota.settled_total), (220, 0, 220));
    assert!(one.limiter.observe(id, 0, 1).is_err());
}

#[test]
fn what_was_saved_is_taken_up_where_nothing_has_been_counted_yet() {
    let (before, after) = (Stage::new(ALL), Stage::new(ALL));
    let first = before.worker();
    let id = first.admit("search", Estimate::new(300, 200)).expect("room");
    first.limiter.settle(id, Usage::new(300, 100)).expect("open");
    let id = first.admit("support", Estimate::new(30, 20)).expect("room");
    let snapshot = first.limiter.snapshot();
    drop(first);

    let (one, other) = (after.worker(), after.worker());
    other.admit("support", Estimate::new(5, 5)).expect("room");
    let restored = one.limiter.restore(&snapshot);
    assert_eq!(restored.counters, 3, "{restored:?}");
    for (limit, left) in ["bucket", "window", "quota"].map(|limit| (limit, 1)).into_iter().chain([("places", 2)]) {
        let left_out = restored.left_out.iter().find(|left_out| left_out.limit == limit).expect("support's");
        assert_eq!((left_out.counters, left_out.reason), (left, LeftOutReason::Shared), "{limit}");
    }
    for limit in ["bucket", "window", "quota"] {
        let of = |worker: &Worker, project: &str| {
            let filter = UsageFilter { limit: Some(limit.to_owned()), ..UsageFilter::default() };
            let all = worker.limiter.usage(&filter);
            let mine = all.into_iter().find(|usage| usage.scope[0].1 == project.as_bytes()).expect("it is there");
            (mine.used, mine.settled_total)
        };
        // A bucket that is taken up errs by a unit of its line, to the strict side.
        let more = u64::from(limit == "bucket");
        assert_eq!((of(&other, "search"), of(&other, "support")), ((400 + more, 400), (10, 0)), "{limit}");
    }
    // Once more changes nothing: it has counted by now.
    assert_eq!(other.limiter.restore(&snapshot).counters, 0);
    assert!(one.limiter.settle(id, Usage::new(1, 1)).is_err(), "permits are of the region that gave them");
}

#[test]
fn what_was_counted_outlives_its_workers() {
    let stage = Stage::new(ALL);
    let first = stage.worker();
    let id = first.admit("search", Estimate::new(300, 200)).expect("room");
    drop(first);
    let second = stage.worker();
    assert_eq!(second.usage("quota").expect("it is there").used, 500);
    assert_eq!(second.usage("places").expect("it is there").used, 1);
    second.limiter.settle(id, Usage::new(300, 100)).expect("it is still open");
    assert_eq!(second.usage("quota").expect("it is there").used, 400);
    assert_eq!(second.usage("places").expect("it is there").used, 0);
}

#[test]
fn permits_of_all_workers_expire_for_all() {
    let stage = Stage::new(&ALL.replace("amount = 100\n", "amount = 2\n"));
    let (one, other) = (stage.worker(), stage.worker());
    one.admit("search", Estimate::new(10, 10)).expect("room");
    stage.clock.advance(MINUTE);
    one.admit("search", Estimate::new(10, 10)).expect("room");
    let denied = other.limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(10, 10)).unwrap().denied();
    let denied = denied.expect("both places are taken");
    assert_eq!(denied.retry_after().map(|wait| wait.as_nanos() as u64), Some(9 * MINUTE));
    stage.clock.advance(9 * MINUTE);
    assert!(other.admit("search", Estimate::new(10, 10)).is_some(), "the first one's place is free");
    assert!(other.admit("search", Estimate::new(10, 10)).is_none());
}

#[test]
fn what_is_at_rest_is_evicted_once_nobody_holds_it() {
    let policy = "[[limit]]\nname = 'tpm'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 60_000\nper = '1m'\nscope = ['project']";
    let stage = Stage::with(policy, |layout| layout.counters(4).callers(8).permits(64).histories(2));
    let (one, other) = (stage.worker(), stage.worker());
    for project in ["a", "b", "c", "d"] {
        let id = one.admit(project, Estimate::new(100, 100)).expect("room");
        one.limiter.settle(id, Usage::new(100, 100)).expect("it is open");
        let id = other.admit(project, Estimate::new(100, 100)).expect("room");
        other.limiter.settle(id, Usage::new(100, 100)).expect("it is open");
    }
    assert!(one.admit("e", Estimate::new(1, 1)).is_none(), "all four are in use");
    stage.clock.advance(MINUTE);
    other.limiter.sweep();
    for project in ["e", "f", "g", "h"] {
        let id = one.admit(project, Estimate::new(100, 100)).expect("the others are at rest");
        one.limiter.settle(id, Usage::new(100, 100)).expect("it is open");
    }
    assert_eq!(stage.region.status().counters, 4);
    let names: Vec<_> = other.limiter.usage(&UsageFilter::default()).into_iter().map(|usage| usage.scope).collect();
    let name = |project: &str| vec![("project".to_owned(), project.as_bytes().to_vec())];
    assert_eq!(names, ["e", "f", "g", "h"].map(name));
}

/// Workers charge the same counters as quickly as they can, in threads that know nothing of one another.
#[test]
fn of_workers_that_hammer_one_counter_no_more_is_admitted_than_the_limit_and_every_token_is_accounted_for() {
    let policy = ALL.replace("1_000_000", "40_000").replace("amount = 100\n", "amount = 5\n");
    let stage = Stage::with(&policy, |layout| layout.counters(64).callers(64).permits(256).histories(4));
    let (admitted, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let open = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..8u64 {
            let worker = stage.worker();
            let (admitted, open, most) = (&admitted, &open, &most);
            scope.spawn(move || {
                let mut state = seed + 1;
                for _ in 0..1500 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let project = if state >> 33 & 7 == 0 { "other" } else { "search" };
                    let Some(id) = worker.admit(project, Estimate::new(6, 4)) else { continue };
                    if project == "search" {
                        most.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
                        open.fetch_sub(1, Relaxed);
                    }
                    let used = match state >> 40 & 3 {
                        0 => 10,
                        1 => 7,
                        2 => {
                            worker.limiter.cancel(id).expect("it is open");
                            continue;
                        }
                        _ => {
                            worker.limiter.settle(id, Usage::new(6, 5)).expect("it is open");
                            if project == "search" {
                                admitted.fetch_add(11, Relaxed);
                            }
                            continue;
                        }
                    };
                    worker.limiter.settle(id, Usage::new(used - 4, 4)).expect("it is open");
                    if project == "search" {
                        admitted.fetch_add(used, Relaxed);
                    }
                }
            });
        }
    });
    assert!(most.load(Relaxed) <= 5, "never more than 5 places");
    let worker = stage.worker();
    let filter = |limit: &str| UsageFilter {
        limit: Some(limit.to_owned()),
        scope: vec![("project".to_owned(), b"search".to_vec())],
    };
    for limit in ["window", "quota"] {
        let usage = &worker.limiter.usage(&filter(limit))[0];
        assert_eq!(
            (usage.used, usage.held, usage.settled_total),
            (admitted.load(Relaxed), 0, admitted.load(Relaxed)),
            "{limit}"
        );
        assert!(usage.used <= 40_000 + 8, "no more than the limit, and the excess of those at work");
    }
    assert_eq!(worker.limiter.usage(&filter("places"))[0].used, 0);
    assert_eq!(stage.region.status().permits_open, 0);
}
