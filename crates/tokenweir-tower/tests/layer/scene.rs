//! A service behind the layer that answers what a test tells it to.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokenweir::{Limiter, ManualClock, Policy, UsageFilter};
use tokenweir_tower::{
    Admission, Caller, Host, Identified, MeterLayer, MeterService, RequestBody, ResponseBody, Settings, Takes, error,
};
use tokenweir_wire::{Dialect, Endpoint, OutputRule};
use tower_layer::Layer;
use tower_service::Service;

pub type Broken = &'static str;

/// A body of frames, that may break.
pub struct Frames {
    frames: VecDeque<Result<Frame<Bytes>, Broken>>,
    length: Option<u64>,
    /// Knows its end from the last frame on, as bodies of a stated length do.
    knows_end: bool,
}

impl Frames {
    pub fn of(chunks: &[&[u8]]) -> Self {
        let frames = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
        Frames { frames, length: None, knows_end: false }
    }

    pub fn of_length(chunks: &[&[u8]]) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Frames { length: Some(length), knows_end: true, ..Frames::of(chunks) }
    }

    pub fn and(mut self, frame: Result<Frame<Bytes>, Broken>) -> Self {
        self.frames.push_back(frame);
        self
    }

    pub fn then_breaks(self) -> Self {
        self.and(Err("the connection was reset"))
    }

    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        self.and(Ok(Frame::trailers(trailers)))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = self.frames.pop_front();
        if let (Some(Ok(frame)), Some(length)) = (&frame, &mut self.length) {
            *length -= frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.knows_end && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// What the service has been sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
    pub metered: Option<tokenweir_tower::Metered>,
    pub hint: Option<u64>,
}

type Answering = dyn Fn() -> Option<Result<Response<Frames>, Broken>> + Send + Sync;

/// The service. An answer of `None` never comes.
#[derive(Clone)]
pub struct Upstream {
    answer: Arc<Answering>,
    pub sent: Arc<Mutex<Vec<Sent>>>,
}

impl<B> Service<Request<RequestBody<B>>> for Upstream
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::fmt::Debug + Send,
{
    type Response = Response<Frames>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<B>>) -> Self::Future {
        let (answer, sent) = ((self.answer)(), self.sent.clone());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let hint = body.size_hint().exact();
            let collected = body.collect().await.expect("the body");
            let trailers = collected.trailers().cloned();
            let metered = head.extensions.get().cloned();
            let body = collected.to_bytes();
            sent.lock().expect("no panic").push(Sent { headers: head.headers, body, trailers, metered, hint });
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

/// Who calls what in these tests: the key is the project's name.
pub struct ByKey;

impl Host for ByKey {
    fn identify(&self, head: &mut Parts) -> Identified {
        let Some(endpoint) = Endpoint::of(head.uri.path()) else { return Identified::Unmetered };
        let dialect = if head.uri.path().ends_with("/messages") { Dialect::Anthropic } else { Dialect::OpenAi };
        match head.headers.get("authorization").and_then(|key| key.to_str().ok()) {
            None => Identified::Refused(error(dialect, 401, "The key is missing.")),
            Some(project) => {
                let mut caller = Caller::new(project, Takes::tokens(endpoint));
                caller.deployment = endpoint.model.map(str::to_owned);
                caller.dialect = dialect;
                Identified::Metered(caller)
            }
        }
    }
}

pub const POLICY: &str = r#"
    [[limit]]
    name = "tokens"
    meter = "total"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"

    [[limit]]
    name = "output"
    meter = "output"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"

    [[limit]]
    name = "requests"
    meter = "requests"
    algorithm = "quota"
    amount = 1_000_000
    period = "never"

    [[limit]]
    name = "at once"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 1_000
"#;

pub fn limiter(policy: &str) -> Limiter {
    let policy = Policy::from_toml(policy).expect("a policy");
    Limiter::builder(policy).clock(ManualClock::new(tokenweir::Now::new(0, 0))).build()
}

pub fn settings() -> Settings {
    Settings::new(OutputRule::tokens(100))
}

/// A limiter's counters at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Books {
    pub tokens: u64,
    pub output: u64,
    pub requests: u64,
    pub held: u64,
    pub open: usize,
}

pub fn books(limiter: &Limiter) -> Books {
    let mut books = Books { open: limiter.stats().permits_open, ..Books::default() };
    for counter in limiter.usage(&UsageFilter::default()) {
        books.held += counter.held;
        match &*counter.limit {
            "tokens" => books.tokens = counter.used,
            "output" => books.output = counter.used,
            "requests" => books.requests = counter.used,
            "at once" => assert_eq!(counter.used as usize, books.open),
            _ => {}
        }
    }
    books
}

/// Nothing is held, and so much was used by so many requests.
pub fn spent(input: u64, output: u64, requests: u64) -> Books {
    Books { tokens: input + output, output, requests, held: 0, open: 0 }
}

pub struct Scene<A = Limiter, H = ByKey> {
    pub service: MeterService<Upstream, A, H>,
    pub upstream: Upstream,
}

pub type Answered = Response<ResponseBody<Frames>>;

impl<A: Admission, H: Host> Scene<A, H> {
    pub fn with(
        admission: A,
        host: H,
        settings: Settings,
        answer: impl Fn() -> Option<Result<Response<Frames>, Broken>> + Send + Sync + 'static,
    ) -> Self {
        let upstream = Upstream { answer: Arc::new(answer), sent: Arc::default() };
        Scene { service: MeterLayer::new(admission, host, settings).layer(upstream.clone()), upstream }
    }

    /// The call, still to be waited for.
    pub fn begin<B>(&self, request: Request<B>) -> impl Future<Output = Result<Answered, Broken>> + use<A, H, B>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::fmt::Debug + Send,
    {
        let mut service = self.service.clone();
        service.call(request)
    }

    pub fn call(&self, request: Request<Full<Bytes>>) -> Result<Answered, Broken> {
        run(self.begin(request))
    }

    pub fn sent(&self) -> Sent {
        self.upstream.sent.lock().expect("no panic").last().cloned().expect("a request was sent")
    }

    pub fn sent_count(&self) -> usize {
        self.upstream.sent.lock().expect("no panic").len()
    }
}

impl Scene {
    pub fn answering(limiter: &Limiter, answer: impl Fn() -> Response<Frames> + Send + Sync + 'static) -> Self {
        Scene::with(limiter.clone(), ByKey, settings(), move || Some(Ok(answer())))
    }
}

/// Runs what needs no runtime of its own: everything here is ready at once, or never.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// Polls once: for what never becomes ready.
pub fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let body = body.into();
    let request = Request::post(path).header("authorization", "search").header("content-length", body.len());
    request.body(Full::new(body)).expect("a request")
}

pub const CHAT: &str = "/v1/chat/completions";

/// 8 tokens of input: one of text, 4 for the message, 3 for the conversation.
pub fn chat(more: &str) -> Request<Full<Bytes>> {
    post(CHAT, format!(r#"{{"model":"m","messages":[{{"role":"user","content":"word"}}]{more}}}"#))
}

pub fn json(status: u16, body: Frames) -> Response<Frames> {
    Response::builder().status(status).header("content-type", "application/json").body(body).expect("a response")
}

pub fn events(body: Frames) -> Response<Frames> {
    Response::builder().header("content-type", "text/event-stream").body(body).expect("a response")
}

pub const ANSWER: &[u8] =
    br#"{"choices":[{"message":{"content":"four"}}],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}"#;

/// A piece of a stream, of one token.
pub const PIECE: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\n";
pub const STOP: &[u8] = b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const USAGE: &[u8] = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}\n\n";
pub const DONE: &[u8] = b"data: [DONE]\n\n";

pub fn read(response: Answered) -> Result<Bytes, Broken> {
    run(response.into_body().collect()).map(|body| body.to_bytes())
}

pub fn text(response: Answered) -> String {
    String::from_utf8(read(response).expect("a whole body").to_vec()).expect("text")
}

/// The next so many frames, after which the body is dropped.
pub fn read_some(response: Answered, frames: usize) {
    let mut body = response.into_body();
    for _ in 0..frames {
        let _ = run(body.frame());
    }
}
