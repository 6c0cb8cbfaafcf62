//! Replays that go on from a file of quotas.

mod common;

use common::{Folder, Ran, limit, request};

const DAY: u64 = 86_400;

/// 1,000 tokens a day, whoever asks.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.write("policy.toml", limit("day", "algorithm = \"quota\"\namount = 1000\nperiod = \"daily\""));
    folder
}

/// So many requests of 100 tokens each, a second apart, on a day after 1970. Each uses 90.
fn trace(day: u64, requests: u64) -> String {
    let usage = r#","usage":{"input":90,"output":0},"duration":0.5"#;
    (0..requests).map(|number| request(&(day * DAY + number).to_string(), 100, usage)).collect()
}

fn replay(folder: &Folder, trace: &str) -> Ran {
    folder.write("trace.jsonl", trace);
    let files = ["--policy", "policy.toml", "--trace", "trace.jsonl", "--decisions", "out.jsonl"];
    folder.run(&["replay", "--store", "redb:quotas.redb"].into_iter().chain(files).collect::<Vec<_>>())
}

/// How many were admitted.
fn admitted(folder: &Folder, trace: &str) -> usize {
    let ran = replay(folder, trace);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    folder.read("out.jsonl").matches("\"decision\":\"admitted\"").count()
}

#[test]
fn each_run_goes_on_from_what_the_runs_before_it_used() {
    let folder = folder("quota-file");
    assert_eq!(admitted(&folder, &trace(20_000, 6)), 6);
    // 540 are used, exactly: a fifth fits beside 900.
    assert_eq!(admitted(&folder, &trace(20_000, 20)), 5);
    assert_eq!(admitted(&folder, &trace(20_000, 20)), 0);
    let ran = replay(&folder, &trace(20_000, 1));
    assert!(ran.out.contains("go on in quotas.redb, which had 1 counter"), "{}", ran.out);
}

#[test]
fn a_later_day_begins_anew_and_an_earlier_one_uses_of_the_latest() {
    let folder = folder("quota-file-days");
    assert_eq!(admitted(&folder, &trace(20_000, 20)), 11);
    assert_eq!(admitted(&folder, &trace(20_001, 6)), 6);
    assert_eq!(admitted(&folder, &trace(19_999, 20)), 5);
    assert_eq!(admitted(&folder, &trace(20_001, 20)), 0);
}

#[test]
fn a_run_that_fails_leaves_the_file_as_it_was() {
    let folder = folder("quota-file-failed");
    assert_eq!(admitted(&folder, &trace(20_000, 6)), 6);
    let before = std::fs::read(folder.path("quotas.redb")).expect("the file");
    let ran = replay(&folder, &(trace(20_000, 4) + "{}\n"));
    assert!(ran.code == 2 && ran.err.starts_with("error: trace.jsonl:5: "), "{}", ran.err);
    assert!(std::fs::read(folder.path("quotas.redb")).expect("the file") == before);
    assert_eq!(admitted(&folder, &trace(20_000, 20)), 5);
}

#[test]
fn what_is_wrong_with_it_is_said() {
    let folder = folder("quota-file-wrong");
    let tried = |store: &str, more: &[&str]| {
        folder.write("trace.jsonl", trace(20_000, 1));
        let args = ["replay", "--policy", "policy.toml", "--trace", "trace.jsonl", "--store", store];
        let ran = folder.run(&args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>());
        assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (2, "", 1), "{}", ran.err);
        ran.err
    };
    assert!(tried("redb:", &[]).contains("write redb:PATH"));
    assert!(tried("shared", &[]).contains("add --processes N, or give redb:PATH"));
    assert!(tried("redb:q", &["--decisions", "q"]).contains("is read by this run"));
    folder.write("other.redb", "a letter to a friend, and no quotas");
    assert!(tried("redb:other.redb", &[]).contains("not a sound quota file"));
    assert!(tried("redb:.", &[]).contains("it is a directory; name a file in it"));
    // Damage that makes redb panic.
    assert_eq!(admitted(&folder, &trace(20_000, 1)), 1);
    let sound = std::fs::read(folder.path("quotas.redb")).expect("the file");
    folder.write("cut.redb", &sound[..100_000]);
    assert!(tried("redb:cut.redb", &[]).contains("its pages do not fit"));
    std::fs::remove_file(folder.path("quotas.redb")).expect("it is there");
    folder.write("policy.toml", limit("rate", "algorithm = \"bucket\"\namount = 10\nper = \"1m\""));
    assert!(tried("redb:quotas.redb", &[]).contains("has no quota"));
    assert!(!folder.path("quotas.redb").exists());
}
