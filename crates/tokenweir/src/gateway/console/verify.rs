//! Whether it works: the vendor's checklist as assertions (c.3).

use serde_json::{Value, json};

use super::Console;
use super::command::{CallFields, VerifyFields};
use super::error::ConsoleError;
use crate::clock::Now;
use crate::gateway::model::{DeploymentName, FoundryResource, GatewayState, ProjectName};
use crate::gateway::record::CallOutcome;
use crate::gateway::traffic::{Call, Completion, Gate, Verdict};
use crate::limiter::LimitView;
use crate::request::Estimate;

/// What has been checked so far.
#[derive(Default)]
struct Checks(Vec<Value>);

impl Checks {
    /// `next` is told where the check fails.
    fn add(&mut self, check: &str, passed: bool, detail: impl Into<String>, next: impl Into<String>) {
        let next = if passed { None } else { Some(next.into()) };
        self.0.push(json!({ "check": check, "passed": passed, "detail": detail.into(), "next": next }));
    }

    fn answer(self) -> Value {
        let passed = self.0.iter().all(|check| check["passed"] == true);
        json!({ "passed": passed, "checks": self.0 })
    }
}

impl Console {
    /// Sends one test call, which takes what it says, and looks whether it was governed, counted and logged, and whether
    /// what is beyond each limit would be refused. Only the test call takes anything.
    pub(super) fn verify(&self, verify: &VerifyFields, now: Now) -> Result<Value, ConsoleError> {
        let (gate, resource) = {
            let mut control = self.control.lock();
            let name = control.named(verify.resource.as_ref())?;
            let gate = control.gate_of(Some(&name))?;
            (gate, control.estate.resources().get(&name).cloned())
        };
        let Some(resource) = resource else {
            return Err(ConsoleError::invalid("the resource has gone meanwhile", "name another"));
        };
        let mut checks = Checks::default();
        enabled(&resource, verify, &mut checks);
        let call = CallFields::model(verify);
        call.with(|call| test_call(&gate, &resource, call, verify, now, &mut checks))?;
        call.with(|call| refuses(&gate, call, now, &mut checks))?;
        Ok(checks.answer())
    }
}

/// Enabled on both levels \[S\], and the deployment is there.
fn enabled(resource: &FoundryResource, verify: &VerifyFields, checks: &mut Checks) {
    let (project, deployment) = (verify.project.as_str(), verify.deployment.as_str());
    let state = resource.gateway.as_ref().map_or("Absent", |gateway| gateway.state.as_str());
    let answers = resource.gateway.as_ref().is_some_and(|gateway| gateway.state == GatewayState::Enabled);
    let next = "create a gateway, or wait until it is provisioned, and refresh";
    checks.add("gateway_enabled", answers, format!("the gateway is {state}"), next);
    let governed = ProjectName::new(project).is_ok_and(|project| resource.governs(&project));
    let detail = format!("project {project:?} is {}behind the gateway", if governed { "" } else { "not " });
    checks.add("project_enabled", governed, detail, "add the project to the gateway");
    let known = DeploymentName::new(deployment).is_ok_and(|name| resource.deployments.contains_key(&name));
    let detail = format!("the resource has {} deployment {deployment:?}", if known { "the" } else { "no" });
    checks.add("deployment_known", known, detail, "give the name of the deployment, not of its model");
}

/// One call: `Requests` rises by one, and the log has it with code 200 and the gateway's name.
fn test_call(
    gate: &Gate,
    resource: &FoundryResource,
    call: &Call<'_>,
    verify: &VerifyFields,
    now: Now,
    checks: &mut Checks,
) -> Result<(), ConsoleError> {
    let governed = |gate: &Gate| {
        // Read once: others call meanwhile.
        let figures = gate.figures();
        figures.requests() - figures.of(CallOutcome::Bypassed)
    };
    let before = (governed(gate), used(gate, call, now)?);
    let record = match gate.admit_at(call, now)? {
        Verdict::Passed(passage) => passage.settle_recorded(&Completion::of(verify.usage.into()), now).1,
        Verdict::Refused(refused) => {
            let wait = refused.retry_after().map_or_else(String::new, |wait| format!(" for {wait} s"));
            let detail = format!("the test call was refused with {}: {}", refused.status(), refused.message());
            checks.add("call_passes", false, detail, format!("wait{wait}, or raise the limit, and verify again"));
            Some(Box::new(refused.record().clone()))
        }
    };
    // Others may call meanwhile.
    let rose = governed(gate).saturating_sub(before.0);
    let next = "calls bypass the gateway: see that it and the project are Enabled, and that clients use its address";
    checks.add("requests_rise", rose >= 1, format!("Requests rose by {rose} with one test call"), next);
    let name = resource.gateway.as_ref().map(|gateway| gateway.name.clone());
    let logged = record.as_ref().is_some_and(|record| {
        record.response_code == Some(200) && record.outcome == CallOutcome::Admitted && record.gateway == name
    });
    let detail = match &record {
        Some(record) => format!(
            "the log has the call as {} with code {} at gateway {:?}",
            record.outcome,
            record.response_code.map_or_else(|| "none".to_owned(), |code| code.to_string()),
            record.gateway.as_ref().map_or("none", |name| name.as_str())
        ),
        None => "the log does not have the call".to_owned(),
    };
    checks.add("logged", logged, detail, "see the checks before this one");
    let tokens = record
        .as_ref()
        .map_or(0, |record| record.charged_input.unwrap_or(0).saturating_add(record.charged_output.unwrap_or(0)));
    if tokens > 0 && !before.1.is_empty() {
        let after = used(gate, call, now)?;
        let still: Vec<_> = before
            .1
            .iter()
            .filter(|(limit, left)| after.iter().any(|(name, now_left)| name == limit && now_left >= left))
            .map(|(limit, _)| limit.clone())
            .collect();
        let detail = match still.len() {
            0 => format!("each of {} limits counted the {tokens} tokens", before.1.len()),
            _ => format!("not counted by {}", still.join(", ")),
        };
        checks.add("counted", still.is_empty(), detail, "others may have given tokens back meanwhile: verify again");
    }
    Ok(())
}

/// What the limits of a call that count tokens have left.
fn used(gate: &Gate, call: &Call<'_>, now: Now) -> Result<Vec<(String, i64)>, ConsoleError> {
    let views = views(gate, call, Estimate::default(), now)?;
    let policy = gate.limiter().policy();
    let of_tokens = |view: &LimitView| policy.limit(&view.limit).is_some_and(|limit| limit.meter().as_str() == "total");
    Ok(views.into_iter().filter(of_tokens).map(|view| (view.limit, view.remaining)).collect())
}

fn views(gate: &Gate, call: &Call<'_>, estimate: Estimate, now: Now) -> Result<Vec<LimitView>, ConsoleError> {
    match gate.governs(call) {
        true => Ok(gate.peek_at(call, estimate, now)?.limits),
        false => Ok(Vec::new()),
    }
}

/// What is beyond a limit is refused: 429 for a rate, 403 for a quota. Nothing is taken to see it.
fn refuses(gate: &Gate, call: &Call<'_>, now: Now, checks: &mut Checks) -> Result<(), ConsoleError> {
    let views = views(gate, call, Estimate::default(), now)?;
    let policy = gate.limiter().policy();
    let mut limits = 0;
    for view in views {
        let Some(limit) = policy.limit(&view.limit).filter(|limit| limit.meter().as_str() == "total") else { continue };
        limits += 1;
        let quota = matches!(limit.algorithm(), crate::policy::Algorithm::Quota { .. });
        // In two parts: what is left may be as much as a call can be expected to take of one.
        let beyond = Estimate::new(u64::try_from(view.remaining).unwrap_or(0), 1);
        let peek = gate.peek_at(call, beyond, now)?;
        let status = peek.denied.as_ref().and_then(|denied| {
            denied.refusals().find(|refusal| refusal.limit == view.limit).map(|refusal| refusal.status)
        });
        let wanted = if quota { 403 } else { 429 };
        let detail = match status {
            Some(status) => format!("a call beyond {:?} would be refused with {status}", view.limit),
            None => format!("a call beyond {:?} would pass", view.limit),
        };
        checks.add("refuses", status == Some(wanted), detail, "turn enforcement on in the traffic settings");
    }
    if limits == 0 {
        let detail = "no limit on tokens applies to the call: it is not limited";
        checks.add("limited", false, detail, "set a limit for the project on the deployment");
    }
    Ok(())
}
