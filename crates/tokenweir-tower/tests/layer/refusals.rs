//! Calls that may not pass.

use crate::scene::*;
use http_body_util::BodyExt;
use std::sync::Arc;
use tokenweir::StoreOptions;
use tokenweir::store::{CounterName, Mark, Recorded, Store, StoreError};

const TIGHT: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 60
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "project month"
    meter = "total"
    algorithm = "quota"
    amount = 100
    period = "never"
    scope = ["project"]
"#;

fn scene(limiter: &tokenweir::Limiter) -> Scene {
    Scene::answering(limiter, || json(200, Frames::of(&[ANSWER])))
}

#[test]
fn a_rate_refuses_with_429_and_the_wait() {
    let limiter = limiter(TIGHT);
    let scene = scene(&limiter);
    let _open = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    let response = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    assert_eq!(response.status(), 429);
    // 48 of 60 are held; 36 more are needed, at one a second.
    assert_eq!(response.headers()["retry-after"], "36");
    assert_eq!(response.headers()["x-tokenweir-limit"], "project tpm");
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-ratelimit-remaining-tokens"], "12");
    assert!(text(response).contains("rate_limit_exceeded"));
    assert_eq!(scene.sent_count(), 1);
}

#[test]
fn a_quota_refuses_with_403() {
    let limiter = limiter(TIGHT.replace("amount = 60", "amount = 6000").as_str());
    let scene = scene(&limiter);
    let _open = scene.call(chat(r#","max_tokens":80"#)).expect("answered");
    let response = scene.call(chat(r#","max_tokens":80"#)).expect("answered");
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-should-retry"], "false");
    assert!(text(response).contains("insufficient_quota"));
}

#[test]
fn a_refusal_is_in_the_callers_words() {
    let limiter = limiter(TIGHT);
    let scene = scene(&limiter);
    let body = r#"{"model":"claude","max_tokens":5000,"messages":[]}"#;
    let response = scene.call(post("/v1/messages", body)).expect("answered");
    assert!(text(response).starts_with(r#"{"error":{"limit":"#));
    let response = scene.call(post("/v1/messages", body)).expect("answered");
    let body: serde_json::Value = serde_json::from_str(&text(response)).expect("JSON");
    assert_eq!(body["type"], "error");
}

#[test]
fn a_key_that_is_missing_moves_no_counter() {
    let limiter = limiter(TIGHT);
    let scene = scene(&limiter);
    let mut request = chat("");
    request.headers_mut().remove("authorization");
    let response = scene.call(request).expect("answered");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-should-retry"]),
        (401, &"false".parse().expect("ok"))
    );
    assert!(text(response).contains("invalid_api_key"));
    assert_eq!((limiter.stats().counters, scene.sent_count()), (0, 0));
}

#[test]
fn what_cannot_be_decided_is_an_error_of_the_request() {
    let limiter = limiter(
        "[[limit]]\nname='user'\nmeter='requests'\nalgorithm='bucket'\namount=10\nper='1m'\nscope=['key:user']\nrequire=true\n",
    );
    let scene = scene(&limiter);
    assert_eq!(scene.call(chat(r#","max_tokens":4"#)).expect("answered").status(), 400);
    assert_eq!(scene.sent_count(), 0);
    let most = 1_u64 << 54;
    let huge = chat(&format!(r#","max_tokens":{most}"#));
    assert_eq!(scene.call(huge).expect("answered").status(), 400);
}

#[test]
fn too_many_calls_at_once_are_a_matter_of_the_service() {
    let policy = tokenweir::Policy::from_toml(TIGHT).expect("a policy");
    let limiter = tokenweir::Limiter::builder(policy).max_permits(1).build();
    let scene = scene(&limiter);
    let _open = scene.call(chat(r#","max_tokens":1"#)).expect("answered");
    assert_eq!(scene.call(chat(r#","max_tokens":1"#)).expect("answered").status(), 503);
}

#[derive(Debug)]
struct Failing;

impl Store for Failing {
    fn recorded(&self, _: &CounterName<'_>) -> Result<Option<Recorded>, StoreError> {
        Err(StoreError::new("/var/lib/quotas: the disk is full"))
    }

    fn record(&self, _: &[Mark<'_>]) -> Result<(), StoreError> {
        Err(StoreError::new("/var/lib/quotas: the disk is full"))
    }
}

#[test]
fn a_store_that_fails_is_a_matter_of_the_service_and_its_place_is_not_told() {
    let policy = tokenweir::Policy::from_toml(TIGHT).expect("a policy");
    let limiter = tokenweir::Limiter::builder(policy).store(Arc::new(Failing), StoreOptions::new()).build();
    let scene = scene(&limiter);
    let answered = scene.call(chat(r#","max_tokens":1"#)).expect("answered");
    assert_eq!(answered.status(), 503);
    assert_eq!(scene.sent_count(), 0);
    let body = run(answered.into_body().collect()).expect("a whole body").to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("the limits cannot be asked") && !body.contains("/var/lib"), "{body}");
}
