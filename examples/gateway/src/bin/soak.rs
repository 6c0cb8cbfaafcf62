//! Many streams at once through the gateway, cut by their clients and broken by their upstream at random, and then the books.
//!
//! ```sh
//! cargo run --release -p tokenweir-gateway --bin soak -- [--streams 1000] [--rounds 10] [--seed 1]
//! ```
//!
//! The gateway runs as a process of its own: the program `tokenweir-gateway` beside this one. At the end nothing is held,
//! each call has one record, each record is what the upstream said it produced (or, where the stream was cut or broke, what
//! had passed by then), the counters are the sums of the records, and memory has not grown from round to round.

#![forbid(unsafe_code)]

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokenweir_gateway::Digest;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const KEY: &str = "soak";
const PIECE: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\n";
const INPUT: u64 = 11;

/// Numbers that look random: the same for the same seed.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn of(seed: u64, call: u64) -> Self {
        Dice((seed << 32 ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

/// What is to become of a call.
#[derive(Clone, Copy)]
struct Plan {
    pieces: u64,
    /// The upstream answers with an error.
    refused: bool,
    /// The upstream breaks off after so many pieces.
    breaks: Option<u64>,
    /// The client hangs up after so many bytes.
    cut: Option<u64>,
}

impl Plan {
    fn of(seed: u64, call: u64) -> Plan {
        let mut dice = Dice::of(seed, call);
        let pieces = 1 + dice.below(60);
        let refused = dice.below(20) == 0;
        let breaks = (dice.below(10) == 0).then(|| dice.below(pieces));
        let cut = (dice.below(3) == 0).then(|| dice.below(pieces * PIECE.len() as u64));
        Plan { pieces, refused, breaks, cut }
    }
}

/// Pieces that the upstream has written, by call.
type Written = Arc<Mutex<HashMap<u64, u64>>>;

/// A stream of the upstream's.
struct Pieces {
    call: u64,
    plan: Plan,
    sent: u64,
    stage: u8,
    wait: Pin<Box<tokio::time::Sleep>>,
    written: Written,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        ready!(self.wait.as_mut().poll(context));
        if self.plan.breaks == Some(self.sent) {
            return Poll::Ready(Some(Err("broken on purpose")));
        }
        if self.sent < self.plan.pieces {
            self.sent += 1;
            let next = tokio::time::Instant::now() + Duration::from_millis(2 + self.sent % 9);
            self.wait.as_mut().reset(next);
            if let Ok(mut written) = self.written.lock() {
                written.insert(self.call, self.sent);
            }
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))));
        }
        self.stage += 1;
        Poll::Ready(match self.stage {
            1 => {
                let usage = format!(
                    "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{INPUT},\"completion_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
                    self.plan.pieces
                );
                Some(Ok(Frame::data(usage.into())))
            }
            _ => None,
        })
    }
}

async fn upstream(seed: u64, written: Written) -> Result<std::net::SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = axum::Router::new().fallback(move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let call = request.headers().get("x-call").and_then(|call| call.to_str().ok()?.parse().ok()).unwrap_or(0);
            let _ = request.into_body().collect().await;
            let plan = Plan::of(seed, call);
            if plan.refused {
                let response = Response::builder().status(503).header("content-type", "application/json");
                return response.body(Body::from("{\"error\":{\"message\":\"overloaded\"}}")).unwrap_or_default();
            }
            let wait = Box::pin(tokio::time::sleep(Duration::ZERO));
            let body = Body::new(Pieces { call, plan, sent: 0, stage: 0, wait, written });
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap_or_default()
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// The gateway, ended with this value.
struct Gateway {
    process: Child,
    address: String,
    directory: PathBuf,
}

impl Gateway {
    fn start(upstream: std::net::SocketAddr) -> Result<Gateway, Failure> {
        let directory = std::env::temp_dir().join(format!("tokenweir-soak-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let digest = Digest::of(KEY.as_bytes());
        let config = format!(
            r#"
            listen = "127.0.0.1:0"
            usage_log = "{}/usage.jsonl"
            caller_headers = {{ call = "x-call" }}
            [admin]
            key_sha256 = "{digest}"
            [upstream.soak]
            base_url = "http://{upstream}/v1"
            [deployment.soak]
            upstream = "soak"
            [project.soak.keys]
            soak = "{digest}"
            [project.soak.limits.soak]
            tokens_per_minute = 2_000_000_000
            token_quota = 1_000_000_000_000
            token_quota_period = "Yearly"
            "#,
            directory.display()
        );
        let file = directory.join("gateway.toml");
        std::fs::write(&file, config)?;
        let program = std::env::current_exe()?.with_file_name("tokenweir-gateway");
        let mut process = Command::new(&program).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut first = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut first)?;
        let address =
            first.split("http://").nth(1).and_then(|rest| rest.split(';').next()).ok_or("it does not start")?;
        Ok(Gateway { process, address: address.to_owned(), directory })
    }

    /// Its memory, in kilobytes.
    fn memory(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.process.id().to_string()).join("status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

type Clients = Client<HttpConnector, Full<Bytes>>;

/// One call, as its plan has it; how many whole pieces the client has had.
async fn call(clients: Clients, address: String, seed: u64, call: u64) -> Result<u64, Failure> {
    let plan = Plan::of(seed, call);
    let body = format!(
        r#"{{"model":"soak","stream":true,"max_tokens":{},"messages":[{{"role":"user","content":"word"}}]}}"#,
        1 + call % 80
    );
    let request = Request::post(format!("http://{address}/v1/chat/completions"))
        .header("authorization", format!("Bearer {KEY}"))
        .header("x-call", call)
        .body(Full::from(body))?;
    // A stream that breaks with its first piece may end the connection before its head has left.
    let Ok(mut response) = clients.request(request).await else { return Ok(0) };
    let mut read = 0;
    while plan.cut.is_none_or(|cut| read <= cut) {
        match response.body_mut().frame().await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => break,
        }
    }
    Ok(if plan.refused { 0 } else { (read / PIECE.len() as u64).min(plan.pieces) })
}

async fn get(clients: &Clients, address: &str, view: &str) -> Result<Value, Failure> {
    let request = Request::get(format!("http://{address}/admin/{view}")).header("api-key", KEY);
    let response = clients.request(request.body(Full::default())?).await?;
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

async fn soak(streams: u64, rounds: u64, seed: u64) -> Result<(), Failure> {
    let written = Written::default();
    let gateway = Gateway::start(upstream(seed, written.clone()).await?)?;
    let clients: Clients = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let mut received: HashMap<u64, u64> = HashMap::new();
    let mut memory = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        let ids = round * streams + 1..=(round + 1) * streams;
        let tasks: Vec<_> = ids
            .clone()
            .map(|id| (id, tokio::spawn(call(clients.clone(), gateway.address.clone(), seed, id))))
            .collect();
        for (id, task) in tasks {
            received.insert(id, task.await??);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while get(&clients, &gateway.address, "usage").await?["open"] != 0 {
            if Instant::now() > deadline {
                return Err("calls are held that nobody makes".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        memory.push(gateway.memory()?);
        println!("round {}: {streams} streams in {:.1?}, {} kB", round + 1, began.elapsed(), memory[memory.len() - 1]);
    }
    check(&gateway, &clients, seed, &received, &written).await?;
    // The first third of the rounds fills pools and caches. From there on the most that it has does not grow by more than
    // what pages and threads come and go by: a kilobyte that each call left behind would be seen in a thousand calls.
    let (warm, rest) = memory.split_at(memory.len() / 3);
    let (middle, end) = rest.split_at(rest.len().div_ceil(2));
    if let (Some(before), Some(after)) = (middle.iter().max(), end.iter().max())
        && after > &(before + before / 10 + 1024)
    {
        return Err(format!("memory grew from {before} to {after} kB, after {} rounds", warm.len()).into());
    }
    println!("nothing is held; every record and every counter is as it should be");
    Ok(())
}

/// All lines of the usage log, which begins a new file where one is full.
fn records(directory: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    for file in std::fs::read_dir(directory)? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("usage.jsonl")) {
            text += &std::fs::read_to_string(path)?;
        }
    }
    Ok(text)
}

async fn check(
    gateway: &Gateway,
    clients: &Clients,
    seed: u64,
    received: &HashMap<u64, u64>,
    written: &Written,
) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let records = loop {
        let text = records(&gateway.directory)?;
        if text.lines().count() >= received.len() {
            break text;
        }
        if Instant::now() > deadline {
            return Err(format!("{} records for {} calls", text.lines().count(), received.len()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (mut sum, mut exact, mut partly, mut failed, mut unanswered) = (0, 0, 0, 0, 0);
    let mut seen = HashMap::new();
    for line in records.lines() {
        let record: Value = serde_json::from_str(line)?;
        let id: u64 = record["caller"]["call"].as_str().ok_or("a record without a call")?.parse()?;
        if seen.insert(id, ()).is_some() {
            return Err(format!("call {id} has two records").into());
        }
        let charged = |what: &str| record[what].as_u64().ok_or(format!("call {id}: {record}"));
        let (input, output) = (charged("charged_input")?, charged("charged_output")?);
        sum += input + output;
        let plan = Plan::of(seed, id);
        let produced = written.lock().map_err(|_| "a panic")?.get(&id).copied().unwrap_or(0);
        let had = *received.get(&id).ok_or("a record of nobody's call")?;
        let estimate = 1 + id % 80;
        let as_it_should = if record["response_code"] == 502 {
            unanswered += 1;
            // Broken before it had begun: nobody knows what it has taken.
            (input, output, produced) == (8, estimate, 0)
        } else if record["response_code"].as_u64().is_some_and(|code| code >= 400) {
            failed += 1;
            (input, output, produced) == (0, 0, 0)
        } else if record["estimated"] == false {
            exact += 1;
            (input, output) == (INPUT, plan.pieces)
        } else {
            partly += 1;
            // What had passed, or the estimate where nothing had.
            input == 8 && ((had..=produced.max(had)).contains(&output) || (had == 0 && output == estimate))
        };
        if !as_it_should {
            return Err(format!("call {id}: the client had {had} of {produced} pieces: {record}").into());
        }
    }
    println!(
        "{} calls: {exact} by what was reported, {partly} by what had passed, {unanswered} unanswered, {failed} failed",
        seen.len()
    );
    if seen.len() != received.len() {
        return Err(format!("{} calls have a record of {}", seen.len(), received.len()).into());
    }
    let usage = get(clients, &gateway.address, "usage").await?;
    let counters = usage["counters"].as_array().filter(|counters| !counters.is_empty()).ok_or("no counters")?;
    if usage["open"] != 0 {
        return Err(format!("calls are held that nobody makes: {}", usage["open"]).into());
    }
    for counter in counters {
        if counter["settled_total"] != sum || counter["held"] != 0 {
            return Err(format!("the records come to {sum}: {counter}").into());
        }
    }
    Ok(())
}

fn arguments() -> Result<(u64, u64, u64), String> {
    let (mut streams, mut rounds, mut seed) = (1000, 10, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let value = value.ok_or_else(|| format!("{name} needs a whole number"))?;
        match &*name {
            "--streams" => streams = value,
            "--rounds" => rounds = value,
            "--seed" => seed = value,
            _ => return Err(format!("{name} is not known; give --streams, --rounds or --seed")),
        }
    }
    Ok((streams.max(1), rounds.max(1), seed))
}

fn main() -> ExitCode {
    let done = arguments().map_err(Failure::from).and_then(|(streams, rounds, seed)| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(soak(streams, rounds, seed))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
