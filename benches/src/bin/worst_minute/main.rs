//! The worst minute of several limiters, side by side: what each admits in its fullest rolling 60 seconds as a multiple
//! of the limit, under every pattern of `crates/tokenweir/tests/support/worst_minute/pattern.rs`. Prints the table of
//! COMPARE.md.
//!
//! ```sh
//! cargo run --release -p tokenweir-benches --features peers --bin worst_minute -- [--column FILE]...
//! ```
//!
//! A minute is 60 seconds without its last nanosecond: two windows that meet are not one. Where a limiter's decision fell
//! between two readings of the time, it counts only in minutes that hold both.
//!
//! The last row is no worst minute: of the limit, what calls really used over five minutes in which as many as the limiter
//! let through estimated four times their use. A star marks limiters without settlement, whose estimates stand.
//!
//! Without the feature only tokenweir is measured. A file's column is put beside the others: its first line is the
//! column's head, then one line for each pattern: its title, a tab, the cell.

mod bucket4j_rule;
#[cfg(feature = "peers")]
mod peers;
#[path = "../../../../crates/tokenweir/tests/support/random.rs"]
mod random;
#[allow(dead_code, reason = "the tests of the library use the rest")]
#[path = "../../../../crates/tokenweir/tests/support/worst_minute/mod.rs"]
mod worst_minute;

use bucket4j_rule::Bucket4jRule;
use std::process::ExitCode;
use std::sync::Arc;
use worst_minute::library::Tokenweir;
use worst_minute::pattern::{Pattern, dense};
use worst_minute::traffic::Caller;
use worst_minute::{LIMIT, MINUTE, Peer, SECOND, Time};

/// The last row.
const SHARE: &str = "used of the limit in 5 minutes, estimates four times the use";

/// The rows' titles, in order.
fn titles() -> impl Iterator<Item = &'static str> {
    Pattern::ALL.iter().map(|pattern| pattern.title()).chain([SHARE])
}

/// One limiter's column: its head, and a cell for each row.
struct Column {
    head: String,
    cells: Vec<String>,
}

impl Column {
    /// Measures a limiter on stepped time.
    fn measured<P: Peer>(head: &str, fresh: impl Fn(&Arc<Time>) -> P) -> Self {
        Self::of(head, &|| {
            let time = Arc::new(Time::stepped());
            (fresh(&time), time)
        })
    }

    fn of<P: Peer>(head: &str, fresh: &dyn Fn() -> (P, Arc<Time>)) -> Self {
        let worst = |pattern: &Pattern| {
            let (logs, asked) = pattern.run(fresh);
            let worst = logs.iter().map(|log| log.worst(MINUTE - 1)).max().unwrap_or(0);
            // A bucket may refill for that second.
            let over = logs.iter().filter(|log| log.worst(SECOND) > LIMIT + LIMIT / 60).count();
            eprintln!(
                "{head}: {}: {worst} tokens at worst; asked {asked} times in {} runs, {over} of them over the limit \
                 within one second",
                pattern.title(),
                logs.len()
            );
            let late = !matches!(pattern, Pattern::Idle | Pattern::Burst | Pattern::Edge | Pattern::Race);
            ratio(worst, LIMIT) + if late && !P::SETTLES { "\\*" } else { "" }
        };
        let mut cells: Vec<String> = Pattern::ALL.iter().map(worst).collect();
        let (peer, time) = fresh();
        let mut caller = Caller::new(&peer, &time);
        dense(&mut caller, 0, false);
        cells.push(ratio(caller.log.total(), 5 * LIMIT) + if P::SETTLES { "" } else { "\\*" });
        Column { cells, head: head.to_owned() }
    }

    /// A column that another program measured.
    fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let mut lines = text.lines();
        let head = lines.next().ok_or_else(|| format!("{path}: no line that names the column"))?.to_owned();
        let read: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once('\t')).collect();
        let cell = |title: &str| {
            let cell = read.iter().find(|(read, _)| *read == title);
            cell.map(|(_, cell)| (*cell).to_owned()).ok_or_else(|| format!("{path}: nothing on {title:?}"))
        };
        Ok(Column { head, cells: titles().map(cell).collect::<Result<_, _>>()? })
    }
}

/// Rounded up, so that no bound looks kept that is not.
fn ratio(tokens: u64, of: u64) -> String {
    let thousandths = (tokens * 1000).div_ceil(of);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// The version that was built, from the lock file.
#[cfg(feature = "peers")]
fn version(package: &str) -> &'static str {
    let lock = include_str!("../../../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).map_or("", |(_, entry)| entry);
    entry.split('"').next().unwrap_or("")
}

#[cfg(feature = "peers")]
fn peers() -> Vec<Column> {
    use peers::{Governor, LeakyBucket, LimitadorCheck, LimitadorReserve, Ratelimit, SPEED};
    let head = |package: &str, how: &str| format!("{package} {}{how}", version(package));
    // Limiters that read the system's clock.
    fn scaled<P: Peer>(head: &str, fresh: impl Fn() -> P) -> Column {
        Column::of(head, &|| (fresh(), Arc::new(Time::scaled(SPEED))))
    }
    vec![
        Column::measured(&head("governor", ""), Governor::new),
        scaled(&head("limitador", " check and update"), LimitadorCheck::new),
        scaled(&head("limitador", " reserve and commit"), LimitadorReserve::new),
        Column::measured(&head("ratelimit", ""), Ratelimit::new),
        scaled(&head("leaky-bucket", ""), LeakyBucket::new),
    ]
}

#[cfg(not(feature = "peers"))]
fn peers() -> Vec<Column> {
    Vec::new()
}

fn main() -> ExitCode {
    let mut read = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let column = match (argument.as_str(), arguments.next()) {
            ("--column", Some(path)) => Column::read(&path),
            _ => Err("usage: worst_minute [--column FILE]...".to_owned()),
        };
        match column {
            Ok(column) => read.push(column),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
    }
    let mut columns = vec![
        Column::measured("tokenweir window", Tokenweir::window),
        Column::measured("tokenweir bucket", |time| Tokenweir::bucket(time, LIMIT)),
        Column::measured("tokenweir bucket, burst a quarter", |time| Tokenweir::bucket(time, LIMIT / 4)),
        Column::measured("tokenweir quota of a minute", Tokenweir::quota),
    ];
    columns.extend(peers());
    columns.extend(read);
    columns.push(Column::measured("bucket4j's rule", |_| Bucket4jRule::new()));
    let heads: Vec<&str> = columns.iter().map(|column| column.head.as_str()).collect();
    println!("| | {} |", heads.join(" | "));
    println!("|---|{}", "---:|".repeat(columns.len()));
    for (row, title) in titles().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column.cells[row].as_str()).collect();
        println!("| {title} | {} |", cells.join(" | "));
    }
    ExitCode::SUCCESS
}
