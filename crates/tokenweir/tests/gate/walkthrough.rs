//! The vendor's page, from the first call on: tokens per minute and a monthly quota until 429 and 403.

use crate::foundry::{keyed, name, on, resource, tokens};
use tokenweir::apim::Profile;
use tokenweir::gateway::model::{CallRate, KeyPart, KeyedLimit, WorkloadLimit};
use tokenweir::gateway::{Call, CallOutcome, Completion, Gate};
use tokenweir::{ManualClock, Now, Usage};

#[test]
fn requests_pass_until_429_with_retry_after_and_403() {
    let mut profile = Profile::v2();
    profile.headers.remaining_tokens = Some("x-remaining".into());
    profile.headers.remaining_quota_tokens = Some("x-remaining-quota".into());
    profile.headers.tokens_consumed = Some("x-consumed".into());
    let resource = resource("eastus2", on("P1", "d", tokens(Some(100), Some((250, "Monthly")))));
    let gate = Gate::builder(name("account"), &resource)
        .profile(profile.clone())
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .build()
        .expect("a gate");
    let call = Call::model("P1", "d");
    let at = |second: u64| Now::at(second * 1_000_000_000);
    let header = |name: &str, value: u64| (name.to_owned(), value);
    // One test call: `Requests` rises by one.
    let passage = gate.admit_at(&call, at(0)).expect("a decision").passed().expect("it passes");
    assert_eq!(gate.figures().requests(), 1);
    passage.settle_at(&Completion::of(Usage::new(100, 30).with_cached(20)), at(0)).expect("settled");
    let left = gate.remaining_at(&call, at(0)).expect("its limits");
    // 110 count: what came from the provider's cache does not.
    assert_eq!(
        profile.headers(left, Some(110)),
        [header("x-remaining", 0), header("x-remaining-quota", 140), header("x-consumed", 110)]
    );
    let refused = gate.admit_at(&call, at(0)).expect("a decision").refused().expect("the minute is used up");
    let answer = refused.answer().expect("the profile's words");
    assert_eq!(
        answer.headers(&profile),
        [header("Retry-After", 7), header("x-remaining", 0), header("x-remaining-quota", 140)]
    );
    assert_eq!(answer.body(), r#"{"statusCode":429,"message":"Token limit is exceeded. Try again in 7 seconds."}"#);
    // At the advised second it passes; another 141 later the quota is passed.
    let passage = gate.admit_at(&call, at(7)).expect("a decision").passed().expect("it passes");
    passage.settle_at(&Completion::of(Usage::new(141, 0)), at(7)).expect("settled");
    let refused = gate.admit_at(&call, at(3600)).expect("a decision").refused().expect("the month is used up");
    assert_eq!(
        (refused.status(), refused.message()),
        (403, "Token quota is exceeded. Try again in 30 days, 23 hours.")
    );
    let next = at(31 * 86_400);
    assert!(gate.admit_at(&call, next).expect("a decision").passed().is_some(), "the next month");
    let figures = CallOutcome::ALL.map(|outcome| gate.figures().of(outcome));
    assert_eq!(figures, [3, 1, 1, 0, 0, 0, 0]);
}

#[test]
fn a_streams_header_shows_what_was_left_before_it() {
    let resource = resource("eastus2", on("P1", "d", tokens(Some(200), None)));
    let limits = |limiter: tokenweir::LimiterBuilder| limiter.clock(ManualClock::default());
    let gate =
        Gate::builder(name("account"), &resource).profile(Profile::v2()).limiter(limits).build().expect("a gate");
    let estimate = tokenweir::Estimate::new(20, 500);
    let now = Now::default();
    let stream = Call::model("P1", "d").with_estimate(estimate).streamed();
    let passage = gate.admit_at(&stream, now).expect("a decision").passed().expect("it passes");
    assert_eq!(passage.remaining_at(now).tokens, Some(200));
    let left = gate.remaining_at(&stream, now).expect("its limits");
    assert_eq!(left.tokens, Some(180), "the prompt of a stream is always charged at once");
    // What it has brought when it breaks off is charged, though no usage came.
    passage.observe_at(0, 35, now).expect("observed");
    drop(passage);
    assert_eq!(gate.remaining_at(&stream, now).expect("its limits").tokens, Some(145));
    // Not streamed, and without a word of usage: nothing is known, nothing is charged.
    let call = Call::model("P1", "d").with_estimate(estimate);
    drop(gate.admit_at(&call, now).expect("a decision"));
    assert_eq!(gate.remaining_at(&call, now).expect("its limits").tokens, Some(145));
}

#[test]
fn call_rates_have_headers_where_they_are_named() {
    let mut profile = Profile::v2();
    let limits = || {
        let mut limits = on("P1", "d", tokens(Some(200), None));
        for (limit, part, calls) in
            [("by project", KeyPart::Project, 5), ("all", KeyPart::Constant("all".to_owned()), 3)]
        {
            let rate = CallRate::new(calls, 60).expect("a rate");
            let calls_limit = WorkloadLimit::new(Some(rate), None, None, None).expect("a limit");
            let keyed = KeyedLimit { limit: calls_limit, ..keyed(&[part], tokens(Some(1), None)) };
            limits.keyed.insert(name(limit), keyed);
        }
        limits
    };
    let gate = |profile: &Profile| {
        Gate::builder(name("account"), &resource("eastus2", limits()))
            .profile(profile.clone())
            .limiter(|limiter| limiter.clock(ManualClock::default()))
            .build()
            .expect("a gate")
    };
    let now = Now::default();
    let stream = Call::model("P1", "d").with_estimate(tokenweir::Estimate::new(20, 0)).streamed();
    // Off by default.
    let passage = gate(&profile).admit_at(&stream, now).expect("a decision").passed().expect("it passes");
    assert_eq!(profile.headers(passage.remaining_at(now), None), []);
    profile.headers.remaining_calls = Some("x-calls-left".into());
    profile.headers.total_calls = Some("x-calls".into());
    let gate = gate(&profile);
    // The tightest of the two; that a stream's tokens are shown as before it adds no calls.
    for left in [2, 1, 0] {
        let passage = gate.admit_at(&stream, now).expect("a decision").passed().expect("it passes");
        let headers = profile.headers(passage.remaining_at(now), None);
        assert_eq!(headers, [("x-calls-left".to_owned(), left), ("x-calls".to_owned(), 3)]);
    }
    let refused = gate.admit_at(&stream, now).expect("a decision").refused().expect("the calls are used up");
    let headers = refused.answer().expect("the profile's words").headers(&profile);
    let expected = [("Retry-After", 20), ("x-calls-left", 0), ("x-calls", 3)];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
}
