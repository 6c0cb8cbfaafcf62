//! One test for each defect that was found and mended.

use std::sync::Arc;
use std::time::Duration;
use tokenweir::{
    Error, Estimate, Limiter, LimiterBuilder, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter,
};

const SECOND: u64 = 1_000_000_000;

fn builder(policy: &str) -> LimiterBuilder {
    Limiter::builder(parsed(policy)).clock(Arc::new(ManualClock::default()))
}

fn parsed(policy: &str) -> Policy {
    Policy::from_toml(policy).expect("a valid policy")
}

fn bucket(amount: u64, burst: u64) -> String {
    format!(
        "[[limit]]\nname = 'b'\nmeter = 'input'\nalgorithm = 'bucket'\namount = {amount}\nper = '1m'\nburst = {burst}\n"
    )
}

fn quota(period: &str) -> String {
    format!(
        "[[limit]]\nname = 'q'\nmeter = 'input'\nalgorithm = 'quota'\namount = 100\nperiod = {period}\nscope = ['project']\n"
    )
}

fn admit(limiter: &Limiter, project: &str, input: u64, now: Now) -> Option<PermitId> {
    let decision = limiter.admit_at(&Request::new(project, "m"), Estimate::new(input, 0), now);
    decision.expect("a valid request").admitted().map(|permit| permit.into_id())
}

fn used(limiter: &Limiter, now: Now) -> u64 {
    limiter.usage_at(&UsageFilter::default(), now).iter().map(|counter| counter.used).sum()
}

fn at(seconds: u64) -> Now {
    Now::at(seconds * SECOND)
}

#[test]
fn a_window_gives_nothing_back_to_a_later_turn_of_its_sequence_numbers() {
    let policy =
        "[[limit]]\nname = 'w'\nmeter = 'input'\nalgorithm = 'window'\namount = 100\nper = '1s'\nsub_windows = 1\n";
    let limiter = builder(policy).build();
    let old = admit(&limiter, "p", 50, at(0)).expect("fits");
    for second in 1..512 {
        assert!(admit(&limiter, "p", 1, at(second)).is_some());
    }
    assert!(admit(&limiter, "p", 99, at(512)).is_some());
    let before = used(&limiter, at(512));
    limiter.settle_at(old, Usage::new(0, 0), at(512)).expect("open");
    assert_eq!(used(&limiter, at(512)), before);
}

#[test]
fn changes_of_policy_with_clocks_out_of_order_forgive_nothing() {
    let limiter = builder(&bucket(100, 100)).build();
    let later = Now::at(3600 * SECOND + 1000);
    limiter.swap_policy_at(parsed(&bucket(101, 101)), later).unwrap();
    assert!(admit(&limiter, "p", 100, later).is_some());
    limiter.swap_policy_at(parsed(&bucket(102, 102)), at(3600)).unwrap();
    assert!(admit(&limiter, "p", 100, later).is_none());
}

#[test]
fn a_limit_that_comes_back_finds_its_use_even_after_a_sweep() {
    let limiter = builder(&quota("'monthly'")).build();
    assert!(admit(&limiter, "p", 100, at(0)).is_some_and(|id| limiter.abandon_at(id, at(0)).is_ok()));
    limiter.swap_policy_at(parsed(&bucket(1, 1)), at(1)).unwrap();
    limiter.sweep_at(at(1));
    limiter.swap_policy_at(parsed(&quota("'monthly'")), at(2)).unwrap();
    assert!(admit(&limiter, "p", 1, at(2)).is_none());
}

#[test]
fn a_permit_settles_on_a_limit_that_is_not_in_the_policy_for_now() {
    let limiter = builder(&bucket(100, 100)).build();
    let id = admit(&limiter, "p", 10, at(0)).expect("fits");
    limiter.swap_policy_at(parsed(&bucket(200, 200)), at(0)).unwrap();
    limiter.swap_policy_at(parsed(&quota("'daily'")), at(0)).unwrap();
    limiter.settle_at(id, Usage::new(1000, 0), at(0)).expect("open");
    limiter.swap_policy_at(parsed(&bucket(200, 200)), at(0)).unwrap();
    // 10 of 100 taken, 100 more of capacity that are not topped up, 990 of excess.
    assert_eq!(used(&limiter, at(0)), 1100);
}

#[test]
fn a_route_made_at_the_callers_time_moves_no_counter_to_the_clocks() {
    let limiter = Limiter::builder(parsed(&quota("'monthly'"))).max_counters(1).build();
    assert!(admit(&limiter, "a", 100, at(0)).is_some());
    assert!(matches!(limiter.route_at(&Request::new("b", "m"), at(0)), Err(Error::TableFull { .. })));
    assert!(admit(&limiter, "a", 1, at(0)).is_none());
}

#[test]
fn after_a_change_of_the_buckets_unit_a_cancelled_request_leaves_no_trace() {
    let limiter = builder(&bucket(1000, 1000)).build();
    limiter.swap_policy_at(parsed(&bucket(3000, 1000)), at(10)).unwrap();
    let id = admit(&limiter, "p", 500, at(20)).expect("fits");
    limiter.cancel_at(id, at(20)).expect("open");
    assert_eq!(used(&limiter, at(20)), 0);
}

#[test]
fn a_permit_eight_changes_old_gives_back_no_more_than_was_left_of_it() {
    let limiter = builder(&bucket(1000, 1000)).build();
    let id = admit(&limiter, "p", 1000, at(0)).expect("fits");
    for change in 1..=4 {
        limiter.swap_policy_at(parsed(&bucket(1000, 500)), Now::at(change * 10)).unwrap();
        limiter.swap_policy_at(parsed(&bucket(1000, 1000)), Now::at(change * 10 + 5)).unwrap();
    }
    limiter.cancel_at(id, Now::at(50)).expect("open");
    assert!(used(&limiter, Now::at(50)) >= 500);
}

#[test]
fn a_shadow_limit_does_not_refuse_for_lack_of_room() {
    let limiter = builder(&format!("{}mode = 'shadow'\n", quota("'daily'"))).max_counters(1).build();
    assert!(admit(&limiter, "a", 1, at(0)).is_some());
    assert!(admit(&limiter, "b", 1, at(0)).is_some());
}

#[test]
fn in_flight_holds_at_the_end_of_time() {
    let limiter = builder("[[limit]]\nname = 'f'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 2\n").build();
    let end = Now::new(u64::MAX, i64::MAX);
    let ids: Vec<_> = (0..10).filter_map(|_| admit(&limiter, "p", 1, end)).collect();
    assert_eq!(ids.len(), 2);
    assert!(limiter.settle_at(ids[0], Usage::new(1, 0), end).is_ok());
}

#[test]
fn a_renewal_to_a_shorter_life_frees_its_place_in_time() {
    let policy = "[[limit]]\nname = 'f'\nmeter = 'in_flight'\nalgorithm = 'in_flight'\namount = 1\n";
    let limiter = builder(policy).permit_ttl(Duration::MAX).build();
    let id = admit(&limiter, "p", 1, at(0)).expect("fits");
    limiter.renew_at(id, Duration::from_secs(5), at(1)).expect("open");
    let decision = limiter.admit_at(&Request::new("p", "m"), Estimate::default(), at(2)).expect("valid");
    assert_eq!(decision.denied().and_then(|denied| denied.retry_after()), Some(Duration::from_secs(4)));
    assert!(admit(&limiter, "p", 1, Now::at(6 * SECOND - 1)).is_none());
    assert!(admit(&limiter, "p", 1, at(6)).is_some());
}

#[test]
fn more_observed_than_a_permit_can_hold_is_an_error_and_charges_nothing() {
    let limiter = builder(&quota("'daily'")).build();
    let id = admit(&limiter, "p", 1, at(0)).expect("fits");
    assert!(matches!(limiter.observe_at(id, 5_000_000_000, 0, at(0)), Err(Error::UsageInvalid { .. })));
    assert_eq!(used(&limiter, at(0)), 1);
    assert!(limiter.settle_at(id, Usage::new(1, 0), at(0)).is_ok());
}

#[test]
fn a_quota_looked_at_for_a_thousand_periods_is_still_empty() {
    let limiter = builder(&quota("{ every = '1s' }")).build();
    assert!(admit(&limiter, "p", 100, at(0)).is_some());
    for second in 1..=1024 {
        let peek = limiter.peek_at(&Request::new("p", "m"), Estimate::new(1, 0), at(second)).expect("valid");
        assert!(peek.admitted, "at {second} s");
    }
}

#[test]
fn a_larger_bucket_is_not_filled_by_a_change_of_policy_whose_clock_is_behind() {
    let limiter = builder(&bucket(60, 1000)).build();
    assert!(admit(&limiter, "p", 1000, at(20)).is_some_and(|id| limiter.abandon_at(id, at(20)).is_ok()));
    // 2^40 tokens are counted in coarser parts than 1,000 are.
    limiter.swap_policy_at(parsed(&bucket(60, 1 << 40)), at(10)).unwrap();
    // The balance of 0 is kept, and a second brings one token.
    assert!(used(&limiter, at(20)) >= (1 << 40) - 10, "{}", used(&limiter, at(20)));
}

#[test]
fn a_charge_from_before_two_changes_of_policy_is_refilled_for_no_more_than_its_age() {
    let limiter = builder(&bucket(60, 100)).build();
    limiter.swap_policy_at(parsed(&bucket(120, 100)), at(80)).unwrap();
    limiter.swap_policy_at(parsed(&bucket(180, 100)), at(100)).unwrap();
    assert!(admit(&limiter, "p", 100, at(50)).is_some());
    // 30 s at one a second and 20 at two.
    assert!(used(&limiter, at(100)) >= 100 - 70, "{}", used(&limiter, at(100)));
}

#[test]
fn a_return_whose_clock_is_far_behind_gives_back_nothing_of_another_charge() {
    let limiter = builder(&bucket(60, 100)).build();
    let refilled = admit(&limiter, "p", 1, at(5000)).expect("fits");
    assert!(admit(&limiter, "p", 1, at(5001)).is_some());
    limiter.cancel_at(refilled, at(1)).expect("open");
    assert_eq!(used(&limiter, at(5001)), 1);
}

#[test]
fn eight_changes_in_one_instant_are_not_taken_for_none() {
    let limiter = builder(&bucket(60, 1000)).build();
    let id = admit(&limiter, "p", 1000, at(0)).expect("fits");
    for _ in 0..4 {
        limiter.swap_policy_at(parsed(&bucket(60, 1)), at(0)).unwrap();
        limiter.swap_policy_at(parsed(&bucket(60, 1000)), at(0)).unwrap();
    }
    limiter.cancel_at(id, at(0)).expect("open");
    // Without the charge too, each lowering lets go of the balance and no raising brings it back.
    assert!(used(&limiter, at(0)) >= 999, "{}", used(&limiter, at(0)));
}

#[test]
fn a_bucket_gets_back_what_a_stream_was_observed_to_bring_and_did_not_use() {
    let limiter = builder(&bucket(60, 60)).build();
    let permit = admit(&limiter, "p", 4, at(0)).expect("fits");
    limiter.observe_at(permit, 1_000, 0, at(1)).expect("open");
    assert_eq!(used(&limiter, at(1)), 999);
    limiter.settle_at(permit, Usage::new(57, 0), at(3)).expect("open");
    // As if 4 and then 53 had been charged.
    assert_eq!(used(&limiter, at(3)), 54);
}

#[test]
fn too_large_an_estimate_is_an_error_of_those_who_look_as_of_those_who_ask() {
    let limiter = builder(&bucket(60, 100)).build();
    let request = Request::new("p", "m");
    for estimate in [Estimate::new((1 << 53) + 1, 0), Estimate::new(0, u64::MAX)] {
        assert!(matches!(limiter.peek(&request, estimate), Err(Error::EstimateTooLarge { .. })));
        assert!(matches!(limiter.explain(&request, estimate), Err(Error::EstimateTooLarge { .. })));
    }
    assert!(limiter.peek(&request, Estimate::new(1 << 53, 0)).is_ok());
}
