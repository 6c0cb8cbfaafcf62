//! What a decision costs in a region, beside the same on the heap, in turns: admitted and settled, by one limit and by four, by one
//! process and by two that charge the same counters.
//!
//! `cargo bench -p tokenweir-shared --bench region`

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokenweir::{Estimate, Limiter, Policy, Request, Usage};
use tokenweir_shared::{HostClock, Layout, SharedRegion};

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(500);

/// Limits that refuse nothing: a bucket, and with it requests, a window and a quota.
fn policy(limits: usize) -> Policy {
    let all = [
        "[[limit]]\nname = 'tokens'\nmeter = 'total'\nalgorithm = 'bucket'\namount = 100_000_000_000\nper = '1m'\nscope = ['project']",
        "[[limit]]\nname = 'requests'\nmeter = 'requests'\nalgorithm = 'bucket'\namount = 10_000_000_000\nper = '1m'\nscope = ['project']",
        "[[limit]]\nname = 'window'\nmeter = 'total'\nalgorithm = 'window'\namount = 100_000_000_000\nper = '1m'\nscope = ['deployment']",
        "[[limit]]\nname = 'month'\nmeter = 'total'\nalgorithm = 'quota'\namount = 9_000_000_000_000_000\nperiod = 'monthly'\nscope = ['project']",
    ];
    Policy::from_toml(&all[..limits].join("\n")).expect("a policy")
}

/// Nanoseconds for each admission and its settlement.
fn pair(limiter: &Limiter) -> f64 {
    let request = Request::new("search", "gpt-4o");
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < TIME {
        for _ in 0..1000 {
            let permit = limiter.admit(black_box(&request), Estimate::new(90, 40)).expect("decided").admitted();
            permit.expect("it fits").settle(Usage::new(92, 20)).expect("settled");
        }
        count += 1000;
    }
    began.elapsed().as_nanos() as f64 / count as f64
}

fn on_region(path: &Path, limits: usize) -> Limiter {
    let region = SharedRegion::open_or_create(path, &Layout::of(&policy(limits))).expect("a region");
    region.build(Limiter::builder(policy(limits))).expect("a limiter")
}

/// The same in so many other processes at once. The mean of what they measure.
fn pairs(path: &Path, limits: usize, processes: usize) -> f64 {
    let begin = |_| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("--process").arg(path).arg(limits.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process")
    };
    let mut children: Vec<_> = (0..processes).map(begin).collect();
    let mut said: Vec<_> =
        children.iter_mut().map(|child| BufReader::new(child.stdout.take().expect("piped")).lines()).collect();
    said.iter_mut().for_each(|lines| drop(lines.next().expect("it is ready")));
    children.iter_mut().for_each(|child| child.stdin.take().expect("piped").write_all(b"go\n").expect("it waits"));
    let each = said.iter_mut().map(|lines| lines.next().expect("a line").expect("text"));
    let sum: f64 = each.map(|line| line.parse::<f64>().expect("a number")).sum();
    children.iter_mut().for_each(|child| drop(child.wait()));
    sum / processes as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, path, limits] = &arguments[..]
        && flag == "--process"
    {
        let limiter = on_region(Path::new(path), limits.parse().expect("a number"));
        println!("ready");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("the word to go");
        println!("{}", pair(&limiter));
        return;
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "cargo bench -p tokenweir-shared --bench region: {}, {cores} cores, load {}",
        model.trim_start_matches([' ', '\t', ':']),
        load.split(' ').next().unwrap_or_default()
    );
    for limits in [1, 4] {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let path = folder.path().join("region");
        let heap = Limiter::builder(policy(limits)).clock(HostClock).build();
        let region = on_region(&path, limits);
        let (mut alone, mut shared, mut two) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.push(pair(&heap));
            shared.push(pair(&region));
            two.push(pairs(&path, limits, 2));
        }
        let ratios = shared.iter().zip(&alone).map(|(shared, alone)| shared / alone).collect();
        println!(
            "admitted and settled, limits: {limits}   heap {:5.0} ns   region {:5.0} ns   {:.2} x   two processes at once {:5.0} ns each",
            median(alone),
            median(shared),
            median(ratios),
            median(two)
        );
    }
}
