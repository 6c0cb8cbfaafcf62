//! The layer by counters that are somewhere else.

use crate::away::Elsewhere;
use crate::scene::*;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokenweir::Policy;
use tokenweir_tower::OnServer;

fn scene(
    policy: &str,
    answer: impl Fn() -> http::Response<Frames> + Send + Sync + 'static,
) -> (Scene<OnServer>, Arc<Elsewhere>) {
    let elsewhere = Arc::new(Elsewhere::new(limiter("")));
    let policy = Policy::from_toml(policy).expect("a policy");
    let admission = OnServer::new(elsewhere.clone(), policy).expect("it can be put in force");
    (Scene::with(admission, ByKey, settings(), move || Some(Ok(answer()))), elsewhere)
}

#[test]
fn a_call_is_admitted_told_its_limits_and_settled_there() {
    let (scene, elsewhere) = scene(POLICY, || json(200, Frames::of(&[ANSWER])));
    let response = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    assert_eq!(response.status(), 200);
    assert_eq!(books(&elsewhere.limiter).open, 1);
    run(response.into_body().collect()).expect("a whole body");
    assert_eq!(books(&elsewhere.limiter), spent(11, 5, 1));
}

#[test]
fn a_rate_is_told_in_headers_and_refuses_with_429() {
    let rate = "[[limit]]\nname = 'rate'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 60\nper = '1m'";
    let (scene, elsewhere) = scene(rate, || json(200, Frames::of(&[ANSWER])));
    let open = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    assert_eq!(open.headers()["x-ratelimit-remaining-tokens"], "12");
    let refused = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"36".parse().expect("a value")));
    // Its client hangs up: what was sent is settled.
    drop(open);
    assert_eq!(elsewhere.limiter.stats().permits_open, 0);
}

#[test]
fn a_stream_is_cut_where_the_quota_ends() {
    let quota = "[[limit]]\nname = 'day'\nmeter = 'total'\nalgorithm = 'quota'\namount = 24\nperiod = 'never'";
    let (scene, elsewhere) = scene(quota, || {
        let mut chunks = vec![PIECE; 100];
        chunks.extend([STOP, USAGE, DONE]);
        events(Frames::of(&chunks))
    });
    let response = scene.call(chat(r#","stream":true,"max_tokens":10"#)).expect("answered");
    let body = run(response.into_body().collect()).expect("a whole body").to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("is spent"));
    let counter = &elsewhere.limiter.usage(&Default::default())[0];
    assert!((24..40).contains(&counter.used) && counter.held == 0, "{counter:?}");
}

#[test]
fn what_nobody_can_decide_is_503_and_says_nothing_of_the_server() {
    let (scene, elsewhere) = scene(POLICY, || json(200, Frames::of(&[ANSWER])));
    elsewhere.away.store(true, Relaxed);
    let response = scene.call(chat("")).expect("answered");
    assert_eq!((response.status().as_u16(), scene.sent_count()), (503, 0));
    let body = run(response.into_body().collect()).expect("a whole body").to_bytes();
    assert!(!String::from_utf8_lossy(&body).contains("10.0.0.7"));
}

#[test]
fn a_policy_is_changed_in_both_places_or_in_none() {
    let elsewhere = Arc::new(Elsewhere::new(limiter("")));
    let policy = |amount: u64| {
        let text = format!(
            "[[limit]]\nname = 'day'\nmeter = 'total'\nalgorithm = 'quota'\namount = {amount}\nperiod = 'never'"
        );
        Policy::from_toml(&text).expect("a policy")
    };
    let admission = OnServer::new(elsewhere.clone(), policy(24)).expect("it can be put in force");
    elsewhere.stubborn.store(true, Relaxed);
    assert!(admission.swap_policy(policy(5)).is_err());
    assert_eq!(tokenweir_tower::Admission::limiter(&admission).policy(), policy(24));
    elsewhere.stubborn.store(false, Relaxed);
    admission.swap_policy(policy(5)).expect("it can be put in force");
    assert_eq!(
        (tokenweir_tower::Admission::limiter(&admission).policy(), elsewhere.limiter.policy()),
        (policy(5), policy(5))
    );
}
