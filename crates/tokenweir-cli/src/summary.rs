//! What a replay says on the terminal.

use std::fmt::Write;

use tokenweir_replay::instant;

use crate::quota_file::Quotas;
use crate::tally::{Row, Tally};
use crate::text::{Table, WIDTH, counted, cut, grouped, percent, printable, short, utc_text};

/// With more rows than this, only the most refused are shown.
const MOST_ROWS: usize = 20;

/// A replay that is done.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The file of the policy.
    pub policy: String,
    /// The file of the trace.
    pub trace: String,
    /// The file of quotas, if there is one.
    pub quotas: Option<&'a Quotas>,
    /// What it added up to.
    pub tally: &'a Tally,
}

impl Facts<'_> {
    /// From when to when the requests came: `2026-03-02 09:00:00 to 09:59:59 UTC (59 min 59 s)`.
    pub fn span_text(&self) -> String {
        let Some((first, last)) = self.tally.span else { return "no requests".into() };
        let (from, to) = (utc_text(first), utc_text(last));
        let to = match (from.split_once(' '), to.split_once(' ')) {
            (Some((day, _)), Some((other, time))) if day == other => time.to_string(),
            _ => to,
        };
        format!("{from} to {to} UTC ({})", instant::span_text(first.abs_diff(last)))
    }
}

/// The whole summary.
pub fn text(facts: &Facts<'_>, all: bool) -> String {
    let tally = facts.tally;
    let mut out = String::new();
    let mut fact = |name: &str, value: String| {
        out.push_str(&cut(&format!("{name:<9} {value}"), WIDTH));
        out.push('\n');
    };
    fact("policy", format!("{}, {}", facts.policy, counted(tally.limits.len() as u64, "limit", "limits")));
    fact("trace", facts.trace.clone());
    fact("time", facts.span_text());
    if let Some(quotas) = facts.quotas {
        let found = counted(quotas.found as u64, "counter", "counters");
        fact("quotas", format!("go on in {}, which had {found}", quotas.path().display()));
    }
    out.push('\n');
    totals(&mut out, tally);
    limits(&mut out, tally, all);
    out
}

fn totals(out: &mut String, tally: &Tally) {
    let totals = &tally.totals;
    let rows: Vec<(&str, u128, String)> = vec![
        ("requests", totals.requests.into(), note(totals.ungoverned, "met no limit")),
        ("  admitted", totals.admitted.into(), share(totals.admitted, totals.requests)),
        ("  denied, 429", totals.denied_rate.into(), share(totals.denied_rate, totals.requests)),
        ("  denied, 403", totals.denied_quota.into(), share(totals.denied_quota, totals.requests)),
        ("tokens", totals.estimated + totals.denied_tokens, "estimated, of all requests".into()),
        ("  admitted", totals.estimated, "estimated".into()),
        ("  used", totals.used, "by what was admitted".into()),
        ("  denied", totals.denied_tokens, "estimated".into()),
    ];
    let width = rows.iter().map(|(_, number, _)| grouped(*number as i128).len()).max().unwrap_or(0);
    for (name, number, note) in rows {
        let line = format!("{name:<14} {:>width$}  {note}", grouped(number as i128));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let ends = [
        (totals.never_fits, "of the denied can never be admitted: larger than a limit"),
        (totals.refused_full, "of the denied found no room for another counter; see --max-counters"),
        (totals.cancelled, "of the admitted were cancelled and cost nothing"),
        (totals.silent, "of the admitted reported nothing, so their estimates stand"),
        (totals.shadow_refused, "of the admitted would have been refused by a shadow limit"),
    ];
    for (count, what) in ends {
        if count > 0 {
            let _ = writeln!(out, "{} {what}", grouped(count));
        }
    }
}

fn note(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!("{} {what}", grouped(count)) }
}

fn share(part: u64, whole: u64) -> String {
    if part == 0 { String::new() } else { percent(part, whole) }
}

fn limits(out: &mut String, tally: &Tally, all: bool) {
    let mut limits = tally.by_limit();
    let met: Vec<usize> = limits.iter().map(|(limit, _)| *limit).collect();
    let rows = tally.rows.len();
    let left_out = if all || rows <= MOST_ROWS {
        0
    } else {
        // The limits that refused most, with an equal share of the rows each.
        limits.sort_by_key(|(limit, rows)| {
            (std::cmp::Reverse(rows.iter().map(|&row| tally.rows[row].refused).sum::<u64>()), *limit)
        });
        let left_out = limits.len().saturating_sub(MOST_ROWS);
        limits.truncate(MOST_ROWS);
        limits.sort_by_key(|(limit, _)| *limit);
        left_out
    };
    let share = if all || rows <= MOST_ROWS { usize::MAX } else { (MOST_ROWS / limits.len().max(1)).max(3) };
    for (limit, rows) in &limits {
        let facts = &tally.limits[*limit];
        let shadow = if facts.enforced { "" } else { " (shadow: refuses nothing)" };
        let head = format!("{}{shadow}: {}; {}", printable(facts.name.as_bytes()), facts.terms, facts.scope_text());
        let _ = writeln!(out, "\n{}", cut(&head, WIDTH));
        let refused = if facts.enforced { "denied" } else { "would deny" };
        let key = if facts.scope.is_empty() { "counter".into() } else { facts.scope.join(" / ") };
        let key = printable(key.as_bytes());
        let heads = [&*key, "admitted", refused, "charged", "in use", "left", "peak", "longest wait"];
        let mut table = Table::new(2, 1, &heads);
        for &place in rows.iter().take(share) {
            table.row(cells(tally, place));
        }
        out.push_str(&table.render());
        if rows.len() > share {
            let gone = &rows[share..];
            let refused: u64 = gone.iter().map(|&row| tally.rows[row].refused).sum();
            let _ = writeln!(
                out,
                "  … and {} with {}; --all shows them",
                counted(gone.len() as u64, "key", "keys"),
                counted(refused, "denial", "denials")
            );
        }
    }
    if left_out > 0 {
        let _ = writeln!(
            out,
            "\n… and {} with fewer denials; --all shows them",
            counted(left_out as u64, "limit", "limits")
        );
    }
    let unmet: Vec<String> = (0..tally.limits.len())
        .filter(|limit| !met.contains(limit))
        .map(|limit| printable(tally.limits[limit].name.as_bytes()))
        .collect();
    if !unmet.is_empty() {
        let text = format!("no request met {}: {}", counted(unmet.len() as u64, "limit", "limits"), unmet.join(", "));
        let _ = writeln!(out, "\n{}", cut(&text, WIDTH));
    }
}

fn cells(tally: &Tally, place: usize) -> Vec<String> {
    let row = &tally.rows[place];
    vec![
        tally.key_text(place),
        grouped(row.admitted),
        grouped(row.refused),
        amount(row.charged as i128),
        amount(row.used.into()),
        amount(row.remaining.into()),
        peak_text(tally, row),
        wait_text(tally, row),
    ]
}

/// An amount, shortened where it would be wide.
fn amount(number: i128) -> String {
    let text = grouped(number);
    if text.len() > 11 { short(number) } else { text }
}

/// The most that was in use, as a percentage of what the limit can hold.
pub fn peak_text(tally: &Tally, row: &Row) -> String {
    row.peak.map_or("-".into(), |peak| percent(peak, tally.limits[row.limit].ceiling))
}

/// The longest wait in words.
pub fn wait_text(tally: &Tally, row: &Row) -> String {
    let enforced = tally.limits[row.limit].enforced;
    match row.longest {
        Some(wait) => instant::span_text(wait.nanos),
        None if row.never_fits > 0 => "never fits".into(),
        // A place in flight comes free when somebody is done, and nobody knows when; a total never resets.
        None if row.refused > 0 && enforced => "unknown".into(),
        None => "-".into(),
    }
}
