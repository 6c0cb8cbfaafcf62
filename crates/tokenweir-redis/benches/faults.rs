//! Four processes that share one limit, by the server's decisions, by leases, and with Python's `limits`: what they admit of a limit
//! that they use up, and what they do while the server stands still and when it is killed and started again. All on a
//! redis-server that this starts.
//!
//! `cargo bench -p tokenweir-redis --bench faults`. Python's part runs if `LIMITS_PYTHON` names an interpreter that has the
//! packages `limits` and `redis`.

#[path = "../tests/support/mod.rs"]
mod support;

mod processes;

use processes::{machine, ready, together};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::RedisServer;
use tokenweir::{Estimate, Policy, Request};
use tokenweir_redis::{Decision, Leases, RedisLimiter, Server, WhenAway};

const PROCESSES: usize = 4;
const KINDS: [&str; 2] = ["by the server", "by leases"];
const PYTHON: &str = "Python's limits";
/// Of a decision.
const DEADLINE: Duration = Duration::from_millis(100);
/// Of the limit that is used up.
const AMOUNT: u64 = 10_000;

/// What checks came to: admitted, refused, errors, and the longest wait in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sums([u64; 4]);

impl Sums {
    fn with(self, other: Sums) -> Sums {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Sums([a + e, b + f, c + g, d.max(h)])
    }
}

/// A limiter of one limit: this amount an hour, on requests.
async fn connect(kind: &str, address: &str, amount: u64) -> RedisLimiter {
    let policy =
        format!("[[limit]]\nname = 'hot'\nmeter = 'requests'\nalgorithm = 'window'\namount = {amount}\nper = '1h'\n");
    let policy = Policy::from_toml(&policy).expect("a policy");
    let server = Server::parse(address).expect("an address");
    let builder = RedisLimiter::builder(server, policy).deadline(DEADLINE).when_away(WhenAway::Deny);
    let builder = if kind == KINDS[1] { builder.leases(Leases::new()) } else { builder };
    builder.connect().await.expect("the server is there")
}

async fn run(limiter: RedisLimiter, until: Instant, pause: Duration) -> Sums {
    let mut sums = Sums::default();
    while Instant::now() < until {
        let asked = Instant::now();
        let which = match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(0, 0)).await {
            Ok(Decision::Admitted(permit)) => {
                // Nobody settles it.
                permit.into_id();
                0
            }
            Ok(Decision::Denied { .. }) => 1,
            // The server was away.
            Ok(Decision::Unavailable) | Err(_) => 2,
        };
        sums.0[which] += 1;
        sums.0[3] = sums.0[3].max(asked.elapsed().as_micros() as u64);
        tokio::time::sleep(pause).await;
    }
    sums
}

/// One of the processes: says that it is ready, waits, runs, and says what came of it.
fn process(kind: &str, address: &str, job: &Job) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let limiter = runtime.block_on(connect(kind, address, job.amount));
    ready();
    let until = Instant::now() + job.time;
    let Sums(sums) = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..job.at_once {
            tasks.spawn(run(limiter.clone(), until, job.pause));
        }
        tasks.join_all().await.into_iter().fold(Sums::default(), Sums::with)
    });
    println!("{} {} {} {}", sums[0], sums[1], sums[2], sums[3]);
}

/// What each process does.
#[derive(Debug, Clone, Copy)]
struct Job {
    amount: u64,
    time: Duration,
    at_once: usize,
    /// Between two checks of the same task.
    pause: Duration,
}

impl Job {
    fn words(&self) -> [String; 4] {
        [self.amount, self.time.as_millis() as u64, self.at_once as u64, self.pause.as_millis() as u64]
            .map(|number| number.to_string())
    }

    fn of(words: &[String]) -> Job {
        let [amount, time, at_once, pause] = std::array::from_fn(|at| words[at].parse().expect("a number"));
        Job {
            amount,
            time: Duration::from_millis(time),
            at_once: at_once as usize,
            pause: Duration::from_millis(pause),
        }
    }
}

/// Runs the processes of one kind, and `meanwhile` beside them.
fn all(kind: &str, server: &mut RedisServer, job: &Job, meanwhile: impl FnOnce(&mut RedisServer)) -> Sums {
    server.command(&["FLUSHALL"]);
    let url = server.url();
    let begin = || {
        let mut command = match kind {
            PYTHON => {
                let mut command = Command::new(std::env::var("LIMITS_PYTHON").expect("looked at before"));
                command.args(["-c", include_str!("faults.py"), &url]);
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["--process", kind, &url]);
                command
            }
        };
        command.args(job.words());
        command
    };
    let said = together(PROCESSES, begin, || meanwhile(server));
    let sums = said.into_iter().map(|numbers| Sums(std::array::from_fn(|at| numbers[at] as u64)));
    sums.fold(Sums::default(), Sums::with)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, kind, address, job @ ..] = &arguments[..]
        && flag == "--process"
    {
        return process(kind, address, &Job::of(job));
    }
    let mut server = RedisServer::start();
    let version = server.command(&["INFO", "server"]);
    let version = version.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown").to_owned();
    println!(
        "cargo bench -p tokenweir-redis --bench faults: {}; redis-server {version}; {PROCESSES} processes",
        machine()
    );
    let mut kinds = KINDS.to_vec();
    if std::env::var_os("LIMITS_PYTHON").is_some() {
        kinds.push(PYTHON);
    }
    let seconds = Duration::from_secs;

    let job = Job { amount: AMOUNT, time: seconds(3), at_once: 8, pause: Duration::from_millis(1) };
    println!("\na limit of {AMOUNT} that is used up, 8 at once in each process");
    for kind in &kinds {
        let Sums([admitted, refused, errors, longest]) = all(kind, &mut server, &job, |_| ());
        println!(
            "{kind:30} admitted {admitted:6} ({:.2} of it)   refused {refused:6}   errors {errors:5}   longest wait {:6.1} ms",
            admitted as f64 / AMOUNT as f64,
            longest as f64 / 1e3
        );
    }

    let job = Job { time: seconds(6), ..job };
    println!(
        "\nthe same; the server stands still from the first second to the second, is killed at the third and started again, empty, \
         half a second later: {} at most",
        2 * AMOUNT
    );
    for kind in &kinds {
        let Sums([admitted, refused, errors, longest]) = all(kind, &mut server, &job, |server| {
            sleep(seconds(1));
            server.pause();
            sleep(seconds(1));
            server.resume();
            sleep(seconds(1));
            server.kill();
            sleep(Duration::from_millis(500));
            server.restart();
        });
        println!(
            "{kind:30} admitted {admitted:6} ({:.2} of it)   refused {refused:6}   errors {errors:5}   longest wait {:6.1} ms",
            admitted as f64 / (2 * AMOUNT) as f64,
            longest as f64 / 1e3
        );
    }
}
