//! Decisions of small traces, worked out by hand, and what a replay prints.

mod common;

use common::{Folder, limit, request};

/// The end of an admitted line, after `"status":`.
const ADMITTED: &str =
    r#""decision":"admitted","status":200,"limit":null,"refused_by":[],"retry_after":null,"never_fits":false"#;

fn admitted(line: u64, at: &str, remaining: &str) -> String {
    format!(r#"{{"line":{line},"at":{at},{ADMITTED},"remaining":{{{remaining}}}}}"#)
}

fn denied(line: u64, at: &str, status: u16, limit: &str, wait: &str, remaining: &str) -> String {
    format!(
        r#"{{"line":{line},"at":{at},"decision":"denied","status":{status},"limit":"{limit}","refused_by":["{limit}"],"retry_after":{wait},"never_fits":false,"remaining":{{{remaining}}}}}"#
    )
}

fn usage(input: u64, duration: &str) -> String {
    format!(r#","usage":{{"input":{input},"output":0}},"duration":{duration}"#)
}

#[test]
fn bucket() {
    // 10 tokens a second, 100 at most.
    let policy = limit("b", "algorithm = \"bucket\"\namount = 600\nper = \"1m\"\nburst = 100");
    let trace = [
        request("0", 60, ""),
        request("1.0", 60, ""),
        request("1.734", 60, ""),
        request("2", 60, ""),
        // More than it ever holds.
        request("2.5", 101, ""),
        request("1e1", 50, &usage(20, "1")),
        // The end at 11 comes first: 40 are left and 30 come back.
        request("11.000", 71, ""),
        request("11.000", 70, ""),
    ];
    let lines = Folder::new("bucket").decisions(&policy, &trace.concat());
    let never = r#"{"line":5,"at":2.5,"decision":"denied","status":429,"limit":"b","refused_by":["b"],"retry_after":null,"never_fits":true,"remaining":{"b":5}}"#;
    assert_eq!(
        lines,
        [
            admitted(1, "0", "\"b\":40"),
            denied(2, "1.0", 429, "b", "1", "\"b\":50"),
            denied(3, "1.734", 429, "b", "0.266", "\"b\":57"),
            admitted(4, "2", "\"b\":0"),
            never.to_string(),
            admitted(6, "1e1", "\"b\":30"),
            denied(7, "11.000", 429, "b", "0.1", "\"b\":70"),
            admitted(8, "11.000", "\"b\":0"),
        ]
    );
}

#[test]
fn window() {
    // 100 in any minute, by sub-windows of 10 seconds: a charge at 5 counts until 70.
    let policy = limit("w", "algorithm = \"window\"\namount = 100\nper = \"1m\"\nsub_windows = 6");
    let trace = [
        request("5", 70, ""),
        request("15", 30, &usage(10, "10")),
        request("16", 1, ""),
        // The end at 25 gave 20 back.
        request("25", 20, ""),
        request("69.999999999", 70, ""),
        request("70", 70, ""),
    ];
    let lines = Folder::new("window").decisions(&policy, &trace.concat());
    assert_eq!(
        lines,
        [
            admitted(1, "5", "\"w\":30"),
            admitted(2, "15", "\"w\":0"),
            denied(3, "16", 429, "w", "54", "\"w\":0"),
            admitted(4, "25", "\"w\":0"),
            denied(5, "69.999999999", 429, "w", "0.000000001", "\"w\":0"),
            admitted(6, "70", "\"w\":0"),
        ]
    );
}

#[test]
fn quota() {
    let policy = limit("day", "algorithm = \"quota\"\namount = 100\nperiod = \"daily\"");
    let trace = [
        request("\"2026-03-01T23:59:00Z\"", 60, &usage(50, "0")),
        request("\"2026-03-01T23:59:30+00:00\"", 60, ""),
        request("\"2026-03-01T23:59:59.5Z\"", 40, ",\"cancel\":true,\"duration\":1"),
        // A new day. What is cancelled in it was charged to the old one, and gives nothing back to this.
        request("\"2026-03-02T00:00:00Z\"", 60, ""),
        request("\"2026-03-02T02:00:01+01:00\"", 41, ""),
    ];
    let lines = Folder::new("quota").decisions(&policy, &trace.concat());
    assert_eq!(
        lines,
        [
            admitted(1, "\"2026-03-01T23:59:00Z\"", "\"day\":40"),
            denied(2, "\"2026-03-01T23:59:30+00:00\"", 403, "day", "30", "\"day\":50"),
            admitted(3, "\"2026-03-01T23:59:59.5Z\"", "\"day\":10"),
            admitted(4, "\"2026-03-02T00:00:00Z\"", "\"day\":40"),
            denied(5, "\"2026-03-02T02:00:01+01:00\"", 403, "day", "82799", "\"day\":40"),
        ]
    );
}

#[test]
fn in_flight() {
    let policy = "[[limit]]\nname = \"f\"\nmeter = \"in_flight\"\nalgorithm = \"in_flight\"\namount = 2\n";
    let trace = [
        request("0", 1, &usage(1, "3")),
        request("1", 1, ",\"usage\":null,\"duration\":1.5"),
        request("2", 1, ""),
        // One ended at 2.5, the other ends at 3, before this asks.
        request("3", 1, ",\"cancel\":true,\"duration\":100"),
        request("4", 1, ",\"duration\":1"),
        request("5", 1, ""),
    ];
    let lines = Folder::new("in_flight").decisions(policy, &trace.concat());
    assert_eq!(
        lines,
        [
            admitted(1, "0", "\"f\":1"),
            admitted(2, "1", "\"f\":0"),
            // Nobody knows when a call ends.
            denied(3, "2", 429, "f", "null", "\"f\":0"),
            admitted(4, "3", "\"f\":1"),
            admitted(5, "4", "\"f\":0"),
            admitted(6, "5", "\"f\":0"),
        ]
    );
}

#[test]
fn several_limits_stand_in_the_order_of_the_policy() {
    let policy = [
        limit("z", "algorithm = \"bucket\"\namount = 60\nper = \"1m\"\nscope = [\"project\"]"),
        limit("a", "algorithm = \"window\"\namount = 50\nper = \"1m\"\nscope = [\"deployment\"]"),
        limit("s", "algorithm = \"window\"\namount = 40\nper = \"1m\"\nmode = \"shadow\""),
    ];
    let trace = [request("0", 45, ""), request("1", 20, "")];
    let lines = Folder::new("several").decisions(&policy.concat(), &trace.concat());
    let shadow = r#","shadow_refused":["s"]}"#;
    assert_eq!(lines[0], admitted(1, "0", r#""z":15,"a":5"#).trim_end_matches('}').to_string() + "}" + shadow);
    assert_eq!(
        lines[1],
        r#"{"line":2,"at":1,"decision":"denied","status":429,"limit":"a","refused_by":["z","a"],"retry_after":60,"never_fits":false,"remaining":{"z":16,"a":5}}"#
    );
}

#[test]
fn start_moves_numbers() {
    let folder = Folder::new("start");
    folder.write("p.toml", limit("day", "algorithm = \"quota\"\namount = 100\nperiod = \"daily\""));
    let trace = [request("0", 80, ""), request("1", 80, "")].concat();
    let args = ["replay", "--policy", "p.toml", "--trace", "-", "--decisions", "-", "--start"];
    let at = |start: &'static str| folder.run_with([&args[..], &[start]].concat(), &trace);
    let ran = at("2026-03-01T12:00:00Z");
    assert_eq!(ran.code, 0);
    assert!(ran.out.lines().nth(1).is_some_and(|line| line.contains("\"retry_after\":43199,")), "{}", ran.out);
    // The summary goes where the decisions do not.
    assert!(ran.err.contains("2026-03-01 12:00:00 to 12:00:01 UTC (1 s)"), "{}", ran.err);
    let ran = at("2026-03-01T23:59:59.5Z");
    assert!(ran.out.lines().all(|line| line.contains("admitted")), "{}", ran.out);
}

#[test]
fn the_summary_adds_up_and_fits() {
    let folder = Folder::new("summary");
    folder.write(
        "p.toml",
        limit("per user", "algorithm = \"bucket\"\namount = 100\nper = \"1m\"\nscope = [\"project\", \"key:user\"]"),
    );
    let mut trace = String::new();
    for user in 0..40 {
        let key = format!("{}\\u001b[2J\\u202e{user}", "long ".repeat(30));
        for _ in 0..2 {
            trace +=
                &request("7", 60, &format!(",\"keys\":{{\"user\":\"{key}\"}},\"usage\":{{\"input\":50,\"output\":5}}"));
        }
    }
    folder.write("t.jsonl", trace);
    let args = ["replay", "--policy", "p.toml", "--trace", "t.jsonl"];
    let ran = folder.run(&args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for line in [
        "requests          80",
        "  admitted        40  50.0%",
        "  denied, 429     40  50.0%",
        "tokens         4,800  estimated, of all requests",
        "  used         2,200  by what was admitted",
        "per user: bucket, 100 tokens per 1 min; by project and key:user",
    ] {
        assert!(ran.out.lines().any(|printed| printed == line), "{line}\n{}", ran.out);
    }
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100), "{}", ran.out);
    assert!(!ran.out.contains(['\u{1b}', '\u{202e}']), "{}", ran.out);
    assert!(ran.out.contains("  … and 20 keys with 20 denials; --all shows them\n"), "{}", ran.out);
    let all = folder.run(&[&args[..], &["--all"]].concat());
    assert_eq!(all.out.lines().filter(|line| line.starts_with("  p / long")).count(), 40);
}

#[test]
fn a_trace_without_requests_or_end_of_line() {
    let folder = Folder::new("few");
    folder.write("p.toml", limit("a", "algorithm = \"bucket\"\namount = 100\nper = \"1m\""));
    let args = ["replay", "--policy", "p.toml", "--trace", "-", "--report", "r.html"];
    let ran = folder.run_with(args, "");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("no requests\n"), "{}", ran.out);
    assert!(ran.out.contains("no request met 1 limit: a\n"), "{}", ran.out);
    let ran = folder.run_with(args, request("1", 5, "").trim_end());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[cfg(unix)]
#[test]
fn nobody_reads_the_output() {
    use std::process::{Command, Stdio};
    let folder = Folder::new("pipe");
    folder.write("p.toml", limit("a", "algorithm = \"bucket\"\namount = 100\nper = \"1m\""));
    // More than a pipe holds, so that the command meets the closed end.
    folder.write("t.jsonl", request("1", 5, "").repeat(5_000));
    let mut child = Command::new(env!("CARGO_BIN_EXE_tokenweir"))
        .args(["replay", "--policy", "p.toml", "--trace", "t.jsonl", "--decisions", "-"])
        .current_dir(folder.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
