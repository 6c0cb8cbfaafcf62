//! The layer around a router of axum's, as its page says.

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::Request;
use http::request::Parts;
use http_body_util::BodyExt;
use tokenweir::{Limiter, Policy};
use tokenweir_tower::{Caller, Identified, MeterLayer, Metered, Settings, Takes};
use tokenweir_wire::{Endpoint, OutputRule};
use tower_service::Service;

fn identify(head: &mut Parts) -> Identified {
    match Endpoint::of(head.uri.path()) {
        Some(endpoint) => Identified::Metered(Caller::new("search", Takes::tokens(endpoint))),
        None => Identified::Unmetered,
    }
}

#[tokio::test]
async fn a_router_is_metered() {
    let policy = "[[limit]]\nname='calls'\nmeter='requests'\nalgorithm='bucket'\namount=1\nper='1m'\n";
    let limiter = Limiter::new(Policy::from_toml(policy).expect("a policy"));
    let handler = |request: Request<Body>| async move {
        let metered = request.extensions().get::<Metered>().cloned().expect("it was admitted");
        format!("{} calls {}", metered.project, metered.deployment.unwrap_or_default())
    };
    let layer = MeterLayer::new(limiter, identify, Settings::new(OutputRule::tokens(10)));
    let mut router = Router::new().route("/v1/responses", post(handler)).layer(layer);
    let mut call = || {
        let body = Body::from(r#"{"model":"m","input":"word"}"#);
        router.call(Request::post("/v1/responses").body(body).expect("a request"))
    };
    let response = call().await.expect("infallible");
    assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "search calls m");
    assert_eq!(call().await.expect("infallible").status(), 429);
}
