//! What the benches share: processes that begin together, and the machine that they run on.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod asking;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Runs so many processes together, and `meanwhile` beside them: what each says in the end, as numbers. Each says `ready` first,
/// and waits for a line.
pub fn together(count: usize, command: impl Fn() -> Command, meanwhile: impl FnOnce()) -> Vec<Vec<f64>> {
    let begin = || -> (Child, BufReader<ChildStdout>) {
        let mut child = command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        assert_eq!(line(&mut said), "ready");
        (child, said)
    };
    let mut children: Vec<_> = (0..count).map(|_| begin()).collect();
    for (child, _) in &mut children {
        child.stdin.take().expect("piped").write_all(b"go\n").expect("it waits");
    }
    meanwhile();
    let ended = |(mut child, mut said): (Child, BufReader<ChildStdout>)| {
        let numbers = line(&mut said).split_whitespace().map(|word| word.parse().expect("a number")).collect();
        child.wait().expect("it ends");
        numbers
    };
    children.into_iter().map(ended).collect()
}

fn line(said: &mut impl BufRead) -> String {
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// Of one of the processes: says that it is ready, and waits.
pub fn ready() {
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the word to go");
}

/// The processor, how many cores, and the load.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = load.split(' ').next().unwrap_or_default();
    format!("{}, {cores} cores, load {load}", model.trim_start_matches([' ', '\t', ':']))
}
