//! `tokenweir replay`: a trace through the engine, in order of time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Seek};
use std::path::Path;
use std::rc::Rc;

use tokenweir::PermitId;

use crate::args::{Replay, TraceFormat};
use crate::decisions::Decisions;
use crate::drive::{Drive, LimitFacts, Meet};
use crate::failure::Failure;
use crate::instant;
use crate::output::{self, Output};
use crate::policy_file;
use crate::progress::Progress;
use crate::report;
use crate::summary;
use crate::tally::Tally;
use crate::timeline::Timeline;
use crate::trace::{self, Azure, Ending, Entry, Format, Jsonl, Trace};

/// Routes are remembered up to this many; a trace with more of them looks the rest up again.
const ROUTES: usize = 1 << 17;

/// Runs the command.
///
/// # Errors
/// The policy, the trace or an option is wrong, or a result cannot be written.
pub fn run(args: &Replay) -> Result<(), Failure> {
    let policy = policy_file::load(&args.policy, args.policy_format)?;
    let format = format(args)?;
    let source = open(&args.trace, &format)?;
    if args.decisions.is_some() && args.decisions == args.report {
        return Err(Failure::input("--report", "is the same file as --decisions", "give two files"));
    }
    let inputs = [args.policy.as_path(), args.trace.as_path()];
    let create = |path: &Path| Output::create(path, &inputs);
    let mut decisions = args.decisions.as_deref().map(create).transpose()?;
    let mut report = args.report.as_deref().map(create).transpose()?;

    let limits = LimitFacts::of(&policy);
    let mut run = Run::new(
        Drive::new(policy, args.max_counters as usize),
        limits,
        report.is_some().then(|| Timeline::new(source.until)),
    );
    let mut trace = Trace::new(source.name, source.reader, format);
    let mut progress = Progress::new(source.length);
    let lines = Decisions::new(&run.tally.limits);
    while let Some(entry) = trace.next()? {
        progress.at(entry.line, trace.bytes());
        let verdict = run.request(&entry).map_err(|wrong| wrong.of(trace.name()))?;
        if let Some(decisions) = &mut decisions {
            decisions.write(&lines.line(&entry, &verdict))?;
        }
    }
    run.finish().map_err(|wrong| wrong.of(trace.name()))?;
    progress.done();

    let facts = summary::Facts {
        policy: args.policy.display().to_string(),
        trace: trace.name().to_string(),
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
    if to_stdout {
        output::print(&summary)
    } else {
        use io::Write;
        // Whether anyone reads the standard error is not this run's business.
        let _ = io::stderr().write_all(summary.as_bytes());
        Ok(())
    }
}

fn format(args: &Replay) -> Result<Format, Failure> {
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
struct Source {
    /// What it is called in messages.
    name: String,
    reader: Box<dyn BufRead>,
    /// Its length in bytes, if that is known.
    length: Option<u64>,
    /// When it ends, if that is known.
    until: Option<i64>,
}

fn open(path: &Path, format: &Format) -> Result<Source, Failure> {
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
    let until = length.and_then(|_| trace::last_instant(&mut file, format));
    if length.is_some() {
        file.rewind().map_err(|e| Failure::read(path, &e))?;
    }
    let reader = Box::new(BufReader::with_capacity(1 << 16, file));
    Ok(Source { name: path.display().to_string(), reader, length, until })
}

/// What the engine said to one line of the trace, where it is no decision.
#[derive(Debug)]
struct Refusal {
    line: u64,
    reason: String,
}

impl Refusal {
    /// As a failure of the trace `name`. The library's messages carry their own remedy.
    fn of(self, name: &str) -> Failure {
        Failure::Problems(vec![format!("{name}:{}: {}", self.line, self.reason)])
    }
}

/// An admitted request that has not ended yet.
#[derive(Debug)]
struct Open {
    line: u64,
    permit: PermitId,
    ending: Ending,
    route: Rc<Route>,
    /// The shadow limits that were not charged, because they would have refused.
    uncharged: Vec<usize>,
}

/// The limits that all requests of one project, deployment and keys meet, and their rows.
#[derive(Debug)]
struct Route {
    meets: Vec<Meet>,
    rows: Vec<usize>,
}

/// What tells routes apart: project, deployment, and the keys that the policy looks at.
type RouteKey = (Vec<u8>, Vec<u8>, Vec<(String, Vec<u8>)>);

/// A replay under way.
#[derive(Debug)]
struct Run {
    drive: Drive,
    tally: Tally,
    timeline: Option<Timeline>,
    routes: HashMap<RouteKey, Rc<Route>>,
    /// What is due, the earliest first; of the same instant, the one that was admitted first.
    due: BinaryHeap<Reverse<(i64, u64)>>,
    open: HashMap<u64, Open>,
    admitted: u64,
    /// The instant of the last thing that happened.
    now: i64,
}

impl Run {
    fn new(drive: Drive, limits: Vec<LimitFacts>, timeline: Option<Timeline>) -> Self {
        Run {
            drive,
            tally: Tally::new(limits),
            timeline,
            routes: HashMap::new(),
            due: BinaryHeap::new(),
            open: HashMap::new(),
            admitted: 0,
            now: 0,
        }
    }

    /// Settles what is due and decides on the next request of the trace.
    fn request(&mut self, entry: &Entry) -> Result<crate::drive::Verdict, Refusal> {
        self.settle_until(entry.at)?;
        self.now = entry.at;
        let refusal = |reason: String| Refusal { line: entry.line, reason };
        let route = self.route(entry).map_err(refusal)?;
        if let Some(timeline) = &mut self.timeline {
            timeline.move_on(entry.at, &self.drive, &mut self.tally);
        }
        let verdict = self.drive.admit(entry).map_err(refusal)?;
        self.tally.decided(entry, &route.rows, &verdict);
        if let Some(timeline) = &mut self.timeline {
            timeline.decided(entry, &route.rows, &verdict, &self.tally);
        }
        if let Some(permit) = verdict.permit {
            let uncharged = verdict.shadow_refused.clone();
            let open = Open { line: entry.line, permit, ending: entry.ending, route, uncharged };
            self.open.insert(self.admitted, open);
            self.due.push(Reverse((entry.due, self.admitted)));
            self.admitted += 1;
        }
        Ok(verdict)
    }

    /// Settles everything that is left, each at its own time, and takes the final view.
    fn finish(&mut self) -> Result<(), Refusal> {
        self.settle_until(i64::MAX)?;
        self.tally.finish(&self.drive.counters(self.now));
        self.tally.totals.refused_full = self.drive.refused_full();
        Ok(())
    }

    /// Settles what is due at or before `at`.
    fn settle_until(&mut self, at: i64) -> Result<(), Refusal> {
        while let Some(&Reverse((due, number))) = self.due.peek()
            && due <= at
        {
            self.due.pop();
            let open = self.open.remove(&number).expect("what is due is open");
            if let Some(timeline) = &mut self.timeline {
                timeline.move_on(due, &self.drive, &mut self.tally);
            }
            self.now = due;
            let ended = self.drive.end(open.permit, open.ending, due);
            let ended = ended.map_err(|reason| Refusal { line: open.line, reason })?;
            let Route { meets, rows } = &*open.route;
            let charged = rows.iter().zip(meets).filter(|(_, meet)| !open.uncharged.contains(&meet.limit));
            let charges = charged.map(|(&row, meet)| (row, meet.charge(&ended)));
            self.tally.ended(open.ending, &ended, charges);
        }
        Ok(())
    }

    fn route(&mut self, entry: &Entry) -> Result<Rc<Route>, String> {
        let mut keys = entry.keys.clone();
        keys.retain(|(name, _)| self.drive.looks_at(name));
        keys.sort_unstable();
        let key = (entry.project.clone(), entry.deployment.clone(), keys);
        if let Some(route) = self.routes.get(&key) {
            return Ok(Rc::clone(route));
        }
        let meets = self.drive.meets(entry)?;
        let rows = meets.iter().map(|meet| self.tally.row_of(meet)).collect();
        let route = Rc::new(Route { meets, rows });
        if self.routes.len() >= ROUTES {
            self.routes.clear();
        }
        self.routes.insert(key, Rc::clone(&route));
        Ok(route)
    }
}
