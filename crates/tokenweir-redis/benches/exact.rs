//! What a decision on the server costs: one at a time beside a bare TCP echo, and many at once on one connection. All in one
//! run, on a redis-server that this starts.
//!
//! `cargo bench -p tokenweir-redis --bench exact`

#[path = "../tests/support/mod.rs"]
mod support;

mod processes;

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::RedisServer;
use tokenweir::{Estimate, Policy, Request, Usage};
use tokenweir_redis::{Decision, RedisLimiter, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// So many round trips one after the other.
const ONE_BY_ONE: usize = 20_000;
/// So many decisions at once, and in all.
const AT_ONCE: usize = 256;
const IN_ALL: usize = 150_000;

fn policy(fourth: &str) -> Policy {
    let text = format!(
        "[[limit]]\nname = 'project tpm'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 9_000_000_000\nper = '1m'\nscope = ['project', 'deployment']\n\
         [[limit]]\nname = 'deployment window'\nmeter = 'total'\nalgorithm = 'window'\namount = 9_000_000_000\nper = '1m'\nscope = ['deployment']\n\
         [[limit]]\nname = 'project month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 9_000_000_000_000\nperiod = 'monthly'\nscope = ['project']\n\
         [[limit]]\nname = 'fourth'\n{fourth}\n"
    );
    Policy::from_toml(&text).expect("a policy")
}

const REQUESTS: &str =
    "meter = 'requests'\nalgorithm = 'bucket'\namount = 9_000_000_000\nper = '1m'\nscope = ['project']";
const PLACES: &str = "meter = 'in_flight'\nalgorithm = 'in_flight'\namount = 100_000_000\nscope = ['deployment']";

async fn limiter(server: &RedisServer, fourth: &str) -> RedisLimiter {
    let address = Server::parse(&server.url()).expect("an address");
    let builder = RedisLimiter::builder(address, policy(fourth)).deadline(Duration::from_secs(5));
    builder.connect().await.expect("a limiter")
}

/// Answers with what it is sent, on a thread of its own.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let _ = stream.set_nodelay(true);
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
        }
    });
    port
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_nanos() as f64 / 1000.0;
    (at(50), at(99))
}

async fn echo(port: u16) -> (f64, f64) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the echo");
    stream.set_nodelay(true).expect("nodelay");
    let mut times = Vec::with_capacity(ONE_BY_ONE);
    let mut bytes = [7; 128];
    for _ in 0..ONE_BY_ONE {
        let began = Instant::now();
        stream.write_all(&bytes).await.expect("sent");
        stream.read_exact(&mut bytes).await.expect("received");
        times.push(began.elapsed());
    }
    percentiles(times)
}

async fn admit(limiter: &RedisLimiter) -> tokenweir_redis::Permit {
    match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400)).await.expect("a decision") {
        Decision::Admitted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

async fn one_by_one(limiter: &RedisLimiter) -> (f64, f64) {
    let mut times = Vec::with_capacity(ONE_BY_ONE);
    for _ in 0..ONE_BY_ONE {
        let began = Instant::now();
        let permit = admit(limiter).await;
        times.push(began.elapsed());
        black_box(permit.into_id());
    }
    percentiles(times)
}

/// What a run of many decisions came to.
struct Run {
    per_second: f64,
    /// Microseconds of each decision: what the server says its scripts took, all processor time of the server, and of this
    /// process.
    script: f64,
    server: f64,
    client: f64,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Run { per_second, script, server, client } = self;
        write!(
            f,
            "{per_second:.0} a second (script {script:.1} us, processor time of the server {server:.1} us, of the client {client:.1} us)"
        )
    }
}

/// Processor time of a process, seconds.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, in hundredths.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Microseconds that the server spent in scripts since it was last asked.
fn script_time(server: &RedisServer) -> f64 {
    let stats = server.command(&["INFO", "commandstats"]);
    server.command(&["CONFIG", "RESETSTAT"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).unwrap_or_default();
    line.split(',').find_map(|field| field.strip_prefix("usec=")?.parse().ok()).unwrap_or(0.0)
}

/// `AT_ONCE` decisions at a time on one connection.
async fn many(server: &RedisServer, limiter: &RedisLimiter, settle: bool) -> Run {
    script_time(server);
    let times = [server.pid(), std::process::id()].map(processor_time);
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            for _ in 0..IN_ALL / AT_ONCE {
                let permit = admit(&limiter).await;
                if settle {
                    permit.settle(Usage::new(912, 77)).await.expect("settled");
                } else {
                    black_box(permit.into_id());
                }
            }
        });
    }
    tasks.join_all().await;
    finished(server, (IN_ALL / AT_ONCE * AT_ONCE) as f64, began, times)
}

fn finished(server: &RedisServer, decisions: f64, began: Instant, times: [f64; 2]) -> Run {
    let per_second = decisions / began.elapsed().as_secs_f64();
    let [was_server, was_client] = times;
    let micros = |pid, was| (processor_time(pid) - was) * 1e6 / decisions;
    let (on_server, on_client) = (micros(server.pid(), was_server), micros(std::process::id(), was_client));
    let script = script_time(server) / decisions;
    server.command(&["FLUSHALL"]);
    Run { per_second, script, server: on_server, client: on_client }
}

/// Ends of permits, `AT_ONCE` at a time on one connection: of so many routes, in turns.
async fn ends(server: &RedisServer, limiter: &RedisLimiter, routes: usize) -> Run {
    const EACH: usize = 100;
    let deployments: Vec<String> = (0..routes).map(|route| format!("model {route}")).collect();
    let mut permits = Vec::with_capacity(AT_ONCE * EACH);
    for number in 0..AT_ONCE * EACH {
        let request = Request::new("search", &deployments[number / EACH % routes]);
        let decision = limiter.admit(&request, Estimate::new(900, 400)).await.expect("a decision");
        permits.push(decision.admitted().expect("room"));
    }
    script_time(server);
    let times = [server.pid(), std::process::id()].map(processor_time);
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let some = permits.split_off(permits.len() - EACH);
        tasks.spawn(async move {
            for permit in some {
                permit.settle(Usage::new(912, 77)).await.expect("settled");
            }
        });
    }
    tasks.join_all().await;
    finished(server, (AT_ONCE * EACH) as f64, began, times)
}

fn main() {
    let server = RedisServer::start();
    let version = server.command(&["INFO", "server"]);
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").to_owned();
    println!("cargo bench -p tokenweir-redis --bench exact: {}; redis-server {version}", processes::machine());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let port = echo_server();
    runtime.block_on(async {
        let (bucket, places) = (limiter(&server, REQUESTS).await, limiter(&server, PLACES).await);
        // In turns, so that whatever else the machine does meets all of them.
        for round in 1..=3 {
            let (echo, echo_99) = echo(port).await;
            let (script, script_99) = one_by_one(&bucket).await;
            let (with_places, _) = one_by_one(&places).await;
            server.command(&["FLUSHALL"]);
            println!(
                "round {round}, one at a time: echo {echo:.1} us (p99 {echo_99:.1}); four limits {script:.1} us (p99 \
                 {script_99:.1}), {:.2} x echo; of which one in flight {with_places:.1} us, {:.2} x echo",
                script / echo,
                with_places / echo
            );
            println!(
                "round {round}, {AT_ONCE} at once on one connection, four limits: {}",
                many(&server, &bucket, false).await
            );
            println!("round {round}, of which one in flight: {}", many(&server, &places, false).await);
            println!("round {round}, decided and settled: {}", many(&server, &bucket, true).await);
            println!("round {round}, settled, of one route: {}", ends(&server, &bucket, 1).await);
            println!(
                "round {round}, settled, each of its own route, so alone: {}",
                ends(&server, &bucket, AT_ONCE).await
            );
        }
    });
}
