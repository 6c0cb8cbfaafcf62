//! Each way in which a call can end.

use crate::scene::*;
use http::Response;
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;
use tokenweir_tower::{Failed, NotReached};

/// What is held for a chat that may take 40 tokens of output.
const HELD: Books = Books { tokens: 48, output: 40, requests: 1, held: 48 + 40 + 1 + 1, open: 1 };

fn asked() -> http::Request<http_body_util::Full<bytes::Bytes>> {
    chat(r#","max_tokens":40"#)
}

fn stream() -> http::Request<http_body_util::Full<bytes::Bytes>> {
    chat(r#","max_tokens":40,"stream":true"#)
}

#[test]
fn a_whole_response_is_settled_by_the_usage_it_reports() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || json(200, Frames::of(&[ANSWER])));
    let response = scene.call(asked()).expect("answered");
    assert_eq!(books(&limiter), HELD);
    assert_eq!(read(response), Ok(ANSWER.into()));
    assert_eq!(books(&limiter), spent(11, 5, 1));
}

#[test]
fn a_body_that_knows_its_end_is_settled_before_anyone_asks_for_more() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || json(200, Frames::of_length(&[ANSWER])));
    let response = scene.call(asked()).expect("answered");
    let mut body = response.into_body();
    run(body.frame()).expect("a frame").expect("data");
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(books(&limiter), spent(11, 5, 1));
}

#[test]
fn a_stream_is_charged_as_it_comes_and_settled_at_its_end() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE, STOP, USAGE, DONE])));
    assert!(text(scene.call(stream()).expect("answered")).ends_with("data: [DONE]\n\n"));
    assert_eq!(books(&limiter), spent(11, 5, 1));
}

#[test]
fn a_stream_without_usage_is_settled_by_what_was_counted() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE, PIECE, STOP, DONE])));
    read(scene.call(stream()).expect("answered")).expect("a whole body");
    // The input was estimated.
    assert_eq!(books(&limiter), spent(8, 3, 1));
}

#[test]
fn a_client_that_hangs_up_on_a_stream_pays_for_what_has_passed() {
    for frames in 1..4 {
        let limiter = limiter(POLICY);
        let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE, PIECE, STOP, USAGE, DONE])));
        read_some(scene.call(stream()).expect("answered"), frames);
        assert_eq!(books(&limiter), spent(8, frames as u64, 1), "{frames}");
    }
}

#[test]
fn a_client_that_hangs_up_on_a_stream_that_has_not_begun_pays_the_estimate() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE])));
    read_some(scene.call(stream()).expect("answered"), 0);
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn an_upstream_that_breaks_in_the_middle_is_paid_for_what_has_passed_and_the_error_reaches_the_client() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE]).then_breaks()));
    let response = scene.call(stream()).expect("answered");
    assert_eq!(read(response), Err("the connection was reset"));
    assert_eq!(books(&limiter), spent(8, 2, 1));
}

#[test]
fn a_body_of_json_that_stops_had_been_produced_before() {
    let half = &ANSWER[..60];
    for breaks in [false, true] {
        let limiter = limiter(POLICY);
        let scene = Scene::answering(&limiter, move || {
            let frames = Frames::of(&[half]);
            json(200, if breaks { frames.then_breaks() } else { frames })
        });
        let _ = read(scene.call(asked()).expect("answered"));
        assert_eq!(books(&limiter), spent(8, 40, 1));
    }
    // More has passed than was expected of all of it: whole pieces of 2 KiB count.
    let long = format!(r#"{{"choices":[{{"message":{{"content":"{}"#, "four".repeat(600));
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, move || json(200, Frames::of(&[long.as_bytes()]).then_breaks()));
    let _ = read(scene.call(asked()).expect("answered"));
    assert_eq!(books(&limiter), spent(8, 512, 1));
}

#[test]
fn an_error_of_the_upstream_costs_a_request_and_no_tokens() {
    let body = br#"{"error":{"message":"The server is overloaded"}}"#;
    for status in [400, 429, 500, 503] {
        let limiter = limiter(POLICY);
        let scene = Scene::answering(&limiter, move || json(status, Frames::of_length(&[body])));
        let response = scene.call(asked()).expect("answered");
        assert_eq!(response.status(), status);
        assert_eq!(read(response), Ok(bytes::Bytes::from_static(body)));
        assert_eq!(books(&limiter), spent(0, 0, 1), "{status}");
    }
}

#[test]
fn an_error_costs_the_estimate_where_the_operator_says_so() {
    let limiter = limiter(POLICY);
    let mut settings = settings();
    settings.failed = Failed::Estimate;
    let scene = Scene::with(limiter.clone(), ByKey, settings, || Some(Ok(json(500, Frames::of(&[b"{}"])))));
    read(scene.call(asked()).expect("answered")).expect("a whole body");
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn a_service_that_fails_costs_a_request_and_no_tokens() {
    let limiter = limiter(POLICY);
    let scene = Scene::with(limiter.clone(), ByKey, settings(), || Some(Err("refused")));
    assert_eq!(scene.call(asked()).err(), Some("refused"));
    assert_eq!(books(&limiter), spent(0, 0, 1));
}

#[test]
fn a_provider_that_was_not_reached_costs_nothing() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || {
        let mut response = json(502, Frames::of_length(&[b"{}"]));
        response.extensions_mut().insert(NotReached);
        response
    });
    let response = scene.call(asked()).expect("answered");
    assert_eq!(books(&limiter), spent(0, 0, 0));
    assert_eq!(text(response), "{}");
}

#[test]
fn a_client_that_hangs_up_before_the_answer_pays_the_estimate() {
    let limiter = limiter(POLICY);
    let scene = Scene::with(limiter.clone(), ByKey, settings(), || None);
    {
        let mut call = pin!(scene.begin(asked()));
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(books(&limiter), HELD);
    }
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn a_stream_that_fails_by_its_own_word_costs_what_it_reported() {
    let limiter = limiter(POLICY);
    let failed = b"event: error\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let scene = Scene::answering(&limiter, || events(Frames::of(&[failed])));
    read(scene.call(stream()).expect("answered")).expect("a whole body");
    assert_eq!(books(&limiter), spent(0, 0, 1));
}

#[test]
fn a_compressed_body_passes_and_is_settled_by_the_estimate() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || {
        let mut response = json(200, Frames::of_length(&[b"\x1f\x8bnot read"]));
        response.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
        response
    });
    let response = scene.call(asked()).expect("answered");
    assert_eq!(read(response), Ok(bytes::Bytes::from_static(b"\x1f\x8bnot read")));
    assert_eq!(scene.sent().headers["accept-encoding"], "identity");
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn a_body_that_says_nothing_is_settled_by_the_estimate() {
    for body in [&b"<html>"[..], b"", b"{}", b"[]"] {
        let limiter = limiter(POLICY);
        let scene = Scene::answering(&limiter, move || Response::new(Frames::of(&[body])));
        read(scene.call(asked()).expect("answered")).expect("a whole body");
        assert_eq!(books(&limiter), spent(8, 40, 1), "{body:?}");
    }
}

#[test]
fn a_stream_that_goes_on_keeps_its_permit() {
    let clock = std::sync::Arc::new(tokenweir::ManualClock::new(tokenweir::Now::new(0, 0)));
    let limiter = tokenweir::Limiter::builder(tokenweir::Policy::from_toml(POLICY).expect("a policy"))
        .clock(clock.clone())
        .permit_ttl(Duration::from_secs(10))
        .build();
    let mut settings = settings();
    settings.permit_ttl = Duration::from_secs(10);
    let scene = Scene::with(limiter.clone(), ByKey, settings, || {
        Some(Ok(events(Frames::of(&[PIECE, PIECE, PIECE, STOP, USAGE, DONE]))))
    });
    let mut body = scene.call(stream()).expect("answered").into_body();
    for _ in 0..3 {
        clock.advance(6_000_000_000);
        run(body.frame()).expect("a frame").expect("data");
        assert_eq!(limiter.stats().permits_open, 1);
    }
    run(body.collect()).expect("a whole body");
    assert_eq!(books(&limiter), spent(11, 5, 1));

    // One that stands still for longer than that has used its estimate, whatever it says later.
    let body = scene.call(stream()).expect("answered").into_body();
    clock.advance(10_000_000_000);
    run(body.collect()).expect("a whole body");
    assert_eq!(books(&limiter), spent(11 + 8, 5 + 40, 2));
}
