//! A stream whose quota is spent.

use crate::scene::*;
use bytes::Bytes;
use tokenweir::Limiter;
use tokenweir_tower::Cut;

const SMALL: &str = r#"
    [[limit]]
    name = "day"
    meter = "total"
    algorithm = "quota"
    amount = 24
    period = "never"
"#;
const RATE: &str = r#"
    [[limit]]
    name = "minute"
    meter = "total"
    algorithm = "bucket"
    amount = 24
    per = "1m"
"#;

fn scene(limiter: &Limiter, cut: Cut, pieces: usize) -> Scene {
    let mut settings = settings();
    settings.cut = cut;
    Scene::with(limiter.clone(), ByKey, settings, move || {
        let mut chunks = vec![PIECE; pieces];
        chunks.extend([STOP, USAGE, DONE]);
        Some(Ok(events(Frames::of(&chunks))))
    })
}

fn used(limiter: &Limiter) -> (u64, u64) {
    let usage = limiter.usage(&tokenweir::UsageFilter::default());
    (usage[0].used, usage[0].held)
}

fn stream(most: u64) -> http::Request<http_body_util::Full<Bytes>> {
    chat(&format!(r#","stream":true,"max_tokens":{most}"#))
}

#[test]
fn a_stream_beyond_its_estimate_ends_where_the_quota_does() {
    let limiter = limiter(SMALL);
    // 8 tokens of input and 4 of output are held of 24.
    let response = scene(&limiter, Cut::Quota, 40).call(stream(4)).expect("answered");
    let text = text(response);
    assert_eq!(text.matches("\"content\":\"four\"").count(), 16);
    assert!(text.contains("Limit \\\"day\\\" is spent") && !text.contains("[DONE]"), "{text}");
    // Every event is whole.
    for event in text.trim_end().split("\n\n") {
        let data = event.strip_prefix("data: ").expect("an event");
        serde_json::from_str::<serde_json::Value>(data).expect("JSON");
    }
    assert_eq!(used(&limiter), (24, 0));
}

#[test]
fn a_stream_within_its_estimate_is_never_cut() {
    let limiter = limiter(SMALL);
    // All of the quota is held by this one.
    let response = scene(&limiter, Cut::Any, 16).call(stream(16)).expect("answered");
    assert!(text(response).ends_with("data: [DONE]\n\n"));
    assert_eq!(used(&limiter), (16, 0));
}

#[test]
fn rates_cut_only_where_the_operator_says_so() {
    for (cut, whole) in [(Cut::Never, true), (Cut::Quota, true), (Cut::Any, false)] {
        let limiter = limiter(RATE);
        let response = scene(&limiter, cut, 30).call(stream(4)).expect("answered");
        assert_eq!(text(response).ends_with("data: [DONE]\n\n"), whole, "{cut:?}");
        assert_eq!(used(&limiter).1, 0, "{cut:?}");
    }
}

#[test]
fn a_stream_is_never_cut_where_the_operator_says_so() {
    let limiter = limiter(SMALL);
    let response = scene(&limiter, Cut::Never, 40).call(stream(4)).expect("answered");
    assert!(text(response).ends_with("data: [DONE]\n\n"));
    assert_eq!(used(&limiter), (16, 0));
}

#[test]
fn a_cut_waits_for_the_end_of_an_event() {
    // Pieces that end in the middle of events, for a client that asked for the usage, so that nothing is held back.
    let whole: Vec<u8> = PIECE.repeat(40);
    for size in [1, 7, 48, 50, 51, 120] {
        let limiter = limiter(SMALL);
        let whole = whole.clone();
        let scene = Scene::with(limiter.clone(), ByKey, settings(), move || {
            Some(Ok(events(Frames::of(&whole.chunks(size).collect::<Vec<_>>()))))
        });
        let request = chat(r#","stream":true,"max_tokens":4,"stream_options":{"include_usage":true}"#);
        let text = text(scene.call(request).expect("answered"));
        let last = text.trim_end().rsplit("\n\n").next().expect("an event");
        assert!(last.starts_with("data: {\"error\""), "{size}: {last}");
        for event in text.trim_end().split("\n\n") {
            let data = event.strip_prefix("data: ").expect("an event");
            serde_json::from_str::<serde_json::Value>(data).expect("JSON");
        }
        let passed = text.matches("\"four\"").count() as u64;
        let (used, held) = used(&limiter);
        // What came in the same piece was produced, whether it passed or not.
        assert!(held == 0 && used >= 8 + passed && used <= 8 + passed + 1 + size as u64 / 48, "{size} {used} {passed}");
    }
}

#[test]
fn a_stream_that_ends_by_itself_is_not_cut() {
    // All of it comes in one piece, beyond the quota: its usage and its end are in it, or follow.
    let whole = [PIECE.repeat(40), STOP.to_vec()].concat();
    let rest = [USAGE, DONE].concat();
    for pieces in [vec![[whole.clone(), rest.clone()].concat()], vec![whole.clone(), rest.clone()]] {
        let limiter = limiter(SMALL);
        let scene = Scene::with(limiter.clone(), ByKey, settings(), move || {
            Some(Ok(events(Frames::of(&pieces.iter().map(Vec::as_slice).collect::<Vec<_>>()))))
        });
        let request = chat(r#","stream":true,"max_tokens":4,"stream_options":{"include_usage":true}"#);
        let text = text(scene.call(request).expect("answered"));
        assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("error"), "{text}");
        // As it was reported.
        assert_eq!(used(&limiter), (16, 0));
    }
}

#[test]
fn a_stream_that_only_says_so_is_cut() {
    let lie = br#"data: {"choices":[{"delta":{"content":"four"},"finish_reason":"stop"}]}

"#;
    let limiter = limiter(SMALL);
    let scene =
        Scene::with(limiter.clone(), ByKey, settings(), move || Some(Ok(events(Frames::of(&[lie.as_slice(); 40])))));
    let text = text(scene.call(stream(4)).expect("answered"));
    assert!(text.contains("Limit \\\"day\\\" is spent"), "{text}");
    assert_eq!(text.matches("\"four\"").count(), 17);
}

#[test]
fn an_event_without_an_end_is_cut_inside_it() {
    const MOST: usize = 64 * 1024;
    for size in [1000, 4096, 1_000_000] {
        let limiter = limiter(SMALL);
        // A megabyte of one event, of which the text alone is far beyond the quota.
        let head = br#"data: {"choices":[{"delta":{"content":""#.to_vec();
        let whole = [head.as_slice(), &b"four".repeat(250_000)].concat();
        let scene = Scene::with(limiter.clone(), ByKey, settings(), move || {
            Some(Ok(events(Frames::of(&whole.chunks(size).collect::<Vec<_>>()))))
        });
        let request = chat(r#","stream":true,"max_tokens":4,"stream_options":{"include_usage":true}"#);
        let text = text(scene.call(request).expect("answered"));
        // Nobody takes it for an event: it has no end.
        assert!(!text.contains("\n\n") && !text.contains("error"));
        // What came before it was known, and what may pass then.
        assert!(text.len() >= MOST && text.len() <= MOST + 3 * 4096, "{size}: {}", text.len());
        assert_eq!(used(&limiter).1, 0);
    }
}

#[test]
fn a_body_of_json_is_never_cut() {
    let limiter = limiter(SMALL);
    let long = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "four".repeat(50));
    let sent = long.clone();
    let scene = Scene::answering(&limiter, move || json(200, Frames::of(&[sent.as_bytes()])));
    assert_eq!(text(scene.call(chat(r#","max_tokens":4"#)).expect("answered")), long);
    assert_eq!(used(&limiter), (8 + 50, 0));
}
