//! A unary call of tonic's, client and server, through the layer: messages and trailers pass unharmed, refusals are its
//! statuses.

use bytes::{Buf, BufMut};
use http::request::Parts;
use http::{Request, Response, uri::PathAndQuery};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokenweir::{Estimate, Limiter, Policy, UsageFilter};
use tokenweir_tower::{Caller, Identified, MeterLayer, MeterService, RequestBody, Settings, Takes};
use tokenweir_wire::OutputRule;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::UnaryService;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

/// Messages that are text, as they are.
#[derive(Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Text;
    type Decoder = Text;

    fn encoder(&mut self) -> Text {
        Text
    }

    fn decoder(&mut self) -> Text {
        Text
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(String::from_utf8(bytes.to_vec()).ok())
    }
}

/// Answers with what it is asked, or with a status of its own.
struct Echo;

impl UnaryService<String> for Echo {
    type Response = String;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<String>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<String>) -> Self::Future {
        Box::pin(async move {
            match request.into_inner().as_str() {
                "fail" => Err(Status::data_loss("as it was asked to")),
                said => Ok(tonic::Response::new(format!("{said}, {said}"))),
            }
        })
    }
}

/// What tonic's generated servers do with a path.
#[derive(Clone)]
struct Server;

impl<B> Service<Request<RequestBody<B>>> for Server
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<B>>) -> Self::Future {
        Box::pin(async move { Ok(tonic::server::Grpc::new(Text).unary(Echo, request).await) })
    }
}

fn identify(_: &mut Parts) -> Identified {
    let mut caller = Caller::new("search", Takes::Stated(Estimate::new(5, 0)));
    caller.deployment = Some("echo".to_owned());
    Identified::Metered(caller)
}

type Metered = MeterService<Server, Limiter, fn(&mut Parts) -> Identified>;

async fn ask(service: &Metered, said: &str) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(service.clone());
    client.ready().await.expect("it is always ready");
    let path = PathAndQuery::from_static("/test.Echo/Say");
    let answer = client.unary(tonic::Request::new(said.to_owned()), path, Text).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn calls_of_tonic_pass_and_are_refused_by_its_own_statuses() {
    let policy = "[[limit]]\nname='month'\nmeter='total'\nalgorithm='quota'\namount=12\nperiod='never'\n";
    let limiter = Limiter::new(Policy::from_toml(policy).expect("a policy"));
    let host: fn(&mut Parts) -> Identified = identify;
    let service = MeterLayer::new(limiter.clone(), host, Settings::new(OutputRule::tokens(10))).layer(Server);
    assert_eq!(ask(&service, "high water").await.expect("an answer"), "high water, high water");
    let failed = ask(&service, "fail").await.expect_err("it fails");
    assert_eq!((failed.code(), failed.message()), (Code::DataLoss, "as it was asked to"));
    let refused = ask(&service, "again").await.expect_err("two fives are twelve but for two");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("month"), "{refused:?}");
    let usage = limiter.usage(&UsageFilter::default());
    assert_eq!((usage[0].used, usage[0].held), (10, 0));
}
