//! A worker ends at every step of everything it does, one after the other. What it leaves the others finish or undo.

#![cfg(target_os = "linux")]

mod support;

use support::{ALL, MINUTE, Stage, Worker};
use tokenweir::{Estimate, PermitId, Request, Usage, UsageFilter};

const ESTIMATE: Estimate = Estimate::new(300, 200);
const MOST: u64 = 700;

/// What a worker that is about to end has to do it with.
type Act = fn(&tokenweir::Limiter, Option<PermitId>);

/// Has a worker end at each step of `act` in turn. Before it, another has `open` permits, and the one that ends has one if it
/// is to be `held`. Says at how many steps it ended.
fn end_at_every_step(policy: &str, held: bool, act: Act, check: fn(&Stage, &Worker, u64)) -> u64 {
    for nth in 0..10_000 {
        let stage = Stage::new(policy);
        let (witness, victim) = (stage.worker(), stage.worker());
        let other = witness.admit("search", Estimate::new(50, 50)).expect("room");
        let id = held.then(|| victim.admit("search", ESTIMATE).expect("room"));
        let ended = victim.ends_at(nth, |limiter| act(limiter, id));
        if ended.is_none() {
            return nth;
        }
        victim.kill();
        stage.tick();
        witness.limiter.sweep();
        // The witness goes on as if nothing had happened.
        let again = witness.admit("search", Estimate::new(50, 50)).expect("room");
        for id in [other, again] {
            witness.limiter.settle(id, Usage::new(50, 50)).expect("it is open");
        }
        check(&stage, &witness, nth);
        check_the_end(&stage, &witness, nth);
    }
    panic!("there is no end of steps");
}

/// In flight are as many as are open; nothing else counts less than it ought to, nor more than one request's charge more.
fn check_the_books(stage: &Stage, witness: &Worker, nth: u64) {
    let open = stage.region.status().permits_open as u64;
    if let Some(places) = witness.usage("places") {
        assert_eq!(places.used, open, "step {nth}: places of permits that are open");
    }
    for limit in ["bucket", "window", "quota"] {
        let Some(usage) = witness.usage(limit) else { continue };
        let known = usage.settled_total + usage.held;
        assert!(usage.used + MOST >= known, "step {nth}: {limit} has lost tokens: {usage:?}");
        assert!(usage.used <= known + MOST, "step {nth}: {limit} counts what nobody charged: {usage:?}");
    }
}

/// In the end everything that was held has expired, and all is as good as new.
fn check_the_end(stage: &Stage, witness: &Worker, nth: u64) {
    stage.clock.advance(11 * MINUTE);
    witness.limiter.sweep();
    let status = stage.region.status();
    assert_eq!(status.permits_open, 0, "step {nth}");
    if let Some(places) = witness.usage("places") {
        assert_eq!(places.used, 0, "step {nth}");
    }
    assert_eq!(status.attached.len(), 1, "step {nth}: {:?}", status.attached);
    for limit in ["bucket", "window"] {
        assert_eq!(witness.usage(limit).map_or(0, |usage| usage.used), 0, "step {nth}: {limit}");
    }
    // Every permit that there is room for can be had: no slot is lost.
    let permits: Vec<PermitId> =
        (0..64).map(|_| witness.admit("others", Estimate::new(1, 0)).expect("a slot")).collect();
    assert!(witness.limiter.admit(&Request::new("others", "gpt-4o"), Estimate::new(1, 0)).is_err(), "step {nth}");
    for id in permits {
        witness.limiter.settle(id, Usage::new(1, 0)).expect("it is open");
    }
    // A day later nothing is in use, so everything goes, and every record is free again.
    stage.clock.advance(24 * 60 * MINUTE);
    witness.limiter.sweep();
    witness.limiter.sweep();
    let status = stage.region.status();
    assert_eq!((status.counters, status.callers, status.histories), (0, 0, 0), "step {nth}: {status:?}");
}

#[test]
fn admitting_a_caller_that_nobody_has_seen() {
    let steps = end_at_every_step(
        ALL,
        false,
        |limiter, _| {
            drop(limiter.admit(&Request::new("new", "gpt-4o"), ESTIMATE).map(|it| it.admitted().map(|it| it.into_id())))
        },
        |stage, witness, nth| {
            check_the_books(stage, witness, nth);
            let new = stage.worker();
            assert!(new.admit("new", ESTIMATE).is_some(), "step {nth}: whoever comes next is served");
            drop(new);
            stage.tick();
            witness.limiter.sweep();
        },
    );
    assert!(steps > 20, "{steps}");
}

#[test]
fn admitting_a_caller_that_is_known() {
    let steps = end_at_every_step(
        ALL,
        true,
        |limiter, _| {
            drop(
                limiter
                    .admit(&Request::new("search", "gpt-4o"), ESTIMATE)
                    .map(|it| it.admitted().map(|it| it.into_id())),
            )
        },
        check_the_books,
    );
    assert!(steps > 12, "{steps}");
}

fn settling(usage: fn() -> Usage) -> u64 {
    let act: Act = match usage().output {
        Some(300) => |limiter, id| drop(limiter.settle(id.unwrap(), Usage::new(300, 300))),
        Some(200) => |limiter, id| drop(limiter.settle(id.unwrap(), Usage::new(300, 200))),
        _ => |limiter, id| drop(limiter.settle(id.unwrap(), Usage::new(300, 20))),
    };
    end_at_every_step(ALL, true, act, check_the_books)
}

#[test]
fn settling_by_more_than_the_estimate() {
    assert!(settling(|| Usage::new(300, 300)) > 12);
}

#[test]
fn settling_by_the_estimate() {
    assert!(settling(|| Usage::new(300, 200)) > 12);
}

#[test]
fn settling_by_less_than_the_estimate() {
    assert!(settling(|| Usage::new(300, 20)) > 12);
}

#[test]
fn cancelling() {
    assert!(end_at_every_step(ALL, true, |limiter, id| drop(limiter.cancel(id.unwrap())), check_the_books) > 12);
}

#[test]
fn observing() {
    let act: Act = |limiter, id| drop(limiter.observe(id.unwrap(), 0, 400));
    let steps = end_at_every_step(ALL, true, act, |stage, witness, nth| {
        check_the_books(stage, witness, nth);
        // It is charged before it is said to have been.
        for limit in ["window", "quota"] {
            let usage = witness.usage(limit).expect("it is there");
            assert!(usage.used >= usage.held + usage.settled_total, "step {nth}: {usage:?}");
        }
    });
    assert!(steps >= 3, "{steps}");
}

#[test]
fn being_refused_midway_and_giving_back() {
    // The last limit has room for whoever looks, but not for two.
    let policy = ALL.replace("amount = 100\n", "amount = 3\n    match = { project = \"search\" }\n");
    let act: Act = |limiter, _| {
        for _ in 0..3 {
            drop(
                limiter
                    .admit(&Request::new("search", "gpt-4o"), ESTIMATE)
                    .map(|it| it.admitted().map(|it| it.into_id())),
            );
        }
    };
    let check = |stage: &Stage, witness: &Worker, nth: u64| check_the_books_of(stage, witness, nth, 3);
    for nth in 0..10_000 {
        let stage = Stage::new(&policy);
        let (witness, victim) = (stage.worker(), stage.worker());
        if victim.ends_at(nth, |limiter| act(limiter, None)).is_none() {
            return;
        }
        victim.kill();
        stage.tick();
        witness.limiter.sweep();
        check(&stage, &witness, nth);
        check_the_end(&stage, &witness, nth);
    }
}

fn check_the_books_of(stage: &Stage, witness: &Worker, nth: u64, most: u64) {
    check_the_books(stage, witness, nth);
    assert!(witness.usage("places").is_none_or(|places| places.used <= most), "step {nth}");
}

#[test]
fn sweeping() {
    let steps = end_at_every_step(
        ALL,
        false,
        |limiter, _| {
            let now = limiter.now();
            let id = limiter.admit(&Request::new("gone", "gpt-4o"), ESTIMATE).unwrap().admitted().unwrap().into_id();
            limiter.settle(id, Usage::new(0, 0)).unwrap();
            limiter.sweep_at(now);
        },
        check_the_books,
    );
    assert!(steps > 30, "{steps}");
}

#[test]
fn beginning_a_history() {
    // More than a thirty-second part is in use.
    let act: Act = |limiter, _| {
        for _ in 0..8 {
            let id = limiter.admit(&Request::new("search", "gpt-4o"), ESTIMATE).unwrap().admitted().unwrap().into_id();
            limiter.settle(id, Usage::new(300, 180)).unwrap();
        }
    };
    let steps = end_at_every_step(ALL, false, act, |stage, witness, nth| {
        check_the_books(stage, witness, nth);
        assert!(stage.region.status().histories <= 2, "step {nth}");
    });
    assert!(steps > 100, "{steps}");
}

/// Whoever clears up after another ends as well, at each step; a third one clears up after both.
#[test]
fn clearing_up_after_another() {
    for first in 0..10_000 {
        let mut second = 0;
        loop {
            let stage = Stage::new(ALL);
            let (witness, heir, victim) = (stage.worker(), stage.worker(), stage.worker());
            let id = victim.admit("search", ESTIMATE).expect("room");
            let act = |limiter: &tokenweir::Limiter| {
                let new =
                    limiter.admit(&Request::new("search", "gpt-4o"), ESTIMATE).unwrap().admitted().unwrap().into_id();
                limiter.settle(id, Usage::new(300, 20)).unwrap();
                limiter.settle(new, Usage::new(300, 300)).unwrap();
            };
            if victim.ends_at(first, act).is_none() {
                assert!(first > 25, "{first}");
                return;
            }
            victim.kill();
            stage.tick();
            let ended = heir.ends_at(second, |limiter| limiter.sweep());
            heir.kill();
            stage.tick();
            witness.limiter.sweep();
            // Nobody looks for expired permits again for a second, so until then there may be one.
            if ended != Some("expiry begun") {
                check_the_books(&stage, &witness, first * 1000 + second);
            }
            check_the_end(&stage, &witness, first * 1000 + second);
            if ended.is_none() {
                break;
            }
            second += 1;
        }
    }
}

/// Does `act` in a worker of the stage until the step of this name, and stands still there.
fn stands_at(stage: &Stage, step: &str, act: fn(&tokenweir::Limiter)) -> Worker {
    for nth in 0..10_000 {
        let worker = stage.worker();
        let ended = worker.ends_at(nth, act).expect("there is such a step");
        if ended == step {
            return worker;
        }
        worker.kill();
        stage.tick();
    }
    panic!("there is no end of steps");
}

fn admit_search(limiter: &tokenweir::Limiter) {
    admit("search", limiter);
}

fn admit_others(limiter: &tokenweir::Limiter) {
    admit("others", limiter);
}

fn admit(project: &str, limiter: &tokenweir::Limiter) {
    let decision = limiter.admit(&Request::new(project, "gpt-4o"), ESTIMATE).expect("no error");
    decision.admitted().expect("room").into_id();
}

const WINDOW: &str = r#"
    [[limit]]
    name = "window"
    meter = "total"
    algorithm = "window"
    amount = 1_000_000
    per = "1m"
    sub_windows = 6
    scope = ["project"]
"#;

/// What a killed worker has left in a window is taken off it although others are in the middle of requests that do not
/// concern it; and is not as long as somebody is in the middle of one that does.
#[test]
fn a_window_is_put_right_once_nobody_is_at_work_on_it() {
    for (other, left) in [(admit_others as fn(&tokenweir::Limiter), 0), (admit_search, 1000)] {
        let stage = Stage::new(WINDOW);
        let witness = stage.worker();
        let standing = stands_at(&stage, "window charged", other);
        stands_at(&stage, "window charged", admit_search).kill();
        stage.clock.advance(11 * MINUTE);
        witness.limiter.sweep();
        witness.limiter.sweep();
        let known = witness.admit("search", Estimate::new(1, 0)).expect("room");
        let filter = UsageFilter { scope: vec![("project".into(), b"search".to_vec())], ..UsageFilter::default() };
        assert_eq!(witness.limiter.usage(&filter)[0].used, left + 1);
        witness.limiter.settle(known, Usage::new(1, 0)).expect("it is open");
        // Once the one that stands ends as well, nothing is left.
        standing.kill();
        stage.clock.advance(11 * MINUTE);
        witness.limiter.sweep();
        witness.limiter.sweep();
        assert!(witness.limiter.usage(&UsageFilter::default()).iter().all(|usage| usage.used == 0));
    }
}

/// Whoever looks for expired permits is stopped, or killed, before it has ended one: another does not wait for it.
#[test]
fn a_place_of_an_expired_permit_is_free_whoever_was_to_end_it() {
    const PLACE: &str = r#"
        [[limit]]
        name = "places"
        meter = "in_flight"
        algorithm = "in_flight"
        amount = 1
        scope = ["project"]
    "#;
    for killed in [false, true] {
        let stage = Stage::new(PLACE);
        let (holder, witness) = (stage.worker(), stage.worker());
        holder.admit("search", ESTIMATE).expect("room");
        assert!(witness.admit("search", ESTIMATE).is_none());
        stage.clock.advance(11 * MINUTE);
        let looks = stands_at(&stage, "expiry begun", |limiter| {
            limiter.sweep();
        });
        if killed {
            looks.kill();
        }
        assert!(witness.admit("search", ESTIMATE).is_some(), "killed: {killed}");
        assert!(witness.admit("search", ESTIMATE).is_none(), "and it is one place");
    }
}

/// Like `ALL`, with a bucket that refills so fast, and another for everybody together that holds so much.
fn policy_of(refill: u64, brim: u64) -> String {
    let bucket = format!("amount = {refill}\n burst = 60_000");
    let more = "[[limit]]\nname = 'brim'\nmeter = 'total'\nalgorithm = 'bucket'\nper = '1m'\namount = 60_000\n";
    ALL.replacen("amount = 60_000", &bucket, 1) + more + &format!("burst = {brim}\n")
}

fn first_policy() -> String {
    policy_of(60_000, 60_000)
}

fn parsed(policy: &str) -> tokenweir::Policy {
    tokenweir::Policy::from_toml(policy).expect("a policy")
}

fn other_policy() -> tokenweir::Policy {
    parsed(
        &(policy_of(50_000, 50_000)
            + "[[limit]]\nname = 'more'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 90_000\nperiod = 'daily'\n"),
    )
}

/// A bucket that holds so much in turn has as much as its lowest brim let it, less what is used and with what has come since.
fn check_the_brim(witness: &Worker, lowest: i64, nth: u64) {
    let left = witness.usage("brim").expect("it is in use").remaining;
    assert!((lowest - 2500..=lowest).contains(&left), "step {nth}: {left} of {lowest}");
}

/// After whoever changed the policy has ended in the middle of it: all go by the old one or by the new one, a permit of before
/// is settled to the token, and the policy can be changed again.
fn check_the_policy(stage: &Stage, witness: &Worker, nth: u64) {
    let policy = witness.limiter.policy();
    let changed = policy == other_policy();
    assert_eq!(stage.region.status().policies, 1 + u64::from(changed), "step {nth}");
    assert!(changed || policy == parsed(&first_policy()), "step {nth}");
    check_the_brim(witness, if changed { 50_000 } else { 60_000 }, nth);
    let late = stage.worker_of(stage.builder().policy_of_region(true));
    assert_eq!(late.limiter.policy(), policy, "step {nth}");
    let id = late.admit("search", Estimate::new(100, 0)).expect("room");
    let before = witness.usage("quota").expect("it is in use");
    // To what it is, or was to be: and from there to a third.
    late.limiter.swap_policy(other_policy()).unwrap_or_else(|error| panic!("step {nth}: {error}"));
    assert_eq!(witness.limiter.policy(), other_policy(), "step {nth}");
    check_the_brim(&late, 50_000, nth);
    witness.limiter.swap_policy(parsed(&policy_of(80_000, 70_000))).expect("nobody is at it");
    check_the_brim(&late, 50_000, nth);
    witness.limiter.settle(id, Usage::new(40, 0)).expect("it is open");
    let after = late.usage("quota").expect("it is in use");
    assert_eq!((before.used - 60, before.settled_total + 40), (after.used, after.settled_total), "step {nth}");
    check_the_books(stage, witness, nth);
    drop(late);
    stage.tick();
    witness.limiter.sweep();
}

#[test]
fn changing_the_policy() {
    let act: Act = |limiter, _| drop(limiter.swap_policy(other_policy()));
    let steps = end_at_every_step(&first_policy(), true, act, check_the_policy);
    assert!(steps > 8, "{steps}");
}

/// A worker that has not met the new policy yet ends while it takes it up, and charges under it.
#[test]
fn admitting_under_a_policy_that_another_has_put_in_force() {
    for nth in 0..10_000 {
        let stage = Stage::new(&first_policy());
        let (witness, victim) = (stage.worker(), stage.worker());
        let id = victim.admit("search", ESTIMATE).expect("room");
        witness.limiter.swap_policy(other_policy()).expect("it changes");
        let act = |limiter: &tokenweir::Limiter| {
            admit_search(limiter);
            limiter.settle(id, Usage::new(300, 20)).expect("it is open");
        };
        if victim.ends_at(nth, act).is_none() {
            assert!(nth > 20, "{nth}");
            return;
        }
        victim.kill();
        stage.tick();
        witness.limiter.sweep();
        check_the_books(&stage, &witness, nth);
        check_the_policy(&stage, &witness, nth);
        check_the_end(&stage, &witness, nth);
    }
}

/// Whoever finishes what another has left of a change ends as well, at each step; a third one finishes it.
#[test]
fn finishing_a_change_of_another() {
    for first in 0..10_000 {
        for second in 0.. {
            let stage = Stage::new(&first_policy());
            let (witness, heir, victim) = (stage.worker(), stage.worker(), stage.worker());
            witness.admit("search", ESTIMATE).expect("room");
            if victim.ends_at(first, |limiter| drop(limiter.swap_policy(other_policy()))).is_none() {
                assert!(first > 8, "{first}");
                return;
            }
            victim.kill();
            stage.tick();
            let third = parsed(&policy_of(80_000, 55_000));
            let ended = heir.ends_at(second, |limiter| drop(limiter.swap_policy(third.clone())));
            heir.kill();
            stage.tick();
            witness.limiter.sweep();
            let nth = first * 1000 + second;
            let policy = witness.limiter.policy();
            assert!([parsed(&first_policy()), other_policy(), third.clone()].contains(&policy), "step {nth}");
            assert!(ended.is_some() || policy == third, "step {nth}");
            check_the_books(&stage, &witness, nth);
            witness.limiter.swap_policy(other_policy()).expect("nobody is at it");
            check_the_brim(&witness, 50_000, nth);
            check_the_books(&stage, &witness, nth);
            check_the_end(&stage, &witness, nth);
            if ended.is_none() {
                break;
            }
        }
    }
}

/// A worker stands still at each step of a request, or of a change, while the policy changes so often that the region has long
/// forgotten the one it goes by; then it ends.
#[test]
fn standing_still_while_the_policy_changes_many_times() {
    let requests: Act = |limiter, id| {
        admit_search(limiter);
        limiter.observe(id.unwrap(), 0, 300).expect("it is open");
        limiter.settle(id.unwrap(), Usage::new(300, 20)).expect("it is open");
    };
    for nth in 0..10_000 {
        let stage = Stage::new(&first_policy());
        let (witness, victim) = (stage.worker(), stage.worker());
        let id = victim.admit("search", ESTIMATE).expect("room");
        let ended = victim.ends_at(nth, |limiter| requests(limiter, Some(id)));
        if ended.is_none() {
            assert!(nth > 40, "{nth}");
            return;
        }
        for change in 1..=20 {
            let next = parsed(&policy_of(60_000 + change % 3, 60_000 - 100 * change));
            witness.limiter.swap_policy(next).unwrap_or_else(|error| panic!("step {nth}, change {change}: {error}"));
            let own = witness.admit("search", Estimate::new(10, 0)).expect("room");
            witness.limiter.settle(own, Usage::new(10, 0)).expect("it is open");
        }
        victim.kill();
        stage.tick();
        witness.limiter.sweep();
        check_the_books(&stage, &witness, nth);
        // Its permit is as it left it, or is settled.
        let _ = witness.limiter.settle(id, Usage::new(300, 20));
        check_the_books(&stage, &witness, nth);
        check_the_end(&stage, &witness, nth);
    }
}
