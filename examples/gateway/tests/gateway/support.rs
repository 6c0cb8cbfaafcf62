//! A gateway on a spare port, an upstream that does what a test says, and a client.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokenweir_gateway::{Digest, Running, Sample, start};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub const KEY: &str = "key-of-search";
pub const OTHER: &str = "key-of-support";
pub const ADMIN: &str = "key-of-admin";
pub const LOOK: &str = "key-to-look";

/// The file of most tests; `more` is added to it.
pub fn config(upstream: SocketAddr, more: &str) -> String {
    let digest = |key: &str| Digest::of(key.as_bytes());
    format!(
        r#"
        listen = "127.0.0.1:0"
        state_file = "@/state/state.json"
        usage_log = "@/usage.jsonl"
        [admin]
        key_sha256 = "{}"
        read_key_sha256 = "{}"
        [estimate]
        output_tokens = 100
        [upstream.real]
        base_url = "http://{upstream}/base/v1/"
        api_key_env = "CARGO_PKG_NAME"
        [upstream.sample]
        base_url = "http://sample.internal/v1"
        [deployment.real]
        upstream = "real"
        model = "real-1"
        [deployment.same]
        upstream = "real"
        [deployment.sample]
        upstream = "sample"
        [project.search.keys]
        laptop = "{}"
        [project.support.keys]
        desk = "{}"
        {more}
        "#,
        digest(ADMIN),
        digest(LOOK),
        digest(KEY),
        digest(OTHER),
    )
}

/// A limit of project search on all that the upstream serves.
pub const LIMIT: &str = r#"
    [project.search.limits.real]
    tokens_per_minute = 6000
    [project.search.limits.same]
    tokens_per_minute = 6000
    [project.search.limits.sample]
    tokens_per_minute = 6000
"#;

pub struct Gateway {
    pub running: Running,
    pub directory: TempDir,
    pub client: Client<HttpConnector, Full<Bytes>>,
}

pub fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

impl Gateway {
    pub async fn with(text: &str) -> Gateway {
        Gateway::within(tempfile::tempdir().expect("a directory"), text).await
    }

    /// In a directory that may have the state of another.
    pub async fn within(directory: TempDir, text: &str) -> Gateway {
        let path = write(&directory, text);
        let running = start(&path, Sample { pace: Duration::ZERO }).await.expect("it starts");
        Gateway { running, directory, client: client() }
    }

    pub fn write(&self, text: &str) {
        write(&self.directory, text);
    }

    /// Puts in the file's place what may be no text.
    pub fn write_bytes(&self, bytes: &[u8]) {
        std::fs::write(self.directory.path().join("gateway.toml"), bytes).expect("written");
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (mut head, body) = request.into_parts();
        head.uri = format!("http://{}{}", self.running.address(), head.uri).parse().expect("an address");
        self.client.request(Request::from_parts(head, body)).await.expect("a response")
    }

    pub async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        Answer::of(self.send(post(path, key, body)).await).await
    }

    pub async fn get(&self, path: &str, key: &str) -> Answer {
        Answer::of(self.send(get(path, key)).await).await
    }

    pub async fn chat(&self, model: &str, more: &str) -> Answer {
        self.post("/v1/chat/completions", KEY, &chat(model, more)).await
    }

    /// A stream that is still to be read.
    pub async fn stream(&self, model: &str) -> Response<Incoming> {
        self.send(post("/v1/chat/completions", KEY, &chat(model, r#","stream":true,"max_tokens":40"#))).await
    }

    pub async fn operate(&self, operation: Value) -> Answer {
        self.post("/admin/operations", ADMIN, &operation.to_string()).await
    }

    /// What the counters of all limits say: their use, and what open calls hold.
    pub fn used(&self) -> Vec<(String, u64, u64)> {
        let usage = self.running.gate().limiter().usage(&Default::default());
        usage.into_iter().map(|counter| (counter.limit, counter.settled_total, counter.held)).collect()
    }

    /// What was settled on the limit of project search on a deployment, once nothing is held.
    pub async fn settled(&self, deployment: &str) -> u64 {
        eventually("nothing is held", || self.used().iter().all(|(_, _, held)| *held == 0)).await;
        let name = format!("project \"search\" on {deployment:?}: tokens per minute");
        self.used().into_iter().find(|(limit, ..)| *limit == name).map_or(0, |(_, settled, _)| settled)
    }

    /// The records so far, newest last.
    pub fn records(&self) -> Vec<Value> {
        self.running.flush();
        let text = std::fs::read_to_string(self.directory.path().join("usage.jsonl")).expect("the log");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }
}

fn write(directory: &TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("gateway.toml");
    let whole = text.replace('@', &directory.path().display().to_string());
    // Put in place whole, as editors do.
    let new = directory.path().join("new.toml");
    std::fs::write(&new, whole).expect("written");
    std::fs::rename(&new, &path).expect("in place");
    path
}

/// Waits until it is so: for what another thread does, with a deadline that says what did not come about.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}, within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn post(path: &str, key: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("authorization", format!("Bearer {key}"));
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}

pub fn get(path: &str, key: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("authorization", format!("Bearer {key}"));
    request.body(Full::default()).expect("a request")
}

/// 8 tokens of input by the estimate.
pub fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"word"}}]{more}}}"#)
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// What an upstream was sent.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The frames that a test sends, until it lets go of its end: an error breaks the body.
pub struct Piped {
    frames: mpsc::UnboundedReceiver<Result<Bytes, String>>,
    /// Dropped with the body, so that the other end knows.
    _alive: Arc<()>,
}

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        self.frames.poll_recv(context).map(|frame| frame.map(|frame| frame.map(Frame::data)))
    }
}

/// The test's end of a response.
pub struct Pipe {
    sender: mpsc::UnboundedSender<Result<Bytes, String>>,
    alive: Arc<()>,
}

impl Pipe {
    pub fn send(&self, text: &str) {
        // Nobody reads any more: that is for the test to find out.
        let _ = self.sender.send(Ok(Bytes::copy_from_slice(text.as_bytes())));
    }

    pub fn break_off(self) {
        let _ = self.sender.send(Err("broken on purpose".to_owned()));
    }

    /// Whether the gateway still reads.
    pub fn is_read(&self) -> bool {
        Arc::strong_count(&self.alive) > 1
    }
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Response<Body>>,
    seen: Vec<Seen>,
}

/// An upstream that gives the answers it was told to, one after the other.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Upstream {
    pub async fn start() -> Upstream {
        let script: Arc<Mutex<Script>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let told = script.clone();
        let router = axum::Router::new().fallback(move |request: Request<Body>| {
            let told = told.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a whole request").to_bytes();
                let mut told = told.lock().expect("no panic");
                told.seen.push(Seen { path: head.uri.to_string(), headers: head.headers, body });
                told.answers.pop_front().unwrap_or_else(|| {
                    Response::builder().status(StatusCode::NOT_IMPLEMENTED).body(Body::empty()).expect("a response")
                })
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Upstream { address, script }
    }

    pub fn answers(&self, status: u16, body: &str) {
        let response = Response::builder().status(status).header("content-type", "application/json");
        self.push(response.body(Body::from(body.to_owned())).expect("a response"));
    }

    /// The next answer is a stream that the test writes.
    pub fn streams(&self) -> Pipe {
        let (sender, frames) = mpsc::unbounded_channel();
        let alive = Arc::new(());
        let body = Piped { frames, _alive: alive.clone() };
        let response = Response::builder().header("content-type", "text/event-stream");
        self.push(response.body(Body::new(body)).expect("a response"));
        Pipe { sender, alive }
    }

    pub fn push(&self, response: Response<Body>) {
        self.script.lock().expect("no panic").answers.push_back(response);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().expect("no panic").seen.clone()
    }
}

pub const ANSWER: &str =
    r#"{"choices":[{"message":{"content":"four"}}],"usage":{"prompt_tokens":11,"completion_tokens":5}}"#;
/// A piece of a stream, of one token.
pub const PIECE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\n";
pub const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";
