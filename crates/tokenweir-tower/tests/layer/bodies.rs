//! What passes stays what it is.

use crate::scene::*;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;

#[test]
fn a_length_that_is_true_is_kept() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || {
        let mut response = json(200, Frames::of_length(&[ANSWER]));
        response.headers_mut().insert("content-length", ANSWER.len().into());
        response
    });
    let response = scene.call(chat("")).expect("answered");
    assert_eq!(response.headers()["content-length"], ANSWER.len().to_string());
    assert_eq!(response.body().size_hint().exact(), Some(ANSWER.len() as u64));
}

#[test]
fn a_length_that_may_not_be_true_is_taken_away() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || {
        let mut response = events(Frames::of_length(&[PIECE, STOP, USAGE, DONE]));
        let length = PIECE.len() + STOP.len() + USAGE.len() + DONE.len();
        response.headers_mut().insert("content-length", length.into());
        response
    });
    let response = scene.call(chat(r#","stream":true"#)).expect("answered");
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(response.body().size_hint().exact(), None);
    // The chunk with the usage was not asked for by the client.
    assert_eq!(text(response).as_bytes(), [PIECE, STOP, DONE].concat());
    assert_eq!(books(&limiter), spent(11, 5, 1));
}

#[test]
fn a_client_that_asked_for_the_usage_gets_every_byte() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[PIECE, STOP, USAGE, DONE])));
    let request = chat(r#","stream":true,"stream_options":{"include_usage":true}"#);
    let response = scene.call(request).expect("answered");
    assert_eq!(text(response).as_bytes(), [PIECE, STOP, USAGE, DONE].concat());
}

#[test]
fn trailers_come_after_everything_that_was_held_back() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "1".parse().expect("a value"));
        events(Frames::of(&[PIECE, b"data: {\"unfinished"]).with_trailers(trailers))
    });
    let response = scene.call(chat(r#","stream":true"#)).expect("answered");
    let body = run(response.into_body().collect()).expect("a whole body");
    assert_eq!(body.trailers().and_then(|trailers| trailers.get("x-checksum")).expect("a trailer"), "1");
    assert_eq!(body.to_bytes(), [PIECE, b"data: {\"unfinished"].concat());
}

#[test]
fn what_was_held_back_comes_before_the_error() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || events(Frames::of(&[b"data: {\"unfinished"]).then_breaks()));
    let mut body = scene.call(chat(r#","stream":true"#)).expect("answered").into_body();
    let first = run(body.frame()).expect("a frame").expect("data");
    assert_eq!(first.into_data().expect("data"), &b"data: {\"unfinished"[..]);
    assert!(run(body.frame()).expect("a frame").is_err());
    assert!(run(body.frame()).is_none());
}

#[test]
fn what_is_not_metered_passes_untouched() {
    let limiter = limiter(POLICY);
    let scene = Scene::answering(&limiter, || json(200, Frames::of_length(&[b"{\"data\":[]}"])));
    let request = http::Request::get("/v1/models").body(http_body_util::Full::default()).expect("a request");
    let response = scene.call(request).expect("answered");
    assert_eq!(response.body().size_hint().exact(), Some(11));
    assert_eq!(text(response), "{\"data\":[]}");
    assert_eq!(scene.sent().headers.get("accept-encoding"), None);
    assert_eq!(books(&limiter), spent(0, 0, 0));
}

#[test]
fn responses_say_how_limits_stand() {
    let limiter = limiter(
        "[[limit]]\nname='tpm'\nmeter='total'\nalgorithm='bucket'\namount=1000\nper='1m'\n[[limit]]\nname='rpm'\nmeter='requests'\nalgorithm='bucket'\namount=10\nper='1m'\n",
    );
    let mut settings = settings();
    settings.ietf_headers = true;
    let scene = Scene::with(limiter.clone(), ByKey, settings, || Some(Ok(json(200, Frames::of_length(&[ANSWER])))));
    let response = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(header("x-ratelimit-limit-tokens"), "1000");
    assert_eq!(header("x-ratelimit-remaining-tokens"), "952");
    assert_eq!(header("x-ratelimit-remaining-requests"), "9");
    assert!(header("ratelimit").contains("\"rpm\";r=9"));
}
