//! Any calls that end anywhere, against a model of their sums.

use crate::scene::*;
use proptest::prelude::*;
use tokenweir_wire::{Api, Framing, ResponseMeter};

/// What the upstream does with a call, and when the client leaves.
#[derive(Debug, Clone)]
struct Call {
    stream: bool,
    max_tokens: u64,
    pieces: usize,
    reports: bool,
    status: u16,
    /// The response is cut into chunks of so many bytes.
    chunk: usize,
    breaks_after: Option<usize>,
    client_reads: Option<usize>,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answers,
    Fails,
    NeverAnswers,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let fate = prop_oneof![8 => Just(Fate::Answers), 1 => Just(Fate::Fails), 1 => Just(Fate::NeverAnswers)];
    let status = prop_oneof![8 => Just(200_u16), 1 => Just(429), 1 => Just(500)];
    let some = || proptest::option::of(0_usize..12);
    let call = (any::<bool>(), 1_u64..60, 0_usize..40, any::<bool>(), status, 1_usize..200, some(), some(), fate);
    let call =
        call.prop_map(|(stream, max_tokens, pieces, reports, status, chunk, breaks_after, client_reads, fate)| Call {
            stream,
            max_tokens,
            pieces,
            reports,
            status,
            chunk,
            breaks_after,
            client_reads,
            fate,
        });
    proptest::collection::vec(call, 1..12)
}

impl Call {
    fn whole(&self) -> Vec<u8> {
        if self.status != 200 {
            return br#"{"error":{"message":"no"}}"#.to_vec();
        }
        if !self.stream {
            let text = "four".repeat(self.pieces);
            let usage = if self.reports { r#","usage":{"prompt_tokens":11,"completion_tokens":5}"# } else { "" };
            return format!(r#"{{"choices":[{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}]{usage}}}"#)
                .into();
        }
        let mut whole = PIECE.repeat(self.pieces);
        whole.extend_from_slice(STOP);
        if self.reports {
            whole.extend_from_slice(USAGE);
        }
        whole.extend_from_slice(DONE);
        whole
    }

    /// The chunks that the upstream sends, and whether it breaks then.
    fn chunks(&self) -> (Vec<Vec<u8>>, bool) {
        let whole = self.whole();
        let chunks: Vec<Vec<u8>> = whole.chunks(self.chunk).map(<[u8]>::to_vec).collect();
        match self.breaks_after {
            Some(after) if after < chunks.len() => (chunks[..after].to_vec(), true),
            _ => (chunks, false),
        }
    }

    /// What it is to be charged, if so many bytes of it passed: by the rules that the crate's page states.
    fn expected(&self, passed: &[u8], is_whole: bool) -> (u64, u64) {
        let estimate = (8, self.max_tokens);
        match self.fate {
            Fate::Fails | Fate::NeverAnswers => return estimate,
            Fate::Answers if self.status != 200 => return (0, 0),
            Fate::Answers => {}
        }
        if self.reports && is_whole {
            return (11, 5);
        }
        if !self.stream {
            let least = if is_whole { 0 } else { self.max_tokens };
            let mut meter = ResponseMeter::new(Api::ChatCompletions, Framing::Json);
            meter.feed(passed);
            let counted = meter.measured().usage.output.unwrap_or(0);
            return match is_whole {
                true if counted == 0 => (8, meter.measured().usage.output.unwrap_or(self.max_tokens)),
                _ => (8, counted.max(least)),
            };
        }
        let mut meter = ResponseMeter::new(Api::ChatCompletions, Framing::Events);
        meter.feed(passed);
        let usage = meter.measured().usage;
        (usage.input.unwrap_or(8), usage.output.unwrap_or(self.max_tokens))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_token_is_charged_once_however_calls_end(calls in calls()) {
        let limiter = limiter(POLICY);
        let mut expected = (0, 0);
        for (number, call) in calls.iter().enumerate() {
            let (chunks, breaks) = call.chunks();
            let (sent, answered) = (chunks.clone(), call.clone());
            let scene = Scene::with(limiter.clone(), ByKey, settings(), move || {
                let slices: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
                let frames = if breaks { Frames::of(&slices).then_breaks() } else { Frames::of(&slices) };
                match answered.fate {
                    Fate::Fails => Some(Err("refused")),
                    Fate::NeverAnswers => None,
                    Fate::Answers if answered.stream && answered.status == 200 => Some(Ok(events(frames))),
                    Fate::Answers => Some(Ok(json(answered.status, frames))),
                }
            });
            // Nothing is held back, so that what the client reads is what the upstream has sent.
            let stream = if call.stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
            let request = chat(&format!(r#","max_tokens":{}{stream}"#, call.max_tokens));
            let reads = call.client_reads.unwrap_or(usize::MAX);
            match call.fate {
                Fate::NeverAnswers => {
                    let mut call = std::pin::pin!(scene.begin(request));
                    prop_assert!(poll_once(call.as_mut()).is_pending());
                }
                Fate::Fails => prop_assert!(scene.call(request).is_err()),
                Fate::Answers => read_some(scene.call(request).expect("answered"), reads.min(chunks.len() + 2)),
            }
            let passed = chunks.iter().take(reads).flatten().copied().collect::<Vec<u8>>();
            let is_whole = passed.len() == call.whole().len();
            let (input, output) = call.expected(&passed, is_whole);
            expected = (expected.0 + input, expected.1 + output);
            prop_assert_eq!(books(&limiter), spent(expected.0, expected.1, number as u64 + 1), "{:?}", call);
        }
    }
}
