//! How a stream is cut makes no difference, and no bytes make anything panic.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use support::{FIXTURES, Fixture, measure};
use tokenweir_wire::{Api, Asked, Characters, Framing, InputRules, RequestReader, ResponseMeter, UsageChunkFilter};

fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn any_fixture() -> impl Strategy<Value = &'static Fixture> {
    any::<Index>().prop_map(|index| index.get(FIXTURES))
}

/// A fixture with other line ends, some bytes changed, some taken out, some put in.
fn mangled() -> impl Strategy<Value = (&'static Fixture, Vec<u8>)> {
    let edits = vec((any::<Index>(), any::<u8>(), 0..3u8), 0..6);
    (any_fixture(), 0..3usize, edits).prop_map(|(fixture, ends, edits)| {
        let text = std::str::from_utf8(fixture.bytes).expect("it is text");
        let mut bytes = text.replace('\n', ["\n", "\r\n", "\r"][ends]).into_bytes();
        for (at, byte, what) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..bytes.len().min(at + usize::from(byte)))),
                _ => bytes.insert(at, byte),
            }
        }
        (fixture, bytes)
    })
}

fn filtered(chunks: &[&[u8]]) -> Vec<u8> {
    let mut filter = UsageChunkFilter::new();
    let mut out = Vec::new();
    for chunk in chunks {
        filter.feed(chunk, &mut out);
    }
    filter.finish(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_cut_of_any_response_measures_the_same(
        (fixture, bytes) in mangled(), cuts in vec(any::<Index>(), 0..12), deltas in any::<bool>(),
    ) {
        let meter = || {
            let meter = ResponseMeter::new(fixture.api, fixture.framing);
            if deltas { meter.with_delta_usage() } else { meter }
        };
        let mut whole = meter();
        whole.feed(&bytes);
        let mut pieces = meter();
        for chunk in cut(&bytes, &cuts) {
            pieces.feed(chunk);
        }
        let mut single = meter();
        for byte in &bytes {
            single.feed(std::slice::from_ref(byte));
        }
        prop_assert_eq!(whole.measured(), pieces.measured());
        prop_assert_eq!(whole.measured(), single.measured());
        // What the engine gets, it takes.
        let usage = tokenweir::Usage::from(whole.measured().usage);
        prop_assert!(usage.cached_input.unwrap_or(0) <= usage.input.unwrap_or(0));
        prop_assert!(usage.output.unwrap_or(0) <= 1 << 53 && usage.input.unwrap_or(0) <= 1 << 53);
    }

    #[test]
    fn line_ends_and_comments_make_no_difference(fixture in any_fixture(), ends in 0..3usize, mark in any::<bool>()) {
        if fixture.framing == Framing::Events {
            let text = std::str::from_utf8(fixture.bytes).expect("it is text");
            let commented = text.replace("\n\n", "\n\n: keep-alive\n\nid: 1\n");
            let mark = if mark { "\u{feff}" } else { "" };
            let changed = mark.to_owned() + &commented.replace('\n', ["\n", "\r\n", "\r"][ends]);
            let measured = measure(fixture.api, fixture.framing, changed.as_bytes());
            prop_assert_eq!(measured, measure(fixture.api, fixture.framing, fixture.bytes));
        }
    }

    #[test]
    fn any_cut_of_any_stream_is_filtered_the_same(
        (_, bytes) in mangled(), cuts in vec(any::<Index>(), 0..12), long in 0..6000usize,
    ) {
        // An event about as long as may be held back.
        let mut bytes = bytes;
        bytes.extend(format!("\n\ndata: {{\"choices\":[],\"usage\":{{\"x\":\"{}\"}}}}\n\n", "x".repeat(long)).bytes());
        let whole = filtered(&[&bytes]);
        prop_assert_eq!(&whole, &filtered(&cut(&bytes, &cuts)));
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(&whole, &filtered(&single));
        prop_assert!(whole.len() <= bytes.len());
    }

    #[test]
    fn any_cut_of_any_request_asks_the_same(
        (_, bytes) in mangled(), cuts in vec(any::<Index>(), 0..12),
        api in prop::sample::select(vec![Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses, Api::Messages, Api::GenerateContent]),
    ) {
        let mut reader = RequestReader::new(api, InputRules::default(), Characters::default());
        for chunk in cut(&bytes, &cuts) {
            reader.feed(chunk);
        }
        prop_assert_eq!(Asked::read(api, &bytes), reader.finish());
    }
}
