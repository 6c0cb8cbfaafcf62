//! After every call the store has at least what is used, and at most a lease more.

use super::memory::Memory;
use super::{HOUR, limiter, policy, used};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use tokenweir::{Decision, Estimate, Limiter, PermitId, Request, StoreOptions, Usage};

const AMOUNT: u64 = 10_000;

#[derive(Debug, Clone)]
enum Step {
    Admit { project: usize, estimate: u64 },
    Settle { which: usize, used: u64 },
    Observe { which: usize, tokens: u64 },
    Cancel { which: usize },
    Pass { minutes: u64 },
    Rewind { minutes: u64 },
    Renew,
    GiveBack,
    Restart,
    Swap { amount: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..64;
    prop_oneof![
        6 => (0usize..2, 0u64..3_000).prop_map(|(project, estimate)| Step::Admit { project, estimate }),
        4 => (which(), 0u64..6_000).prop_map(|(which, used)| Step::Settle { which, used }),
        2 => (which(), 0u64..2_000).prop_map(|(which, tokens)| Step::Observe { which, tokens }),
        1 => which().prop_map(|which| Step::Cancel { which }),
        1 => (0u64..100).prop_map(|minutes| Step::Pass { minutes }),
        1 => (0u64..100).prop_map(|minutes| Step::Rewind { minutes }),
        1 => Just(Step::Renew),
        1 => Just(Step::GiveBack),
        1 => Just(Step::Restart),
        1 => (1_000u64..20_000).prop_map(|amount| Step::Swap { amount }),
    ]
}

const PROJECTS: [&str; 2] = ["search", "mail"];

/// What is recorded beyond what is used, for the period that the limiter is in. Panics if it is less.
fn beyond(limiter: &Limiter, store: &Memory, limit: &str, project: &str) -> u64 {
    let used = used(limiter, limit, project);
    let recorded = store.of(limit, project).map_or(0, |recorded| {
        let wall = limiter.now().wall;
        // An hour or a day that is over says nothing of the present one.
        let length = if limit == "hour" { HOUR } else { 24 * HOUR };
        if recorded.period_start.saturating_add_unsigned(length) > wall { recorded.used } else { 0 }
    });
    recorded.checked_sub(used).unwrap_or_else(|| panic!("{limit} of {project}: {used} used, {recorded} recorded"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_store_has_what_is_used_and_at_most_a_lease_more(
        steps in prop::collection::vec(step(), 1..120),
        part in 1u64..200,
    ) {
        let store = Arc::new(Memory::default());
        let options = StoreOptions::new().lease_part(part);
        let mut amount = AMOUNT;
        let (mut limiter, mut clock) = limiter(policy(amount, 50), &store, options.clone(), 1_774_699_200_000_000_000);
        let mut open: Vec<PermitId> = Vec::new();
        // The lease of a limit is that of the policy in force when it was last changed.
        let mut widest = AMOUNT;
        for step in steps {
            let permit = |which: usize| (!open.is_empty()).then(|| which % open.len());
            match step {
                Step::Admit { project, estimate } => {
                    let request = Request::new(PROJECTS[project], "gpt-4o");
                    if let Decision::Admitted(permit) = limiter.admit(&request, Estimate::new(estimate, 0))? {
                        open.push(permit.into_id());
                    }
                }
                Step::Settle { which, used } => {
                    if let Some(at) = permit(which) {
                        limiter.settle(open.swap_remove(at), Usage::new(used, 0))?;
                    }
                }
                Step::Observe { which, tokens } => {
                    if let Some(at) = permit(which) {
                        limiter.observe(open[at], tokens, 0)?;
                    }
                }
                Step::Cancel { which } => {
                    if let Some(at) = permit(which) {
                        limiter.cancel(open.swap_remove(at))?;
                    }
                }
                // Permits live for ten minutes by default; here they are settled or lost by a restart.
                Step::Pass { minutes } => {
                    clock.advance(minutes * 60_000_000_000);
                    open.iter().for_each(|id| drop(limiter.renew(*id, std::time::Duration::from_secs(360_000))));
                    open.retain(|id| limiter.observe(*id, 0, 0).is_ok());
                }
                Step::Rewind { minutes } => {
                    let mut now = limiter.now();
                    now.wall -= i64::try_from(minutes * 60_000_000_000)?;
                    clock.set(now);
                }
                Step::Renew => {
                    limiter.renew_leases()?;
                }
                Step::GiveBack => {
                    limiter.give_back_leases()?;
                    for project in PROJECTS {
                        prop_assert_eq!(beyond(&limiter, &store, "hour", project), 0);
                        prop_assert_eq!(beyond(&limiter, &store, "day", project), 0);
                    }
                }
                Step::Restart => {
                    let before = PROJECTS.map(|project| (project, used(&limiter, "hour", project)));
                    let now = limiter.now();
                    drop(limiter);
                    (limiter, clock) = super::limiter(policy(amount, 50), &store, options.clone(), now.wall);
                    open.clear();
                    for (project, before) in before {
                        limiter.route(&Request::new(project, "gpt-4o"))?;
                        let after = used(&limiter, "hour", project);
                        prop_assert!(after >= before, "{} used, {} recovered", before, after);
                        prop_assert!(after <= before + widest / part + 1);
                    }
                }
                Step::Swap { amount: next } => {
                    amount = next;
                    widest = widest.max(next);
                    limiter.swap_policy(policy(amount, 50)).unwrap();
                }
            }
            for project in PROJECTS {
                prop_assert!(beyond(&limiter, &store, "hour", project) <= (widest / part).max(1));
                prop_assert!(beyond(&limiter, &store, "day", project) <= (50 / part).max(1));
            }
        }
    }
}

#[test]
fn a_lease_is_written_once_for_many_requests() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(1_000_000, 1_000_000), &store, StoreOptions::new().lease_part(10), 0);
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    for _ in 0..1_000 {
        let Ok(Decision::Admitted(permit)) = route.admit(Estimate::new(100, 0)) else { panic!("there is enough") };
        permit.settle(Usage::new(100, 0)).expect("settled once");
    }
    // 100,000 tokens are two half leases of 50,000; the first request of each limit needs one too.
    let writes = store.writes.load(SeqCst);
    assert!((2..=4).contains(&writes), "{writes} writes");
}

#[test]
fn whoever_renews_is_woken_in_time() {
    let store = Arc::new(Memory::default());
    let (limiter, _) = limiter(policy(1_000_000, 1_000_000), &store, StoreOptions::new().lease_part(10), 0);
    let route = limiter.route(&Request::new("search", "gpt-4o")).expect("a route");
    let admit = || drop(route.admit(Estimate::new(100, 0)).expect("no error").admitted().expect("there is enough"));
    admit();
    let (first, mut woken) = (store.writes.load(SeqCst), 0);
    for _ in 0..2_000 {
        admit();
        if store.woken.load(SeqCst) > woken {
            woken = store.woken.load(SeqCst);
            let before = store.writes.load(SeqCst);
            assert_eq!(limiter.renew_leases(), Ok(1));
            assert_eq!(store.writes.load(SeqCst), before + 1);
        }
    }
    assert!(woken >= 4, "{woken} times");
    assert_eq!(store.writes.load(SeqCst) - first, woken, "no request wrote by itself");
}
