//! Agents and tools.

use crate::foundry::{name, tokens};
use crate::{Scene, s};
use std::num::NonZeroU32;
use tokenweir::gateway::model::{AgentStatus, CallQuota, CallRate, Limits, WorkloadLimit};
use tokenweir::gateway::{Call, CallOutcome, Completion};
use tokenweir::{Estimate, Usage};

fn limited() -> Limits {
    let rate = CallRate::new(3, 60).expect("a rate");
    let quota = CallQuota::new(Some(5), None, 3600).expect("a quota");
    let tool = WorkloadLimit::new(Some(rate), Some(quota), NonZeroU32::new(2), Some(tokens(Some(100), None)));
    let agent = WorkloadLimit::new(None, None, NonZeroU32::new(1), Some(tokens(None, Some((50, "Daily")))));
    Limits {
        tools: [(name("P1"), [(name("gated"), tool.expect("a limit"))].into())].into(),
        agents: [(name("P1"), [(name("a"), agent.expect("a limit"))].into())].into(),
        ..Limits::default()
    }
}

#[test]
fn a_tool_is_limited_in_calls_concurrency_and_tokens() {
    let scene = Scene::new(limited());
    let call = Call::tool("P1", "gated");
    let limit = |now| scene.refuse(&call, now).record().limit.clone().expect("a limit");
    let first = scene.pass(&call, s(0));
    let second = scene.pass(&call, s(0));
    assert_eq!(limit(s(0)), "tool \"gated\" of \"P1\": calls at a time");
    // Its tokens count where they are known; a cancelled call does not count as one.
    first.settle_at(&Completion::of(Usage::new(90, 20)), s(0)).expect("settled");
    second.cancel_at(s(0)).expect("cancelled");
    assert_eq!(limit(s(0)), "tool \"gated\" of \"P1\": tokens per minute");
    for second in [30, 60, 90, 120] {
        let passage = scene.pass(&call, s(second));
        passage.settle_at(&Completion::default(), s(second)).expect("settled");
    }
    let refused = scene.refuse(&call, s(240));
    assert_eq!((refused.status(), refused.retry_after()), (403, Some(3600 - 240)));
    assert_eq!(refused.record().limit.as_deref(), Some("tool \"gated\" of \"P1\": call quota"));
    // Other tools and models of the project are not concerned.
    scene.take(Call::model("P1", "d"), 1000, s(240));
}

#[test]
fn calls_of_a_tool_have_a_rate() {
    let scene = Scene::new(limited());
    let call = Call::tool("P1", "gated");
    for _ in 0..3 {
        scene.pass(&call, s(0)).settle_at(&Completion::default(), s(0)).expect("settled");
    }
    let refused = scene.refuse(&call, s(0));
    assert_eq!((refused.status(), refused.retry_after()), (429, Some(20)));
    assert_eq!(refused.record().limit.as_deref(), Some("tool \"gated\" of \"P1\": calls"));
}

#[test]
fn an_agent_is_limited_whether_it_is_called_or_calls() {
    let mut scene = Scene::new(limited());
    let agent = scene.resource.projects["P1"].agents["a"].clone();
    scene.resource.projects.get_mut("P2").expect("a project").agents.insert(name("a"), agent);
    scene.update(s(0));
    scene.take(Call::agent("P1", "a"), 20, s(0));
    scene.take(Call::model("P1", "d").by_agent("a"), 30, s(0));
    let refused = scene.refuse(&Call::model("P1", "d2").by_agent("a").with_estimate(Estimate::new(1, 0)), s(0));
    assert_eq!(refused.record().limit.as_deref(), Some("agent \"a\" of \"P1\": token quota"));
    // An agent of this name in another project is another one.
    let other = scene.pass(&Call::agent("P2", "a"), s(0));
    assert_eq!(other.outcome(), CallOutcome::Admitted);
    other.settle_at(&Completion::of(Usage::new(1000, 0)), s(0)).expect("it ends");
    scene.take(Call::model("P1", "d"), 1000, s(0));
}

#[test]
fn a_blocked_agent_is_refused_at_the_gateway() {
    let mut scene = Scene::new(limited());
    let block = |scene: &mut Scene, status| {
        let project = scene.resource.projects.get_mut("P1").expect("a project");
        project.agents.get_mut("a").expect("an agent").status = status;
        scene.update(s(0));
    };
    block(&mut scene, AgentStatus::Blocked);
    for call in [Call::agent("P1", "a"), Call::model("P1", "d").by_agent("a")] {
        let refused = scene.refuse(&call, s(0));
        assert_eq!((refused.status(), refused.record().outcome), (403, CallOutcome::RefusedAgentBlocked));
        assert!(refused.message().contains("Agent \"a\" of project \"P1\" is blocked"), "{}", refused.message());
    }
    assert!(scene.counters(s(0)).is_empty(), "a refusal moves no counter");
    scene.take(Call::model("P1", "d"), 5, s(0));
    // Blocked it stays where other calls of the project bypass.
    scene.gateway().memberships.remove("P1");
    scene.update(s(0));
    assert_eq!(scene.refuse(&Call::agent("P1", "a"), s(0)).status(), 403);
    block(&mut scene, AgentStatus::Running);
    let passage = scene.pass(&Call::agent("P1", "a"), s(0));
    assert_eq!(passage.outcome(), CallOutcome::Bypassed);
}
