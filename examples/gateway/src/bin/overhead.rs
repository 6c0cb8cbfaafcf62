//! The same proxy twice, with the layer and without it, for `wrk` to measure: what `examples/gateway/bench` starts.
//!
//! It prints the addresses `plain` and `metered` of two proxies in front of one upstream, and runs until it is stopped.

#![forbid(unsafe_code)]

use axum::Router;
use axum::body::Body;
use axum::serve::ListenerExt;
use http::request::Parts;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokenweir::{Limiter, Policy};
use tokenweir_tower::{Caller, Identified, MeterLayer, Settings, Takes};
use tokenweir_wire::{Endpoint, OutputRule};
use tokio::net::TcpListener;
use tower_layer::Layer;
use tower_service::Service;

const POLICY: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 100_000_000_000
    per = "1m"
    scope = ["project", "deployment"]

    [[limit]]
    name = "project rpm"
    meter = "requests"
    algorithm = "bucket"
    amount = 100_000_000
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "project month"
    meter = "total"
    algorithm = "quota"
    amount = 1_000_000_000_000_000
    period = "monthly"
    scope = ["project"]
"#;

/// Forwards everything to one address.
#[derive(Clone)]
struct Forward {
    client: Client<HttpConnector, Body>,
    upstream: SocketAddr,
}

impl<B> Service<Request<B>> for Forward
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (client, upstream) = (self.client.clone(), self.upstream);
        Box::pin(async move {
            let mut request = request.map(Body::new);
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let uri: Uri = format!("http://{upstream}{path}").parse().unwrap_or_default();
            *request.uri_mut() = uri;
            request.headers_mut().remove("host");
            Ok(match client.request(request).await {
                Ok(response) => response.map(Body::new),
                Err(_) => Response::builder().status(502).body(Body::empty()).unwrap_or_default(),
            })
        })
    }
}

async fn listen(router: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

fn identify(head: &mut Parts) -> Identified {
    match Endpoint::of(head.uri.path()) {
        Some(endpoint) => Identified::Metered(Caller::new("search", Takes::tokens(endpoint))),
        None => Identified::Unmetered,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An answer of 200 tokens.
    let text = "four".repeat(200);
    let answer = format!(
        r#"{{"id":"1","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":11,"completion_tokens":200,"total_tokens":211}}}}"#
    );
    let upstream = Router::new().fallback(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let _ = request.into_body().collect().await;
            ([("content-type", "application/json")], answer)
        }
    });
    let upstream = listen(upstream).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let forward = Forward { client: Client::builder(TokioExecutor::new()).build(connector), upstream };
    let plain = listen(Router::new().fallback_service(forward.clone())).await?;
    let limiter = Limiter::new(Policy::from_toml(POLICY)?);
    let layer = MeterLayer::new(limiter, identify, Settings::new(OutputRule::tokens(1024)));
    let metered = listen(Router::new().fallback_service(layer.layer(forward))).await?;
    println!("plain http://{plain}\nmetered http://{metered}");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
