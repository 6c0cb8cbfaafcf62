//! What responses of every API come to: whole, broken, odd and hostile.

mod support;

use support::{first, fixture, measure};
use tokenweir::{Decision, Estimate, Limiter, Policy, Request, Usage};
use tokenweir_wire::{Api, Ended, Framing, Measured, ResponseMeter, TokenUsage};

fn whole(name: &str) -> TokenUsage {
    let fixture = fixture(name);
    let measured = measure(fixture.api, fixture.framing, fixture.bytes);
    assert_eq!((measured.estimated, measured.ended), (false, Ended::Complete), "{name}: {measured:?}");
    measured.usage
}

/// Input, cached, output.
fn figures(usage: TokenUsage) -> (Option<u64>, Option<u64>, Option<u64>) {
    (usage.input, usage.cached_input, usage.output)
}

#[test]
fn chat_completions() {
    let usage = whole("chat.json");
    assert_eq!(figures(usage), (Some(1210), Some(1024), Some(340)));
    assert_eq!((usage.reasoning, usage.audio_input, usage.audio_output), (Some(300), Some(0), Some(0)));
    assert_eq!(usage.cache_write, None);
    assert_eq!(figures(whole("chat-stream.sse")), (Some(19), Some(0), Some(10)));
}

#[test]
fn azure_says_nothing_of_details_so_they_are_unknown() {
    let usage = whole("chat-stream-azure.sse");
    assert_eq!(figures(usage), (Some(31), None, Some(9)));
    assert_eq!((usage.reasoning, usage.audio_input), (None, None));
}

#[test]
fn completions_and_embeddings() {
    assert_eq!(figures(whole("completions-stream.sse")), (Some(5), None, Some(2)));
    // Their total says that there is no output.
    assert_eq!(figures(whole("embeddings.json")), (Some(8), None, Some(0)));
}

#[test]
fn responses() {
    let usage = whole("responses.json");
    assert_eq!((figures(usage), usage.reasoning), ((Some(36), Some(0), Some(87)), Some(64)));
    assert_eq!(figures(whole("responses-stream.sse")), (Some(37), Some(0), Some(11)));
}

#[test]
fn messages_report_the_parts_of_the_input_side_by_side() {
    let usage = whole("messages.json");
    assert_eq!((figures(usage), usage.cache_write), ((Some(200_050), Some(200_000), Some(393)), Some(0)));
    let usage = whole("messages-stream.sse");
    assert_eq!((figures(usage), usage.cache_write), ((Some(135), Some(10), Some(42)), Some(100)));
}

#[test]
fn gemini_has_thoughts_and_tools_beside_the_rest() {
    let usage = whole("gemini.json");
    assert_eq!(figures(usage), (Some(276), Some(200), Some(91)));
    assert_eq!((usage.reasoning, usage.audio_input, usage.audio_output), (Some(71), Some(258), None));
    for name in ["gemini-stream.sse", "gemini-stream.json"] {
        assert_eq!(figures(whole(name)), (Some(11), None, Some(36)), "{name}");
    }
}

/// The engine's figures for what is known: E-17, where only what the cache did not have counts.
#[test]
fn e_17_anthropic_counting() {
    let policy = Policy::from_toml(
        r#"
        [[limit]]
        name = "itpm"
        meter = "input"
        algorithm = "window"
        amount = 1000
        per = "1m"
        weights = { cached_input = 0 }

        [[limit]]
        name = "otpm"
        meter = "output"
        algorithm = "window"
        amount = 100_000
        per = "1m"
    "#,
    )
    .expect("it is valid");
    let limiter = Limiter::new(policy);
    let Decision::Admitted(permit) =
        limiter.admit(&Request::new("p", "d"), Estimate::new(50, 64_000)).expect("a valid request")
    else {
        panic!("there is room")
    };
    let body = br#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":50,
        "cache_read_input_tokens":200000,"cache_creation_input_tokens":0,"output_tokens":200}}"#;
    permit.settle(measure(Api::Messages, Framing::Json, body).usage.into()).expect("it is open");
    let used: Vec<_> = limiter.usage(&Default::default()).into_iter().map(|usage| (usage.limit, usage.used)).collect();
    assert_eq!(used, [("itpm".to_owned(), 50), ("otpm".to_owned(), 200)]);
}

#[track_caller]
fn broken(name: &str, events: usize) -> Measured {
    let measured = measure(fixture(name).api, Framing::Events, &first(name, events));
    assert_eq!((measured.estimated, measured.ended), (true, Ended::Broken), "{name}: {measured:?}");
    measured
}

#[test]
fn a_stream_that_breaks_counts_what_has_come() {
    // "Grüße vom " is 8 ASCII characters and 2 of two bytes: 3 tokens.
    assert_eq!(figures(broken("chat-stream.sse", 2).usage), (None, None, Some(3)));
    // Before any text.
    assert_eq!(figures(broken("chat-stream.sse", 1).usage), (None, None, Some(0)));
    // "Slack" and " water at ten.", 19 characters, and not again where they are repeated.
    assert_eq!(figures(broken("responses-stream.sse", 6).usage), (None, None, Some(5)));
    // Nothing at all: the estimate before the call stands.
    assert_eq!(Usage::from(broken("chat-stream.sse", 0).usage), Usage::UNKNOWN);
}

#[test]
fn the_output_of_a_response_in_the_background_is_unknown_until_it_is_reported() {
    let of = |framing, body: &str| measure(Api::Responses, framing, body.as_bytes()).usage;
    let queued = r#"{"background":true,"status":"queued","output":[],"usage":null}"#;
    assert_eq!(figures(of(Framing::Json, queued)), (None, None, None));
    let begins = "data: {\"type\":\"response.created\",\"response\":{\"background\":true,\"status\":\"queued\"}}\n\n\
                  data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n";
    assert_eq!(figures(of(Framing::Events, begins)), (None, None, None));
    // It is charged as it passes all the same.
    assert_eq!(ResponseMeter::new(Api::Responses, Framing::Events).feed(begins.as_bytes()), 1);
    let ends = |word: &str, rest: &str| {
        format!("{begins}data: {{\"type\":\"response.{word}\",\"response\":{{\"background\":true,{rest}}}}}\n\n")
    };
    let reported = ends("completed", r#""usage":{"input_tokens":7,"output_tokens":5,"total_tokens":12}"#);
    assert_eq!(figures(of(Framing::Events, &reported)), (Some(7), None, Some(5)));
    let failed = ends("failed", r#""error":{"code":"server_error"}"#);
    assert_eq!(figures(of(Framing::Events, &failed)), (None, None, Some(1)));
    let in_front = queued.replace("true", "false");
    assert_eq!(figures(of(Framing::Json, &in_front)), (None, None, Some(0)));
}

#[test]
fn what_was_reported_before_the_break_counts_with_what_came_after() {
    // Anthropic says 1 at the beginning; "Wind from the west" is 18 characters.
    assert_eq!(figures(broken("messages-stream.sse", 5).usage), (Some(135), Some(10), Some(1 + 5)));
    // Gemini's figures of each chunk include its text.
    assert_eq!(figures(broken("gemini-stream.sse", 1).usage), (Some(11), None, Some(31)));
}

#[test]
fn a_break_in_the_middle_of_the_last_event_takes_no_half_number() {
    let stream = fixture("chat-stream.sse").bytes;
    let at = stream.windows(19).position(|window| window == b"\"completion_tokens\"").expect("it has usage");
    let measured = measure(Api::ChatCompletions, Framing::Events, &stream[..at + 21]);
    assert_eq!((measured.usage.output, measured.estimated), (Some(7), true));
    // But one that lacks only its last line ends is whole.
    let end = stream.len() - "\n\ndata: [DONE]\n\n".len();
    let measured = measure(Api::ChatCompletions, Framing::Events, &stream[..end]);
    assert_eq!((measured.usage.output, measured.estimated), (Some(10), false));
}

#[test]
fn a_stream_without_usage_is_counted_and_marked() {
    let text = String::from_utf8(fixture("chat-stream.sse").bytes.to_vec()).expect("it is text");
    let without: String = text.split_inclusive("\n\n").filter(|event| !event.contains("\"choices\":[]")).collect();
    let measured = measure(Api::ChatCompletions, Framing::Events, without.as_bytes());
    // 14 ASCII characters, two of two bytes and an emoji.
    assert_eq!(figures(measured.usage), (None, None, Some(7)));
    assert_eq!((measured.estimated, measured.ended), (true, Ended::Complete));
}

#[test]
fn a_body_without_usage_is_counted_and_marked() {
    let body = br#"{"choices":[{"message":{"content":"Twelve chars"},"finish_reason":"stop"}]}"#;
    let measured = measure(Api::ChatCompletions, Framing::Json, body);
    assert_eq!((figures(measured.usage), measured.estimated), ((None, None, Some(3)), true));
    assert_eq!(measured.ended, Ended::Complete);
}

#[test]
fn what_cannot_be_read_is_unknown() {
    for body in [
        &b"<html>Bad gateway</html>"[..],
        b"",
        b"{}",
        b"[]",
        b"null",
        br#"{"data":[{"b64_json":"AAAA"}]}"#,
        b"\x1f\x8b\x08",
    ] {
        let measured = measure(Api::ChatCompletions, Framing::Json, body);
        assert_eq!((measured.usage, measured.estimated), (TokenUsage::default(), true), "{body:?}");
    }
}

#[test]
fn an_event_that_is_not_json_counts_by_its_bytes() {
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\ndata: this is no JSON\n\n";
    let measured = measure(Api::ChatCompletions, Framing::Events, stream);
    // 15 bytes.
    assert_eq!((measured.usage.output, measured.ended), (Some(1 + 4), Ended::Broken));
}

#[test]
fn the_word_that_ends_a_stream_is_no_text_wherever_it_is_cut() {
    let told = |end: &str| {
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}\n\n";
        let mut meter = ResponseMeter::new(Api::ChatCompletions, Framing::Events);
        format!("{usage}{end}").as_bytes().chunks(1).map(|byte| meter.feed(byte)).sum::<u64>()
    };
    assert_eq!(told("data: [DONE]\n\n"), 3);
    // An event that goes no further than that is none, and counts.
    assert_eq!(told("data: [DON\n\n"), 3 + 1);
}

#[test]
fn figures_that_cannot_be_are_unknown() {
    for odd in ["-1", "1.5", "1e9", "\"12\"", "null", "9007199254740993", "99999999999999999999999", "{}"] {
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"four"}}}}],"usage":{{"prompt_tokens":{odd},"completion_tokens":{odd}}}}}"#
        );
        let measured = measure(Api::ChatCompletions, Framing::Json, body.as_bytes());
        assert_eq!((figures(measured.usage), measured.estimated), ((None, None, Some(1)), true), "{odd}");
    }
}

#[test]
fn null_takes_back_nothing() {
    let stream = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: {\"choices\":[],\"usage\":null}\n\ndata: [DONE]\n\n";
    assert_eq!(figures(measure(Api::ChatCompletions, Framing::Events, stream).usage), (Some(3), None, Some(4)));
}

#[test]
fn figures_of_each_chunk_are_from_the_beginning_unless_said_otherwise() {
    let chunk = |tokens| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"x\"}}}}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}\n\n"
        )
    };
    let stream = [chunk(2), chunk(3), "data: [DONE]\n\n".to_owned()].concat();
    assert_eq!(measure(Api::ChatCompletions, Framing::Events, stream.as_bytes()).usage.output, Some(3));
    let stream = stream.replacen("\"prompt_tokens\":5,", "", 1);
    let mut meter = ResponseMeter::new(Api::ChatCompletions, Framing::Events).with_delta_usage();
    meter.feed(stream.as_bytes());
    assert_eq!(figures(meter.measured().usage), (Some(5), None, Some(5)));
}

#[test]
fn a_total_that_says_more_counts() {
    // A server that has reasoning beside its output, not in it.
    let body = br#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}}"#;
    assert_eq!(measure(Api::ChatCompletions, Framing::Json, body).usage.output, Some(105));
    // Gemini leaves out what is 0.
    let body =
        br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":10,"totalTokenCount":10}}"#;
    let measured = measure(Api::GenerateContent, Framing::Json, body);
    assert_eq!((figures(measured.usage), measured.estimated), ((Some(10), None, Some(0)), false));
}

#[test]
fn errors_are_told_from_breaks() {
    let chat = b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\ndata: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let messages = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let responses = b"data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\"},\"usage\":null}}\n\n";
    assert_eq!(measure(Api::ChatCompletions, Framing::Events, chat).ended, Ended::Failed);
    assert_eq!(measure(Api::Messages, Framing::Events, messages).ended, Ended::Failed);
    assert_eq!(measure(Api::Responses, Framing::Events, responses).ended, Ended::Failed);
    assert_eq!(measure(Api::GenerateContent, Framing::Json, br#"{"error":{"code":503}}"#).ended, Ended::Failed);
}

#[test]
fn sound_is_not_text() {
    for stream in [
        "data: {\"type\":\"response.audio.delta\",\"delta\":\"AAAAAAAAAAAA\"}\n\n",
        "data: {\"delta\":\"AAAAAAAAAAAA\",\"type\":\"response.audio.delta\"}\n\n",
    ] {
        assert_eq!(measure(Api::Responses, Framing::Events, stream.as_bytes()).usage.output, Some(0), "{stream}");
    }
    let body = br#"{"choices":[{"message":{"content":null,"audio":{"data":"UklGRv////9XQVZF","transcript":"Ahoy"}}}]}"#;
    assert_eq!(measure(Api::ChatCompletions, Framing::Json, body).usage.output, Some(1));
}

#[test]
fn several_answers_end_one_by_one() {
    let stream = b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"four\"}}]}\n\n";
    assert_eq!(measure(Api::ChatCompletions, Framing::Events, stream).ended, Ended::Broken);
}

#[test]
fn documents_may_follow_one_another_by_line() {
    let lines = b"{\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":2}}\n{\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":3}}\n";
    assert_eq!(figures(measure(Api::GenerateContent, Framing::Json, lines).usage), (Some(1), None, Some(3)));
}

#[test]
fn what_is_new_is_told_once() {
    let mut meter = ResponseMeter::new(Api::Messages, Framing::Events);
    let told: Vec<_> =
        first("messages-stream.sse", 99).split_inclusive(|&byte| byte == b'\n').map(|line| meter.feed(line)).collect();
    assert_eq!(told.iter().sum::<u64>(), 42);
    assert_eq!(meter.output_so_far(), 42);
}

#[test]
fn framing_goes_by_the_media_type() {
    assert_eq!(Framing::of(Some("Text/Event-Stream; charset=utf-8")), Framing::Events);
    for json in [None, Some("application/json"), Some(""), Some("text/event-streams")] {
        assert_eq!(Framing::of(json), Framing::Json);
    }
}
