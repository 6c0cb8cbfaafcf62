//! The sample that comes with the project, and a real trace where it is at hand.

mod common;

use std::path::Path;

use common::Folder;
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn every_limit_of_the_sample_refuses_something_and_most_is_admitted() {
    let folder = Folder::new("sample");
    let (policy, trace) = (format!("{ROOT}/examples/data/policy.toml"), format!("{ROOT}/examples/data/trace.jsonl"));
    let check = folder.run(&["check", &policy]);
    assert_eq!((check.code, check.err.as_str()), (0, ""));
    let args = ["replay", "--policy", &policy, "--trace", &trace, "--decisions", "d.jsonl", "--report", "r.html"];
    let ran = folder.run(&args);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));

    let decisions: Vec<Value> =
        folder.read("d.jsonl").lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    let admitted = decisions.iter().filter(|decision| decision["decision"] == "admitted").count();
    assert!(admitted * 10 > decisions.len() * 9, "{admitted} of {}", decisions.len());
    let limits: Vec<String> = std::fs::read_to_string(&policy)
        .expect("the policy is there")
        .split("[[limit]]")
        .skip(1)
        .map(|limit| limit.split('"').nth(1).expect("a limit begins with its name").to_string())
        .collect();
    assert!(limits.len() >= 8);
    for limit in limits {
        let among = |field: &str| {
            let lists = decisions.iter().filter_map(|decision| decision[field].as_array());
            lists.filter(|names| names.iter().any(|name| *name == *limit)).count()
        };
        assert!(among("refused_by") + among("shadow_refused") >= 3, "{limit} refuses too little to show");
    }
    assert!(folder.read("r.html").len() < 1_000_000);
}

#[test]
fn the_azure_trace_replays() {
    let trace = format!("{ROOT}/../shared/data/traces/AzureLLMInferenceTrace_code.csv");
    if !Path::new(&trace).exists() {
        println!("skipped: {trace} is not here");
        return;
    }
    let folder = Folder::new("azure");
    let policy = "[[limit]]\nname = \"tpm\"\nmeter = \"total\"\nalgorithm = \"window\"\namount = 200_000\nper = \"1m\"\n\
                  scope = [\"project\", \"deployment\"]\nmatch = { project = \"code\", deployment = \"m\" }\n";
    folder.write("p.toml", policy);
    let args = ["replay", "--policy", "p.toml", "--trace", &trace, "--format", "azure-llm", "--project", "code"];
    let more = ["--deployment", "m", "--estimate-output", "2.5x", "--duration-per-token", "0.03"];
    let ran = folder.run(&[&args[..], &more, &["--decisions", "d.jsonl"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains("2023-11-16 18:17:03 to 19:14:19 UTC (57 min 15 s)"), "{}", ran.out);
    let decisions = folder.read("d.jsonl");
    assert_eq!(decisions.lines().count(), 8_819);
    // 4808 and 2.5 times 10.
    let first = r#"{"line":2,"at":"2023-11-16 18:17:03.9799600","decision":"admitted","status":200,"limit":null,"refused_by":[],"retry_after":null,"never_fits":false,"remaining":{"tpm":195167}}"#;
    assert_eq!(decisions.lines().next(), Some(first));
    assert!(decisions.lines().last().is_some_and(|line| line.starts_with("{\"line\":8820,")));
    assert!(decisions.contains("\"decision\":\"denied\""));
}
