//! What must hold of any bytes that are read as a trace: the fuzz target, and the kept corpus as a test.

use std::io::Cursor;

use serde_json::Value;
use tokenweir::{Policy, Usage};
use tokenweir_replay::{Azure, Ending, Entry, Error, Format, Jsonl, OutputRule, Replay, Trace, last_instant};

const POLICY: &str = r#"
    [[limit]]
    name = "tpm \"quoted\""
    meter = "total"
    algorithm = "bucket"
    amount = 5000
    per = "1m"
    scope = ["project", "deployment"]

    [[limit]]
    name = "window"
    meter = "output"
    algorithm = "window"
    amount = 900
    per = "10s"
    scope = ["key:user"]

    [[limit]]
    name = "day"
    meter = "input"
    algorithm = "quota"
    amount = 100_000
    period = "daily"
    mode = "shadow"

    [[limit]]
    name = "places"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 2
"#;

/// The first byte says in which format the others are.
fn format(first: u8) -> Format {
    if first & 1 == 0 {
        return Format::Jsonl(Jsonl { start: i64::from(first >> 1) << 55 });
    }
    let output = match first >> 1 & 3 {
        0 => OutputRule::Tokens(400),
        1 => OutputRule::Times { numerator: 15, denominator: 10 },
        2 => OutputRule::Times { numerator: 1 << 53, denominator: 1 },
        _ => OutputRule::Times { numerator: 0, denominator: 1 },
    };
    let (duration, duration_per_token) =
        [(0, 0), (3_000_000_000, 20_000_000), (i64::MAX, 1), (1, i64::MAX)][usize::from(first >> 3 & 3)];
    Format::Azure(Azure { project: "a".into(), deployment: "d".into(), output, duration, duration_per_token })
}

/// Any bytes are a trace up to the first line that is wrong, and an error that names it.
pub fn trace(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let mut trace = Trace::new(text, format(first));
    let mut entries: Vec<Entry> = Vec::new();
    let header = u64::from(first & 1);
    let error = loop {
        match trace.next_entry() {
            Ok(Some(entry)) => {
                assert_eq!(entry.line, entries.len() as u64 + 1 + header);
                assert!(entry.at >= entries.last().map_or(0, |last| last.at) && entry.due >= entry.at, "{entry:?}");
                assert!(!entry.project.is_empty() && !entry.deployment.is_empty(), "{entry:?}");
                assert!(entry.keys.iter().all(|(_, value)| !value.is_empty()), "{entry:?}");
                again(&entry, first);
                entries.push(entry);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    match &error {
        None => {
            let last = last_instant(&mut Cursor::new(text), &format(first));
            assert!(entries.is_empty() || last == entries.last().map(|entry| entry.at), "{last:?}");
        }
        Some(Error::Line { line, reason, remedy }) => {
            // The header is line 1, and may itself be the wrong one.
            let next = entries.len() as u64 + 1 + header;
            assert!(*line == next || (header == 1 && *line == 1 && entries.is_empty()), "{error:?}");
            assert!(!reason.is_empty() && !remedy.is_empty() && !reason.contains('\n'), "{error:?}");
        }
        Some(error) => panic!("reading says {error:?}"),
    }
    replayed(&entries, error.as_ref(), first, text);
}

/// An entry written anew, in its format, is read as the same entry.
fn again(entry: &Entry, first: u8) {
    let text = |bytes: &[u8]| Value::from(String::from_utf8(bytes.to_vec()).expect("it was text"));
    let seconds = |nanos: i64| format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let line = if first & 1 == 1 {
        let Ending::Usage(Usage { input, output, .. }) = entry.ending else { panic!("{entry:?}") };
        let (input, output) = (input.expect("always"), output.expect("always"));
        let at = entry.at_text.trim_matches('"');
        format!("TIMESTAMP,ContextTokens,GeneratedTokens\r\n{at},{input},{output}\r\n")
    } else {
        let keys: serde_json::Map<String, Value> =
            entry.keys.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let ending = match entry.ending {
            Ending::Cancel => r#","cancel":true"#.to_string(),
            Ending::Silence => String::new(),
            Ending::Usage(Usage { input, cached_input, output }) => {
                let shown = |tokens: Option<u64>| tokens.map_or("null".to_string(), |tokens| tokens.to_string());
                let (input, cached, output) = (shown(input), shown(cached_input), shown(output));
                format!(r#","usage":{{"input":{input},"cached_input":{cached},"output":{output}}}"#)
            }
        };
        format!(
            r#"{{"project":{},"at":{},"deployment":{},"keys":{},"estimate":{{"output":{},"input":{}}}{ending},"duration":{}}}"#,
            text(&entry.project),
            entry.at_text,
            text(&entry.deployment),
            Value::from(keys),
            entry.estimate.output,
            entry.estimate.input,
            seconds(entry.due - entry.at)
        )
    };
    let mut trace = Trace::new(line.as_bytes(), format(first));
    let mut read = trace.next_entry().unwrap_or_else(|error| panic!("{error} in {line}")).expect("a line");
    read.line = entry.line;
    let mut entry = entry.clone();
    // A JSON object has no order.
    entry.keys.sort();
    read.keys.sort();
    assert_eq!(read, entry, "{line}");
}

/// The rows of a replay: one for each entry, as JSON, and the error at the end.
fn replayed(entries: &[Entry], error: Option<&Error>, first: u8, text: &[u8]) {
    if entries.is_empty() {
        return;
    }
    let policy = Policy::from_toml(POLICY).expect("it is valid");
    let mut rows = Replay::with_max_counters(policy, 16).rows(Trace::new(text, format(first)));
    let mut seen = 0;
    for row in &mut rows {
        match row {
            Ok(row) => {
                let entry = &entries[seen];
                let value: Value = serde_json::from_str(&row.to_json()).expect("it is JSON");
                assert_eq!((row.line, row.at, &row.at_text), (entry.line, entry.at, &entry.at_text));
                assert_eq!(value["decision"], row.decision());
                assert_eq!(row.admitted, row.status == 200 && row.limit.is_none() && row.refused_by.is_empty());
                assert!(row.admitted || row.retry_after.is_none_or(|wait| wait > 0), "{row:?}");
                seen += 1;
            }
            Err(found) => assert_eq!(Some(&found), error),
        }
    }
    assert_eq!(seen, entries.len());
    if error.is_none() {
        assert_eq!(rows.replay().next_due(), None);
    }
}
