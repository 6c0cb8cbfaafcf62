//! A model, a tool and an agent that need no upstream: the same answers for the same requests.
//!
//! A prompt is as many tokens as tokenweir estimates, an answer as many as its words: 24, or what the request allows if that is
//! less. Streams come a word at a time.

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokenweir_wire::{Api, Asked};
use tokio::net::TcpListener;

/// The host by which the gateway knows it.
pub(crate) const HOST: &str = "sample.internal";

/// The words of an answer, where the request allows so many.
const WORDS: u64 = 24;

const TEXT: &str = "The tide comes in twice a day and goes out twice a day and each of the four is about six hours and a \
                    quarter after the one before";

/// How the sample answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How long after one another the pieces of a stream come.
    pub pace: Duration,
}

impl Default for Sample {
    fn default() -> Self {
        Sample { pace: Duration::from_millis(20) }
    }
}

/// Serves the sample alone, until the process ends.
///
/// # Errors
/// If it cannot listen there.
pub async fn serve(address: SocketAddr, sample: Sample) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("the sample upstream is at http://{}/v1", listener.local_addr()?);
    axum::serve(listener, router(sample)).await
}

pub(crate) fn router(sample: Sample) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/responses", post(responses))
        .route("/v1/messages", post(messages))
        .route("/v1/models/{call}", post(generate_content))
        .route("/mcp", post(tool))
        .route("/agent", post(agent))
        .route("/agent/.well-known/agent-card.json", get(card))
        .layer(DefaultBodyLimit::disable())
        .with_state(sample)
}

/// What a request is answered with.
struct Answer {
    model: String,
    words: Vec<String>,
    input: u64,
    stream: bool,
    include_usage: bool,
    /// It stops because it may not go on.
    cut: bool,
}

impl Answer {
    fn to(api: Api, body: &[u8]) -> Result<Answer, Box<Response<Body>>> {
        Answer::of(api, body, None)
    }

    /// `model`: the one that the path names.
    fn of(api: Api, body: &[u8], model: Option<&str>) -> Result<Answer, Box<Response<Body>>> {
        let refuse = |reason: String| {
            let body =
                json!({ "error": { "message": reason, "type": "invalid_request_error", "param": null, "code": null } });
            Box::new((StatusCode::BAD_REQUEST, json_body(&body)).into_response())
        };
        let asked = Asked::read(api, body).map_err(|wrong| refuse(wrong.to_string()))?;
        let Some(model) = model.map(str::to_owned).or(asked.model) else {
            return Err(refuse("the request names no model".to_owned()));
        };
        let length = asked.output.map_or(WORDS, |most| most.min(WORDS));
        let words = TEXT.split(' ').cycle().take(length as usize).enumerate();
        let words = words.map(|(at, word)| if at == 0 { word.to_owned() } else { format!(" {word}") });
        Ok(Answer {
            model,
            words: words.collect(),
            input: asked.input,
            stream: asked.stream,
            include_usage: asked.include_usage,
            cut: length < WORDS,
        })
    }

    fn text(&self) -> String {
        self.words.concat()
    }

    fn output(&self) -> u64 {
        self.words.len() as u64
    }

    /// As OpenAI's chat and completions report it.
    fn usage(&self) -> Value {
        let (input, output) = (self.input, self.output());
        json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
    }
}

fn json_body(value: &Value) -> Response<Body> {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

fn data(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

fn named(event: &str, value: &Value) -> Bytes {
    format!("event: {event}\ndata: {value}\n\n").into()
}

/// Events, one after the other.
struct Paced {
    pace: Duration,
    events: VecDeque<Bytes>,
    wait: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
        }
        let pace = self.pace;
        self.wait = (!pace.is_zero()).then(|| Box::pin(tokio::time::sleep(pace)));
        Poll::Ready(self.events.pop_front().map(|event| Ok(Frame::data(event))))
    }
}

fn events(sample: Sample, events: impl IntoIterator<Item = Bytes>) -> Response<Body> {
    let paced = Paced { pace: sample.pace, events: events.into_iter().collect(), wait: None };
    ([("content-type", "text/event-stream")], Body::new(paced)).into_response()
}

async fn chat(State(sample): State<Sample>, body: Bytes) -> Response<Body> {
    let answer = match Answer::to(Api::ChatCompletions, &body) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let stop = if answer.cut { "length" } else { "stop" };
    let of = |object: &str, choices: Value| json!({ "id": "chatcmpl-sample", "object": object, "created": 0, "model": answer.model, "choices": choices });
    if !answer.stream {
        let message = json!({ "role": "assistant", "content": answer.text() });
        let mut whole = of("chat.completion", json!([{ "index": 0, "message": message, "finish_reason": stop }]));
        whole["usage"] = answer.usage();
        return json_body(&whole);
    }
    let chunk = |delta: Value, stop: Value| {
        data(&of("chat.completion.chunk", json!([{ "index": 0, "delta": delta, "finish_reason": stop }])))
    };
    let mut pieces = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    pieces.extend(answer.words.iter().map(|word| chunk(json!({ "content": word }), Value::Null)));
    pieces.push(chunk(json!({}), stop.into()));
    if answer.include_usage {
        let mut last = of("chat.completion.chunk", json!([]));
        last["usage"] = answer.usage();
        pieces.push(data(&last));
    }
    pieces.push("data: [DONE]\n\n".into());
    events(sample, pieces)
}

async fn completions(State(sample): State<Sample>, body: Bytes) -> Response<Body> {
    let answer = match Answer::to(Api::Completions, &body) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let stop = if answer.cut { "length" } else { "stop" };
    let of = |text: &str, stop: Value| {
        let choices = json!([{ "index": 0, "text": text, "logprobs": null, "finish_reason": stop }]);
        json!({ "id": "cmpl-sample", "object": "text_completion", "created": 0, "model": answer.model, "choices": choices })
    };
    if !answer.stream {
        let mut whole = of(&answer.text(), stop.into());
        whole["usage"] = answer.usage();
        return json_body(&whole);
    }
    let mut pieces: Vec<Bytes> = answer.words.iter().map(|word| data(&of(word, Value::Null))).collect();
    pieces.push(data(&of("", stop.into())));
    if answer.include_usage {
        let mut last = of("", Value::Null);
        last["choices"] = json!([]);
        last["usage"] = answer.usage();
        pieces.push(data(&last));
    }
    pieces.push("data: [DONE]\n\n".into());
    events(sample, pieces)
}

async fn embeddings(body: Bytes) -> Response<Body> {
    let answer = match Answer::to(Api::Embeddings, &body) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let inputs = request["input"].as_array().map_or(1, |inputs| inputs.len().max(1));
    // Eight numbers, as the request has them: a list, or the bytes of 32-bit floats in base64.
    let embedding = match request["encoding_format"].as_str() {
        Some("base64") => Value::from("AAAAPwAAAD8AAAA/AAAAPwAAAD8AAAA/AAAAPwAAAD8="),
        _ => json!([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
    };
    let each = (0..inputs).map(|index| json!({ "object": "embedding", "index": index, "embedding": embedding }));
    let usage = json!({ "prompt_tokens": answer.input, "total_tokens": answer.input });
    let data: Vec<Value> = each.collect();
    json_body(&json!({ "object": "list", "data": data, "model": answer.model, "usage": usage }))
}

async fn responses(State(sample): State<Sample>, body: Bytes) -> Response<Body> {
    let answer = match Answer::to(Api::Responses, &body) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let (input, output) = (answer.input, answer.output());
    let status = if answer.cut { "incomplete" } else { "completed" };
    let part = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [] });
    let message = |content: Value, status: &str| json!({ "type": "message", "id": "msg_sample", "role": "assistant", "status": status, "content": content });
    let of = |status: &str, items: Value, usage: Value| {
        json!({ "id": "resp_sample", "object": "response", "created_at": 0, "model": answer.model, "status": status,
            "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "output": items,
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": usage })
    };
    let usage = json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
        "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output });
    let whole = of(status, json!([message(json!([part(&answer.text())]), status)]), usage);
    if !answer.stream {
        return json_body(&whole);
    }
    let mut number = 0;
    let mut event = |kind: &str, mut fields: Value| {
        fields["type"] = kind.into();
        fields["sequence_number"] = number.into();
        number += 1;
        named(kind, &fields)
    };
    let at = |mut fields: Value| {
        fields["item_id"] = "msg_sample".into();
        fields["output_index"] = 0.into();
        fields["content_index"] = 0.into();
        fields
    };
    let begun = of("in_progress", json!([]), Value::Null);
    let mut pieces = vec![
        event("response.created", json!({ "response": begun })),
        event("response.output_item.added", json!({ "output_index": 0, "item": message(json!([]), "in_progress") })),
        event("response.content_part.added", at(json!({ "part": part("") }))),
    ];
    for word in &answer.words {
        pieces.push(event("response.output_text.delta", at(json!({ "delta": word, "logprobs": [] }))));
    }
    let text = answer.text();
    pieces.push(event("response.output_text.done", at(json!({ "text": text, "logprobs": [] }))));
    pieces.push(event("response.content_part.done", at(json!({ "part": part(&text) }))));
    let item = message(json!([part(&text)]), status);
    pieces.push(event("response.output_item.done", json!({ "output_index": 0, "item": item })));
    pieces.push(event(&format!("response.{status}"), json!({ "response": whole })));
    events(sample, pieces)
}

async fn messages(State(sample): State<Sample>, body: Bytes) -> Response<Body> {
    let answer = match Answer::to(Api::Messages, &body) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let stop = if answer.cut { "max_tokens" } else { "end_turn" };
    let of = |content: Value, stop: Value, output: u64| {
        json!({ "id": "msg_sample", "type": "message", "role": "assistant", "model": answer.model, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": { "input_tokens": answer.input, "output_tokens": output } })
    };
    if !answer.stream {
        return json_body(&of(json!([{ "type": "text", "text": answer.text() }]), stop.into(), answer.output()));
    }
    let event = |kind: &str, mut fields: Value| {
        fields["type"] = kind.into();
        named(kind, &fields)
    };
    let mut pieces = vec![
        event("message_start", json!({ "message": of(json!([]), Value::Null, 1) })),
        event("content_block_start", json!({ "index": 0, "content_block": { "type": "text", "text": "" } })),
    ];
    for word in &answer.words {
        let delta = json!({ "type": "text_delta", "text": word });
        pieces.push(event("content_block_delta", json!({ "index": 0, "delta": delta })));
    }
    pieces.push(event("content_block_stop", json!({ "index": 0 })));
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    pieces.push(event("message_delta", json!({ "delta": delta, "usage": { "output_tokens": answer.output() } })));
    pieces.push(event("message_stop", json!({})));
    events(sample, pieces)
}

/// Gemini, whose path says what is called: `{model}:generateContent`, or `{model}:streamGenerateContent` for a stream, in
/// events or (without `alt=sse`) as one list.
async fn generate_content(
    State(sample): State<Sample>,
    Path(call): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response<Body> {
    let (model, stream) = match call.rsplit_once(':') {
        Some((model, "generateContent")) => (model, false),
        Some((model, "streamGenerateContent")) => (model, true),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let answer = match Answer::of(Api::GenerateContent, &body, Some(model)) {
        Ok(answer) => answer,
        Err(refusal) => return *refusal,
    };
    let of = |text: &str, output: usize, stop: Value| {
        let usage = json!({ "promptTokenCount": answer.input, "candidatesTokenCount": output,
            "totalTokenCount": answer.input + output as u64 });
        let content = json!({ "role": "model", "parts": [{ "text": text }] });
        json!({ "candidates": [{ "index": 0, "content": content, "finishReason": stop }], "usageMetadata": usage,
            "modelVersion": answer.model, "responseId": "sample" })
    };
    let stop = Value::from(if answer.cut { "MAX_TOKENS" } else { "STOP" });
    let words = answer.words.len();
    if !stream {
        return json_body(&of(&answer.text(), words, stop));
    }
    // The last piece says why it stops; an answer without words has one piece as well.
    let texts = answer.words.iter().map(String::as_str).chain((words == 0).then_some(""));
    let pieces: Vec<Value> = texts
        .enumerate()
        .map(|(at, text)| of(text, (at + 1).min(words), if at + 1 >= words { stop.clone() } else { Value::Null }))
        .collect();
    match query.unwrap_or_default().split('&').any(|part| part == "alt=sse") {
        true => events(sample, pieces.iter().map(data)),
        false => json_body(&Value::from(pieces)),
    }
}

/// An MCP server with one tool.
async fn tool(body: Bytes) -> Response<Body> {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(id) = request.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let result = match request["method"].as_str() {
        Some("initialize") => json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
            "serverInfo": { "name": "sample", "version": "1" } }),
        Some("tools/list") => json!({ "tools": [{ "name": "high_water", "description": "When the tide is high",
            "inputSchema": { "type": "object" } }] }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "At noon." }], "isError": false }),
        _ => {
            let error = json!({ "code": -32601, "message": "no such method" });
            return json_body(&json!({ "jsonrpc": "2.0", "id": id, "error": error }));
        }
    };
    json_body(&json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}

/// An agent that says one thing.
async fn agent(body: Bytes) -> Response<Body> {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = json!({ "kind": "message", "role": "agent", "messageId": "m-1",
        "parts": [{ "kind": "text", "text": "High water is at noon." }] });
    json_body(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": message }))
}

async fn card() -> Response<Body> {
    json_body(&json!({ "name": "tides", "description": "Knows the tides", "version": "1", "protocolVersion": "0.3.0",
        "url": format!("http://{HOST}/agent"), "capabilities": {}, "defaultInputModes": ["text"],
        "defaultOutputModes": ["text"], "skills": [] }))
}
