//! Which calls are governed, bypassed or denied.

use crate::foundry::{membership, name, on, resource, tokens};
use crate::{Scene, s};
use tokenweir::gateway::model::{GatewayState, Limits, Ungoverned};
use tokenweir::gateway::{Call, CallOutcome, Completion};
use tokenweir::{Estimate, Usage};

fn limited() -> Limits {
    on("P1", "d", tokens(Some(100), Some((100, "Monthly"))))
}

/// A call that passes uncounted, whatever it takes, and shows.
#[track_caller]
fn bypasses(scene: &Scene, call: Call<'_>) {
    let before = scene.gate.figures();
    let passage = scene.pass(&call.with_estimate(Estimate::new(1_000_000, 0)), s(0));
    assert_eq!((passage.outcome(), passage.permit()), (CallOutcome::Bypassed, None));
    let settled = passage.settle_at(&Completion::of(Usage::new(1_000_000, 5)), s(0));
    assert_eq!(settled, Ok(None));
    assert!(scene.counters(s(0)).iter().all(|counter| counter.settled_total == 0), "no counter moves");
    let after = scene.gate.figures();
    assert_eq!(after.requests(), before.requests() + 1);
    assert_eq!(after.of(CallOutcome::Bypassed), before.of(CallOutcome::Bypassed) + 1);
    let [record] = &scene.records.taken()[..] else { panic!("one record") };
    assert_eq!((record.outcome, record.input, record.charged_input), (CallOutcome::Bypassed, Some(1_000_000), None));
    assert_eq!(record.project_known, call.project != "P9");
}

#[track_caller]
fn denied(scene: &Scene, call: Call<'_>, status: u16, reason: &str, says: &str) {
    let refused = scene.refuse(&call, s(0));
    assert_eq!((refused.status(), refused.retry_after()), (status, None));
    assert!(refused.message().contains(says), "{}", refused.message());
    assert!(refused.denied().is_none() && refused.answer().is_none(), "no limit refused");
    let [record] = &scene.records.taken()[..] else { panic!("one record") };
    assert_eq!(record.last_error.as_ref().map(|error| &*error.reason), Some(reason));
    assert_eq!((record.response_code, record.backend_response_code), (Some(status), None));
}

#[test]
fn a_project_that_is_disabled_bypasses_or_is_denied() {
    let mut scene = Scene::new(limited());
    scene.gateway().memberships.insert(name("P1"), membership("disabled", 1));
    scene.update(s(0));
    bypasses(&scene, Call::model("P1", "d"));
    let figures = scene.gate.project_figures(&name("P1")).expect("a project");
    assert_eq!((figures.requests(), figures.of(CallOutcome::Bypassed)), (1, 1));
    // One that was never added is Disabled.
    scene.gateway().memberships.remove("P1");
    scene.update(s(0));
    bypasses(&scene, Call::model("P1", "d"));
    scene.gateway().traffic.ungoverned = Ungoverned::Deny;
    scene.update(s(0));
    denied(&scene, Call::model("P1", "d"), 403, "ProjectNotGoverned", "Add the project to the gateway");
    // The other goes on.
    scene.take(Call::model("P2", "d"), 5, s(0));
    // Added, it is governed from the next call on; its figures go on.
    scene.gateway().memberships.insert(name("P1"), membership("enabled", 1));
    scene.update(s(0));
    scene.take(Call::model("P1", "d"), 100, s(0));
    assert_eq!(scene.refuse(&Call::model("P1", "d"), s(0)).status(), 403);
    let figures = scene.gate.project_figures(&name("P1")).expect("a project");
    let [admitted, rate, quota, bypassed, ungoverned, ..] = CallOutcome::ALL.map(|outcome| figures.of(outcome));
    assert_eq!((admitted, rate, quota, bypassed, ungoverned), (1, 0, 1, 2, 1));
    assert_eq!(figures.requests(), 5);
    assert_eq!(figures.each().map(|(_, calls)| calls).sum::<u64>(), 5);
}

#[test]
fn a_gateway_that_is_not_enabled_governs_nobody() {
    let mut scene = Scene::new(limited());
    for state in [
        GatewayState::Provisioning,
        GatewayState::Failed { reason: "no capacity".into() },
        GatewayState::Deleting,
        GatewayState::Orphaned,
    ] {
        scene.gateway().state = state;
        scene.update(s(0));
        bypasses(&scene, Call::model("P1", "d"));
    }
    // A resource without a gateway at all.
    let mut absent = resource("eastus2", limited());
    absent.gateway = None;
    let scene = Scene::of(absent);
    bypasses(&scene, Call::model("P1", "d"));
}

#[test]
fn what_the_resource_does_not_have_bypasses_or_is_denied() {
    let mut scene = Scene::new(limited());
    bypasses(&scene, Call::model("P9", "d"));
    bypasses(&scene, Call::model("P1", "gpt-4o"));
    bypasses(&scene, Call::tool("P1", "unknown"));
    bypasses(&scene, Call::tool("P1", "direct"));
    bypasses(&scene, Call::agent("P1", "unknown"));
    assert_eq!(scene.gate.unknown_figures().requests(), 1);
    assert_eq!(scene.gate.project_figures(&name("P9")), None);
    let traffic = &mut scene.gateway().traffic;
    (traffic.unknown_project, traffic.unknown_deployment, traffic.ungoverned) =
        (Ungoverned::Deny, Ungoverned::Deny, Ungoverned::Deny);
    scene.update(s(0));
    denied(&scene, Call::model("P9", "d"), 404, "ProjectNotFound", "There is no project \"P9\"");
    denied(&scene, Call::model("P1", "gpt-4o"), 404, "DeploymentNotFound", "callers name the deployment");
    denied(&scene, Call::tool("P1", "unknown"), 404, "ToolNotFound", "has no tool \"unknown\"");
    denied(&scene, Call::tool("P1", "direct"), 403, "ToolNotGoverned", "Re-create it behind the gateway");
    denied(&scene, Call::agent("P1", "unknown"), 404, "AgentNotFound", "has no custom agent \"unknown\"");
    // Whoever calls a model may be an agent that is hosted here: none that is registered.
    scene.take(Call::model("P1", "d2").by_agent("unknown"), 5, s(0));
    assert_eq!(scene.gate.unknown_figures().of(CallOutcome::RefusedUngoverned), 1);
    // A deployment that the resource gets is known from then on; without a limit it is governed and unlimited.
    let what = scene.resource.deployments["d"].clone();
    scene.resource.deployments.insert(name("gpt-4o"), what);
    scene.update(s(0));
    scene.take(Call::model("P1", "gpt-4o"), 1_000_000, s(0));
}

#[test]
fn the_toggle_off_limits_only_count() {
    let mut scene = Scene::new(limited());
    scene.gateway().traffic.enforce = false;
    scene.update(s(0));
    scene.take(Call::model("P1", "d"), 90, s(0));
    let passage = scene.pass(&Call::model("P1", "d").with_estimate(Estimate::new(20, 0)), s(0));
    let permit = passage.permit().expect("it is governed");
    assert_eq!(scene.gate.limiter().shadow_refused(permit).len(), 2);
    assert_eq!(scene.used("project \"P1\" on \"d\": token quota", s(0)), 90);
    scene.gateway().traffic.enforce = true;
    scene.update(s(0));
    assert_eq!(scene.refuse(&Call::model("P1", "d").with_estimate(Estimate::new(20, 0)), s(0)).status(), 403);
}
