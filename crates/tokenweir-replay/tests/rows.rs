//! A host that replays a trace in its own process: rows, and what ends them.

use tokenweir::Policy;
use tokenweir_replay::{Azure, Error, Format, Jsonl, OutputRule, Replay, Row, Trace};

const POLICY: &str = r#"
    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 1000
    per = "1m"
    scope = ["project"]

    [[limit]]
    name = "per user"
    meter = "requests"
    algorithm = "quota"
    amount = 5
    period = "daily"
    scope = ["key:user"]
    require = true
    match = { project = "strict" }
"#;

fn replay() -> Replay {
    Replay::new(Policy::from_toml(POLICY).expect("is valid"))
}

fn rows(lines: &str) -> Vec<Result<Row, Error>> {
    replay().rows(Trace::new(lines.as_bytes(), Format::Jsonl(Jsonl::default()))).collect()
}

fn request(at: &str, project: &str, input: u64, more: &str) -> String {
    format!(r#"{{"at":{at},"project":"{project}","deployment":"d","estimate":{{"input":{input}}}{more}}}"#) + "\n"
}

#[test]
fn a_row_for_each_request_as_the_decisions_file_has_it() {
    let trace = request("1.50", "a", 900, r#","usage":{"input":300,"output":0},"duration":2"#)
        + &request("2", "a", 400, "")
        + &request("3.5", "a", 400, "");
    let rows: Vec<String> = rows(&trace).into_iter().map(|row| row.expect("is right").to_json()).collect();
    assert_eq!(
        rows,
        [
            r#"{"line":1,"at":1.50,"decision":"admitted","status":200,"limit":null,"refused_by":[],"retry_after":null,"never_fits":false,"remaining":{"tpm":100}}"#,
            // 8 tokens have come back since, 292 are missing, 60 ms each; 20 ms of the next have passed.
            r#"{"line":2,"at":2,"decision":"denied","status":429,"limit":"tpm","refused_by":["tpm"],"retry_after":17.5,"never_fits":false,"remaining":{"tpm":108}}"#,
            // The first settles in this instant, and comes first: 100 + 33 + 600 less 400.
            r#"{"line":3,"at":3.5,"decision":"admitted","status":200,"limit":null,"refused_by":[],"retry_after":null,"never_fits":false,"remaining":{"tpm":333}}"#,
        ]
    );
}

#[test]
fn the_first_wrong_line_ends_the_rows() {
    for (second, reason) in [
        ("{}\n".into(), "the field \"at\" is missing"),
        (request("0.5", "a", 1, ""), "is 500 ms before line 1"),
        (request("1", "strict", 1, ""), "user"),
    ] {
        let rows = rows(&(request("1", "a", 1, "") + &second + &request("2", "a", 1, "")));
        assert_eq!(rows.len(), 2, "{rows:?}");
        let error = rows[1].as_ref().expect_err("is wrong");
        assert_eq!(error.line(), 2);
        assert!(error.to_string().starts_with("line 2: ") && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn after_the_last_row_everything_is_settled() {
    let csv = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5,100,50\n2023-11-16 18:17:04,10,5\n";
    let azure = Azure {
        project: "code".into(),
        deployment: "m".into(),
        output: OutputRule::Tokens(400),
        duration: 3_000_000_000,
        duration_per_token: 0,
    };
    let mut rows = replay().rows(Trace::new(csv.as_bytes(), Format::Azure(azure)));
    let first = rows.next().expect("a row").expect("is right");
    assert_eq!((first.line, first.at, first.remaining[0].1), (2, 1_700_158_623_500_000_000, 500));
    assert_eq!(rows.replay().next_due(), Some(1_700_158_626_500_000_000));
    assert_eq!(rows.by_ref().count(), 1);
    let replay = rows.replay();
    assert_eq!((replay.next_due(), replay.now()), (None, 1_700_158_627_000_000_000));
    let left = replay.usage_at(replay.now());
    assert_eq!(left.len(), 1);
    // 165 were used and 58 have come back since the first.
    assert_eq!((left[0].counter, left[0].remaining), (0, 1_000 - 165 + 58));
    assert!(rows.next().is_none());
}
