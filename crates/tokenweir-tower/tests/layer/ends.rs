//! Each way in which a call can end.

use crate::scene::*;
use http::Response;
use http_body_util::BodyExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokenweir_tower::{Failed, NoAnswer, NotReached, Unanswered};

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
fn a_response_that_goes_on_in_the_background_keeps_its_estimate_however_soon_its_client_leaves() {
    let asked = |bound: u64| {
        let body =
            format!(r#"{{"model":"m","background":true,"stream":true,"max_output_tokens":{bound},"input":"four"}}"#);
        post("/v1/responses", body)
    };
    const CREATED: &[u8] =
        b"data: {\"type\":\"response.created\",\"response\":{\"background\":true,\"status\":\"queued\"}}\n\n";
    const FOUR: &[u8] = b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n";
    for (bound, output) in [(40, 40), (1, 2)] {
        let limiter = limiter(POLICY);
        let scene = Scene::answering(&limiter, || events(Frames::of(&[CREATED, FOUR, FOUR, FOUR])));
        read_some(scene.call(asked(bound)).expect("answered"), 3);
        let input = books(&limiter).tokens - output;
        assert!((1..10).contains(&input), "{input}");
        assert_eq!(books(&limiter), spent(input, output, 1));
    }
    let limiter = limiter(POLICY);
    let queued = br#"{"background":true,"status":"queued","output":[],"usage":null}"#;
    let scene = Scene::answering(&limiter, || json(200, Frames::of(&[queued])));
    read(scene.call(asked(40)).expect("answered")).expect("a whole body");
    assert_eq!(books(&limiter).output, 40);
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
fn a_call_that_is_never_answered_costs_what_the_operator_says_and_its_estimate_by_default() {
    for (unanswered, input, output) in
        [(None, 8, 40), (Some(Unanswered::Input), 8, 0), (Some(Unanswered::Nothing), 0, 0)]
    {
        // The service fails, or answers itself that nobody else has.
        let failing = || Some(Err("reset"));
        let answering = || {
            let mut response = json(504, Frames::of_length(&[b"{}"]));
            response.extensions_mut().insert(NoAnswer);
            Some(Ok(response))
        };
        let (of_error, of_answer) = (limiter(POLICY), limiter(POLICY));
        let mut settings = settings();
        settings.unanswered = unanswered.unwrap_or(settings.unanswered);
        let scene = Scene::with(of_error.clone(), ByKey, settings.clone(), failing);
        assert_eq!(scene.call(asked()).err(), Some("reset"));
        let scene = Scene::with(of_answer.clone(), ByKey, settings, answering);
        let response = scene.call(asked()).expect("answered");
        assert_eq!((response.status().as_u16(), text(response)), (504, "{}".to_owned()));
        assert_eq!(books(&of_error), spent(input, output, 1), "{unanswered:?}");
        assert_eq!(books(&of_answer), spent(input, output, 1), "{unanswered:?}");
    }
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

/// A limiter whose permits live for ten seconds, and its clock.
fn short_lived() -> (tokenweir::Limiter, Arc<tokenweir::ManualClock>) {
    let clock = Arc::new(tokenweir::ManualClock::new(tokenweir::Now::new(0, 0)));
    let policy = tokenweir::Policy::from_toml(POLICY).expect("a policy");
    (tokenweir::Limiter::builder(policy).clock(clock.clone()).permit_ttl(Duration::from_secs(10)).build(), clock)
}

#[test]
fn a_stream_that_goes_on_keeps_its_permit() {
    let (limiter, clock) = short_lived();
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE, PIECE, STOP, USAGE, DONE])));
    let mut body = scene.call(stream()).expect("answered").into_body();
    for _ in 0..3 {
        clock.advance(6_000_000_000);
        run(body.frame()).expect("a frame").expect("data");
        assert_eq!(limiter.stats().permits_open, 1);
    }
    run(body.collect()).expect("a whole body");
    assert_eq!(books(&limiter), spent(11, 5, 1));
}

#[test]
fn a_stream_that_stood_still_until_its_permit_expired_ends_and_nothing_passes_uncounted() {
    let (limiter, clock) = short_lived();
    let long = [PIECE; 400];
    let scene = Scene::answering(&limiter, move || events(Frames::of(&long)));
    let mut body = scene.call(stream()).expect("answered").into_body();
    run(body.frame()).expect("a frame").expect("data");
    clock.advance(10_000_000_000);
    let rest = run(body.collect()).expect("a whole body").to_bytes();
    let rest = std::str::from_utf8(&rest).expect("text");
    assert!(rest.starts_with("data: {\"error\":") && rest.contains("expired") && !rest.contains("four"), "{rest}");
    // Its estimate stands.
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn an_event_that_was_passing_when_its_permit_expired_is_left_without_an_end() {
    let (limiter, clock) = short_lived();
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, &PIECE[..20], &PIECE[20..], PIECE])));
    let request = chat(r#","max_tokens":40,"stream":true,"stream_options":{"include_usage":true}"#);
    let mut body = scene.call(request).expect("answered").into_body();
    for _ in 0..2 {
        run(body.frame()).expect("a frame").expect("data");
    }
    clock.advance(10_000_000_000);
    assert_eq!(run(body.collect()).expect("its end").to_bytes(), "");
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn an_answer_that_takes_longer_to_begin_than_its_permit_lives_is_a_504() {
    let (limiter, clock) = short_lived();
    let scene = Scene::with(limiter.clone(), ByKey, settings(), move || {
        clock.advance(10_000_000_000);
        Some(Ok(json(200, Frames::of_length(&[ANSWER]))))
    });
    // The clock runs on when the service is called, after the admission.
    let response = scene.call(asked()).expect("answered");
    assert_eq!(response.status(), 504);
    assert!(text(response).contains("expired"));
    assert_eq!(books(&limiter), spent(8, 40, 1));
}

#[test]
fn a_service_that_settles_the_permit_itself_has_the_last_word() {
    let (limiter, clock) = short_lived();
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, PIECE, STOP, USAGE, DONE])));
    let mut body = scene.call(stream()).expect("answered").into_body();
    let permit = scene.sent().metered.and_then(|metered| metered.permit).expect("a permit");
    limiter.settle(permit, tokenweir::Usage::new(3, 2)).expect("it is open");
    run(body.frame()).expect("a frame").expect("data");
    clock.advance(6_000_000_000);
    run(body.frame()).expect("a frame").expect("data");
    clock.advance(60_000_000_000);
    assert!(run(body.collect()).expect("all of it").to_bytes().ends_with(DONE));
    assert_eq!(books(&limiter), spent(3, 2, 1));
}
