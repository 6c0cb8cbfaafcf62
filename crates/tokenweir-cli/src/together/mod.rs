//! `tokenweir replay --processes`: a trace through several processes at once, and what they admitted in all.
//!
//! - `store`: where they count, and how one of them asks there;
//! - `worker`: one of them, which decides on its share of the trace;
//! - `sum`: what they add up to, as they tell it to the one that started them;
//! - `shown`: what is printed;
//! - this page: starting them at once, and waiting for them.

mod shown;
mod store;
mod sum;
mod worker;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::args;
use crate::failure::Failure;
use crate::output;
use crate::policy_file;
use store::{Counting, Store};
use sum::Sum;

/// What a process says when it could begin, and what it is told then.
const READY: &str = "ready";
const GO: &str = "go";

/// Runs the command: as the one that starts the processes, or as one of them.
///
/// # Errors
/// The policy, the trace, the store or an option is wrong, or one of the processes fails.
pub fn run(args: &args::Replay, processes: u32) -> Result<(), Failure> {
    match args.worker {
        Some(worker) => worker::run(args, worker, processes),
        None => start(args, processes),
    }
}

fn start(args: &args::Replay, processes: u32) -> Result<(), Failure> {
    let policy = policy_file::load(&args.policy, args.policy_format)?;
    if args.trace == Path::new("-") {
        let reason = "is the standard input, and each process reads the trace for itself";
        return Err(Failure::input("--trace", reason, "give the path of a file"));
    }
    let store = Store::of(args.store.as_deref())?;
    let max_counters = args.max_counters as usize;
    let place = store.prepare(&policy, max_counters)?;
    // What is wrong with the store is said once, and before anything is started.
    drop(Counting::at(&store, &place.name, policy.clone(), max_counters)?);
    let mut workers = Workers::start(processes, &place.name)?;
    workers.ready()?;
    // They have it open; a run that is broken off leaves no file.
    drop(place);
    let sum = workers.run()?;
    let facts = shown::Facts { args, policy: &policy, store: &store, sum: &sum };
    output::print(&shown::text(&facts))
}

/// The processes; those that are left are ended with this value.
struct Workers(Vec<Worker>);

struct Worker {
    process: Child,
    told: BufReader<ChildStdout>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in &mut self.0 {
            // It has ended by itself unless something went wrong.
            let _ = worker.process.kill();
            let _ = worker.process.wait();
        }
    }
}

impl Workers {
    /// Starts this program again, with the same command line, as one worker after the other.
    fn start(processes: u32, place: &str) -> Result<Workers, Failure> {
        let failed = |error: std::io::Error| {
            Failure::input("--processes", format_args!("a process cannot be started: {error}"), "start fewer")
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut workers = Workers(Vec::new());
        for worker in 0..processes {
            let mut command = Command::new(&program);
            command.args(std::env::args_os().skip(1));
            command.args(["--worker", &worker.to_string(), "--place", place]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut process = command.spawn().map_err(failed)?;
            let Some(told) = process.stdout.take() else { continue };
            workers.0.push(Worker { process, told: BufReader::new(told) });
        }
        Ok(workers)
    }

    /// Waits until each could begin.
    fn ready(&mut self) -> Result<(), Failure> {
        match self.0.iter_mut().find_map(|worker| (worker.line() != READY).then(|| worker.failure())) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Lets them begin at once, and adds up what they tell.
    fn run(&mut self) -> Result<Sum, Failure> {
        for worker in &mut self.0 {
            // One that has ended is seen below.
            if let Some(stdin) = &mut worker.process.stdin {
                let _ = writeln!(stdin, "{GO}");
            }
        }
        let mut sum = Sum::default();
        for worker in &mut self.0 {
            match Sum::from_json(&worker.line()) {
                Some(told) => sum.add(told),
                None => return Err(worker.failure()),
            }
        }
        Ok(sum)
    }
}

impl Worker {
    /// The next line that it prints; empty if there is none.
    fn line(&mut self) -> String {
        let mut line = String::new();
        // What cannot be read is nothing, as the end is.
        let _ = self.told.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// Why it ended, as it said itself.
    fn failure(&mut self) -> Failure {
        let mut said = String::new();
        if let Some(stderr) = &mut self.process.stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        let lines: Vec<String> =
            said.lines().map(|line| line.strip_prefix("error: ").unwrap_or(line).to_owned()).collect();
        if lines.is_empty() {
            let reason = "one of the processes has ended without a word";
            return Failure::input("--processes", reason, "see whether something has killed it, and run again");
        }
        Failure::Problems(lines)
    }
}
