//! One of several processes, and its share of the trace.

use std::collections::{BinaryHeap, HashMap};
use std::io::BufRead;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokenweir::policy::{Applied, ScopePart};
use tokenweir::{Estimate, Key, Policy, Request};
use tokenweir_replay::{Ending, Entry, Trace};

use super::store::{Answer, Counting, Held, Store};
use super::sum::{Sum, Used};
use super::{GO, READY};
use crate::args;
use crate::failure::Failure;
use crate::{policy_file, replay};

/// Decides on every so-many-eth request of the trace, and tells the sum.
///
/// # Errors
/// As of the command; whoever started it passes them on.
pub fn run(args: &args::Replay, worker: u32, processes: u32) -> Result<(), Failure> {
    let policy = policy_file::load(&args.policy, args.policy_format)?;
    let store = Store::of(args.store.as_deref())?;
    let place = args.place.clone().unwrap_or_default();
    let counting = Counting::at(&store, &place, policy.clone(), args.max_counters as usize)?;
    let format = replay::format(args)?;
    let source = replay::open(&args.trace, &format)?;
    let failed = |error| Failure::replay(&source.name, error);
    let wrong = |(line, reason): (u64, String)| {
        Failure::input(format_args!("{}:{line}", source.name), reason, "mend the request, or leave it out")
    };
    let mut trace = Trace::new(source.reader, format);

    println!("{READY}");
    let mut told = String::new();
    if std::io::stdin().lock().read_line(&mut told).is_err() || told.trim_end() != GO {
        return Ok(());
    }
    let mut sum = Sum::default();
    sum.began = Some(now());
    let mut run = Run {
        policy,
        counting,
        routes: HashMap::new(),
        pace: args.speed.map(|speed| Pace { began: Instant::now(), first: None, speed }),
        open: BinaryHeap::new(),
        sum,
    };
    let mut number = 0;
    while let Some(entry) = trace.next_entry().map_err(failed)? {
        if number % u64::from(processes) == u64::from(worker) {
            run.settle_until(entry.at).map_err(wrong)?;
            run.decide(&entry).map_err(|reason| wrong((entry.line, reason)))?;
        }
        number += 1;
    }
    run.settle_until(i64::MAX).map_err(wrong)?;
    if let Counting::Redis(limiter) = &run.counting {
        // What was dropped without a word is told in the background.
        let _ = limiter.flush(Duration::from_secs(5));
    }
    let mut sum = run.sum;
    sum.ended = Some(now());
    sum.by_process = vec![sum.admitted];
    println!("{}", sum.to_json());
    Ok(())
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How fast the trace is offered.
struct Pace {
    began: Instant,
    first: Option<i64>,
    speed: f64,
}

impl Pace {
    /// Waits until it is `at`.
    fn wait(&mut self, at: i64) {
        let first = *self.first.get_or_insert(at);
        let since = at.saturating_sub(first).max(0) as f64 / 1e9 / self.speed;
        let due = Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

/// A request that has been admitted and not ended.
struct Open {
    due: i64,
    line: u64,
    held: Held,
    ending: Ending,
    estimate: Estimate,
    route: usize,
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.line) == (other.due, other.line)
    }
}

impl Eq for Open {}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Open {
    /// The first that is due is the greatest, as a heap has it.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.line).cmp(&(self.due, self.line))
    }
}

struct Run {
    policy: Policy,
    counting: Counting,
    /// The counters that requests of a kind meet, by their number in the sum.
    routes: HashMap<Caller, usize>,
    pace: Option<Pace>,
    open: BinaryHeap<Open>,
    sum: Sum,
}

type Caller = (Vec<u8>, Vec<u8>, Vec<(String, Vec<u8>)>);

impl Run {
    fn decide(&mut self, entry: &Entry) -> Result<(), String> {
        if let Some(pace) = &mut self.pace {
            pace.wait(entry.at);
        }
        let keys: Vec<Key<'_>> = entry.keys.iter().map(|(name, value)| Key::new(name, value)).collect();
        let request = Request::new(&entry.project, &entry.deployment).with_keys(&keys);
        let route = self.route(entry, &request)?;
        self.sum.requests += 1;
        match self.counting.admit(&request, entry.estimate)? {
            Answer::Admitted(held) => {
                self.sum.admitted += 1;
                self.sum.each_met(route, |used, _| used.admitted += 1);
                let (due, line, ending, estimate) = (entry.due, entry.line, entry.ending, entry.estimate);
                self.open.push(Open { due, line, held, ending, estimate, route });
            }
            Answer::Denied(denied) => {
                match denied.status() {
                    403 => self.sum.denied_quota += 1,
                    _ => self.sum.denied_rate += 1,
                }
                let refused: Vec<&str> = denied.refusals().map(|refusal| refusal.limit).collect();
                let limits = self.policy.limits();
                self.sum.each_met(route, |used, _| {
                    let refuses = limits.get(used.limit).is_some_and(|limit| refused.contains(&&**limit.name()));
                    used.refused += u64::from(refuses);
                });
            }
            Answer::Undecided => self.sum.undecided += 1,
        }
        Ok(())
    }

    /// Ends what is due at or before `at`.
    fn settle_until(&mut self, at: i64) -> Result<(), (u64, String)> {
        while self.open.peek().is_some_and(|open| open.due <= at) {
            let Some(open) = self.open.pop() else { break };
            if let Some(pace) = &mut self.pace {
                pace.wait(open.due);
            }
            match self.counting.end(open.held, open.ending, open.estimate) {
                Ok(None) => {}
                Ok(Some(tokens)) => {
                    self.sum.used += tokens.input.saturating_add(tokens.output);
                    self.sum.each_met(open.route, |used, rule| {
                        used.charged = used.charged.saturating_add(rule.charge(&tokens));
                    });
                }
                Err(reason) => return Err((open.line, reason)),
            }
        }
        Ok(())
    }

    /// The number of the kind of a request.
    fn route(&mut self, entry: &Entry, request: &Request<'_>) -> Result<usize, String> {
        let mut keys = entry.keys.clone();
        keys.retain(|(name, _)| self.policy.key_names().iter().any(|known| **known == **name));
        keys.sort_unstable();
        let caller = (entry.project.clone(), entry.deployment.clone(), keys);
        if let Some(&route) = self.routes.get(&caller) {
            return Ok(route);
        }
        let resolution = self.policy.resolve(request).map_err(|wrong| wrong.to_string())?;
        let met = resolution.applied.into_iter().map(|Applied { limit, charge, .. }| {
            let scope = self.policy.limits().get(limit).map(|limit| limit.scope()).unwrap_or_default();
            let scope = scope.iter().map(|part| match part {
                ScopePart::Project => request.project,
                ScopePart::Deployment => request.deployment,
                ScopePart::Key(name) => request.key(name).unwrap_or_default(),
            });
            let scope = scope.map(|value| String::from_utf8_lossy(value).into_owned()).collect();
            (Used { limit, scope, ..Used::default() }, charge)
        });
        let route = self.sum.know(met.collect());
        self.routes.insert(caller, route);
        Ok(route)
    }
}
