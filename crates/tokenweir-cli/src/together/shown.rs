//! What is printed of several processes.

use std::fmt::Write;

use tokenweir::Policy;
use tokenweir::policy::{Algorithm, Limit};
use tokenweir_replay::instant;

use super::store::Store;
use super::sum::{Sum, Used};
use crate::args;
use crate::limits::LimitFacts;
use crate::text::{Table, WIDTH, counted, cut, grouped, percent, printable};

/// Of each limit so many counters are shown, unless all are asked for.
const MOST_ROWS: usize = 10;

const MOST_PERIODS: u64 = 100_000;

/// A run that is done.
pub struct Facts<'a> {
    pub args: &'a args::Replay,
    pub policy: &'a Policy,
    pub store: &'a Store,
    pub sum: &'a Sum,
}

/// The whole summary.
pub fn text(facts: &Facts<'_>) -> String {
    let Facts { args, policy, store, sum } = facts;
    let mut out = String::new();
    let mut fact = |name: &str, value: String| {
        out.push_str(&cut(&format!("{name:<9} {value}"), WIDTH));
        out.push('\n');
    };
    let processes = counted(sum.by_process.len() as u64, "process", "processes");
    let took = instant::span_text(took(sum));
    let pace = match args.speed {
        None => "as fast as they decide".to_owned(),
        Some(speed) => format!("at {speed} times the speed of the trace"),
    };
    fact("policy", format!("{}, {}", args.policy.display(), counted(policy.limits().len() as u64, "limit", "limits")));
    fact("trace", args.trace.display().to_string());
    fact("counted", format!("by {processes}, {store}"));
    fact("time", format!("{took}, {pace}"));
    out.push('\n');

    let by_process: Vec<String> = sum.by_process.iter().map(|&admitted| grouped(admitted)).collect();
    let rows = [
        ("requests", sum.requests, String::new()),
        ("  admitted", sum.admitted, format!("by process: {}", by_process.join(" "))),
        ("  denied, 429", sum.denied_rate, String::new()),
        ("  denied, 403", sum.denied_quota, String::new()),
        ("  undecided", sum.undecided, "the store did not answer".to_owned()),
        ("tokens used", sum.used, "by what was admitted".to_owned()),
    ];
    let width = rows.iter().map(|(_, number, _)| grouped(*number).len()).max().unwrap_or(0);
    for (name, number, note) in rows.iter().filter(|(name, number, _)| *number > 0 || !name.ends_with("undecided")) {
        let note = if *number > 0 { note.as_str() } else { "" };
        let line = format!("{name:<14} {:>width$}  {note}", grouped(*number));
        out.push_str(&cut(line.trim_end(), WIDTH));
        out.push('\n');
    }
    for (place, (limit, of)) in policy.limits().iter().zip(LimitFacts::of(policy)).enumerate() {
        limits(&mut out, facts, place, limit, &of);
    }
    out
}

fn took(sum: &Sum) -> u64 {
    match (sum.began, sum.ended) {
        (Some(began), Some(ended)) => u64::try_from(ended.saturating_sub(began)).unwrap_or(0),
        _ => 0,
    }
}

fn limits(out: &mut String, facts: &Facts<'_>, place: usize, limit: &Limit, of: &LimitFacts) {
    let mut met: Vec<&Used> = facts.sum.counters.iter().filter(|used| used.limit == place).collect();
    if met.is_empty() {
        return;
    }
    met.sort_by_key(|used| (std::cmp::Reverse((used.charged, used.refused)), &used.scope));
    let shadow = if of.enforced { "" } else { " (shadow: refuses nothing)" };
    let head = format!("{}{shadow}: {}; {}", printable(of.name.as_bytes()), of.terms, of.scope_text());
    let _ = writeln!(out, "\n{}", cut(&head, WIDTH));
    let key = if of.scope.is_empty() { "counter".into() } else { printable(of.scope.join(" / ").as_bytes()) };
    // A shadow limit allows everything, and is charged here what met it.
    let most = most(limit, facts.sum).filter(|_| of.enforced);
    let mut table = Table::new(2, 1, &[&*key, "admitted", "denied", "charged", "it allows", "of which"]);
    let shown = if facts.args.all { met.len() } else { MOST_ROWS };
    for used in met.iter().take(shown) {
        let values: Vec<String> = used.scope.iter().map(|value| printable(value.as_bytes())).collect();
        let key = if values.is_empty() { "all".to_owned() } else { values.join(" / ") };
        let (allows, share) = match most {
            Some(most) => (grouped(most), percent(used.charged, most)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row(vec![key, grouped(used.admitted), grouped(used.refused), grouped(used.charged), allows, share]);
    }
    out.push_str(&table.render());
    if let Some(left_out) = met.len().checked_sub(shown).filter(|&left_out| left_out > 0) {
        let _ = writeln!(out, "  … and {}; --all shows them", counted(left_out as u64, "key", "keys"));
    }
}

/// The most that a limit allows in the time that it took, where it begins with nothing used: the guarantees S1 and S2.
fn most(limit: &Limit, sum: &Sum) -> Option<u64> {
    let took = took(sum);
    let most: u128 = match limit.algorithm() {
        Algorithm::Bucket { amount, per, burst } => {
            u128::from(*burst) + (u128::from(*amount) * u128::from(took)).div_ceil(u128::from(*per))
        }
        Algorithm::Window { amount, per, .. } => u128::from(*amount) * u128::from(1 + took / per),
        Algorithm::Quota { amount, period } => {
            let (mut at, ended) = (sum.began?, sum.ended?);
            let mut periods = 1;
            loop {
                at = period.bounds(at).end;
                // A run is over long before there could be so many.
                if at > ended || periods > MOST_PERIODS {
                    break;
                }
                periods += 1;
            }
            u128::from(*amount) * u128::from(periods)
        }
        Algorithm::InFlight { .. } => return None,
    };
    u64::try_from(most).ok()
}
