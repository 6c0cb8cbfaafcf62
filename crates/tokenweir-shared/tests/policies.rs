//! The policy of a region changes while workers are at work on it: all of them go by the new one, and no counter is lost.

#![cfg(target_os = "linux")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use support::{ALL, MINUTE, START, Stage, Worker};
use tokenweir::region::RegionError;
use tokenweir::{Error, Estimate, Limiter, ManualClock, PermitId, Policy, Request, Usage, UsageFilter};
use tokenweir_shared::{Layout, SharedError, SharedRegion};

fn policy(text: &str) -> Policy {
    Policy::from_toml(text).expect("a policy")
}

/// Like `ALL`, with this much of everything, in the order in which it stands there.
fn of(bucket: u64, window: u64, quota: u64, places: u64) -> Policy {
    let amounts = [("60_000", bucket), ("1_000_000", window), ("1_000_000", quota), ("amount = 100\n", places)];
    let mut text = ALL.to_owned();
    for (before, amount) in amounts {
        let after = if before.starts_with('a') { format!("amount = {amount}\n") } else { amount.to_string() };
        text = text.replacen(before, &after, 1);
    }
    policy(&text)
}

fn denied_by(worker: &Worker, estimate: Estimate) -> Vec<String> {
    let decision = worker.limiter.admit(&Request::new("search", "gpt-4o"), estimate).expect("no error");
    let denied = decision.denied().into_iter();
    denied.flat_map(|denied| denied.refusals().map(|refusal| refusal.limit.to_owned()).collect::<Vec<_>>()).collect()
}

#[test]
fn every_worker_goes_by_the_new_policy_from_its_next_call_on() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    let id = one.admit("search", Estimate::new(300, 200)).expect("room");
    other.admit("search", Estimate::new(300, 200)).expect("room");
    one.limiter.swap_policy(of(60_000, 1_000_000, 1_200, 100)).expect("it changes");
    assert_eq!(stage.region.status().policies, 2);
    assert_eq!(denied_by(&other, Estimate::new(300, 200)), ["quota"]);
    other.limiter.swap_policy(of(60_000, 1_200, 1_000_000, 2)).expect("it changes back");
    assert_eq!(denied_by(&one, Estimate::new(300, 200)), ["window", "places"]);
    // What a handle was resolved to is resolved anew.
    let route = one.limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    other.limiter.swap_policy(of(60_000, 1_000_000, 1_000_000, 3)).expect("it changes");
    assert!(route.admit(Estimate::new(300, 200)).expect("no error").admitted().is_some_and(|it| it.into_id() != id));
    one.limiter.settle(id, Usage::new(100, 100)).expect("it is open");
    for worker in [&one, &other] {
        let usage = worker.usage("quota").expect("it is there");
        assert_eq!((usage.used, usage.held, usage.settled_total, usage.amount), (1200, 1000, 200, 1_000_000));
        assert_eq!(worker.usage("places").expect("it is there").used, 2);
        assert_eq!(worker.limiter.policy(), of(60_000, 1_000_000, 1_000_000, 3));
    }
}

#[test]
fn a_limit_that_comes_back_has_what_was_used_of_it_and_a_new_one_begins_with_nothing() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    for worker in [&one, &other] {
        let id = worker.admit("search", Estimate::new(3000, 2000)).expect("room");
        worker.limiter.settle(id, Usage::new(3000, 1000)).expect("it is open");
    }
    let only = "[[limit]]\nname = 'new'\nmeter = 'output'\nalgorithm = 'quota'\namount = 10_000\nperiod = 'never'\n";
    one.limiter.swap_policy(policy(only)).expect("it changes");
    other.admit("search", Estimate::new(3000, 2000)).expect("room");
    assert_eq!(one.usage("new").expect("it is there").used, 2000);
    assert!(one.usage("quota").is_none());
    other.limiter.swap_policy(of(50_000, 1_000_000, 1_000_000, 100)).expect("it changes");
    for worker in [&one, &other] {
        for limit in ["bucket", "window", "quota"] {
            let usage = worker.usage(limit).expect("it is there");
            let used = if limit == "bucket" { 0 } else { 8000 };
            assert_eq!((usage.used, usage.settled_total), (used, 8000), "{limit}");
        }
    }
    // The bucket had 52,000 of 60,000, which is more than there is room for now.
    assert_eq!(denied_by(&one, Estimate::new(50_001, 0)), ["bucket"]);
    assert!(one.admit("search", Estimate::new(50_000, 0)).is_some());
}

#[test]
fn a_buckets_balance_is_clamped_when_lowered_and_not_topped_up_when_raised() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    one.admit("search", Estimate::new(30_000, 0)).expect("room");
    for (capacity, left) in [(20_000, 20_000), (60_000, 20_000), (100_000, 20_000), (10_000, 10_000)] {
        one.limiter.swap_policy(of(capacity, 1_000_000, 1_000_000, 100)).expect("it changes");
        assert_eq!(other.usage("bucket").expect("it is there").remaining, left, "{capacity}");
    }
    stage.clock.advance(MINUTE / 2);
    assert_eq!(other.usage("bucket").expect("it is there").remaining, 10_000);
    other.admit("search", Estimate::new(10_000, 0)).expect("room");
    one.limiter.swap_policy(of(60_000, 1_000_000, 1_000_000, 100)).expect("it changes");
    stage.clock.advance(MINUTE / 2);
    assert_eq!(other.usage("bucket").expect("it is there").remaining, 30_000);
}

/// The same requests and changes on the heap and on a region, where each is another worker's.
#[test]
fn whatever_is_done_under_whatever_policies_comes_to_the_same_as_on_the_heap() {
    for seed in 0..20u64 {
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let stage = Stage::new(ALL);
        let workers = [stage.worker(), stage.worker(), stage.worker()];
        let clock = std::sync::Arc::new(ManualClock::new(START));
        let heap = Limiter::builder(policy(ALL)).clock(clock.clone()).permit_ttl(Duration::from_secs(600)).build();
        let mut open: Vec<(PermitId, PermitId)> = Vec::new();
        for step in 0..600 {
            let worker = &workers[below(3) as usize].limiter;
            let what = format!("seed {seed}, step {step}");
            let project = ["search", "chat"][below(2) as usize];
            match below(8) {
                0..3 => {
                    let (request, estimate) = (Request::new(project, "gpt-4o"), Estimate::new(below(900), below(900)));
                    let here = heap.admit(&request, estimate).expect("no error");
                    let there = worker.admit(&request, estimate).expect("no error");
                    assert_eq!(here.is_admitted(), there.is_admitted(), "{what}");
                    match (here.admitted(), there.admitted()) {
                        (Some(here), Some(there)) => open.push((here.into_id(), there.into_id())),
                        (None, None) => {}
                        _ => unreachable!(),
                    }
                }
                3..6 if !open.is_empty() => {
                    let (here, there) = open.swap_remove(below(open.len() as u64) as usize);
                    let settled = match below(4) {
                        0 => [heap.cancel(here).is_ok(), worker.cancel(there).is_ok()],
                        1 => [heap.abandon(here).is_ok(), worker.abandon(there).is_ok()],
                        _ => {
                            let usage = Usage::new(below(900), below(1200));
                            [heap.settle(here, usage).is_ok(), worker.settle(there, usage).is_ok()]
                        }
                    };
                    assert_eq!(settled[0], settled[1], "{what}");
                }
                6 if !open.is_empty() => {
                    let (here, there) = open[below(open.len() as u64) as usize];
                    let output = below(600);
                    let seen = [heap.observe(here, 0, output).is_ok(), worker.observe(there, 0, output).is_ok()];
                    assert_eq!(seen[0], seen[1], "{what}");
                }
                _ => {
                    let nanos = below(4 * MINUTE / 10);
                    stage.clock.advance(nanos);
                    clock.advance(nanos);
                }
            }
            if below(12) == 0 {
                // The bucket, whose line begins elsewhere, does not decide.
                let next = match below(4) {
                    0 => policy(&ALL.replace("name = \"quota\"", "name = \"other\"")),
                    _ => of(400_000 + below(5) * 100_000, 4_000 + below(9_000), 1_000_000, 4 + below(9)),
                };
                // The workers' room is for seven policies with open permits, and the heap has as much as it likes.
                match worker.swap_policy(next.clone()) {
                    Ok(()) => heap.swap_policy(next).expect("the heap refuses none"),
                    Err(Error::Region(RegionError::PoliciesInUse { .. })) => {}
                    Err(error) => panic!("{what}: {error}"),
                }
            }
            let here = heap.usage(&UsageFilter::default());
            let there = workers[below(3) as usize].limiter.usage(&UsageFilter::default());
            for here in &here {
                // What is at rest may be gone, here or there.
                let Some(there) = there.iter().find(|it| (&it.limit, &it.scope) == (&here.limit, &here.scope)) else {
                    assert_eq!(here.used, 0, "{what}: {here:?}");
                    continue;
                };
                let slack = u64::from(here.limit == "bucket") * 20;
                assert!(here.used.abs_diff(there.used) <= slack, "{what}: {here:?} {there:?}");
                assert_eq!((here.held, here.amount), (there.held, there.amount), "{what}: {here:?} {there:?}");
                assert_eq!(here.settled_total, there.settled_total, "{what}: {here:?} {there:?}");
            }
        }
    }
}

/// A policy that tells by the amounts how many changes have gone before it.
fn nth(change: u64) -> Policy {
    of(60_000 + 1000 * change, 1_000_000 - 1000 * change, 1_000_000 + change, 100 - change)
}

#[test]
fn permits_of_many_policies_are_settled_to_the_token_by_a_worker_that_has_seen_none_of_them() {
    let stage = Stage::new(ALL);
    let one = stage.worker();
    let mut permits = Vec::new();
    for change in 1..=7 {
        permits.push(one.admit("search", Estimate::new(1000, 1000)).expect("room"));
        permits.push(one.admit("chat", Estimate::new(10, 10)).expect("room"));
        one.limiter.swap_policy(nth(change)).expect("there is room for eight");
    }
    one.kill();
    stage.tick();
    let late = stage.worker_of(stage.builder().policy_of_region(true));
    assert_eq!(late.limiter.policy(), nth(7));
    let search = |limit: &str| {
        let scope = vec![("project".to_owned(), b"search".to_vec())];
        late.limiter.usage(&UsageFilter { limit: Some(limit.to_owned()), scope }).remove(0)
    };
    assert_eq!(search("places").used, 7);
    assert_eq!((search("quota").used, search("quota").held), (14_000, 14_000));
    for (turn, id) in permits.iter().enumerate() {
        late.limiter.observe(*id, 0, 5).expect("it is open");
        if turn % 2 == 0 {
            late.limiter.settle(*id, Usage::new(1000, 100)).expect("it is open");
        } else {
            late.limiter.cancel(*id).expect("it is open");
        }
    }
    for limit in ["window", "quota"] {
        let usage = search(limit);
        assert_eq!((usage.used, usage.held, usage.settled_total), (7700, 0, 7700), "{limit}");
    }
    assert_eq!(search("bucket").settled_total, 7700);
    assert_eq!(search("places").used, 0);
    assert_eq!(stage.region.status().permits_open, 0);
}

#[test]
fn a_change_for_which_there_is_no_room_is_refused_and_changes_nothing() {
    let stage = Stage::new(ALL);
    let (one, other) = (stage.worker(), stage.worker());
    let mut permits = Vec::new();
    for change in 1..=7 {
        permits.push(one.admit("search", Estimate::new(10, 10)).expect("room"));
        one.limiter.swap_policy(nth(change)).expect("there is room for eight");
    }
    let refused = other.limiter.swap_policy(nth(8)).expect_err("seven others have permits");
    assert!(matches!(refused, Error::Region(RegionError::PoliciesInUse { policies: 7 })), "{refused}");
    assert_eq!((stage.region.status().policies, other.limiter.policy()), (8, nth(7)));
    assert!(one.admit("search", Estimate::new(10, 10)).is_some());
    // One policy fewer has a permit, whichever it is.
    other.limiter.settle(permits.remove(4), Usage::new(10, 10)).expect("it is open");
    other.limiter.swap_policy(nth(8)).expect("there is room again");
    assert_eq!(one.limiter.policy(), nth(8));
    // Whoever waits long enough has it as well: they expire.
    assert!(one.limiter.swap_policy(nth(9)).is_err());
    stage.clock.advance(11 * MINUTE);
    one.limiter.swap_policy(nth(9)).expect("they have expired");
    assert_eq!(other.usage("places").expect("it is there").used, 0);
    assert!(matches!(other.limiter.settle(permits[0], Usage::new(1, 1)), Err(Error::PermitSettled { .. })));
}

#[test]
fn a_policy_that_the_region_has_no_room_for_is_refused_and_changes_nothing() {
    let stage = Stage::with(ALL, |layout| layout.counters(64).callers(64).permits(64).histories(4).policy_bytes(4096));
    let (one, other) = (stage.worker(), stage.worker());
    let id = one.admit("search", Estimate::new(10, 10)).expect("room");
    let name = "n".repeat(5000);
    let refused =
        one.limiter.swap_policy(policy(&ALL.replace("\"quota\"\n    meter", &format!("{name:?}\n    meter"))));
    assert!(matches!(refused, Err(Error::Region(RegionError::PolicyTooLarge { room: 4096, .. }))), "{refused:?}");
    let refused = one.limiter.swap_policy(policy(&ALL.replace("sub_windows = 6", "sub_windows = 500")));
    assert!(matches!(refused, Err(Error::Region(RegionError::CounterTooLarge { .. }))), "{refused:?}");
    assert_eq!((stage.region.status().policies, other.limiter.policy()), (1, policy(ALL)));
    other.limiter.settle(id, Usage::new(10, 5)).expect("it is open");
    assert_eq!(one.usage("quota").expect("it is there").used, 15);
    one.limiter.swap_policy(nth(1)).expect("there is room for this one");
    assert_eq!(other.limiter.policy(), nth(1));
}

#[test]
fn a_worker_with_an_old_file_is_told_and_one_that_takes_the_regions_policy_is_not() {
    let stage = Stage::new(ALL);
    assert_eq!(stage.region.policy().expect("it can be read"), None);
    let one = stage.worker();
    assert_eq!(stage.region.policy().expect("it can be read"), Some(policy(ALL)));
    for change in 1..=5 {
        one.limiter.swap_policy(nth(change)).expect("it changes");
    }
    assert_eq!(stage.region.policy().expect("it can be read"), Some(nth(5)));
    let refused = stage.region.build(Limiter::builder(policy(ALL))).expect_err("it is another");
    assert!(refused.to_string().contains("policy_of_region"), "{refused}");
    assert!(matches!(&refused, SharedError::Limiter { source: Error::Region(RegionError::OtherPolicy), .. }));
    let late = stage.region.build(Limiter::builder(policy(ALL)).policy_of_region(true)).expect("a limiter");
    assert_eq!(late.policy(), nth(5));
    let same = stage.region.build(Limiter::builder(nth(5))).expect("it is the same");
    same.swap_policy(nth(6)).expect("it changes");
    assert_eq!((late.policy(), one.limiter.policy()), (nth(6), nth(6)));
    // Neither minds that the region was made for another policy, as long as there is room.
    let layout = Layout::of(&nth(6)).counters(64).callers(64).permits(64).histories(4);
    let smaller = Layout::of(&policy("")).counters(64).callers(64).permits(64).histories(4);
    for layout in [layout, smaller] {
        SharedRegion::open_or_create(stage.region.path(), &layout).expect("there is room");
    }
    let larger = layout.policy_bytes(1 << 20);
    let refused = SharedRegion::open_or_create(stage.region.path(), &larger).expect_err("there is less room");
    assert!(matches!(refused, SharedError::OtherLayout { .. }));
}

#[test]
fn of_workers_that_all_have_read_the_same_new_file_one_makes_the_change() {
    let stage = Stage::new(ALL);
    let workers: Vec<Worker> = (0..6).map(|_| stage.worker()).collect();
    for change in 1..=20 {
        std::thread::scope(|scope| {
            for worker in &workers {
                scope.spawn(|| worker.limiter.swap_policy(nth(change % 9)).expect("it changes, or has"));
            }
        });
        assert_eq!(stage.region.status().policies, change + 1);
        assert!(workers.iter().all(|worker| worker.limiter.policy() == nth(change % 9)));
    }
}

#[test]
fn limits_that_no_policy_has_any_more_are_forgotten_once_they_are_at_rest() {
    let stage = Stage::with(ALL, |layout| layout.counters(24).callers(8).permits(8).histories(2).policy_bytes(8192));
    let (one, other) = (stage.worker(), stage.worker());
    for change in 0..200 {
        let text =
            "[[limit]]\nname = 'limit NUMBER'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 60_000\nper = '1m'\n";
        let workers = if change % 2 == 0 { [&one, &other] } else { [&other, &one] };
        let next = policy(&text.replace("NUMBER", &change.to_string()));
        workers[0].limiter.swap_policy(next).unwrap_or_else(|error| panic!("{change}: {error}"));
        for worker in workers {
            let id = worker.admit("search", Estimate::new(100, 100)).expect("there is room for its counter");
            worker.limiter.settle(id, Usage::new(100, 100)).expect("it is open");
        }
        stage.clock.advance(MINUTE);
    }
    assert!(stage.region.status().counters < 24);
}

/// Workers charge the same counters as quickly as they can, in threads that know nothing of one another, while two of them
/// change the policy.
#[test]
fn of_workers_that_hammer_one_counter_while_its_limits_change_every_token_is_accounted_for() {
    // All that is ever allowed of the quota, and at a time.
    const QUOTA: u64 = 40_000;
    const PLACES: u64 = 6;
    let policies: Vec<Policy> = (0..5)
        .map(|number| match number {
            4 => policy(
                &ALL.replace("name = \"window\"", "name = \"new\"")
                    .replacen("1_000_000", "9_000_000", 1)
                    .replacen("1_000_000", &QUOTA.to_string(), 1)
                    .replace("amount = 100\n", "amount = 6\n"),
            ),
            _ => of(60_000 - number * 9_000, 9_000_000 + number, QUOTA - number * 9000, PLACES - number),
        })
        .collect();
    let stage = Stage::with(ALL, |layout| layout.counters(64).callers(64).permits(256).histories(4));
    stage.worker().limiter.swap_policy(policies[0].clone()).expect("it changes");
    let (used, changes, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let builder = || stage.builder().policy_of_region(true);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (worker, done, changes, policies) = (stage.worker_of(builder()), &done, &changes, &policies);
            scope.spawn(move || {
                for turn in seed.. {
                    if done.load(Relaxed) {
                        break;
                    }
                    match worker.limiter.swap_policy(policies[turn % 5].clone()) {
                        Ok(()) => changes.fetch_add(1, Relaxed),
                        Err(Error::Region(RegionError::PoliciesInUse { .. })) => 0,
                        Err(error) => panic!("{error}"),
                    };
                    let places = worker.usage("places").map_or(0, |usage| usage.used);
                    assert!(places <= PLACES, "{places}");
                }
            });
        }
        let hammers: Vec<_> = (0..4u64)
            .map(|seed| {
                let (worker, used, changes) = (stage.worker_of(builder()), &used, &changes);
                scope.spawn(move || {
                    let mut state = seed + 1;
                    let mut last: Option<PermitId> = None;
                    for turn in 0..4_000_000 {
                        // On a busy machine whoever changes the policy may have had no turn yet.
                        if turn >= 4000 && changes.load(Relaxed) > 20 {
                            break;
                        }
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let id = worker.admit("search", Estimate::new(6, 4));
                        // One is held across others, and so across changes.
                        let Some(id) = (if state >> 50 & 1 == 0 { std::mem::replace(&mut last, id) } else { id })
                        else {
                            continue;
                        };
                        match state >> 40 & 3 {
                            0 => drop(worker.limiter.cancel(id).expect("it is open")),
                            1 => {
                                worker.limiter.settle(id, Usage::new(6, 1)).expect("it is open");
                                used.fetch_add(7, Relaxed);
                            }
                            _ => {
                                worker.limiter.settle(id, Usage::new(6, 4)).expect("it is open");
                                used.fetch_add(10, Relaxed);
                            }
                        }
                    }
                    if let Some(id) = last {
                        worker.limiter.cancel(id).expect("it is open");
                    }
                })
            })
            .collect();
        for hammer in hammers {
            hammer.join().expect("it has not panicked");
        }
        done.store(true, Relaxed);
    });
    let worker = stage.worker_of(builder());
    worker.limiter.swap_policy(of(1_000_000, 1_000_000, 1_000_000, 100)).expect("nobody is at it");
    assert!(changes.load(Relaxed) > 20, "{changes:?}");
    let quota = worker.usage("quota").expect("it is there");
    let used = used.load(Relaxed);
    assert_eq!((quota.used, quota.held, quota.settled_total), (used, 0, used));
    assert!(used <= QUOTA, "{used}");
    assert_eq!(worker.usage("places").expect("it is there").used, 0);
    assert_eq!(worker.usage("bucket").expect("it is there").settled_total, used);
    assert_eq!(stage.region.status().permits_open, 0);
    // As on the heap, where what was not settled as it was charged came back to the bucket, or less.
    let bucket = worker.usage("bucket").expect("it is there");
    assert!(bucket.remaining >= 0, "{bucket:?}");
    stage.clock.advance(11 * MINUTE);
    worker.limiter.sweep();
    worker.limiter.sweep();
    assert_eq!(worker.usage("bucket").map_or(0, |usage| usage.used), 0);
}
