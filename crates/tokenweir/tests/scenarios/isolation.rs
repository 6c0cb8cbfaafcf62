//! Projects, gateways and regions side by side.

use crate::foundry::{name, resource, tokens};
use crate::s;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokenweir::gateway::model::{Limits, TokenLimit};
use tokenweir::gateway::{Call, CallOutcome, Completion, Gate, Verdict};
use tokenweir::{Estimate, ManualClock, Usage};

/// P1 and P2 have 100 tokens per minute each on `d`, and no limit on `d2`.
fn limits() -> Limits {
    let on_d: BTreeMap<_, TokenLimit> = [(name("d"), tokens(Some(100), None))].into();
    Limits { projects: [(name("P1"), on_d.clone()), (name("P2"), on_d)].into(), ..Limits::default() }
}

fn gate(region: &str) -> Gate {
    let resource = resource(region, limits());
    Gate::builder(name("account"), &resource)
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .build()
        .expect("limits that can be put in force")
}

/// Calls of one token until one is refused, at most `most`; how many passed.
fn until_refused(gate: &Gate, project: &str, deployment: &str, most: u64) -> u64 {
    let call = Call::model(project, deployment).with_estimate(Estimate::new(1, 0));
    let passed = |_: &u64| match gate.admit_at(&call, s(0)).expect("a decision") {
        Verdict::Passed(passage) => {
            assert_eq!(passage.outcome(), CallOutcome::Admitted);
            passage.settle_at(&Completion::of(Usage::new(1, 0)), s(0)).expect("settled once");
            true
        }
        Verdict::Refused(refused) => {
            assert_eq!((refused.status(), refused.record().limit.as_deref()), (429, Some(&*limit(project))));
            false
        }
    };
    (0..most).take_while(passed).count() as u64
}

fn limit(project: &str) -> String {
    format!("project {project:?} on \"d\": tokens per minute")
}

#[test]
fn e_21_per_project_isolation() {
    let east = gate("eastus2");
    assert_eq!(until_refused(&east, "P1", "d", 1000), 100);
    // The other project has all of its own, and a deployment without a limit has none.
    assert_eq!(until_refused(&east, "P1", "d2", 1000), 1000);
    assert_eq!(until_refused(&east, "P2", "d", 1000), 100);
    // A gateway of another region counts for itself: 200 in all.
    let west = gate("swedencentral");
    assert_eq!(until_refused(&west, "P1", "d", 1000), 100);
    assert_eq!(until_refused(&east, "P1", "d", 1000), 0);
    assert_eq!((east.figures().requests(), west.figures().requests()), (1203, 101));
}

#[test]
fn e_21_per_project_isolation_under_load_of_two_threads() {
    for _ in 0..20 {
        let gate = gate("eastus2");
        // Two threads exhaust P1 at once, and go on knocking.
        let passed = AtomicU64::new(0);
        let knock = |project: &'static str| {
            let (gate, passed) = (&gate, &passed);
            move || {
                for _ in 0..50 {
                    passed.fetch_add(until_refused(gate, project, "d", 1000), Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(knock("P1"));
            scope.spawn(knock("P1"));
        });
        assert_eq!(passed.swap(0, Relaxed), 100);
        assert_eq!(gate.limiter().usage_at(&Default::default(), s(0)).len(), 1, "P2 has no counter yet");
        // While one goes on, the other takes all that is P2's, and not one more.
        std::thread::scope(|scope| {
            scope.spawn(knock("P1"));
            scope.spawn(knock("P2"));
        });
        assert_eq!(passed.swap(0, Relaxed), 100);
        for project in ["P1", "P2"] {
            let figures = gate.project_figures(&name(project)).expect("a project");
            assert_eq!(figures.of(CallOutcome::Admitted), 100);
            assert_eq!(figures.requests(), figures.of(CallOutcome::Admitted) + figures.of(CallOutcome::RefusedRate));
        }
    }
}
