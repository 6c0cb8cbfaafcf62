//! What clients are told in each dialect, and that what we write we also read.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokenweir::{Decision, Denied, Estimate, Limiter, ManualClock, Now, Policy, Request};
use tokenweir_wire::{ApimHeaders, Dialect, Header, Refused, Standing, UpstreamLimits, ietf_headers};

const POLICY: &str = r#"
    [[limit]]
    name = "rpm"
    meter = "requests"
    algorithm = "window"
    amount = 20
    per = "1m"

    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 6000
    per = "1m"

    [[limit]]
    name = "output"
    meter = "output"
    algorithm = "bucket"
    amount = 3000
    per = "1m"

    [[limit]]
    name = "Monat \"März\""
    meter = "total"
    algorithm = "quota"
    amount = 100_000
    period = "monthly"

    [[limit]]
    name = "places"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 4
"#;

/// 2026-09-27T10:00:00Z.
const START: u64 = 1_790_503_200_000_000_000;

fn limiter(policy: &str) -> Limiter {
    let policy = Policy::from_toml(policy).unwrap_or_else(|error| panic!("{error}"));
    Limiter::builder(policy).clock(ManualClock::new(Now::at(START))).build()
}

fn map(headers: Vec<Header>) -> HashMap<String, String> {
    let count = headers.len();
    let map: HashMap<_, _> = headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
    assert_eq!(map.len(), count, "a header comes twice");
    for (name, value) in &map {
        assert!(name.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || byte.is_ascii_lowercase()), "{name}");
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value}");
    }
    map
}

/// The limits after one request of 600 input and 1,500 output tokens.
fn standings() -> (Vec<Standing>, Now) {
    let limiter = limiter(POLICY);
    let Decision::Admitted(permit) =
        limiter.admit(&Request::new("p", "d"), Estimate::new(600, 1500)).expect("a valid request")
    else {
        panic!("there is room")
    };
    (Standing::of(&limiter.policy(), &permit.remaining(), limiter.now()), limiter.now())
}

#[test]
fn openai_and_azure_say_the_same_with_other_resets() {
    let (standings, now) = standings();
    for (dialect, resets) in [(Dialect::OpenAi, ["1m1s", "30s"]), (Dialect::AzureOpenAi, ["61", "30"])] {
        let headers = map(dialect.headers(&standings, now));
        let expected = [
            ("x-ratelimit-limit-requests", "20"),
            ("x-ratelimit-remaining-requests", "19"),
            ("x-ratelimit-reset-requests", resets[0]),
            // The output limit has the least left.
            ("x-ratelimit-limit-tokens", "3000"),
            ("x-ratelimit-remaining-tokens", "1500"),
            ("x-ratelimit-reset-tokens", resets[1]),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}

#[test]
fn anthropic_says_when_and_rounds_tokens() {
    let (standings, now) = standings();
    let headers = map(Dialect::Anthropic.headers(&standings, now));
    assert_eq!(headers["anthropic-ratelimit-requests-remaining"], "19");
    assert_eq!(headers["anthropic-ratelimit-tokens-remaining"], "2000");
    assert_eq!(headers["anthropic-ratelimit-output-tokens-limit"], "3000");
    assert_eq!(headers["anthropic-ratelimit-output-tokens-reset"], "2026-09-27T10:00:30Z");
    assert!(!headers.contains_key("anthropic-ratelimit-input-tokens-limit"));
}

#[test]
fn api_management_says_what_the_operator_names() {
    let (standings, now) = standings();
    assert!(Dialect::Apim.headers(&standings, now).is_empty());
    let names = ApimHeaders {
        remaining_tokens: Some("X-Left".into()),
        remaining_quota_tokens: Some("X-Quota".into()),
        tokens_consumed: Some("X-Used".into()),
    };
    let headers = map(names.headers(&standings, Some(77)));
    let expected = [("x-left", "1500"), ("x-quota", "97900"), ("x-used", "77")];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    assert_eq!(map(names.headers(&standings, None)).len(), 2);
    assert!(ApimHeaders::default().headers(&standings, Some(77)).is_empty());
}

#[test]
fn the_draft_names_every_limit_that_is_for_a_time() {
    let (standings, _) = standings();
    let headers = map(ietf_headers(&standings));
    // September has 30 days, of which 26 and ten hours have gone.
    assert_eq!(
        headers["ratelimit-policy"],
        r#""rpm";q=20;w=60, "tpm";q=6000;w=60;tokenweir-meter="total", "output";q=3000;w=60;tokenweir-meter="output", "Monat \"M%C3%A4rz\"";q=100000;w=2592000;tokenweir-meter="total""#
    );
    assert_eq!(
        headers["ratelimit"],
        r#""rpm";r=19;t=61, "tpm";r=3900;t=21, "output";r=1500;t=30, "Monat \"M%C3%A4rz\"";r=97900;t=309600"#
    );
    assert!(ietf_headers(&[]).is_empty());
}

fn denied(limiter: &Limiter, estimate: Estimate) -> Denied {
    limiter.admit(&Request::new("p", "d"), estimate).expect("a valid request").denied().expect("it does not fit")
}

fn refused(dialect: Dialect, limiter: &Limiter, estimate: Estimate) -> (Refused, Value) {
    let refused = dialect.refused(&denied(limiter, estimate), &limiter.policy(), limiter.now());
    let body = serde_json::from_str(&refused.body).expect("it is JSON");
    (refused, body)
}

fn tpm(amount: u64) -> Limiter {
    let limiter = limiter(&format!(
        "[[limit]]\nname = 'tpm'\nmeter = 'total'\nalgorithm = 'bucket'\namount = {amount}\nper = '1m'\n"
    ));
    drop(limiter.admit(&Request::new("p", "d"), Estimate::new(amount, 0)).expect("a valid request"));
    limiter
}

#[test]
fn a_rate_refuses_in_every_dialect() {
    let limiter = tpm(600);
    let estimate = Estimate::new(405, 0);
    let (openai, body) = refused(Dialect::OpenAi, &limiter, estimate);
    let headers = map(openai.headers);
    assert_eq!(
        (openai.status, headers["retry-after"].as_str(), headers["x-tokenweir-limit"].as_str()),
        (429, "41", "tpm")
    );
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("x-should-retry"));
    let message = "Rate limit \"tpm\" of 600 tokens is reached. Please try again in 40.5s.";
    assert_eq!(
        body,
        json!({"error": {"message": message, "type": "tokens", "param": null, "code": "rate_limit_exceeded", "limit": "tpm", "refused_by": ["tpm"]}})
    );
    let (azure, body) = refused(Dialect::AzureOpenAi, &limiter, estimate);
    assert_eq!(map(azure.headers)["retry-after-ms"], "40500");
    assert_eq!(body, json!({"error": {"code": "429", "message": message, "limit": "tpm", "refused_by": ["tpm"]}}));
    let (_, body) = refused(Dialect::Anthropic, &limiter, estimate);
    assert_eq!(
        body,
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": message, "limit": "tpm", "refused_by": ["tpm"]}})
    );
    let (_, body) = refused(Dialect::Gemini, &limiter, estimate);
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(429), &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(body["error"]["details"][0]["violations"][0]["quotaId"], "tpm");
    assert_eq!(body["error"]["details"][1]["retryDelay"], "41s");
    let (apim, body) = refused(Dialect::Apim, &limiter, estimate);
    assert_eq!(body, json!({"statusCode": 429, "message": "Token limit is exceeded. Try again in 41 seconds."}));
    assert_eq!(map(apim.headers)["x-tokenweir-limit"], "tpm");
}

#[test]
fn what_never_fits_is_not_to_be_tried_again() {
    let limiter = tpm(600);
    for dialect in [Dialect::OpenAi, Dialect::AzureOpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Apim] {
        let (refused, body) = refused(dialect, &limiter, Estimate::new(601, 0));
        let headers = map(refused.headers);
        assert_eq!(headers["x-should-retry"], "false", "{dialect:?}");
        assert!(!headers.contains_key("retry-after"));
        if dialect != Dialect::Apim {
            assert!(body["error"]["message"].as_str().expect("text").contains("too large for limit \"tpm\" of 600"));
        }
    }
}

/// The literals of API Management's own refusals.
#[test]
fn api_management_says_what_it_always_says() {
    let message = |policy: &str, first: Estimate, then: Estimate| {
        let limiter = limiter(&format!("[[limit]]\nname = 'l'\n{policy}\n"));
        drop(limiter.admit(&Request::new("p", "d"), first).expect("a valid request"));
        let (refused, body) = refused(Dialect::Apim, &limiter, then);
        (refused.status, body["message"].as_str().expect("text").to_owned())
    };
    let is = |status, text: &str| (status, text.to_owned());
    let tokens = |amount| Estimate::new(amount, 0);
    let bucket = "meter = 'total'\nalgorithm = 'bucket'\namount = 100\nper = '1m'";
    assert_eq!(message(bucket, tokens(100), tokens(1)), is(429, "Token limit is exceeded. Try again in 1 seconds."));
    let expected = "Token limit will exceed based on estimated request tokens. Try again in 30 seconds.";
    assert_eq!(message(bucket, tokens(60), tokens(90)), is(429, expected));
    let expected = "Token limit will exceed based on estimated request tokens.";
    assert_eq!(message(bucket, tokens(60), tokens(101)), is(429, expected));
    let quota = "meter = 'total'\nalgorithm = 'quota'\namount = 100\nperiod = 'monthly'";
    assert_eq!(
        message(quota, tokens(100), tokens(1)),
        is(403, "Token quota is exceeded. Try again in 3 days, 14 hours.")
    );
    let calls = "meter = 'requests'\nalgorithm = 'window'\namount = 1\nper = '5s'\nsub_windows = 1";
    assert_eq!(message(calls, tokens(1), tokens(1)), is(429, "Rate limit is exceeded. Try again in 10 seconds."));
    let calls = "meter = 'requests'\nalgorithm = 'quota'\namount = 1\nperiod = 'daily'";
    let expected = "Out of call volume quota. Quota will be replenished in 14:00:00.";
    assert_eq!(message(calls, tokens(1), tokens(1)), is(403, expected));
}

#[test]
fn a_quota_refuses_with_403_and_says_so() {
    let limiter =
        limiter("[[limit]]\nname = 'Öl'\nmeter = 'total'\nalgorithm = 'quota'\namount = 10\nperiod = 'never'\n");
    drop(limiter.admit(&Request::new("p", "d"), Estimate::new(10, 0)).expect("a valid request"));
    let (openai, body) = refused(Dialect::OpenAi, &limiter, Estimate::new(1, 0));
    let headers = map(openai.headers);
    assert_eq!((openai.status, headers["x-tokenweir-limit"].as_str()), (403, "%C3%96l"));
    assert_eq!((&body["error"]["type"], &body["error"]["limit"]), (&json!("insufficient_quota"), &json!("Öl")));
    assert_eq!(body["error"]["message"], "Quota \"Öl\" of 10 tokens is reached. It does not reset.");
    assert_eq!(refused(Dialect::Anthropic, &limiter, Estimate::new(1, 0)).1["error"]["type"], "permission_error");
    assert_eq!(refused(Dialect::Gemini, &limiter, Estimate::new(1, 0)).1["error"]["status"], "PERMISSION_DENIED");
}

#[test]
fn other_errors_have_their_words() {
    let body = |dialect: Dialect, status| -> Value {
        serde_json::from_str(&dialect.error_body(status, "m \"q\"")).expect("it is JSON")
    };
    assert_eq!(body(Dialect::OpenAi, 401)["error"]["code"], "invalid_api_key");
    assert_eq!(body(Dialect::OpenAi, 502)["error"]["type"], "server_error");
    assert_eq!(body(Dialect::AzureOpenAi, 401)["error"]["code"], "401");
    assert_eq!(body(Dialect::Anthropic, 401)["error"]["type"], "authentication_error");
    assert_eq!(body(Dialect::Anthropic, 529)["error"]["type"], "overloaded_error");
    assert_eq!(body(Dialect::Gemini, 404)["error"]["status"], "NOT_FOUND");
    assert_eq!(body(Dialect::Apim, 401), json!({"statusCode": 401, "message": "m \"q\""}));
}

fn seen(headers: &[(&str, &str)]) -> UpstreamLimits {
    UpstreamLimits::of(headers.iter().copied(), Now::at(START))
}

#[test]
fn what_we_write_we_read() {
    let (standings, now) = standings();
    for dialect in [Dialect::OpenAi, Dialect::AzureOpenAi, Dialect::Anthropic] {
        let headers = dialect.headers(&standings, now);
        let seen = UpstreamLimits::of(headers.iter().map(|(name, value)| (name.as_ref(), value.as_str())), now);
        assert_eq!((seen.requests.limit, seen.requests.remaining), (Some(20), Some(19)), "{dialect:?}");
        let rounded = if dialect == Dialect::Anthropic { 2000 } else { 1500 };
        assert_eq!((seen.tokens.limit, seen.tokens.remaining), (Some(3000), Some(rounded)));
        assert_eq!(seen.tokens.reset, Some(Duration::from_secs(30)));
    }
    let headers = ietf_headers(&standings);
    let seen = UpstreamLimits::of(headers.iter().map(|(name, value)| (name.as_ref(), value.as_str())), now);
    assert_eq!(seen.named.len(), 4);
    let month = &seen.named[3];
    assert_eq!((month.name.as_str(), month.unit.as_deref()), ("Monat \"M%C3%A4rz\"", Some("total")));
    assert_eq!((month.limit.limit, month.limit.remaining), (Some(100_000), Some(97_900)));
    assert_eq!(
        (month.window, month.limit.reset),
        (Some(Duration::from_secs(2_592_000)), Some(Duration::from_secs(309_600)))
    );
    assert_eq!(seen.named[0].unit, None);
}

#[test]
fn upstreams_are_read_in_every_dialect() {
    let openai = seen(&[
        ("X-RateLimit-Limit-Requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-remaining-project-tokens", "12"),
        ("retry-after", "20"),
        ("retry-after-ms", "1500"),
    ]);
    assert_eq!((openai.requests.limit, openai.requests.reset), (Some(60), Some(Duration::from_secs(1))));
    assert_eq!(openai.project_tokens.remaining, Some(12));
    assert_eq!(openai.retry_after, Some(Duration::from_millis(1500)));
    let anthropic = seen(&[
        ("anthropic-ratelimit-input-tokens-remaining", "40000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-09-27T10:00:45Z"),
        ("anthropic-priority-input-tokens-remaining", "1"),
        ("retry-after", "Sun, 27 Sep 2026 10:01:30 GMT"),
    ]);
    assert_eq!(anthropic.input_tokens.remaining, Some(40_000));
    assert_eq!(anthropic.input_tokens.reset, Some(Duration::from_secs(45)));
    assert_eq!(anthropic.retry_after, Some(Duration::from_secs(90)));
    let tier = seen(&[("remaining-tokens", "7"), ("remaining-quota-tokens", "9"), ("consumed-tokens", "3")]);
    assert_eq!((tier.tokens.remaining, tier.quota_tokens.remaining), (Some(7), Some(9)));
    let draft = seen(&[
        ("RateLimit", r#""a";r=1;t=2,"b\\";r=3 , c;r=4"#),
        ("RateLimit-Policy", r#""a";q=10;w=60;qu="content-bytes""#),
    ]);
    let names: Vec<_> = draft.named.iter().map(|limit| (limit.name.as_str(), limit.limit.remaining)).collect();
    assert_eq!(names, [("a", Some(1)), ("b\\", Some(3)), ("c", Some(4))]);
    assert_eq!((draft.named[0].unit.as_deref(), draft.named[0].limit.limit), (Some("content-bytes"), Some(10)));
}

#[test]
fn what_cannot_be_read_is_as_if_it_were_not_there() {
    let odd = seen(&[
        ("x-ratelimit-limit-tokens", "-5"),
        ("x-ratelimit-remaining-tokens", "many"),
        ("x-ratelimit-reset-tokens", "soon"),
        ("x-ratelimit-", "1"),
        ("x-ratelimit-limit", "1"),
        ("anthropic-ratelimit-tokens", "1"),
        ("retry-after", "later"),
        ("retry-after-ms", "1s"),
        ("ratelimit", "\"open"),
        ("ratelimit", ";;;,,,="),
        ("ratelimit-policy", ""),
    ]);
    assert_eq!(odd, UpstreamLimits::default());
    let many: Vec<_> = (0..100).map(|number| format!("\"{number}\";r=1")).collect();
    assert_eq!(seen(&[("ratelimit", &many.join(","))]).named.len(), 16);
}
