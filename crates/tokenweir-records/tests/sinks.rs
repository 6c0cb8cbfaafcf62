//! The sinks on the records of a gate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokenweir::gateway::model::FoundryResource;
use tokenweir::gateway::{Call, Completion, Gate, RecordObserver};
use tokenweir::{Estimate, ManualClock, Now, Usage};
use tokenweir_records::{JsonLines, Prometheus, Rotation};

/// P has 100 tokens per minute on `d`.
fn gate(observer: Arc<dyn RecordObserver>) -> Gate {
    let then = "1970-01-01T00:00:00Z";
    let resource: FoundryResource = serde_json::from_value(serde_json::json!({
        "site": { "tenant": "t", "subscription": "s", "resource_group": "g", "region": "eastus2" },
        "public_network_access": true,
        "deployments": { "d": { "model": "gpt-4o" } },
        "projects": { "P": { "created": then } },
        "gateway": {
            "name": "gateway", "instance": "instance", "state": "enabled", "created": then, "since": then,
            "made_instance": true,
            "memberships": { "P": { "status": "enabled", "since": then, "enabled_times": 1 } },
            "limits": { "projects": { "P": { "d": { "tokens_per_minute": 100 } } } },
            "metric_dimensions": [{ "name": "Location" }, { "name": "API ID" }, { "name": "Product ID" },
                { "name": "User ID" }, { "name": "cost centre", "value": "c-7" }],
        },
    }))
    .expect("a resource");
    Gate::builder("account".parse().expect("a name"), &resource)
        .limiter(|limiter| limiter.clock(ManualClock::default()))
        .observer(observer)
        .build()
        .expect("a gate")
}

/// Calls that are recorded under these ids.
fn calls(gate: &Gate, ids: std::ops::Range<u64>) {
    for id in ids {
        let id = format!("{id:06}");
        drop(gate.admit_at(&Call::model("P", "d").with_correlation_id(&id), Now::default()).expect("a decision"));
    }
}

fn ids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.is_empty() || text.ends_with('\n'));
    let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("each line is a record");
    text.lines().map(|line| record(line)["correlation_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn json_lines_rotate_by_size_and_lose_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("usage.jsonl");
    let rotation = Rotation { max_bytes: 4000, kept_files: 100, queue: 10_000 };
    let lines = Arc::new(JsonLines::open(&path, rotation).expect("a file"));
    let gate = gate(lines.clone());
    calls(&gate, 0..200);
    lines.flush();
    let written = lines.written();
    assert_eq!((written.written, written.dropped, written.failed, written.last_error), (200, 0, 0, None));
    let files = fs::read_dir(directory.path()).expect("a directory").count();
    assert!(files > 10, "{files}");
    // The oldest first: all records, in their order, and no file beyond its size.
    let mut all = Vec::new();
    for number in (0..files).rev() {
        let file = if number == 0 { path.clone() } else { format!("{}.{number}", path.display()).into() };
        assert!(fs::metadata(&file).expect("no gap in the numbers").len() <= 4000);
        all.extend(ids(&file));
    }
    let expected: Vec<String> = (0..200).map(|id| format!("{id:06}")).collect();
    assert_eq!(all, expected);
}

#[test]
fn json_lines_keep_so_many_files() {
    for kept_files in [0, 1, 3] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("usage.jsonl");
        let rotation = Rotation { max_bytes: 1, kept_files, queue: 10_000 };
        let lines = Arc::new(JsonLines::open(&path, rotation).expect("a file"));
        calls(&gate(lines.clone()), 0..20);
        lines.flush();
        // A record that is larger than a file stands in one of its own.
        assert_eq!(ids(&path), ["000019"]);
        let files: BTreeSet<_> = fs::read_dir(directory.path())
            .expect("a directory")
            .map(|file| file.expect("a file").file_name().into_string().expect("text"))
            .collect();
        let older = (1..=kept_files).map(|number| format!("usage.jsonl.{number}"));
        assert_eq!(files, older.chain(["usage.jsonl".to_owned()]).collect());
    }
}

#[test]
fn json_lines_are_appended_to_and_a_line_cut_short_spoils_no_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("usage.jsonl");
    for run in 0..2 {
        let lines = Arc::new(JsonLines::open(&path, Rotation::default()).expect("a file"));
        let gate = gate(lines.clone());
        calls(&gate, run..run + 1);
        // The last to let go waits until everything has been written.
        drop((gate, lines));
    }
    assert_eq!(ids(&path), ["000000", "000001"]);
    let whole = fs::read_to_string(&path).expect("a file");
    fs::write(&path, &whole[..whole.len() - 20]).expect("a crash");
    let lines = Arc::new(JsonLines::open(&path, Rotation::default()).expect("a file"));
    calls(&gate(lines.clone()), 7..8);
    lines.flush();
    let text = fs::read_to_string(&path).expect("a file");
    let records: Vec<bool> = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).collect();
    assert_eq!(records, [true, false, true]);
}

#[test]
fn json_lines_tell_what_could_not_be_written_and_try_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("place");
    fs::create_dir(&place).expect("a directory");
    assert!(JsonLines::open(&place, Rotation::default()).is_err(), "a directory is no file");
    let path = place.join("usage.jsonl");
    let rotation = Rotation { max_bytes: 1, ..Rotation::default() };
    let lines = Arc::new(JsonLines::open(&path, rotation).expect("a file"));
    let gate = gate(lines.clone());
    calls(&gate, 0..1);
    lines.flush();
    // The directory goes away: the next record finds no file to rotate and none to open.
    fs::remove_dir_all(&place).expect("removed");
    calls(&gate, 1..2);
    lines.flush();
    let written = lines.written();
    assert_eq!((written.written, written.failed), (1, 1));
    assert!(written.last_error.expect("an error").starts_with(&*path.display().to_string()));
    fs::create_dir(&place).expect("a directory");
    calls(&gate, 2..3);
    lines.flush();
    assert_eq!((ids(&path), lines.written().written), (vec!["000002".to_owned()], 2));
}

/// The value of a line that has these parts.
#[track_caller]
fn value(text: &str, parts: &[&str]) -> f64 {
    let line = text.lines().find(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)));
    let line = line.unwrap_or_else(|| panic!("no line with {parts:?} in\n{text}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn prometheus_shows_calls_tokens_and_durations() {
    let prometheus = Arc::new(Prometheus::new().expect("an exporter"));
    let gate = gate(prometheus.clone());
    let second = |second: u64| Now::at(second * 1_000_000_000);
    let call = Call::model("P", "d").with_estimate(Estimate::new(60, 0));
    let begin = || gate.admit_at(&call, second(0)).expect("a decision");
    let completion = Completion { model_served: Some("gpt-4o-2024-11-20"), ..Completion::of(Usage::new(60, 5)) };
    begin().passed().expect("it passes").settle_at(&completion, second(3)).expect("settled");
    let refused = begin().refused().expect("the minute is used up");
    assert_eq!(refused.status(), 429);
    // Bypassed, with an unknown usage: counted, and no tokens are made up.
    let unknown = gate.admit_at(&Call::model("made-up", "d"), second(0)).expect("a decision");
    unknown.passed().expect("it passes").settle_at(&Completion::default(), second(1)).expect("ended");
    let text = prometheus.render();
    let requests = "tokenweir_gateway_requests";
    assert_eq!(value(&text, &[requests, "outcome=\"admitted\"", "project=\"P\"", "deployment=\"d\""]), 1.0);
    let limit = r#"limit="project \"P\" on \"d\": tokens per minute""#;
    assert_eq!(value(&text, &[requests, "outcome=\"refused-rate\"", limit]), 1.0);
    assert_eq!(value(&text, &[requests, "outcome=\"bypassed\"", "project=\"\""]), 1.0);
    assert!(!text.contains("made-up"), "a client's word is no label");
    let usage = "gen_ai_client_token_usage";
    for (kind, tokens) in [("input", 60.0), ("output", 5.0)] {
        let kind = format!("gen_ai_token_type=\"{kind}\"");
        assert_eq!(value(&text, &[&format!("{usage}_sum"), &kind]), tokens);
        assert_eq!(
            value(&text, &[&format!("{usage}_count"), &kind, "gen_ai_response_model=\"gpt-4o-2024-11-20\""]),
            1.0
        );
        assert_eq!(value(&text, &[&format!("{usage}_bucket"), &kind, "le=\"64\""]), 1.0);
    }
    assert_eq!(value(&text, &[&format!("{usage}_bucket"), "\"input\"", "le=\"16\""]), 0.0);
    let took = ["gen_ai_client_operation_duration_sum", "gen_ai_provider_name=\"azure.ai.openai\"", "project=\"P\""];
    assert_eq!(value(&text, &took), 3.0);
    assert_eq!(
        value(&text, &["gen_ai_client_operation_duration_count", "gen_ai_operation_name=\"chat\"", "project=\"\""]),
        1.0
    );
    // A second reading shows the same, and later calls are added to it.
    assert_eq!(value(&prometheus.render(), &[&format!("{usage}_count"), "\"input\""]), 1.0);
    drop(gate.admit_at(&call, second(0)).expect("a decision"));
    assert_eq!(value(&prometheus.render(), &[requests, "outcome=\"refused-rate\""]), 2.0);
}

#[test]
fn prometheus_counts_right_when_nobody_reads_for_long() {
    let prometheus = Arc::new(Prometheus::new().expect("an exporter"));
    let gate = gate(prometheus.clone());
    let call = Call::model("nobody", "d");
    for _ in 0..10_000 {
        let passage = gate.admit_at(&call, Now::default()).expect("a decision").passed().expect("it bypasses");
        passage.settle_at(&Completion::of(Usage::new(3, 2)), Now::default()).expect("ended");
    }
    let text = prometheus.render();
    assert_eq!(value(&text, &["tokenweir_gateway_requests", "outcome=\"bypassed\""]), 10_000.0);
    assert_eq!(value(&text, &["gen_ai_client_token_usage_count", "\"input\""]), 10_000.0);
    assert_eq!(value(&text, &["gen_ai_client_token_usage_sum", "\"output\""]), 20_000.0);
}

#[test]
fn token_metrics_are_told_apart_by_the_gateways_dimensions() {
    let figures = Arc::new(Prometheus::new().expect("a recorder"));
    let gate = gate(figures.clone());
    let passage =
        gate.admit_at(&Call::model("P", "d"), Now::default()).expect("a decision").passed().expect("it passes");
    passage.settle_at(&Completion::of(Usage::new(7, 3)), Now::default()).expect("settled");
    let text = figures.render();
    let line = |metric: &str| {
        text.lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let tokens = line("gen_ai_client_token_usage_count");
    for label in [
        "dimension_Location=\"eastus2\"",
        "dimension_API_ID=\"account\"",
        "dimension_Product_ID=\"account-P\"",
        "dimension_cost_centre=\"c-7\"",
    ] {
        assert!(tokens.contains(label), "{label}: {tokens}");
    }
    // Who called was not said; and it is the tokens that the dimensions are for.
    assert!(!text.contains("dimension_User_ID"), "{text}");
    assert!(!line("gen_ai_client_operation_duration_count").contains("dimension_"), "{text}");
}
