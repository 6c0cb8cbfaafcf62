//! Calls of gRPC: no body is read, refusals are statuses of gRPC.

use crate::scene::*;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tokenweir::Estimate;
use tokenweir_tower::{Caller, Identified, Takes, error};
use tokenweir_wire::Dialect;

const POLICY: &str = r#"
    [[limit]]
    name = "calls"
    meter = "requests"
    algorithm = "bucket"
    amount = 2
    per = "1m"

    [[limit]]
    name = "month"
    meter = "total"
    algorithm = "quota"
    amount = 100
    period = "never"
"#;

fn host(head: &mut Parts) -> Identified {
    let Some(tokens) = head.headers.get("x-tokens").and_then(|tokens| tokens.to_str().ok()?.parse().ok()) else {
        return Identified::Refused(error(Dialect::OpenAi, 401, "The key is missing: 100 % of it."));
    };
    let mut caller = Caller::new("search", Takes::Stated(Estimate::new(tokens, 0)));
    caller.deployment = Some("embedder".to_owned());
    Identified::Metered(caller)
}

fn request(tokens: Option<u64>) -> Request<Full<Bytes>> {
    let mut request = Request::post("/inference.Embedder/Embed").header("content-type", "application/grpc+proto");
    if let Some(tokens) = tokens {
        request = request.header("x-tokens", tokens);
    }
    request.body(Full::new(Bytes::from_static(b"\0\0\0\0\x02\x08\x01"))).expect("a request")
}

fn scene(limiter: &tokenweir::Limiter) -> Scene<tokenweir::Limiter, fn(&mut Parts) -> Identified> {
    Scene::with(limiter.clone(), host, settings(), || {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let body = Frames::of(&[b"\0\0\0\0\x02\x08\x02"]).with_trailers(trailers);
        Some(Ok(Response::builder().header("content-type", "application/grpc").body(body).expect("a response")))
    })
}

#[test]
fn a_call_passes_with_its_trailers_and_is_settled_by_what_the_host_stated() {
    let limiter = limiter(POLICY);
    let scene = scene(&limiter);
    let response = scene.call(request(Some(7))).expect("answered");
    let body = run(response.into_body().collect()).expect("a whole body");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(body.to_bytes(), &b"\0\0\0\0\x02\x08\x02"[..]);
    assert_eq!(&scene.sent().body[..], b"\0\0\0\0\x02\x08\x01");
    let usage = limiter.usage(&tokenweir::UsageFilter::default());
    let used: Vec<_> = usage.iter().map(|counter| (&*counter.limit, counter.used, counter.held)).collect();
    assert_eq!(used, [("calls", 1, 0), ("month", 7, 0)]);
}

#[test]
fn a_refusal_is_a_status_of_grpc() {
    let limiter = limiter(POLICY);
    let scene = scene(&limiter);
    let status = |tokens| {
        let response = scene.call(request(tokens)).expect("answered");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(http_body::Body::is_end_stream(response.body()));
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        (header("grpc-status").expect("a status"), header("grpc-message").expect("a message"), header("retry-after"))
    };
    let (code, message, _) = status(None);
    assert_eq!((&*code, &*message), ("16", "The key is missing: 100 %25 of it."));
    let (code, message, wait) = status(Some(101));
    assert_eq!((&*code, wait), ("8", None));
    assert!(message.contains("too large"), "{message}");
    for _ in 0..2 {
        scene.call(request(Some(1))).expect("answered");
    }
    let (code, _, wait) = status(Some(1));
    assert_eq!((&*code, wait.as_deref()), ("8", Some("30")));
}
