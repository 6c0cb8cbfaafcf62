//! Quotas in a file outlive a kill.

use crate::program::{Program, does_not_start, why_not};
use crate::support::*;

const LIMIT: &str = "[project.search.limits.same]\ntoken_quota = 1600\ntoken_quota_period = 'Yearly'\n";

fn text(upstream: &Upstream) -> String {
    format!("store = 'redb:@/state/quotas.redb'\n{}", config(upstream.address, LIMIT))
}

async fn admitted(gateway: &Program, calls: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..calls {
        let answer = gateway.post("/v1/chat/completions", KEY, &chat("same", r#","max_tokens":8"#)).await;
        assert!(matches!(answer.status, 200 | 403), "{}", answer.text);
        admitted += usize::from(answer.status == 200);
    }
    admitted
}

#[tokio::test]
async fn a_quota_in_a_file_outlives_a_kill_within_its_lease_and_an_end_exactly() {
    let upstream = Upstream::start().await;
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let gateway = Program::with(&[], &text(&upstream));
    assert_eq!(admitted(&gateway, 40).await, 40);
    gateway.signal("KILL");
    let (_, directory) = gateway.ended();
    assert!(!directory.path().join("state/state.json").exists(), "what is there is in the file of quotas");
    let gateway = Program::within(directory, &[], &text(&upstream));
    // 640 are used, and at most a hundredth of the amount is leased besides.
    assert_eq!(admitted(&gateway, 30).await, 30);
    gateway.signal("TERM");
    let (status, directory) = gateway.ended();
    assert!(status.success());
    let gateway = Program::within(directory, &[], &text(&upstream));
    let rest = admitted(&gateway, 35).await;
    assert!((29..=30).contains(&rest), "{rest}");
    let told = gateway.get("/admin/configuration", LOOK).await.json();
    assert_eq!(told["store"], serde_json::json!({ "failures": 0, "error": null }));
}

/// What the quota has used, by what the administrator is shown.
async fn shown(gateway: &Program) -> u64 {
    gateway.used(r#"project "search" on "same": token quota"#).await
}

#[tokio::test]
async fn what_a_quota_has_used_is_shown_after_a_restart_before_anybody_calls() {
    let upstream = Upstream::start().await;
    (0..10).for_each(|_| upstream.answers(200, ANSWER));
    let gateway = Program::with(&[], &text(&upstream));
    assert_eq!(admitted(&gateway, 10).await, 10);
    gateway.signal("TERM");
    let (_, directory) = gateway.ended();
    let gateway = Program::within(directory, &[], &text(&upstream));
    assert_eq!(shown(&gateway).await, 160);
}

#[tokio::test]
async fn a_store_that_is_named_later_goes_on_from_the_state_and_counts_it_once() {
    let upstream = Upstream::start().await;
    (0..200).for_each(|_| upstream.answers(200, ANSWER));
    let without = config(upstream.address, LIMIT);
    let gateway = Program::with(&[], &without);
    assert_eq!(admitted(&gateway, 40).await, 40);
    gateway.signal("TERM");
    let (_, directory) = gateway.ended();
    let state = directory.path().join("state/state.json");
    let before = std::fs::read(&state).expect("the state");
    let gateway = Program::within(directory, &[], &text(&upstream));
    assert_eq!(shown(&gateway).await, 640);
    gateway.signal("KILL");
    let (_, directory) = gateway.ended();
    // As if it was killed before it could note that the store has it.
    std::fs::write(&state, before).expect("written");
    let gateway = Program::within(directory, &[], &text(&upstream));
    let once = shown(&gateway).await;
    assert!((640..=656).contains(&once), "{once}: at most a lease above");
    assert_eq!(admitted(&gateway, 10).await, 10);
    gateway.signal("TERM");
    let (_, directory) = gateway.ended();
    let gateway = Program::within(directory, &[], &text(&upstream));
    assert_eq!(shown(&gateway).await, once + 160, "what is in the store is the newest");
}

#[tokio::test]
async fn a_store_that_cannot_be_is_refused_at_the_start() {
    let address = "127.0.0.1:9".parse().expect("an address");
    let refused = |store: &str| does_not_start(&[], &format!("store = '{store}'\n{}", config(address, "")));
    assert!(refused("quotas.redb").contains("redb:PATH"));
    assert!(refused("redb:").contains("redb:PATH"));
    assert!(refused("redb:@").contains("it is a directory; name a file in it"));
}

#[tokio::test]
async fn a_damaged_file_is_told_in_one_line() {
    let upstream = Upstream::start().await;
    let gateway = Program::with(&[], &text(&upstream));
    gateway.signal("TERM");
    let (_, directory) = gateway.ended();
    let file = std::fs::File::options().write(true).open(directory.path().join("state/quotas.redb"));
    file.and_then(|file| file.set_len(100_000)).expect("cut");
    let why = why_not(&[], &text(&upstream), &directory);
    assert!(why.contains("not a sound quota file") && why.lines().count() == 1, "{why}");
}
