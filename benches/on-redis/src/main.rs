//! Limits on Redis, one beside the other in one run: tokenweir's, limitador's and Python's `limits`.
//!
//! Four processes of each share one limit on a redis-server that this starts: how many checks they make, what they admit of a
//! limit that they use up, and what they do while the server stands still and when it is killed and started again.
//! `benches/on-redis/run` builds and runs it.

#[path = "../../../crates/tokenweir-redis/tests/support/mod.rs"]
mod support;

mod contender;

use contender::{Contender, KINDS};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::RedisServer;

const PROCESSES: usize = 4;
const PYTHON: &str = "limits (Python)";
/// Of the limit that is used up.
const AMOUNT: u64 = 10_000;
const PLENTY: u64 = 1_000_000_000_000;

/// What checks came to: admitted, refused, errors, and the longest wait in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sums([u64; 4]);

impl Sums {
    fn with(self, other: Sums) -> Sums {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Sums([a + e, b + f, c + g, d.max(h)])
    }

    fn checks(self) -> u64 {
        self.0[0] + self.0[1] + self.0[2]
    }
}

async fn run(contender: Arc<Contender>, until: Instant, pause: Duration) -> Sums {
    let mut sums = Sums::default();
    while Instant::now() < until {
        let asked = Instant::now();
        let which = match contender.check().await {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        sums.0[which] += 1;
        sums.0[3] = sums.0[3].max(asked.elapsed().as_micros() as u64);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    sums
}

/// One of the processes: says that it is ready, waits, runs, and says what came of it.
fn process(kind: &str, address: &str, job: &Job) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let contender = Arc::new(runtime.block_on(Contender::connect(kind, address, job.amount)));
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the word to go");
    let until = Instant::now() + job.time;
    let Sums(sums) = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..job.at_once {
            tasks.spawn(run(contender.clone(), until, job.pause));
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

/// Runs the processes of one kind together, and `meanwhile` beside them.
fn together(kind: &str, server: &mut RedisServer, job: &Job, meanwhile: impl FnOnce(&mut RedisServer)) -> Sums {
    server.command(&["FLUSHALL"]);
    let begin = || {
        let mut command = match kind {
            PYTHON => {
                let mut command = Command::new(std::env::var("LIMITS_PYTHON").expect("looked at before"));
                command.args(["-c", include_str!("limits.py"), &server.url()]);
                command
            }
            _ => {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["--process", kind, &server.url()]);
                command
            }
        };
        let mut child: Child =
            command.args(job.words()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let mut said: BufReader<ChildStdout> = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready", "{kind}");
        (child, said)
    };
    let mut children: Vec<_> = (0..PROCESSES).map(|_| begin()).collect();
    for (child, _) in &mut children {
        child.stdin.take().expect("piped").write_all(b"go\n").expect("it waits");
    }
    meanwhile(server);
    let mut sums = Sums::default();
    for (mut child, mut said) in children {
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        let mut words = line.split_whitespace().map(|word| word.parse().expect("a number"));
        sums = sums.with(Sums(std::array::from_fn(|_| words.next().expect("four numbers"))));
        child.wait().expect("it ends");
    }
    sums
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("{}, {cores} cores, load {load}", model.trim_start_matches([' ', '\t', ':']))
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
    println!("benches/on-redis/run: {}; redis-server {version}; {PROCESSES} processes", machine());
    let mut kinds = KINDS.to_vec();
    if std::env::var_os("LIMITS_PYTHON").is_some() {
        kinds.push(PYTHON);
    }
    let seconds = Duration::from_secs;

    println!("\nchecks a second of a limit that never refuses, 64 at once in each process (Python: 8 threads)");
    for kind in &kinds {
        let at_once = if *kind == PYTHON { 8 } else { 64 };
        let job = Job { amount: PLENTY, time: seconds(3), at_once, pause: Duration::ZERO };
        let sums = together(kind, &mut server, &job, |_| ());
        println!("{kind:30} {:9}   errors {}", sums.checks() / 3, sums.0[2]);
    }

    let job = Job { amount: AMOUNT, time: seconds(3), at_once: 8, pause: Duration::from_millis(1) };
    println!("\na limit of {AMOUNT} that is used up, 8 at once in each process");
    for kind in &kinds {
        let Sums([admitted, refused, errors, longest]) = together(kind, &mut server, &job, |_| ());
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
        let Sums([admitted, refused, errors, longest]) = together(kind, &mut server, &job, |server| {
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
