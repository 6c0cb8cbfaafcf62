//! What the layer allocates for a call, so that it does not grow unseen.

// The one thing that a counting allocator cannot do without.
#![allow(unsafe_code)]

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokenweir::{Limiter, Policy};
use tokenweir_tower::{Caller, Identified, MeterLayer, RequestBody, Settings, Takes};
use tokenweir_wire::{Endpoint, OutputRule};
use tower_layer::Layer;
use tower_service::Service;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICY: &str = r#"
    [[limit]]
    name = "project tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 100_000_000
    per = "1m"
    scope = ["project", "deployment"]

    [[limit]]
    name = "project rpm"
    meter = "requests"
    algorithm = "bucket"
    amount = 100_000
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "project month"
    meter = "total"
    algorithm = "quota"
    amount = 1_000_000_000
    period = "monthly"
    scope = ["project"]
"#;

const ANSWER: &[u8] = br#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"At noon."},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}"#;

/// Answers at once. What it allocates for its answer is the same in all calls, and is taken off.
#[derive(Clone)]
struct Upstream;

impl<B> Service<Request<RequestBody<B>>> for Upstream {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<RequestBody<B>>) -> Self::Future {
        ready(Ok(answer()))
    }
}

fn answer() -> Response<Full<Bytes>> {
    let response = Response::builder().header("content-type", "application/json");
    response.body(Full::new(Bytes::from_static(ANSWER))).expect("a response")
}

fn identify(head: &mut Parts) -> Identified {
    match Endpoint::of(head.uri.path()) {
        Some(endpoint) => Identified::Metered(Caller::new("search", Takes::tokens(endpoint))),
        None => Identified::Unmetered,
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("everything here is ready at once"),
    }
}

fn counted(act: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    act();
    COUNT.with(Cell::get) - before
}

#[test]
fn a_call_through_the_layer_takes_few_allocations() {
    const BODY: &[u8] =
        br#"{"model":"m","max_tokens":200,"messages":[{"role":"user","content":"When is high water at the harbour?"}]}"#;
    let limiter = Limiter::new(Policy::from_toml(POLICY).expect("a policy"));
    let layer = MeterLayer::new(limiter.clone(), identify, Settings::new(OutputRule::tokens(1024)));
    let mut service = layer.layer(Upstream);
    let mut call = || {
        let body = Full::new(Bytes::from_static(BODY));
        let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
        let request = request.body(body).expect("a request");
        counted(|| {
            let response = at_once(service.call(request)).expect("infallible");
            assert_eq!(response.headers().len(), 7);
            at_once(response.into_body().collect()).expect("a body");
        })
    };
    call();
    let (calls, own) = (call(), counted(|| drop(answer())));
    assert_eq!(limiter.stats().permits_open, 0);
    // The future, the caller's names, what is held and what watches, a value for each of six headers, and the maps that grow.
    assert!(calls - own <= 26, "{calls} allocations, of which {own} are the upstream's");
}
