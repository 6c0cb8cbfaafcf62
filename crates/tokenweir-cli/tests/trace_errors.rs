//! A trace that is wrong stops the run with the number of the line, exit code 2, and leaves no file.

mod common;

use common::{Folder, limit, request};

fn refused(test: &str, trace: impl AsRef<[u8]>, options: &[&str], starts: &str) {
    let folder = Folder::new(test);
    folder.write("p.toml", limit("a", "algorithm = \"bucket\"\namount = 100\nper = \"1m\""));
    folder.write("t", trace);
    folder.write("d.jsonl", "from before");
    let args = ["replay", "--policy", "p.toml", "--trace", "t", "--decisions", "d.jsonl", "--report", "r.html"];
    let ran = folder.run(&[&args[..], options].concat());
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
    assert!(ran.err.starts_with(&format!("error: {starts}")), "{}", ran.err);
    assert!(ran.err.contains("; "), "no remedy: {}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    // What was there before stays, and nothing half is left.
    assert_eq!(folder.names(), ["d.jsonl", "p.toml", "t"]);
    assert_eq!(folder.read("d.jsonl"), "from before");
}

#[test]
fn malformed_lines() {
    let good = request("1", 5, "");
    refused("no_json", format!("{good}{{\"at\":2,\n"), &[], "t:2: the line is not JSON at column 8");
    refused("unknown", format!("{good}{}", request("2", 5, ",\"ussage\":null")), &[], "t:2: unknown field \"ussage\"");
    refused("key_twice", request("1", 5, ",\"project\":\"q\""), &[], "t:1: the field \"project\" comes twice");
    refused("fraction", request("1", 5, ",\"usage\":{\"input\":1.5}"), &[], "t:1: usage.input is 1.5");
    refused("negative", request("1", 5, ",\"usage\":{\"output\":-1}"), &[], "t:1: usage.output is -1");
    refused("large", request("1", 9_007_199_254_740_993, ""), &[], "t:1: estimate.input is 9007199254740993");
    refused("no_project", "{\"at\":1,\"deployment\":\"d\"}\n", &[], "t:1: the field \"project\" is missing");
    refused("empty_line", format!("{good}\n{good}"), &[], "t:2: the line is empty");
    refused("not_utf8", b"{\"at\":1,\"project\":\"\xff\",\"deployment\":\"d\"}\n", &[], "t:1: column 20 is not UTF-8");
    refused("too_long", vec![b'x'; (1 << 20) + 1], &[], "t:1: the line is longer than 1 MiB");
}

#[test]
fn a_trace_out_of_order() {
    let trace = [request("1", 5, ""), request("2.5", 5, ""), request("2.499999999", 5, "")].concat();
    refused("unsorted", trace, &[], "t:3: is 1 ns before line 2; sort the trace by time");
}

#[test]
fn wrong_tables() {
    let azure = ["--format", "azure-llm"];
    let head = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";
    let good = "2023-11-16 18:17:03.9799600,4808,10\r\n";
    refused("no_head", good, &azure, "t:1: the first line is not TIMESTAMP,");
    refused("no_table", "", &azure, "t:1: the first line is not TIMESTAMP,");
    refused("short", format!("{head}{good}2023-11-16 18:17:04,5\r\n"), &azure, "t:3: the line has 2 fields, not 3");
    refused("no_time", format!("{head}16/11/2023,5,5"), &azure, "t:2: TIMESTAMP \"16/11/2023\" is not a date and time");
    refused("no_number", format!("{head}{}", good.replace("10", "ten")), &azure, "t:2: GeneratedTokens is \"ten\"");
    refused("backwards", format!("{head}{good}{}", good.replace(":03.", ":02.")), &azure, "t:3: is 1 s before line 2");
    refused("gap", format!("{head}{good}\r\n{good}"), &azure, "t:3: the line is empty");
}

#[test]
fn what_the_engine_refuses_has_its_line() {
    let folder = Folder::new("engine_refuses");
    folder.write(
        "p.toml",
        "[[limit]]\nname = \"c\"\nmeter = \"cost\"\nalgorithm = \"quota\"\namount = 5\nperiod = \"daily\"\n\
         [[price]]\ndeployment = \"other\"\ninput = 1\noutput = 1\n",
    );
    folder.write("t.jsonl", request("1", 5, ""));
    let ran = folder.run(&["replay", "--policy", "p.toml", "--trace", "t.jsonl"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.starts_with("error: t.jsonl:1: limit \"c\" counts cost and no price fits"), "{}", ran.err);
}

#[test]
fn missing_files_and_wrong_options() {
    let folder = Folder::new("missing");
    folder.write("p.toml", limit("a", "algorithm = \"bucket\"\namount = 100\nper = \"1m\""));
    folder.write("t.jsonl", request("1", 5, ""));
    let fails = |args: &[&str], starts: &str| {
        let ran = folder.run(&[&["replay"], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{}", ran.err);
        assert!(ran.err.starts_with(&format!("error: {starts}")), "{}", ran.err);
    };
    fails(&["--policy", "none.toml", "--trace", "t.jsonl"], "none.toml: cannot read: ");
    fails(&["--policy", "p.toml", "--trace", "none.jsonl"], "none.jsonl: cannot read: ");
    fails(&["--policy", "p.toml", "--trace", "."], ".: is a folder; ");
    fails(&["--policy", "p.toml"], "the following required arguments were not provided");
    let both = ["--policy", "p.toml", "--trace", "t.jsonl"];
    fails(&[&both[..], &["--start", "noon"]].concat(), "--start: \"noon\" is not a date and time; ");
    fails(&[&both[..], &["--decisions", "t.jsonl"]].concat(), "t.jsonl: is read by this run; ");
    fails(&[&both[..], &["--decisions", "x", "--report", "x"]].concat(), "--report: is the same file");
    fails(&[&both[..], &["--estimate-output", "lots"]].concat(), "invalid value 'lots'");
    assert_eq!(folder.read("t.jsonl"), request("1", 5, ""));
    let ran = folder.run(&[&["replay"], &both[..], &["--decisions", "no/such/folder"]].concat());
    assert_eq!(ran.code, 1, "{}", ran.err);
}

#[test]
fn an_error_in_the_standard_input_says_so() {
    let folder = Folder::new("stdin_error");
    folder.write("p.toml", limit("a", "algorithm = \"bucket\"\namount = 100\nper = \"1m\""));
    let ran = folder.run_with(["replay", "--policy", "p.toml", "--trace", "-"], "{}\n");
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (2, "error: stdin:1: the field \"at\" is missing; add it: seconds since 1970 or RFC 3339 text\n")
    );
}
