//! What is read of a request, and what the service gets.

use crate::scene::*;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tokenweir::Estimate;
use tokenweir_tower::{Caller, Host, Identified, Oversize, error};
use tokenweir_wire::{Asked, Dialect};

fn answering(limiter: &tokenweir::Limiter) -> Scene {
    Scene::answering(limiter, || json(200, Frames::of(&[ANSWER])))
}

#[test]
fn the_service_learns_what_was_admitted() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    let metered = scene.sent().metered.expect("metered");
    assert_eq!((&*metered.project, metered.deployment.as_deref()), ("search", Some("m")));
    assert_eq!(metered.charged, Estimate::new(8, 40));
    assert!(!metered.streamed && metered.permit.is_some());
}

#[test]
fn a_body_that_is_not_changed_arrives_as_it_was() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    let body = r#"{ "messages":[] ,"model":"m" }"#;
    scene.call(post(CHAT, body)).expect("answered");
    let sent = scene.sent();
    assert_eq!((&sent.body[..], sent.hint), (body.as_bytes(), Some(body.len() as u64)));
    assert_eq!(sent.headers["content-length"], body.len().to_string());
}

#[test]
fn a_stream_is_asked_for_its_usage_and_its_length_is_told_anew() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    scene.call(post(CHAT, r#"{"model":"m","stream":true}"#)).expect("answered");
    let sent = scene.sent();
    assert_eq!(&sent.body[..], br#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#);
    assert_eq!(sent.headers["content-length"], sent.body.len().to_string());
    let mut settings = settings();
    settings.ask_for_usage = false;
    let scene = Scene::with(limiter, ByKey, settings, || Some(Ok(json(200, Frames::of(&[ANSWER])))));
    scene.call(post(CHAT, r#"{"model":"m","stream":true}"#)).expect("answered");
    assert_eq!(&scene.sent().body[..], br#"{"model":"m","stream":true}"#);
}

#[test]
fn a_body_in_pieces_with_trailers_arrives_whole() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-signature", "s".parse().expect("a value"));
    let frames = Frames::of(&[b"{\"model\":", b"\"m\"}"]).with_trailers(trailers);
    let request = Request::post(CHAT).header("authorization", "search").body(frames).expect("a request");
    run(scene.begin(request)).expect("answered");
    let sent = scene.sent();
    assert_eq!(&sent.body[..], b"{\"model\":\"m\"}");
    assert_eq!(sent.trailers.expect("trailers")["x-signature"], "s");
}

#[test]
fn a_body_byte_by_byte_arrives_whole() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    let body = br#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
    let bytes: Vec<&'static [u8]> = body.chunks(1).collect();
    let request = Request::post(CHAT).header("authorization", "search").body(Frames::of(&bytes)).expect("a request");
    run(scene.begin(request)).expect("answered");
    assert_eq!(scene.sent().body, body[..]);
}

/// Refuses what it cannot see the body of.
struct WantsBody;

impl Host for WantsBody {
    fn identify(&self, head: &mut Parts) -> Identified {
        ByKey.identify(head)
    }

    fn resolve(&self, _: &mut Parts, _: &mut Caller, asked: Option<&Asked>) -> Result<(), Box<Response<Bytes>>> {
        asked.map(drop).ok_or_else(|| error(Dialect::OpenAi, 400, "The request names no model.").into())
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_and_moves_no_counter() {
    let limiter = limiter(POLICY);
    let mut settings = settings();
    settings.max_body = 20;
    let scene = Scene::with(limiter.clone(), ByKey, settings.clone(), || Some(Ok(json(200, Frames::of(&[ANSWER])))));
    for request in [chat(""), post("/openai/deployments/m/chat/completions", r#"{"messages":["","",""]}"#)] {
        let response = scene.call(request).expect("answered");
        assert_eq!(response.status(), 413);
        assert!(text(response).contains("longer than 20 bytes"));
    }
    // Even where its host would say something else of a request whose body it has not seen.
    let wants_body = Scene::with(limiter.clone(), WantsBody, settings.clone(), || panic!("it is not sent"));
    assert!(text(wants_body.call(chat("")).expect("answered")).contains("longer than 20 bytes"));
    // Without a stated length the frames tell.
    let frames = Frames::of(&[b"{\"model\":\"m\",", b"\"messages\":[]}"]);
    let request = Request::post(CHAT).header("authorization", "search").body(frames).expect("a request");
    assert_eq!(run(scene.begin(request)).expect("answered").status(), 413);
    assert_eq!((books(&limiter), scene.sent_count()), (spent(0, 0, 0), 0));
}

#[test]
fn a_body_that_is_too_long_passes_by_its_length_where_the_operator_says_so() {
    let limiter = limiter(POLICY);
    let mut settings = settings();
    (settings.max_body, settings.oversize) = (20, Oversize::ByLength);
    let scene = Scene::with(limiter.clone(), ByKey, settings, || Some(Ok(json(200, Frames::of(&[b"?"])))));
    let body = format!("{{\"messages\":[\"{}\"]}}", "x".repeat(83));
    let response = scene.call(post("/openai/deployments/m/chat/completions", body.clone())).expect("answered");
    assert_eq!((response.status().as_u16(), &scene.sent().body[..]), (200, body.as_bytes()));
    assert_eq!(scene.sent().hint, Some(100));
    drop(response);
    // 100 bytes, and the operator's rule; nothing of the answer can be read.
    assert_eq!(books(&limiter), spent(25, 100, 1));
    // Nobody knows the deployment before the body is read; nobody knows the length.
    assert_eq!(scene.call(post(CHAT, body)).expect("answered").status(), 413);
    let frames = Frames::of(&[b"{\"messages\":[\"\",", b"\"\",\"\"]}"]);
    let request = Request::post("/openai/deployments/m/chat/completions").header("authorization", "search");
    let response = run(scene.begin(request.body(frames).expect("a request"))).expect("answered");
    assert_eq!(response.status(), 413);
}

#[test]
fn a_request_that_makes_no_sense_is_refused_and_moves_no_counter() {
    let limiter = limiter(POLICY);
    let scene = answering(&limiter);
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("{}", 400),
        ("{\"model\":7}", 400),
        ("nonsense", 400),
        // One reader would take it for a call to the one, another for a call to the other.
        ("{\"model\":\"a\",\"messages\":[],\"model\":\"b\"}", 400),
        ("{\"model\":\"a\",\"mod\\u0065l\":\"a\"}", 400),
    ] {
        let response = scene.call(post(CHAT, body)).expect("answered");
        assert_eq!(response.status(), status, "{body}");
        assert!(text(response).contains("\"invalid_request_error\""), "{body}");
    }
    let mut compressed = chat("");
    compressed.headers_mut().insert("content-encoding", "gzip".parse().expect("a value"));
    assert_eq!(scene.call(compressed).expect("answered").status(), 415);
    let broken = Frames::of(&[b"{\"model\":"]).then_breaks();
    let request = Request::post(CHAT).header("authorization", "search").body(broken).expect("a request");
    assert_eq!(run(scene.begin(request)).expect("answered").status(), 400);
    assert_eq!((books(&limiter), scene.sent_count()), (spent(0, 0, 0), 0));
}

#[test]
fn a_call_without_a_body_to_read_streams_it_through() {
    let limiter = limiter(POLICY);
    let host = |_: &mut http::request::Parts| {
        let mut caller = tokenweir_tower::Caller::new("search", tokenweir_tower::Takes::Stated(Estimate::new(3, 0)));
        caller.deployment = Some("m".to_owned());
        tokenweir_tower::Identified::Metered(caller)
    };
    let scene = Scene::with(limiter.clone(), host, settings(), || Some(Ok(json(200, Frames::of(&[b"{}"])))));
    let body = Frames::of(&[b"piece", b"piece", b"piece"]);
    let response = run(scene.begin(Request::new(body))).expect("answered");
    assert_eq!(&scene.sent().body[..], b"piecepiecepiece");
    drop(response);
    assert_eq!(books(&limiter), spent(3, 0, 1));
}

#[test]
fn requests_of_anthropics_are_read_in_their_own_words() {
    let limiter = limiter(POLICY);
    let answer = br#"{"type":"message","content":[{"type":"text","text":"four"}],"stop_reason":"end_turn","usage":{"input_tokens":20,"output_tokens":6}}"#;
    let scene = Scene::answering(&limiter, move || json(200, Frames::of(&[answer])));
    let body = r#"{"model":"claude","max_tokens":50,"messages":[{"role":"user","content":"word"}]}"#;
    let response = scene.call(post("/v1/messages", body)).expect("answered");
    read(response).expect("a whole body");
    assert_eq!(books(&limiter), spent(20, 6, 1));
}
