//! The chunk that a client did not ask for is withheld, and nothing else.

mod support;

use support::{FIXTURES, fixture};
use tokenweir_wire::UsageChunkFilter;

fn filtered(bytes: &[u8]) -> String {
    let (mut filter, mut out) = (UsageChunkFilter::new(), Vec::new());
    filter.feed(bytes, &mut out);
    filter.finish(&mut out);
    String::from_utf8(out).expect("it is text")
}

#[test]
fn the_usage_chunk_is_withheld_whatever_the_line_ends() {
    for name in ["chat-stream.sse", "chat-stream-azure.sse", "completions-stream.sse"] {
        for end in ["\n", "\r\n", "\r"] {
            let text = std::str::from_utf8(fixture(name).bytes).expect("it is text");
            let is_usage = |event: &&str| event.contains("\"choices\":[]") && event.contains("\"usage\"");
            let kept: String = text.split_inclusive("\n\n").filter(|event| !is_usage(event)).collect();
            assert!(kept.len() < text.len(), "{name} has one");
            assert_eq!(filtered(text.replace('\n', end).as_bytes()), kept.replace('\n', end), "{name} {end:?}");
        }
    }
}

#[test]
fn everything_else_passes_to_the_byte() {
    let others = FIXTURES.iter().filter(|fixture| !fixture.name.starts_with("c"));
    for fixture in others {
        assert_eq!(filtered(fixture.bytes).as_bytes(), fixture.bytes, "{}", fixture.name);
    }
    for stream in [
        ": keep-alive\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{}} x\n\n",
        "data: {\"usage\":{}}\n\n",
        "data: {\"choices\":[],\"usage\":{}}\n",
        "",
    ] {
        assert_eq!(filtered(stream.as_bytes()), stream);
    }
}

#[test]
fn a_long_event_is_not_held_back() {
    let (mut filter, mut out) = (UsageChunkFilter::new(), Vec::new());
    let begin = format!("data: {{\"choices\":[],\"usage\":{{\"x\":\"{}", "x".repeat(5000));
    filter.feed(begin.as_bytes(), &mut out);
    assert_eq!(out.len(), begin.len());
    filter.feed(b"\"}}\n\ndata: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n", &mut out);
    assert!(out.ends_with(b"\"}}\n\ndata: [DONE]\n\n"));
}

#[test]
fn an_event_passes_as_soon_as_it_is_whole() {
    let (mut filter, mut out) = (UsageChunkFilter::new(), Vec::new());
    filter.feed(b"data: {\"choices\":[{}]}\n", &mut out);
    assert!(out.is_empty());
    filter.feed(b"\n", &mut out);
    assert_eq!(out, b"data: {\"choices\":[{}]}\n\n");
}
