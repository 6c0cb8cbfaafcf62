//! What requests of every API ask for, and what is held for them.

use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, Policy, Request};
use tokenweir_wire::{Api, Asked, Characters, InputRules, OutputRule, RequestError, RequestReader, StreamUsage};

#[track_caller]
fn asked(api: Api, body: &str) -> Asked {
    Asked::read(api, body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Only what is not text: the rules for a request and its messages taken as nothing.
#[track_caller]
fn input(api: Api, body: &str) -> u64 {
    let mut rules = InputRules::default();
    (rules.per_request, rules.per_message) = (0, 0);
    let mut reader = RequestReader::new(api, rules, Characters::default());
    reader.feed(body.as_bytes());
    reader.finish().unwrap_or_else(|error| panic!("{error}: {body}")).input
}

#[test]
fn every_field_that_bounds_the_output_counts_and_the_largest_binds() {
    for (api, body, output) in [
        (Api::ChatCompletions, r#"{"max_tokens":7}"#, Some(7)),
        (Api::ChatCompletions, r#"{"max_tokens":1,"max_completion_tokens":10000}"#, Some(10_000)),
        (Api::ChatCompletions, r#"{"max_completion_tokens":100,"n":3}"#, Some(300)),
        (Api::Completions, r#"{"prompt":"a","max_tokens":1000,"best_of":2}"#, Some(2000)),
        (Api::Completions, r#"{"prompt":"a","max_tokens":10,"n":2,"best_of":5}"#, Some(50)),
        (Api::Completions, r#"{"prompt":["a","b","c"],"max_tokens":10}"#, Some(30)),
        (Api::Completions, r#"{"prompt":[[1,2],[3]],"max_tokens":10}"#, Some(20)),
        (Api::Completions, r#"{"prompt":[1,2,3],"max_tokens":10}"#, Some(10)),
        (Api::Responses, r#"{"max_output_tokens":64}"#, Some(64)),
        (Api::Messages, r#"{"max_tokens":1024}"#, Some(1024)),
        (Api::GenerateContent, r#"{"generationConfig":{"maxOutputTokens":50,"candidateCount":2}}"#, Some(100)),
        (Api::GenerateContent, r#"{"generation_config":{"max_output_tokens":50}}"#, Some(50)),
        (Api::Embeddings, r#"{"input":"a"}"#, Some(0)),
        (Api::ChatCompletions, r#"{"max_tokens":null}"#, None),
        (Api::ChatCompletions, r#"{"max_tokens":-1}"#, None),
        (Api::ChatCompletions, r#"{"messages":[{"role":"user","content":"{\"max_tokens\":5}"}]}"#, None),
        (Api::ChatCompletions, r#"{"max_tokens":0}"#, Some(0)),
        (Api::ChatCompletions, r#"{"max_tokens":1e4}"#, Some(10_000)),
        (Api::Messages, r#"{"max_tokens":10.2}"#, Some(11)),
        (Api::Responses, r#"{"max_output_tokens":1000000000000000000000000000000}"#, Some(1 << 53)),
        (Api::ChatCompletions, r#"{"max_tokens":5,"n":2.0}"#, Some(10)),
        (Api::ChatCompletions, r#"{"max_tokens":-1e4,"n":-2}"#, None),
        (Api::ChatCompletions, r#"{"max_tokens":18446744073709551615,"n":18446744073709551615}"#, Some(1 << 53)),
    ] {
        assert_eq!(asked(api, body).output, output, "{body}");
    }
}

#[test]
fn a_field_in_another_case_is_the_same_field() {
    for body in [
        r#"{"model":"cheap","Model":"dear"}"#,
        r#"{"model":"cheap","mod\u0045l":"dear"}"#,
        r#"{"MODEL":"cheap","model":"dear"}"#,
    ] {
        let read = Asked::read(Api::ChatCompletions, body.as_bytes());
        assert_eq!(read, Err(RequestError::ModelTwice), "{body}");
    }
    let body = "{\"Model\":\"m\",\"Max_To\u{212a}ens\":70,\"max_tokens\":1,\"N\":2,\"\u{17f}tream\":true}";
    let asked = asked(Api::ChatCompletions, body);
    assert_eq!((asked.model.as_deref(), asked.output, asked.stream), (Some("m"), Some(140), true));
    assert_eq!(input(Api::ChatCompletions, r#"{"Messages":[{"Content":"twelve chars"}]}"#), 3);
}

#[test]
fn text_counts_wherever_it_stands() {
    for (api, body, tokens) in [
        (Api::ChatCompletions, r#"{"messages":[{"role":"user","content":"twelve chars"}]}"#, 3),
        (
            Api::ChatCompletions,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"twelve chars"}]}]}"#,
            3,
        ),
        (
            Api::ChatCompletions,
            r#"{"messages":[{"role":"tool","tool_call_id":"call_1","content":"four"},{"role":"assistant","tool_calls":[{"id":"call_1","function":{"name":"four","arguments":"four"}}]}]}"#,
            3,
        ),
        (Api::Completions, r#"{"prompt":"twelve chars","suffix":"four"}"#, 4),
        (Api::Completions, r#"{"prompt":[15,16,17]}"#, 3),
        (Api::Embeddings, r#"{"input":["four","four"]}"#, 2),
        (Api::Embeddings, r#"{"input":[[1,2],[3]]}"#, 3),
        (Api::Responses, r#"{"input":"twelve chars","instructions":"four"}"#, 4),
        (
            Api::Responses,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"four"}]},{"type":"function_call_output","output":"four"}]}"#,
            2,
        ),
        (Api::Messages, r#"{"system":"four","messages":[{"role":"user","content":"four"}]}"#, 2),
        (
            Api::Messages,
            r#"{"system":[{"type":"text","text":"four"}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"x","content":[{"type":"text","text":"four"}]}]}]}"#,
            2,
        ),
        (
            Api::Messages,
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"x","name":"four","input":{"a":"bcd"}}]}]}"#,
            1 + 3,
        ),
        (
            Api::GenerateContent,
            r#"{"systemInstruction":{"parts":[{"text":"four"}]},"contents":[{"role":"user","parts":[{"text":"four"}]}]}"#,
            2,
        ),
        (Api::GenerateContent, r#"{"contents":{"parts":{"text":"four"}}}"#, 1),
        // JSON counts by its bytes.
        (Api::ChatCompletions, r#"{"tools":[{"type":"function","function":{"name":"f"}}]}"#, 12),
        // What is not said to the model does not.
        (Api::ChatCompletions, r#"{"user":"somebody with a long name","metadata":{"content":"no text"}}"#, 0),
    ] {
        assert_eq!(input(api, body), tokens, "{body}");
    }
}

#[test]
fn images_sound_and_files_count_by_their_rules() {
    let bytes = "A".repeat(4000);
    for (api, body, tokens) in [
        (Api::ChatCompletions, r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}"#.to_owned(), 1200),
        (Api::ChatCompletions, r#"{"messages":[{"content":[{"type":"image_url","image_url":{"detail":"low","url":"https://x.test/a.png"}}]}]}"#.to_owned(), 85),
        // 3,000 bytes, 500 or 50 a token.
        (Api::ChatCompletions, format!(r#"{{"messages":[{{"content":[{{"type":"input_audio","input_audio":{{"data":"{bytes}","format":"wav"}}}}]}}]}}"#), 6),
        (Api::ChatCompletions, format!(r#"{{"messages":[{{"content":[{{"type":"file","file":{{"filename":"a.pdf","file_data":"{bytes}"}}}}]}}]}}"#), 60),
        (Api::ChatCompletions, r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#.to_owned(), 1200),
        (Api::Responses, r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x.test/a.png"}]}]}"#.to_owned(), 1200),
        (Api::Responses, r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]}"#.to_owned(), 1200),
        (Api::Responses, format!(r#"{{"input":[{{"role":"user","content":[{{"type":"input_file","file_data":"{bytes}"}}]}}]}}"#), 60),
        (Api::Messages, format!(r#"{{"messages":[{{"content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{bytes}"}}}}]}}]}}"#), 1200),
        (Api::Messages, format!(r#"{{"messages":[{{"content":[{{"type":"document","source":{{"data":"{bytes}","media_type":"application/pdf","type":"base64"}}}}]}}]}}"#), 60),
        (Api::Messages, format!(r#"{{"messages":[{{"content":[{{"type":"document","source":{{"type":"text","media_type":"text/plain","data":"{bytes}"}}}}]}}]}}"#), 1000),
        (Api::Messages, r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"https://x.test/a.png"}}]}]}]}"#.to_owned(), 1200),
        (Api::GenerateContent, format!(r#"{{"contents":[{{"parts":[{{"inlineData":{{"mimeType":"audio/mp3","data":"{bytes}"}}}}]}}]}}"#), 6),
        (Api::GenerateContent, r#"{"contents":[{"parts":[{"file_data":{"mime_type":"image/png","file_uri":"gs://b/a.png"}}]}]}"#.to_owned(), 1200),
    ] {
        assert_eq!(input(api, &body), tokens, "{body:.200}");
    }
}

#[test]
fn what_else_a_request_says() {
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"content":""},{"content":""}]}"#;
    let chat = asked(Api::ChatCompletions, body);
    assert_eq!((chat.model.as_deref(), chat.stream, chat.include_usage), (Some("gpt-4o"), true, true));
    assert_eq!(chat.input, 3 + 2 * 4);
    assert!(!chat.input_elsewhere);
    for body in [r#"{"previous_response_id":"resp_1"}"#, r#"{"conversation":{"id":"c"}}"#, r#"{"prompt":{"id":"p"}}"#] {
        assert!(asked(Api::Responses, body).input_elsewhere, "{body}");
    }
    assert!(!asked(Api::Responses, r#"{"previous_response_id":null}"#).input_elsewhere);
    assert!(asked(Api::GenerateContent, r#"{"cachedContent":"cachedContents/1"}"#).input_elsewhere);
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(257));
    assert_eq!(asked(Api::ChatCompletions, &long).model, None);
}

#[test]
fn what_is_no_request_is_an_error_that_says_where() {
    let error = |body: &str| Asked::read(Api::ChatCompletions, body.as_bytes()).expect_err(body);
    assert_eq!(error(r#"{"model":"#), RequestError::NotJson { at: 9 });
    assert_eq!(error(""), RequestError::NotJson { at: 0 });
    assert_eq!(error("[]"), RequestError::NotObject);
    for odd in ["7 ", "[{}]", "{} {}", "null"] {
        assert_eq!(error(odd), RequestError::NotObject, "{odd}");
    }
    assert!(error("{]").to_string().contains("byte 2"));
    assert!(error("[]").to_string().contains("one JSON object"));
}

fn limiter(limits: &str) -> Limiter {
    let policy = Policy::from_toml(limits).unwrap_or_else(|error| panic!("{error}"));
    Limiter::builder(policy).clock(ManualClock::new(Now::at(1_790_503_200_000_000_000))).build()
}

const TEN_THOUSAND: &str = r#"
    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "window"
    amount = 10_000
    per = "1m"
"#;

/// E-14: Azure OpenAI takes prompt and bound at arrival, whatever is used in the end.
#[test]
fn e_14_azure_openai_pre_charge() {
    let prompt = "x".repeat(400);
    let body = |best_of: u64| format!(r#"{{"prompt":"{prompt}","max_tokens":1000,"best_of":{best_of}}}"#);
    let asked = asked(Api::Completions, &body(1));
    assert_eq!((asked.input, asked.output), (100, Some(1000)));
    assert_eq!(asked.openai_charge(), 1000);
    let limiter = limiter(TEN_THOUSAND);
    let request = Request::new("p", "d");
    let estimate = asked.estimate(&OutputRule::tokens(1), &limiter, &request).expect("a valid request");
    let mut permits = Vec::new();
    for _ in 0..9 {
        let Decision::Admitted(permit) = limiter.admit(&request, estimate).expect("a valid request") else {
            panic!("{} admitted", permits.len())
        };
        permits.push(permit);
    }
    assert!(!limiter.admit(&request, estimate).expect("a valid request").is_admitted());
    let twice = Asked::read(Api::Completions, body(2).as_bytes()).expect("a request");
    assert_eq!(twice.input + twice.output.expect("it states one"), 2100);
}

/// E-15: requests per minute as Azure OpenAI counts them, in slices of a second or ten.
#[test]
fn e_15_rpm_slices() {
    for (seconds, most) in [(1, 10), (10, 100)] {
        let limiter = limiter(&format!(
            "[[limit]]\nname = 'rpm'\nmeter = 'requests'\nalgorithm = 'window'\nsub_windows = 1\namount = {most}\nper = '{seconds}s'\n"
        ));
        let begin = limiter.now();
        let admit = |after: u64| {
            let now = Now::at(begin.mono + after * 1_000_000_000);
            let decision =
                limiter.admit_at(&Request::new("p", "d"), Estimate::default(), now).expect("a valid request");
            decision.is_admitted()
        };
        assert!((0..most).all(|_| admit(0)), "{seconds} s");
        assert!(!admit(0));
        assert!(admit(2 * seconds));
    }
}

#[test]
fn a_request_without_a_bound_gets_what_the_operator_rules() {
    let asked = asked(Api::Responses, &format!(r#"{{"input":"{}"}}"#, "x".repeat(4 * 97)));
    assert_eq!((asked.input, asked.output), (100, None));
    let limiter = limiter(TEN_THOUSAND);
    let request = Request::new("p", "d");
    let output = |rule: OutputRule| asked.estimate(&rule, &limiter, &request).expect("a valid request").output;
    assert_eq!(output(OutputRule::tokens(500)), 500);
    assert_eq!(output(OutputRule::per_mille_of_input(1500)), 150);
    assert_eq!(output(OutputRule::per_mille_of_input(1500).plus_tokens(20)), 170);
    assert_eq!(output(OutputRule::tokens(1 << 40)), 2500);
    assert_eq!(output(OutputRule::tokens(1 << 40).within_share(1000)), 9900);
    assert_eq!(output(OutputRule::tokens(1 << 40).within_share(0)), 1);
    let two = Asked::read(Api::ChatCompletions, br#"{"n":2}"#).expect("a request");
    assert_eq!(two.estimate(&OutputRule::tokens(30), &limiter, &request).expect("a valid request").output, 60);
}

/// The rule's output never makes a request too large for a limit that its input alone would fit.
#[test]
fn a_small_limit_stays_usable() {
    let request = Request::new("p", "d");
    for amount in [1u64, 10, 99, 100, 101, 1000, 1024, 5000] {
        for (meter, weights) in [
            ("total", ""),
            ("total", "weights = { output = 4000 }"),
            ("output", ""),
            ("output", "weights = { output = 1500, deployment = { d = 2500 } }"),
        ] {
            let limiter = limiter(&format!(
                "[[limit]]\nname = 'small'\nmeter = '{meter}'\nalgorithm = 'bucket'\namount = {amount}\nper = '1m'\n{weights}\n"
            ));
            for characters in [0, 40, 400, 4000] {
                let asked = asked(Api::Responses, &format!(r#"{{"input":"{}"}}"#, "x".repeat(characters)));
                let alone = limiter.peek(&request, Estimate::new(asked.input, 0)).expect("a valid request");
                let estimate = asked.estimate(&OutputRule::tokens(1024), &limiter, &request).expect("a valid request");
                let both = limiter.peek(&request, estimate).expect("a valid request");
                // A single token may weigh more than such a limit has.
                let has_room = meter == "total" || amount >= 10;
                assert!(!alone.admitted || both.admitted || !has_room, "{meter} {weights} of {amount}: {estimate:?}");
            }
        }
    }
}

#[test]
fn a_shadow_limit_cuts_nothing() {
    let limiter = limiter(&(TEN_THOUSAND.to_owned() + "mode = 'shadow'\n"));
    let asked = asked(Api::Responses, r#"{"input":"x"}"#);
    let estimate = asked.estimate(&OutputRule::tokens(90_000), &limiter, &Request::new("p", "d")).expect("valid");
    assert_eq!(estimate.output, 90_000);
}

#[track_caller]
fn sent(body: &str) -> (String, bool) {
    let usage =
        StreamUsage::of(Api::ChatCompletions, body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"));
    (String::from_utf8(usage.ask(body.as_bytes()).into_owned()).expect("it is text"), usage.client_asked())
}

#[test]
fn usage_is_asked_for_and_all_else_left_as_it_is() {
    for (body, expected) in [
        (r#" { "stream" : true }"#, r#" {"stream_options":{"include_usage":true}, "stream" : true }"#),
        (r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options":{ },"stream":true}"#, r#"{"stream_options":{"include_usage":true },"stream":true}"#),
        (
            r#"{"stream_options":{"include_obfuscation":false},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage": false},"stream":true}"#,
            r#"{"stream_options":{"include_usage": true},"stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":null},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true}"#,
        ),
        (
            r#"{"str\u0065am_options":{"include_usage":false},"stream":true}"#,
            r#"{"str\u0065am_options":{"include_usage":true},"stream":true}"#,
        ),
    ] {
        assert_eq!(sent(body), (expected.to_owned(), false), "{body}");
        let value: serde_json::Value = serde_json::from_str(expected).expect("it is JSON");
        assert_eq!(value["stream_options"]["include_usage"], true);
    }
}

#[test]
fn usage_is_not_asked_for_where_it_was_or_cannot_be() {
    for (body, asked) in [
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, true),
        (r#"{"stream":false}"#, false),
        (r#"{"stream_options":{"include_usage":true}}"#, false),
        (r#"{"messages":[{"stream":true}]}"#, false),
        (r#"{"stream":true,"stream_options":"x"}"#, false),
        (r#"{"stream":true,"stream_options":{"include_usage":"x"}}"#, false),
        (r#"{"stream":true,"stream_options":[{"include_usage":false}]}"#, false),
        (r#"{"stream":[true]}"#, false),
        ("{}", false),
    ] {
        assert_eq!(sent(body), (body.to_owned(), asked), "{body}");
    }
    let body = br#"{"stream":true}"#;
    let usage = StreamUsage::of(Api::Messages, body).expect("a request");
    assert_eq!((&*usage.ask(body), usage.client_asked()), (&body[..], true));
    assert_eq!(StreamUsage::of(Api::Completions, b"{"), Err(RequestError::NotJson { at: 1 }));
    assert_eq!(StreamUsage::of(Api::Completions, b"[]"), Err(RequestError::NotObject));
}
