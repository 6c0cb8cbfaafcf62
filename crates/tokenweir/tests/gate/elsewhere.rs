//! A gate whose counters are somewhere else.

use crate::away::Elsewhere;
use crate::foundry::{name, on, resource, tokens};
use crate::{Records, s};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use tokenweir::gateway::model::{FoundryResource, Limits};
use tokenweir::gateway::{Call, CallOutcome, Completion, Gate, GateError, Verdict};
use tokenweir::{Error, Estimate, LeftOutReason, Limiter, ManualClock, Policy, Usage, UsageFilter};

struct Scene {
    gate: Gate,
    elsewhere: Arc<Elsewhere>,
    records: Arc<Records>,
    resource: FoundryResource,
}

fn limited(amount: i128) -> Limits {
    on("P1", "d", tokens(None, Some((amount, "Monthly"))))
}

fn scene(amount: i128) -> Scene {
    let resource = resource("eastus2", limited(amount));
    let limiter = Limiter::builder(Policy::default()).clock(ManualClock::default()).build();
    let (elsewhere, records) = (Arc::new(Elsewhere::new(limiter)), Arc::new(Records::default()));
    let gate = Gate::builder(name("account"), &resource)
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .observer(records.clone())
        .counters(elsewhere.clone())
        .build()
        .expect("limits that can be put in force");
    Scene { gate, elsewhere, records, resource }
}

/// What is decided, however often it has to be asked.
fn decide(gate: &Gate, call: &Call<'_>) -> Result<Verdict, Error> {
    let mut deciding = std::pin::pin!(gate.decide_at(call, s(0)));
    loop {
        if let Poll::Ready(decided) = deciding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return decided;
        }
    }
}

fn call(tokens: u64) -> Call<'static> {
    Call::model("P1", "d").with_estimate(Estimate::new(tokens, 0))
}

#[test]
fn calls_are_decided_and_ended_where_the_counters_are() {
    let scene = scene(100);
    let passage = decide(&scene.gate, &call(60)).unwrap().passed().expect("it fits");
    let here = scene.gate.limiter().usage_at(&UsageFilter::default(), s(0));
    assert!(here.is_empty(), "nothing is counted here: {here:?}");
    assert_eq!(scene.gate.usage_at(&UsageFilter::default(), s(0))[0].used, 60);
    let refused = decide(&scene.gate, &call(60)).unwrap().refused().expect("it does not fit");
    assert_eq!((refused.status(), refused.record().outcome), (403, CallOutcome::RefusedQuota));
    assert!(passage.observe_at(70, 0, s(0)).unwrap().is_some());
    assert_eq!(passage.settle_at(&Completion::of(Usage::new(25, 5)), s(0)).unwrap().map(|ended| ended.input), Some(25));
    for end in [|passage: tokenweir::gateway::Passage| drop(passage.cancel_at(s(0))), drop] {
        end(decide(&scene.gate, &call(10)).unwrap().passed().expect("it fits"));
    }
    let counter = &scene.elsewhere.limiter.usage(&UsageFilter::default())[0];
    assert_eq!((counter.used, counter.held, counter.settled_total), (40, 0, 40));
    let outcomes: Vec<_> = scene.records.taken().iter().map(|record| record.outcome).collect();
    let (admitted, refused) = (CallOutcome::Admitted, CallOutcome::RefusedQuota);
    assert_eq!(outcomes, [refused, admitted, admitted, admitted]);
}

#[test]
fn what_nobody_can_decide_has_failed_and_is_recorded_once() {
    let scene = scene(100);
    scene.elsewhere.away.store(true, Relaxed);
    assert!(matches!(decide(&scene.gate, &call(1)), Err(Error::Store(_))));
    scene.elsewhere.away.store(false, Relaxed);
    // Nor can what does not wait.
    assert!(matches!(scene.gate.admit_at(&call(1), s(0)), Err(Error::Store(_))));
    let records = scene.records.taken();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.outcome == CallOutcome::Failed));
    assert_eq!(scene.elsewhere.limiter.stats().permits_open, 0);
    // Who is not governed passes without anybody being asked.
    scene.elsewhere.away.store(true, Relaxed);
    let passage = decide(&scene.gate, &Call::model("P9", "d")).unwrap().passed().expect("it bypasses");
    assert_eq!(passage.outcome(), CallOutcome::Bypassed);
}

#[test]
fn limits_are_put_in_force_there_and_if_that_fails_nowhere() {
    let mut scene = scene(100);
    decide(&scene.gate, &call(60))
        .unwrap()
        .passed()
        .expect("it fits")
        .settle(&Completion::of(Usage::new(60, 0)))
        .unwrap();
    scene.resource.gateway.as_mut().expect("a gateway").limits = limited(70);
    scene.elsewhere.stubborn.store(true, Relaxed);
    let refused = scene.gate.update_at(&scene.resource, s(0));
    assert!(matches!(refused, Err(GateError::Limiter(Error::Store(_)))), "{refused:?}");
    let amount = |limiter: &Limiter| limiter.policy().limits()[0].algorithm().amount();
    assert_eq!((amount(scene.gate.limiter()), amount(&scene.elsewhere.limiter)), (100, 100));
    scene.elsewhere.stubborn.store(false, Relaxed);
    scene.gate.update_at(&scene.resource, s(0)).unwrap();
    assert_eq!((amount(scene.gate.limiter()), amount(&scene.elsewhere.limiter)), (70, 70));
    assert!(decide(&scene.gate, &call(20)).unwrap().refused().is_some(), "what was counted stays");
}

#[test]
fn saved_counters_of_limits_are_not_taken_up_and_figures_are() {
    let here = crate::Scene::new(limited(100));
    here.take(call(30), 30, s(0));
    let saved = here.gate.save_at(s(0));
    let scene = scene(100);
    let restored = scene.gate.restore_at(&saved, s(0));
    assert_eq!((restored.counters, restored.left_out.len()), (0, 1));
    assert_eq!(restored.left_out[0].reason, LeftOutReason::Kept);
    assert_eq!(scene.gate.figures().requests(), 1);
    assert!(scene.gate.usage_at(&UsageFilter::default(), s(0)).iter().all(|counter| counter.used == 0));
}
