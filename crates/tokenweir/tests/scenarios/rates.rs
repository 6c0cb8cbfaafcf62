//! Tokens per minute, as API Management counts them.

use crate::foundry::{gateway, on, tokens};
use crate::{Service, left, limiter, ms, s};
use tokenweir::apim::{Answer, BucketRetry, Profile, Tier};
use tokenweir::gateway::Terms;
use tokenweir::{Decision, Estimate, Request};

fn of(profile: Profile, per_minute: i128) -> Service {
    Service::new(profile, on("p", "d", tokens(Some(per_minute), None)))
}

fn told(answer: &Answer) -> (u16, &str, Option<u64>) {
    (answer.status, &answer.message, answer.retry_after)
}

#[test]
fn e_01_sliding_window_measured_trace() {
    let service = of(Profile::classic(), 100);
    // Start and duration in milliseconds, tokens, what is left afterwards and in truth.
    let call = |start: u64, duration: u64, used: u64, remaining: u64, truly: i64| {
        let permit = service.admit(0, false, ms(start));
        service.settle(permit, used, ms(start + duration));
        assert_eq!(service.remaining(ms(start + duration)).tokens, Some(remaining), "{start}");
        assert_eq!(service.left("u", ms(start + duration))[0].1, truly, "{start}");
    };
    call(0, 1930, 59, 41, 41);
    call(16_930, 780, 55, 0, -14);
    let answer = service.refuse(0, false, ms(32_710 + 400));
    assert_eq!(told(&answer), (429, "Token limit is exceeded. Try again in 29 seconds.", Some(29)));
    assert_eq!((answer.source, answer.reason), ("llm-token-limit", "OpenAITokenLimitExceeded"));
    assert_eq!(answer.body(), r#"{"statusCode":429,"message":"Token limit is exceeded. Try again in 29 seconds."}"#);
    assert_eq!(answer.headers(&service.profile), [("Retry-After".to_owned(), 29)]);
    assert_eq!(service.refuse(0, false, ms(48_110 + 350)).retry_after, Some(14));
    call(63_460, 910, 55, 0, -10);

    // A bucket fed the same differs.
    let service = of(Profile::v2(), 100);
    for (start, duration, used, remaining) in [(0, 1930, 59, 41), (16_930, 780, 55, 12)] {
        let permit = service.admit(0, false, ms(start));
        service.settle(permit, used, ms(start + duration));
        assert_eq!(service.remaining(ms(start + duration)).tokens, Some(remaining));
    }
    for start in [32_710, 48_110] {
        let _ = service.admit(0, false, ms(start));
    }
}

#[test]
fn e_02_token_bucket_with_debt() {
    for (retry, expected) in [(BucketRetry::OneToken, 28), (BucketRetry::Zero, 27)] {
        let mut profile = Profile::v2();
        profile.bucket_retry = retry;
        let service = of(profile, 600);
        let a = service.admit(0, false, s(0));
        service.settle(a, 450, s(2));
        assert_eq!(service.left("u", s(2))[0].1, 150);
        assert_eq!(service.left("u", s(5))[0].1, 180);
        let b = service.admit(0, false, s(5));
        service.settle(b, 500, s(8));
        assert_eq!(service.left("u", s(8))[0].1, -290);
        let c = service.refuse(0, false, s(10));
        assert_eq!((c.status, c.retry_after, c.remaining.tokens), (429, Some(expected), Some(0)));
        let again = service.refuse(0, false, s(37));
        assert_eq!((again.retry_after, service.left("u", s(37))[0].1), (Some(1), 0));
        assert_eq!(service.left("u", s(38))[0].1, 10);
        let _ = service.admit(0, false, s(38));
        assert_eq!(service.left("u", ms(96_999))[0].1, 599);
        assert_eq!(service.left("u", s(97))[0].1, 600);
    }
    // The same by a sliding window.
    let service = of(Profile::classic(), 600);
    let a = service.admit(0, false, s(0));
    service.settle(a, 450, s(2));
    assert_eq!(service.remaining(s(5)).tokens, Some(150));
    let b = service.admit(0, false, s(5));
    service.settle(b, 500, s(8));
    let c = service.refuse(0, false, s(10));
    assert_eq!(told(&c), (429, "Token limit is exceeded. Try again in 52 seconds.", Some(52)));
    // A part of the window after the advised second at the latest it is admitted.
    let _ = service.admit(0, false, ms(62_250));
}

#[test]
fn e_03_retry_above_a_minute() {
    for (retry, expected, text) in
        [(BucketRetry::Zero, 180, "3 minutes"), (BucketRetry::OneToken, 186, "3 minutes and 6 seconds")]
    {
        let mut profile = Profile::v2();
        profile.bucket_retry = retry;
        let service = of(profile, 10);
        let permit = service.admit(0, false, s(0));
        service.settle(permit, 40, s(0));
        assert_eq!(service.left("u", s(0))[0].1, -30);
        let text = format!("Token limit is exceeded. Try again in {text}.");
        assert_eq!(told(&service.refuse(0, false, s(0))), (429, &*text, Some(expected)));
    }
    // A window never advises more than itself, however much it is overdrawn and whenever.
    for start in [0, 1, 124, 125, 999, 59_999] {
        let service = of(Profile::classic(), 10);
        let permit = service.admit(0, false, ms(start));
        service.settle(permit, 4000, ms(start));
        let retry = service.refuse(0, false, ms(start)).retry_after.expect("a wait");
        assert!((59..=60).contains(&retry), "{start} {retry}");
    }
}

#[test]
fn e_07_refill_hides_small_tests() {
    let service = of(Profile::v2(), 20_000);
    for second in (0..60).step_by(3) {
        let permit = service.admit(0, false, s(second));
        service.settle(permit, 200, s(second));
        assert_eq!(service.remaining(ms(second * 1000 + 600)).tokens, Some(20_000), "a call every 3 s leaves no trace");
    }
}

#[test]
fn e_08_streaming_header_timing() {
    let mut profile = Profile::v2();
    profile.bucket_retry = BucketRetry::Zero;
    let service = of(profile, 200);
    // A stream's prompt is always estimated; its headers go out before anything of it is known.
    let prompt = 20;
    let permit = service.admit(prompt, true, s(0));
    let after = service.limiter.remaining_at(permit, s(0));
    assert_eq!(after[0].1, 180);
    let shown = service.profile.remaining(&service.limiter.policy(), &after, prompt);
    assert_eq!(shown.tokens, Some(200), "what was left before the stream was charged");
    // About 310 were charged for about 215 real ones.
    service.settle(permit, 310, s(0));
    let next = service.refuse(0, false, s(0));
    assert_eq!((next.status, next.remaining.tokens, next.retry_after), (429, Some(0), Some(33)));
    assert_eq!(service.refuse(0, false, s(1)).retry_after, Some(32));
}

#[test]
fn e_09_estimate_refuses_before_forwarding() {
    let mut estimating = Profile::v2();
    estimating.estimate_prompt_tokens = true;
    let service = of(estimating.clone(), 100);
    let answer = service.refuse(120, false, s(0));
    assert_eq!(told(&answer), (429, "Token limit will exceed based on estimated request tokens.", Some(60)));
    assert_eq!(answer.remaining.tokens, Some(100), "nothing was charged");
    assert!(answer.never_fits, "a prompt larger than the whole limit");
    let mut honest = estimating.clone();
    honest.never_fits_retry = None;
    assert_eq!(of(honest, 100).refuse(120, false, s(0)).retry_after, None);
    // The engine's own answer advises no retry either.
    let policy = gateway(on("p", "d", tokens(Some(100), None))).policy(&Terms::native()).expect("a policy");
    let native = limiter(policy);
    let Decision::Denied(denied) =
        native.admit_at(&Request::new("p", "d"), Estimate::new(120, 0), s(0)).expect("a decision")
    else {
        panic!("admitted")
    };
    assert_eq!((denied.never_fits(), denied.retry_after()), (true, None));
    assert_eq!(left(&native, s(0)), 100);

    let mut says_when = estimating;
    says_when.estimate_refusal_says_when = true;
    for (tier, retry) in [(Tier::V2, "49 seconds"), (Tier::Classic, "1 minute")] {
        let mut profile = says_when.clone();
        profile.tier = tier;
        let service = of(profile, 1000);
        let first = service.admit(900, false, s(0));
        service.settle(first, 908, s(0));
        let second = service.refuse(900, false, s(0));
        let message = "Token limit will exceed based on estimated request tokens. Try again in ";
        assert_eq!((second.never_fits, second.message), (false, format!("{message}{retry}.")));
    }
}
