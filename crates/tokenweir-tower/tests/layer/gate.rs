//! The layer in front of a gateway's gate.

use crate::scene::*;
use http::request::Parts;
use std::sync::{Arc, Mutex};
use tokenweir::ManualClock;
use tokenweir::apim::Profile;
use tokenweir::gateway::{CallOutcome, Gate, RecordObserver, UsageRecord};
use tokenweir_tower::{Caller, Identified, Takes};
use tokenweir_wire::Endpoint;

#[derive(Default)]
struct Records(Mutex<Vec<UsageRecord>>);

impl RecordObserver for Records {
    fn recorded(&self, record: &UsageRecord) {
        self.0.lock().expect("no panic").push(record.clone());
    }
}

const RESOURCE: &str = r#"{
    "site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "r"},
    "public_network_access": true,
    "deployments": {"m": {"model": "gpt"}},
    "projects": {"search": {"created": "2026-11-01T00:00:00Z", "agents": {"planner": {"url": "http://a", "protocol": "A2A",
        "status": "blocked", "registered": "2026-11-01T00:00:00Z", "gateway_url": "http://g"}}},
        "free": {"created": "2026-11-01T00:00:00Z"}},
    "gateway": {
        "name": "gateway", "instance": "i", "state": "enabled", "made_instance": true,
        "created": "2026-11-01T00:00:00Z", "since": "2026-11-01T00:00:00Z", "enabled": "2026-11-01T00:00:00Z",
        "memberships": {"search": {"status": "enabled", "since": "2026-11-01T00:00:00Z", "enabled_times": 1}},
        "limits": {"projects": {"search": {"m": {"tokens_per_minute": 60}}},
            "keyed": {"tools": {"key": [{"caller": "tool"}], "limit": {"calls": {"calls": 2, "renewal_seconds": 60}}}}},
        "traffic": {"unknown_project": "deny", "unknown_deployment": "deny"}
    }
}"#;

fn gate(profile: Option<Profile>) -> (Gate, Arc<Records>) {
    let records = Arc::new(Records::default());
    let resource = serde_json::from_str(RESOURCE).expect("a resource");
    let builder = Gate::builder("account".parse().expect("a name"), &resource).observer(records.clone());
    let builder = builder.limiter(|limiter| limiter.clock(ManualClock::new(tokenweir::Now::new(0, 0))));
    let builder = match profile {
        Some(profile) => builder.profile(profile),
        None => builder,
    };
    (builder.build().expect("a gate"), records)
}

/// Key and agent in headers.
fn host(head: &mut Parts) -> Identified {
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let takes = Endpoint::of(head.uri.path()).map_or(Takes::Stated(Default::default()), Takes::tokens);
    let mut caller = Caller::new(header("authorization").expect("a key"), takes);
    (caller.agent, caller.tool) = (header("agent"), header("tool"));
    caller.keys.push(("user".into(), b"u-17".to_vec()));
    caller.correlation_id = Some("c-1".to_owned());
    caller.operation = Some("chat".into());
    Identified::Metered(caller)
}

fn scene(gate: &Gate, chunks: &'static [&'static [u8]]) -> Scene<Gate, fn(&mut Parts) -> Identified> {
    Scene::with(gate.clone(), host, settings(), move || Some(Ok(events(Frames::of(chunks)))))
}

#[test]
fn a_call_is_recorded_with_what_the_layer_saw() {
    let (gate, records) = gate(None);
    let scene = scene(&gate, &[PIECE, STOP, USAGE, DONE]);
    read(scene.call(chat(r#","max_tokens":40,"stream":true"#)).expect("answered")).expect("a whole body");
    let records = records.0.lock().expect("no panic");
    let [record] = &records[..] else { panic!("one record") };
    assert_eq!((record.estimated_input, record.estimated_output), (Some(8), Some(40)));
    assert_eq!((record.input, record.output, record.estimated), (Some(11), Some(5), Some(false)));
    assert_eq!((&*record.correlation_id, record.operation.as_deref()), ("c-1", Some("chat")));
    assert!(record.streamed && record.caller["user"] == "u-17" && record.response_code == Some(200));
    assert!(record.first_token_time.is_some() && record.backend_time.is_some());
}

#[test]
fn what_the_layer_counted_is_marked_as_an_estimate() {
    let (gate, records) = gate(None);
    let scene = scene(&gate, &[PIECE, PIECE]);
    read(scene.call(chat(r#","max_tokens":40,"stream":true"#)).expect("answered")).expect("a whole body");
    let records = records.0.lock().expect("no panic");
    assert_eq!((records[0].output, records[0].charged_input, records[0].estimated), (Some(2), Some(8), Some(true)));
}

#[test]
fn a_refusal_has_its_record_and_the_callers_words() {
    let (gate, records) = gate(None);
    let scene = scene(&gate, &[]);
    let response = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    let refused = scene.call(chat(r#","max_tokens":40"#)).expect("answered");
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"36".parse().expect("ok")));
    drop(response);
    let records = records.0.lock().expect("no panic");
    assert_eq!(records[0].outcome, CallOutcome::RefusedRate);
    assert_eq!(gate.figures().of(CallOutcome::Admitted), 1);
}

#[test]
fn api_managements_profile_answers_in_its_words_and_charges_afterwards() {
    let (gate, _) = gate(Some(Profile::v2()));
    let scene = scene(&gate, &[PIECE, STOP, USAGE, DONE]);
    let long = "four".repeat(80);
    let scene_of_long = Scene::with(gate.clone(), host as fn(&mut Parts) -> Identified, settings(), move || {
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"{long}"}}}}],"usage":{{"prompt_tokens":8,"completion_tokens":80}}}}"#
        );
        Some(Ok(json(200, Frames::of(&[body.as_bytes()]))))
    });
    read(scene_of_long.call(chat(r#","max_tokens":4000"#)).expect("answered")).expect("a whole body");
    let refused = scene.call(chat("")).expect("answered");
    // 88 of 60: a debt of 28, and a token more.
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"29".parse().expect("ok")));
    assert_eq!(text(refused), r#"{"statusCode":429,"message":"Token limit is exceeded. Try again in 29 seconds."}"#);
}

#[test]
fn what_the_gateway_does_not_govern_passes_uncounted_or_is_refused() {
    let (gate, records) = gate(None);
    let scene = scene(&gate, &[PIECE, STOP, USAGE, DONE]);
    let with = |name: &'static str, value: &str| {
        let mut request = chat(r#","max_tokens":4000,"stream":true"#);
        request.headers_mut().insert(name, value.parse().expect("a value"));
        request
    };
    let response = scene.call(with("authorization", "free")).expect("answered");
    assert!(response.headers().get("x-ratelimit-limit-tokens").is_none());
    read(response).expect("a whole body");
    assert_eq!(records.0.lock().expect("no panic").pop().expect("a record").outcome, CallOutcome::Bypassed);
    let response = scene.call(with("authorization", "nobody")).expect("answered");
    assert_eq!(response.status(), 404);
    let response = scene.call(with("agent", "planner")).expect("answered");
    assert_eq!(response.status(), 403);
    assert!(text(response).contains("is blocked"));
    assert_eq!(scene.sent_count(), 1);
}

#[test]
fn calls_of_tools_count_as_calls() {
    let (gate, _) = gate(None);
    let scene = scene(&gate, &[b"data: {\"result\":{}}\n\n"]);
    let tool = || {
        let mut request = post("/mcp/docs", r#"{"jsonrpc":"2.0","method":"tools/call"}"#);
        request.headers_mut().insert("tool", "docs".parse().expect("a value"));
        request
    };
    // The tool is none of the project's, and such calls are denied here.
    assert_eq!(scene.call(tool()).expect("answered").status(), 404);
}
