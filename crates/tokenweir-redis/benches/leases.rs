//! Four processes on one hot limit: by the server's decisions, by leases, and with Python's `limits`, all on a redis-server that
//! this starts. Then a limit that they fill: what was admitted beside what there was.
//!
//! `cargo bench -p tokenweir-redis --bench leases`. Python's part runs if `LIMITS_PYTHON` names an interpreter that has the
//! packages `limits` and `redis`.

#[path = "../tests/support/mod.rs"]
mod support;

mod processes;

use processes::{machine, ready};
use std::process::Command;
use std::time::{Duration, Instant};
use support::RedisServer;
use tokenweir::{Estimate, Policy, Request, Usage};
use tokenweir_redis::{By, Decision, Leases, RedisLimiter, Server};

const PROCESSES: usize = 4;
const SECONDS: f64 = 3.0;
/// Requests at once of each process that waits for the server.
const AT_ONCE: usize = 64;
/// Of the limit that is filled: capacity, and refill a second.
const BURST: f64 = 200_000.0;
const REFILL: f64 = 200_000.0;

fn policy(kind: &str) -> Policy {
    let algorithm = match kind {
        "filled" => format!("amount = {REFILL}\nburst = {BURST}\nper = '1s'"),
        _ => "amount = 90_000_000_000\nper = '1m'".to_owned(),
    };
    let text = format!("[[limit]]\nname = 'hot'\nmeter = 'total'\nalgorithm = 'bucket'\n{algorithm}\n");
    Policy::from_toml(&text).expect("a policy")
}

/// Decisions, of which by leases, and tokens admitted.
async fn run(limiter: RedisLimiter, seed: u64, until: Instant, settle: bool) -> [u64; 3] {
    let [mut decisions, mut by_lease, mut tokens] = [0; 3];
    let request = Request::new("search", "gpt-4o");
    let mut number = seed;
    while Instant::now() < until {
        number += 1;
        let estimate = 1 + number * 7 % 50;
        if let Decision::Admitted(permit) =
            limiter.admit(&request, Estimate::new(estimate, 0)).await.expect("a decision")
        {
            by_lease += u64::from(permit.by() == By::Lease);
            tokens += estimate;
            if settle {
                permit.settle(Usage::new(estimate, 0)).await.expect("settled");
            } else {
                permit.into_id();
            }
        }
        decisions += 1;
    }
    [decisions, by_lease, tokens]
}

/// One of the processes: says that it is ready, waits, runs, and says what came of it.
fn child(kind: &str, address: &str) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let leased = !kind.starts_with("exact");
    let limiter = runtime.block_on(async {
        let server = Server::parse(address).expect("an address");
        let builder = RedisLimiter::builder(server, policy(kind)).deadline(Duration::from_secs(5));
        let builder = if leased { builder.leases(Leases::new()) } else { builder };
        builder.connect().await.expect("a limiter")
    });
    ready();
    let until = Instant::now() + Duration::from_secs_f64(SECONDS);
    let sums = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let tasks_of = if leased { 1 } else { AT_ONCE };
        for seed in 0..tasks_of {
            tasks.spawn(run(limiter.clone(), seed as u64, until, kind != "exact, unsettled"));
        }
        let sums = tasks.join_all().await;
        limiter.flush(Duration::from_secs(5)).await;
        sums.into_iter().fold([0; 3], |sum, one| [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]])
    });
    println!("{} {} {}", sums[0], sums[1], sums[2]);
}

/// Runs the processes together; the sums of what they say.
fn together(command: impl Fn() -> Command) -> [f64; 3] {
    let said = processes::together(PROCESSES, command, || ());
    said.iter().fold([0.0; 3], |sums, numbers| std::array::from_fn(|at| sums[at] + numbers[at]))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, kind, address] = &arguments[..]
        && flag == "--process"
    {
        return child(kind, address);
    }
    let server = RedisServer::start();
    let version = server.command(&["INFO", "server"]);
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").to_owned();
    println!("cargo bench -p tokenweir-redis --bench leases: {}; redis-server {version}", machine());
    let of = |kind: &'static str| {
        let (program, address) = (arguments[0].clone(), server.url());
        together(move || {
            let mut command = Command::new(&program);
            command.args(["--process", kind, &address]);
            command
        })
    };
    let python = std::env::var("LIMITS_PYTHON").ok();
    for round in 1..=3 {
        let [unsettled, _, _] = of("exact, unsettled");
        server.command(&["FLUSHALL"]);
        let [exact, _, _] = of("exact");
        server.command(&["FLUSHALL"]);
        let [leased, by_lease, _] = of("leased");
        server.command(&["FLUSHALL"]);
        let limits = python.as_ref().map(|python| {
            together(|| {
                let mut command = Command::new(python);
                command.args(["-c", include_str!("limits.py"), &server.url(), &SECONDS.to_string()]);
                command
            })
        });
        server.command(&["FLUSHALL"]);
        let limits = limits.map_or("not tried".to_owned(), |[checks, _, _]| format!("{:.0}", checks / SECONDS));
        println!(
            "round {round}, {PROCESSES} processes, one hot limit, a second: {:.0} decided by the server and {:.0} decided and settled; {:.0} \
             decided by leases and settled ({:.2} % by leases), {:.0} x and {:.0} x; Python's limits, one check at a time: {limits}",
            unsettled / SECONDS,
            exact / SECONDS,
            leased / SECONDS,
            100.0 * by_lease / leased,
            leased / unsettled,
            leased / exact
        );
        let [_, _, tokens] = of("filled");
        let there = BURST + REFILL * SECONDS;
        println!(
            "round {round}, a limit that is filled: {tokens:.0} tokens admitted of {there:.0}, {:.2} % unused; {:.0} over it",
            100.0 * (1.0 - tokens / there),
            // The processes do not begin and end at one instant.
            (tokens - there - REFILL * 0.05).max(0.0)
        );
        server.command(&["FLUSHALL"]);
    }
}
