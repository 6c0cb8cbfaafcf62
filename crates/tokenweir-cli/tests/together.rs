//! A trace through several processes at once.

mod common;
#[path = "../../tokenweir-redis/tests/support/mod.rs"]
mod servers;

use common::{Folder, limit, request};
use servers::RedisServer;

/// The figure of a line of the summary that begins with these words.
fn figure(out: &str, words: &str) -> u64 {
    let line = out.lines().find(|line| line.trim_start().starts_with(words)).unwrap_or_else(|| panic!("{out}"));
    let figures = line.trim_start()[words.len()..].split_whitespace().next().expect("a figure");
    figures.replace(',', "").parse().unwrap_or_else(|_| panic!("{out}"))
}

/// 100 requests of 10 tokens each, of which a limit of 200 in any hour takes 20.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("policy.toml", limit("tokens", "algorithm = \"window\"\namount = 200\nper = \"1h\""));
    let usage = r#","usage":{"input":10,"output":0},"duration":0.3"#;
    let lines: Vec<String> = (0..100).map(|number| request(&format!("{number}"), 10, usage)).collect();
    folder.write("trace.jsonl", lines.concat());
    folder
}

const REPLAY: [&str; 5] = ["replay", "--policy", "policy.toml", "--trace", "trace.jsonl"];

fn replay<'a>(more: &[&'a str]) -> Vec<&'a str> {
    REPLAY.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn without_a_store_each_process_admits_the_limit() {
    let ran = folder("together-alone").run(&replay(&["--processes", "3"]));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!((figure(&ran.out, "requests"), figure(&ran.out, "admitted")), (100, 60), "{}", ran.out);
    assert!(ran.out.contains("by process: 20 20 20") && ran.out.contains("300.0%"), "{}", ran.out);
    assert_eq!(figure(&ran.out, "tokens used"), 600);
}

#[test]
fn on_a_server_they_admit_it_once_and_each_run_begins_anew() {
    let (server, folder) = (RedisServer::start(), folder("together-redis"));
    for _ in 0..2 {
        let url = server.url();
        let ran = folder.run(&replay(&["--processes", "3", "--store", &url, "--all"]));
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!((figure(&ran.out, "admitted"), figure(&ran.out, "denied, 429")), (20, 80), "{}", ran.out);
        assert!(ran.out.contains("100.0%") && ran.out.contains(&format!("3 processes, on {url}")), "{}", ran.out);
    }
}

#[test]
fn a_shadow_limit_is_beside_what_it_would_allow_in_no_relation() {
    let folder = folder("together-shadow");
    let policy = "algorithm = \"window\"\namount = 200\nper = \"1h\"\nmode = \"shadow\"";
    folder.write("policy.toml", limit("tokens", policy));
    let ran = folder.run(&replay(&["--processes", "2"]));
    assert_eq!((ran.code, figure(&ran.out, "admitted")), (0, 100), "{}{}", ran.out, ran.err);
    let row: Vec<&str> = ran.out.lines().last().expect("a row").split_whitespace().collect();
    assert_eq!(row, ["all", "100", "0", "1,000", "-", "-"], "{}", ran.out);
}

#[cfg(target_os = "linux")]
#[test]
fn in_a_shared_region_they_admit_it_once_and_leave_nothing_behind() {
    let regions = || {
        let files = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("tokenweir-replay-")).count()
    };
    let (folder, before) = (folder("together-shared"), regions());
    for _ in 0..2 {
        let ran = folder.run(&replay(&["--processes", "8", "--store", "shared"]));
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!((figure(&ran.out, "admitted"), figure(&ran.out, "denied, 429")), (20, 80), "{}", ran.out);
        assert!(ran.out.contains("100.0%") && ran.out.contains("8 processes, in a region"), "{}", ran.out);
    }
    assert_eq!(regions(), before);
}

#[test]
fn what_is_wrong_is_said_once_and_nothing_is_started() {
    let folder = folder("together-wrong");
    for (more, said) in [
        (&["--processes", "2", "--store", "http://host"][..], "http is not a scheme"),
        (&["--processes", "2", "--store", "redis://127.0.0.1:1"], "does not answer (Connection refused"),
        (&["--processes", "2", "--trace", "-"], "cannot be used multiple times"),
        (&["--processes", "0"], "0 is not in 1..=64"),
        (&["--processes", "2", "--speed", "0"], "write 1 for the trace's own speed"),
        (&["--processes", "2", "--decisions", "d.jsonl"], "cannot be used with"),
        (&["--store", "redis://host"], "add --processes N"),
        (&["--processes", "2", "--store", "redb:quotas.redb"], "a file of quotas is for one process"),
    ] {
        let ran = folder.run(&replay(more));
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{more:?}: {}", ran.err);
        assert_eq!(ran.err.matches(said).count(), 1, "{more:?}: {}", ran.err);
    }
    let ran = folder.run(&["replay", "--policy", "policy.toml", "--trace", "-", "--processes", "2"]);
    assert!(ran.code == 2 && ran.err.contains("give the path of a file"), "{}", ran.err);
    folder.write("trace.jsonl", "{}\n");
    let ran = folder.run(&replay(&["--processes", "2"]));
    assert!(ran.code == 2 && ran.err.starts_with("error: trace.jsonl:1: "), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn the_trace_can_be_offered_at_its_own_speed_or_another() {
    let folder = folder("together-speed");
    let began = std::time::Instant::now();
    let ran = folder.run(&replay(&["--processes", "2", "--speed", "200"]));
    // 99 seconds at 200 times their speed.
    assert!(began.elapsed().as_millis() >= 495, "{:?}", began.elapsed());
    assert!(ran.out.contains("at 200 times the speed of the trace"), "{}", ran.out);
}
