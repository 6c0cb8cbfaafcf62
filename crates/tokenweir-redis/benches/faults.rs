//! Four processes that share one limit, by the server's decisions, by leases, with limitador and with Python's `limits`: how many
//! checks they make, what they admit of a limit that they use up, and what they do while the server stands still and when it is
//! killed and started again. All on a redis-server that this starts.
//!
//! `cargo bench -p tokenweir-redis --bench faults`. Python's part runs if `LIMITS_PYTHON` names an interpreter that has the
//! packages `limits` and `redis`, limitador's if `LIMITADOR` names the program of `benches/onredis`, whose `run` prepares both.

#[path = "../tests/support/mod.rs"]
mod support;

mod processes;

use processes::asking::{Check, Job, Sums, ask};
use processes::{machine, together};
use std::ffi::OsString;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use support::RedisServer;
use tokenweir::{Estimate, Policy, Request};
use tokenweir_redis::{Decision, Leases, RedisLimiter, Server, WhenAway};

const PROCESSES: usize = 4;
const EXACT: &str = "by the server";
const LEASED: &str = "by leases";
/// Of a decision.
const DEADLINE: Duration = Duration::from_millis(100);
/// Of the limit that is used up.
const AMOUNT: u64 = 10_000;
/// Of the one that is not.
const PLENTY: u64 = 1_000_000_000_000;

impl Check for RedisLimiter {
    async fn check(&self) -> Option<bool> {
        match self.admit(&Request::new("search", "gpt-4o"), Estimate::new(0, 0)).await {
            Ok(Decision::Admitted(permit)) => {
                // Nobody settles it.
                permit.into_id();
                Some(true)
            }
            Ok(Decision::Denied { .. }) => Some(false),
            Ok(Decision::Unavailable) | Err(_) => None,
        }
    }
}

/// A limiter of one limit: this amount an hour, on requests.
async fn connect(kind: &str, address: &str, amount: u64) -> RedisLimiter {
    let policy =
        format!("[[limit]]\nname = 'hot'\nmeter = 'requests'\nalgorithm = 'window'\namount = {amount}\nper = '1h'\n");
    let policy = Policy::from_toml(&policy).expect("a policy");
    let server = Server::parse(address).expect("an address");
    let builder = RedisLimiter::builder(server, policy).deadline(DEADLINE).when_away(WhenAway::Deny);
    let builder = if kind == LEASED { builder.leases(Leases::new()) } else { builder };
    builder.connect().await.expect("the server is there")
}

/// One of those that are measured: how its processes are begun, and how many checks each has at once if it may.
struct Kind {
    name: &'static str,
    program: OsString,
    first: Vec<&'static str>,
    many: usize,
}

fn kinds() -> Vec<Kind> {
    let own: OsString = std::env::current_exe().expect("this program").into();
    let kind = |name, program: &OsString, first, many| Kind { name, program: program.clone(), first, many };
    let mut kinds =
        vec![kind(EXACT, &own, vec!["--process", EXACT], 64), kind(LEASED, &own, vec!["--process", LEASED], 64)];
    if let Some(program) = std::env::var_os("LIMITADOR") {
        kinds.push(kind("limitador", &program, vec!["plain"], 64));
        kinds.push(kind("limitador, cached", &program, vec!["cached"], 64));
    }
    if let Some(python) = std::env::var_os("LIMITS_PYTHON") {
        // By threads, of which more make it slower.
        kinds.push(kind("Python's limits", &python, vec!["-c", include_str!("faults.py")], 8));
    }
    kinds
}

/// Runs the processes of one kind, and `meanwhile` beside them.
fn all(kind: &Kind, server: &mut RedisServer, job: &Job, meanwhile: impl FnOnce(&mut RedisServer)) -> Sums {
    server.command(&["FLUSHALL"]);
    let url = server.url();
    let begin = || {
        let mut command = Command::new(&kind.program);
        command.args(&kind.first).arg(&url).args(job.words());
        command
    };
    let said = together(PROCESSES, begin, || meanwhile(server));
    let sums = said.into_iter().map(|numbers| Sums(std::array::from_fn(|at| numbers[at] as u64)));
    sums.fold(Sums::default(), Sums::with)
}

fn print(kind: &Kind, Sums([admitted, refused, errors, longest]): Sums, most: u64) {
    println!(
        "{:20} admitted {admitted:6} ({:.2} of it)   refused {refused:7}   errors {errors:5}   longest wait {:6.1} ms",
        kind.name,
        admitted as f64 / most as f64,
        longest as f64 / 1e3
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, kind, address, job @ ..] = &arguments[..]
        && flag == "--process"
    {
        let job = Job::of(job);
        return ask(connect(kind, address, job.amount), &job);
    }
    let mut server = RedisServer::start();
    let version = server.command(&["INFO", "server"]);
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").to_owned();
    println!(
        "cargo bench -p tokenweir-redis --bench faults: {}; redis-server {version}; {PROCESSES} processes",
        machine()
    );
    let kinds = kinds();
    let seconds = Duration::from_secs;

    println!("\nchecks a second of a limit that never refuses, 64 at once in each process, Python's 8");
    for kind in &kinds {
        let job = Job { amount: PLENTY, time: seconds(3), at_once: kind.many, pause: Duration::ZERO };
        let sums = all(kind, &mut server, &job, |_| ());
        println!("{:20} {:9}   errors {:5}", kind.name, sums.checks() / 3, sums.0[2]);
    }

    let job = Job { amount: AMOUNT, time: seconds(3), at_once: 8, pause: Duration::from_millis(1) };
    println!("\na limit of {AMOUNT} that is used up, 8 at once in each process");
    for kind in &kinds {
        print(kind, all(kind, &mut server, &job, |_| ()), AMOUNT);
    }

    let job = Job { time: seconds(6), ..job };
    println!(
        "\nthe same; the server stands still from the first second to the second, is killed at the third and started again, empty, \
         half a second later: {} at most",
        2 * AMOUNT
    );
    for kind in &kinds {
        let sums = all(kind, &mut server, &job, |server| {
            sleep(seconds(1));
            server.pause();
            sleep(seconds(1));
            server.resume();
            sleep(seconds(1));
            server.kill();
            sleep(Duration::from_millis(500));
            server.restart();
        });
        print(kind, sums, 2 * AMOUNT);
    }
}
