//! `tokenweir replay`: a trace through the engine, in order of time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Seek};
use std::path::Path;

use tokenweir_replay::{Azure, Entry, Error, Format, Jsonl, Replay, Trace, Verdict, instant, last_instant};

use crate::args::{self, TraceFormat};
use crate::failure::Failure;
use crate::limits::LimitFacts;
use crate::output::{self, Output};
use crate::policy_file;
use crate::progress::Progress;
use crate::quota_file::{self, Quotas};
use crate::report;
use crate::summary;
use crate::tally::Tally;
use crate::timeline::Timeline;

/// Runs the command.
///
/// # Errors
/// The policy, the trace or an option is wrong, or a result cannot be written.
pub fn run(args: &args::Replay) -> Result<(), Failure> {
    let policy = policy_file::load(&args.policy, args.policy_format)?;
    let format = format(args)?;
    let source = open(&args.trace, &format)?;
    if args.decisions.is_some() && args.decisions == args.report {
        return Err(Failure::input("--report", "is the same file as --decisions", "give two files"));
    }
    let quotas = args.store.as_deref().map(|store| Quotas::open(store, &policy)).transpose()?;
    let file = args.store.as_deref().and_then(quota_file::path);
    let inputs: Vec<&Path> = [args.policy.as_path(), args.trace.as_path()].into_iter().chain(file).collect();
    let create = |path: &Path| Output::create(path, &inputs);
    let mut decisions = args.decisions.as_deref().map(create).transpose()?;
    let mut report = args.report.as_deref().map(create).transpose()?;

    let max_counters = args.max_counters as usize;
    let mut run = Run {
        tally: Tally::new(LimitFacts::of(&policy)),
        replay: match &quotas {
            Some(quotas) => Replay::on_store(policy, max_counters, quotas.clone()),
            None => Replay::with_max_counters(policy, max_counters),
        },
        timeline: report.is_some().then(|| Timeline::new(source.until)),
    };
    let failed = |error| Failure::replay(&source.name, error);
    let mut trace = Trace::new(source.reader, format);
    let mut progress = Progress::new(source.length);
    while let Some(entry) = trace.next_entry().map_err(failed)? {
        progress.at(entry.line, trace.bytes());
        let verdict = run.request(&entry).map_err(failed)?;
        if let Some(decisions) = &mut decisions {
            decisions.write(&(run.replay.row(&entry, &verdict).to_json() + "\n"))?;
        }
    }
    run.finish().map_err(failed)?;
    progress.done();

    let facts = summary::Facts {
        policy: args.policy.display().to_string(),
        trace: source.name.clone(),
        quotas: quotas.as_deref(),
        tally: &run.tally,
    };
    if let (Some(report), Some(timeline)) = (&mut report, &run.timeline) {
        report.write(&report::page(&facts, timeline))?;
    }
    // The summary goes where the decisions do not.
    let summary = summary::text(&facts, args.all);
    let to_stdout = args.decisions.as_deref() != Some(Path::new("-"));
    if let Some(decisions) = decisions {
        decisions.finish()?;
    }
    if let Some(report) = report {
        report.finish()?;
    }
    // Last: a run that is repeated because of anything before is counted once.
    if let Some(quotas) = &quotas {
        run.replay.give_back_leases().map_err(|error| Failure::Problems(vec![format!("--store: {error}")]))?;
        quotas.write()?;
    }
    if to_stdout {
        output::print(&summary)
    } else {
        use io::Write;
        // Whether anyone reads the standard error is not this run's business.
        let _ = io::stderr().write_all(summary.as_bytes());
        Ok(())
    }
}

/// How the trace is to be read.
///
/// # Errors
/// An option that is wrong, or not of its format.
pub fn format(args: &args::Replay) -> Result<Format, Failure> {
    match args.format {
        TraceFormat::Jsonl => {
            let start = args.start.as_deref().map_or(Ok(0), |text| {
                instant::rfc3339(text).map_err(|reason| {
                    let remedy = "write RFC 3339, for instance 2026-01-31T08:00:00Z";
                    Failure::input("--start", format_args!("{text:?} {reason}"), remedy)
                })
            })?;
            Ok(Format::Jsonl(Jsonl { start }))
        }
        TraceFormat::AzureLlm => {
            if args.start.is_some() {
                let reason = "azure-llm traces have dates of their own";
                return Err(Failure::input("--start", reason, "leave it out"));
            }
            for (option, name) in [("--project", &args.project), ("--deployment", &args.deployment)] {
                if name.is_empty() {
                    return Err(Failure::input(option, "the name is empty", "give a name, or leave it out"));
                }
            }
            Ok(Format::Azure(Azure {
                project: args.project.clone(),
                deployment: args.deployment.clone(),
                output: args.estimate_output,
                duration: args.duration,
                duration_per_token: args.duration_per_token,
            }))
        }
    }
}

/// Where a trace is read from.
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    /// Its text.
    pub reader: Box<dyn BufRead>,
    /// Its length in bytes, if that is known.
    length: Option<u64>,
    /// When it ends, if that is known.
    until: Option<i64>,
}

/// Opens a trace.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn open(path: &Path, format: &Format) -> Result<Source, Failure> {
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::input("--trace", "the standard input is a terminal", "pipe a trace into it"));
        }
        return Ok(Source {
            name: "stdin".into(),
            reader: Box::new(BufReader::new(io::stdin())),
            length: None,
            until: None,
        });
    }
    let mut file = File::open(path).map_err(|e| Failure::read(path, &e))?;
    let found = file.metadata().map_err(|e| Failure::read(path, &e))?;
    if found.is_dir() {
        return Err(Failure::input(path.display(), "is a folder", "give the path of a trace"));
    }
    let length = found.is_file().then_some(found.len());
    let until = length.and_then(|_| last_instant(&mut file, format));
    if length.is_some() {
        file.rewind().map_err(|e| Failure::read(path, &e))?;
    }
    let reader = Box::new(BufReader::with_capacity(1 << 16, file));
    Ok(Source { name: path.display().to_string(), reader, length, until })
}

/// A replay under way, and what it adds up.
#[derive(Debug)]
struct Run {
    replay: Replay,
    tally: Tally,
    timeline: Option<Timeline>,
}

impl Run {
    /// Settles what is due and decides on the next request of the trace.
    fn request(&mut self, entry: &Entry) -> Result<Verdict, Error> {
        self.settle_until(entry.at)?;
        if let Some(timeline) = &mut self.timeline {
            timeline.move_on(entry.at, &self.replay, &mut self.tally);
        }
        let verdict = self.replay.decide(entry)?;
        self.tally.know(self.replay.counters());
        self.tally.decided(entry, &verdict);
        if let Some(timeline) = &mut self.timeline {
            timeline.decided(entry, &verdict, &self.tally);
        }
        Ok(verdict)
    }

    /// Settles everything that is left, each at its own time, and takes the final view.
    fn finish(&mut self) -> Result<(), Error> {
        self.settle_until(i64::MAX)?;
        self.tally.finish(&self.replay.usage_at(self.replay.now()));
        self.tally.totals.refused_full = self.replay.refused_full();
        Ok(())
    }

    /// Settles what is due at or before `at`.
    fn settle_until(&mut self, at: i64) -> Result<(), Error> {
        while let Some(due) = self.replay.next_due().filter(|&due| due <= at) {
            if let Some(timeline) = &mut self.timeline {
                timeline.move_on(due, &self.replay, &mut self.tally);
            }
            if let Some(settled) = self.replay.settle_next()? {
                self.tally.ended(&settled);
            }
        }
        Ok(())
    }
}
