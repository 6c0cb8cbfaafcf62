//! Responses as the providers' documentation shapes them, in words of our own.

#![allow(dead_code, reason = "each test uses a part of it")]

use tokenweir_wire::{Api, Framing, Measured, ResponseMeter};

#[derive(Debug)]
pub struct Fixture {
    pub name: &'static str,
    pub api: Api,
    pub framing: Framing,
    pub bytes: &'static [u8],
}

macro_rules! fixture {
    ($name:literal, $api:ident, $framing:ident) => {
        Fixture {
            name: $name,
            api: Api::$api,
            framing: Framing::$framing,
            bytes: include_bytes!(concat!("../fixtures/", $name)),
        }
    };
}

pub const FIXTURES: &[Fixture] = &[
    fixture!("chat.json", ChatCompletions, Json),
    fixture!("chat-stream.sse", ChatCompletions, Events),
    fixture!("chat-stream-azure.sse", ChatCompletions, Events),
    fixture!("completions-stream.sse", Completions, Events),
    fixture!("embeddings.json", Embeddings, Json),
    fixture!("responses.json", Responses, Json),
    fixture!("responses-stream.sse", Responses, Events),
    fixture!("messages.json", Messages, Json),
    fixture!("messages-stream.sse", Messages, Events),
    fixture!("gemini.json", GenerateContent, Json),
    fixture!("gemini-stream.sse", GenerateContent, Events),
    fixture!("gemini-stream.json", GenerateContent, Json),
];

pub fn fixture(name: &str) -> &'static Fixture {
    FIXTURES.iter().find(|fixture| fixture.name == name).unwrap_or_else(|| panic!("no fixture {name}"))
}

pub fn measure(api: Api, framing: Framing, bytes: &[u8]) -> Measured {
    let mut meter = ResponseMeter::new(api, framing);
    meter.feed(bytes);
    meter.measured()
}

/// The fixture's first `events` events.
pub fn first(name: &str, events: usize) -> Vec<u8> {
    let text = std::str::from_utf8(fixture(name).bytes).expect("it is text");
    text.split_inclusive("\n\n").take(events).collect::<String>().into_bytes()
}
