//! Ten thousand requests and responses that are not as they should be: whatever comes, every call ends, nothing is held at
//! the end, and every counter is the sum of what was settled.

use crate::scene::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tokenweir::{Limiter, Observer, Policy, Settled};
use tokenweir_tower::{NoAnswer, NotReached, Oversize};

const CASES: u64 = 10_000;

/// A generator whose numbers depend on its seed alone (xorshift64*).
struct Random(u64);

impl Random {
    fn of(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of_these<'a, T: ?Sized>(&mut self, these: &[&'a T]) -> &'a T {
        these[self.below(these.len())]
    }
}

/// What is spoilt: bytes changed, taken out, put in, repeated, the rest cut off.
fn spoilt(whole: &[u8], random: &mut Random) -> Vec<u8> {
    const PUT_IN: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xf0\x9f",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"9007199254740993",
        b"null",
        b"\\ud800",
        b"data:",
        b"event: error\n",
        b"[DONE]",
        b"\"usage\":{",
        b"\"model\":",
        b"\"error\":{}",
    ];
    let mut bytes = whole.to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            3 => {
                let again = bytes[at..(at + random.below(60)).min(bytes.len())].repeat(1 + random.below(4));
                bytes.splice(at..at, again);
            }
            4 => drop(bytes.splice(at..at, b"[{\"a\":".repeat(random.below(200)))),
            _ => drop(bytes.splice(at..at, random.of_these(PUT_IN).iter().copied())),
        }
    }
    bytes
}

const PATHS: &[&str] = &[
    CHAT,
    "/v1/responses",
    "/v1/messages",
    "/v1/completions",
    "/v1/embeddings",
    "/openai/deployments/m/chat/completions",
    "/v1beta/models/m:streamGenerateContent",
    "/v1/models",
];

const REQUESTS: &[&str] = &[
    r#"{"model":"m","messages":[{"role":"user","content":"word"}],"max_tokens":40,"stream":true}"#,
    r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"word"}]}],"stream":true}"#,
    r#"{"model":"m","prompt":["a","b"],"n":3,"best_of":5,"stream":true,"stream_options":null}"#,
    r#"{"contents":[{"parts":[{"text":"word"}]}],"generationConfig":{"maxOutputTokens":40}}"#,
    r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}}]}]}"#,
];

const RESPONSES: &[&[u8]] = &[
    ANSWER,
    b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n",
    b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\r\n\r\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":2,\"total_tokens\":5}}}\r\n\r\n",
    b"[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"four\"}]}}],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2}}]",
    b"",
];

const TYPES: &[&str] = &["application/json", "text/event-stream", "TEXT/event-stream ; x", "text/html", ""];
const CODINGS: &[&str] = &["identity", "gzip", "", "identity, gzip"];

/// One response, by its seed.
fn response(seed: u64) -> Option<Result<Response<Frames>, Broken>> {
    let random = &mut Random::of(seed ^ 0x5eed);
    match random.below(20) {
        0 => return None,
        1 => return Some(Err("refused")),
        _ => {}
    }
    let bytes = match random.below(4) {
        0 => random.of_these(RESPONSES).to_vec(),
        1 => (0..random.below(400)).map(|_| random.next() as u8).collect(),
        _ => spoilt(random.of_these(RESPONSES), random),
    };
    let chunks: Vec<&[u8]> = bytes.chunks(1 + random.below(80)).collect();
    let mut body = if random.one_in(2) { Frames::of(&chunks) } else { Frames::of_length(&chunks) };
    if random.one_in(6) {
        body = Frames::of(&chunks).then_breaks();
    }
    let status = [200, 200, 200, 200, 201, 206, 400, 429, 500, 503, 599][random.below(11)];
    let head = Response::builder().status(status).header("content-type", random.of_these(TYPES));
    let head = if random.one_in(8) { head.header("content-encoding", random.of_these(CODINGS)) } else { head };
    let mut response = head.body(body).expect("a response");
    match random.below(40) {
        0 => drop(response.extensions_mut().insert(NotReached)),
        1 => drop(response.extensions_mut().insert(NoAnswer)),
        _ => {}
    }
    Some(Ok(response))
}

fn request(random: &mut Random) -> Request<Full<Bytes>> {
    let body = match random.below(5) {
        0 => random.of_these(REQUESTS).as_bytes().to_vec(),
        1 => (0..random.below(200)).map(|_| random.next() as u8).collect(),
        _ => spoilt(random.of_these(REQUESTS).as_bytes(), random),
    };
    let mut request = post(random.of_these(PATHS), body);
    let headers = request.headers_mut();
    if random.one_in(20) {
        headers.remove("authorization");
    }
    if random.one_in(20) {
        headers.insert("content-length", random.of_these(&["0", "-1", "x", "99999999999"]).parse().expect("a value"));
    }
    if random.one_in(20) {
        headers.insert("content-type", "application/grpc".parse().expect("a value"));
    }
    if random.one_in(20) {
        headers.insert("content-encoding", random.of_these(CODINGS).parse().expect("a value"));
    }
    request
}

/// The sum of what is settled.
#[derive(Default)]
struct Sum(Mutex<(u64, u64, u64)>);

impl Observer for Sum {
    fn settled(&self, settled: &Settled<'_>) {
        let mut sum = self.0.lock().expect("no panic");
        let settlement = settled.settlement;
        sum.0 += settlement.input;
        sum.1 += settlement.output;
        sum.2 += u64::from(settlement.outcome != tokenweir::Outcome::Cancelled);
    }
}

#[test]
fn whatever_comes_every_call_ends_and_every_token_is_accounted_for() {
    // Figures as large as an engine takes must not make the quota refuse.
    let policy = POLICY.replace("1_000_000", "9_007_199_254_740_992");
    let sum = Arc::new(Sum::default());
    let limiter = Limiter::builder(Policy::from_toml(&policy).expect("a policy"))
        .clock(tokenweir::ManualClock::new(tokenweir::Now::new(0, 0)))
        .observer(sum.clone())
        .build();
    let mut admitted = 0_u64;
    for seed in 0..CASES {
        let random = &mut Random::of(seed);
        let mut settings = settings();
        settings.oversize = if random.one_in(2) { Oversize::ByLength } else { Oversize::Refuse };
        settings.max_body = if random.one_in(10) { 60 } else { 1 << 20 };
        let scene = Scene::with(limiter.clone(), ByKey, settings, move || response(seed));
        let call = scene.begin(request(random));
        let leaves = random.one_in(10).then(|| random.below(4));
        {
            let mut call = pin!(call);
            if let std::task::Poll::Ready(Ok(response)) = poll_once(call.as_mut()) {
                match leaves {
                    Some(frames) => read_some(response, frames),
                    // It may break; it may not go on for ever.
                    None => drop(run(response.into_body().collect())),
                }
            }
        }
        admitted += scene.sent_count() as u64;
        assert_eq!(limiter.stats().permits_open, 0, "seed {seed}");
        let (input, output, requests) = *sum.0.lock().expect("no panic");
        assert_eq!(books(&limiter), spent(input, output, requests), "seed {seed}");
    }
    // The generator makes calls of all kinds: many are refused, and many are not.
    assert!((CASES / 5..CASES * 9 / 10).contains(&admitted), "{admitted}");
}
