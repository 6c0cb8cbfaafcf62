//! One record for each call.

use crate::foundry::{name, on, resource, tokens};
use crate::{Records, Scene, s};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::gateway::{Call, CallOutcome, Completion, Gate, UsageRecord};
use tokenweir::{Error, Estimate, Key, ManualClock, Outcome, Usage};

fn scene() -> Scene {
    Scene::new(on("P1", "d", tokens(Some(1000), None)))
}

#[test]
fn an_admitted_call_is_recorded_when_it_has_ended() {
    let scene = scene();
    let keys = [Key::new("user", "u-17"), Key::new("ip", &[0xff][..])];
    let call = Call::model("P1", "d")
        .by_agent("a")
        .with_keys(&keys)
        .with_estimate(Estimate::new(90, 40))
        .with_correlation_id("c-1")
        .with_operation("chat")
        .streamed();
    let passage = scene.pass(&call, s(5));
    assert_eq!((passage.correlation_id(), scene.records.taken().len()), ("c-1", 0));
    let completion = Completion {
        reasoning: Some(7),
        deployment_served: Some("d2"),
        model_served: Some("gpt-4o-2024-11-20"),
        backend_time: Some(Duration::from_millis(1500)),
        first_token_time: Some(Duration::from_millis(300)),
        ..Completion::of(Usage::new(100, 30).with_cached(64))
    };
    passage.settle_at(&completion, s(7)).expect("settled");
    let [record] = &scene.records.taken()[..] else { panic!("one record") };
    assert_eq!(
        serde_json::to_value(record).expect("plain fields"),
        json!({
            "time": "1970-01-01T00:00:05Z", "correlation_id": "c-1",
            "resource": "account", "region": "eastus2", "gateway": "gateway",
            "project": "P1", "deployment": "d", "deployment_served": "d2",
            "model": "gpt-4o", "model_served": "gpt-4o-2024-11-20",
            "agent": "a", "operation": "chat", "caller": { "user": "u-17", "ip": "\u{fffd}" },
            "outcome": "admitted", "response_code": 200, "backend_response_code": 200, "streamed": true,
            "estimated_input": 90, "estimated_output": 40,
            "input": 100, "cached_input": 64, "output": 30, "reasoning": 7,
            "charged_input": 100, "charged_output": 30, "estimated": false, "ended": "settled",
            "total_ns": 2_000_000_000u64, "backend_ns": 1_500_000_000u64, "first_token_ns": 300_000_000u64,
        })
    );
}

#[test]
fn a_record_is_read_as_it_was_written_and_another_process_counts_it() {
    let (scene, other) = (scene(), scene());
    let keys = [Key::new("user", "u-17")];
    let call = Call::model("P1", "d").by_agent("a").with_keys(&keys).with_estimate(Estimate::new(90, 40)).streamed();
    let backend_time = Some(Duration::from_millis(1500));
    let completion = Completion { reasoning: Some(7), backend_time, ..Completion::of(Usage::new(1000, 30)) };
    scene.pass(&call, s(5)).settle_at(&completion, s(7)).expect("settled");
    scene.refuse(&call, s(7));
    drop(scene.pass(&Call::model("nobody's", "d"), s(7)));
    let records = scene.records.taken();
    for record in &records {
        let text = serde_json::to_string(record).expect("plain fields");
        let read = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(record, &read);
        other.gate.take_over(&read);
    }
    assert_eq!(other.records.taken(), records);
    assert_eq!(other.gate.figures(), scene.gate.figures());
    assert_eq!(other.gate.project_figures(&name("P1")), scene.gate.project_figures(&name("P1")));
    assert_eq!(other.gate.unknown_figures().requests(), 1);
    assert!(other.counters(s(7)).is_empty(), "limits are another's business");
    let wrong = serde_json::to_string(&records[0]).expect("plain fields").replace("settled", "forgotten");
    assert!(serde_json::from_str::<UsageRecord>(&wrong).expect_err("no such end").to_string().contains("forgotten"));
}

#[test]
fn what_is_unknown_is_absent() {
    let scene = scene();
    let passage = scene.pass(&Call::model("P1", "d").with_estimate(Estimate::new(90, 40)), s(0));
    passage.settle_at(&Completion::default(), s(0)).expect("settled");
    let [record] = &scene.records.taken()[..] else { panic!("one record") };
    assert_eq!((record.input, record.output, record.cached_input, record.response_code), (None, None, None, None));
    assert_eq!((record.charged_input, record.charged_output, record.estimated), (Some(90), Some(40), Some(true)));
    let text = serde_json::to_string(record).expect("plain fields");
    assert!(!text.contains("null") && !text.contains("cached_input"), "{text}");
}

#[test]
fn a_refused_call_is_recorded_at_once_with_which_limit_refused() {
    let scene = scene();
    scene.take(Call::model("P1", "d"), 1000, s(0));
    let _ = scene.records.taken();
    let refused = scene.refuse(&Call::model("P1", "d").with_estimate(Estimate::new(500, 0)), s(0));
    assert_eq!((refused.status(), refused.retry_after()), (429, Some(30)));
    let [record] = &scene.records.taken()[..] else { panic!("one record") };
    assert_eq!(record, refused.record());
    let limit = "project \"P1\" on \"d\": tokens per minute";
    assert_eq!((record.outcome, record.limit.as_deref()), (CallOutcome::RefusedRate, Some(limit)));
    assert_eq!((record.refused_by.clone(), record.retry_after), (vec![limit.to_owned()], Some(30)));
    assert_eq!((record.estimated_input, record.input, record.charged_input), (Some(500), None, None));
    assert_eq!((record.backend_response_code, record.backend_time, record.ended), (None, None, None));
    let never = scene.refuse(&Call::model("P1", "d").with_estimate(Estimate::new(5000, 0)), s(0));
    assert!(never.record().never_fits && never.message().contains("larger than the whole limit"));
}

#[test]
fn every_end_of_a_call_is_recorded_once() {
    let records = Arc::new(Records::default());
    let resource = resource("eastus2", on("P1", "d", tokens(Some(1000), None)));
    let gate = Gate::builder(name("account"), &resource)
        .limiter(|limiter| limiter.clock(ManualClock::default()).permit_ttl(Duration::from_secs(60)))
        .observer(records.clone())
        .build()
        .expect("a gate");
    let call = Call::model("P1", "d").with_estimate(Estimate::new(10, 0));
    let begin = || gate.admit_at(&call, s(0)).expect("a decision").passed().expect("it passes");
    let ended = || {
        let records = records.taken();
        let [record] = &records[..] else { panic!("one record: {records:?}") };
        (record.ended, record.charged_input, record.input)
    };
    begin().settle_at(&Completion::of(Usage::new(8, 0)), s(1)).expect("settled");
    assert_eq!(ended(), (Some(Outcome::Settled), Some(8), Some(8)));
    begin().cancel_at(s(1)).expect("cancelled");
    assert_eq!(ended(), (Some(Outcome::Cancelled), Some(0), None));
    drop(begin());
    assert_eq!(ended(), (Some(Outcome::Dropped), Some(10), None));
    // Its time was over: the estimate was charged then, and what is reported now is only recorded.
    let late = begin();
    let permit = late.permit().expect("it is governed");
    assert_eq!(late.settle_at(&Completion::of(Usage::new(8, 0)), s(61)), Err(Error::PermitSettled { id: permit }));
    assert_eq!(ended(), (Some(Outcome::Expired), None, Some(8)));
    // A usage that cannot be: what was charged stands, and the usage is not believed.
    let wrong = begin().settle_at(&Completion::of(Usage::new(1, 0).with_cached(2)), s(1));
    assert!(matches!(wrong, Err(Error::UsageInvalid { .. })));
    assert_eq!(ended(), (Some(Outcome::Dropped), Some(10), None));
    assert_eq!(gate.limiter().stats().permits_open, 0);
    assert_eq!(gate.figures().requests(), 5);
}

#[test]
fn requests_rises_by_one_per_call_and_ids_differ() {
    let scene = scene();
    let mut ids = HashSet::new();
    for calls in 1..=200u64 {
        // Some pass, some are refused, some bypass.
        let call = Call::model(["P1", "nobody"][calls as usize % 2], "d").with_estimate(Estimate::new(50, 0));
        drop(scene.gate.admit_at(&call, s(0)).expect("a decision"));
        assert_eq!(scene.gate.figures().requests(), calls);
        let [record] = &scene.records.taken()[..] else { panic!("one record") };
        assert!(ids.insert(record.correlation_id.clone()), "{}", record.correlation_id);
    }
    let figures = scene.gate.figures();
    let [admitted, refused, _, bypassed, ..] = CallOutcome::ALL.map(|outcome| figures.of(outcome));
    assert_eq!((admitted, refused, bypassed), (20, 80, 100));
}

#[test]
fn a_caller_key_that_is_the_gates_own_is_refused() {
    let scene = scene();
    let keys = [Key::new("agent", "b")];
    let call = Call::model("P1", "d").by_agent("a").with_keys(&keys);
    assert_eq!(scene.gate.admit_at(&call, s(0)).expect_err("twice").name(), "KEY_TWICE");
}
