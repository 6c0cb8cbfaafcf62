//! Calls to models that do not go as expected: D-03, D-06, D-07, D-09, D-12.

use super::Certainty::{Certain, Likely, Possible};
use super::{Case, Found, ObservedCall};
use crate::gateway::model::{AiGateway, GatewayState, MembershipStatus, TokenLimit};

/// The call, if it was one to a model.
fn model_call<'a>(case: &Case<'a>) -> Option<&'a ObservedCall> {
    case.seen.call.as_ref().filter(|_| case.seen.tool.is_none() && case.seen.agent.is_none())
}

/// Why the project's calls are not governed, if they are not: the cause, what speaks for it, and what to do.
fn why_ungoverned(case: &Case<'_>) -> Option<(&'static str, String, &'static str)> {
    let Some(gateway) = case.gateway().filter(|gateway| gateway.state == GatewayState::Enabled) else {
        let remedy = "have the gateway Enabled; only then are calls governed";
        return Some(("the gateway is not Enabled", case.gateway_is(), remedy));
    };
    let project = case.seen.project.as_ref()?;
    (gateway.status(project) == MembershipStatus::Disabled).then(|| {
        let evidence = format!("the Gateway status of project {:?} is Disabled", project.as_str());
        ("the project is not behind the gateway", evidence, "open the gateway and add the project")
    })
}

/// What says that a call did not pass the gateway, if so: it was not seen to, and it is not governed.
fn outside(case: &Case<'_>, call: &ObservedCall) -> Option<String> {
    why_ungoverned(case).filter(|_| call.passed_gateway != Some(true)).map(|(_, evidence, _)| evidence)
}

/// That the project's calls are not governed, if so.
fn ungoverned(case: &Case<'_>, found: &mut Found) -> bool {
    let why = why_ungoverned(case);
    let is_so = why.is_some();
    if let Some((cause, evidence, remedy)) = why {
        found.cause(Certain, cause, [evidence], remedy);
    }
    is_so
}

/// That the client calls another host than the gateway's, if so \[I\].
pub(super) fn old_address(gateway: &AiGateway, call: &ObservedCall, found: &mut Found) -> bool {
    let Some(host) = call.host.as_deref().filter(|host| !host.eq_ignore_ascii_case(&gateway.host())) else {
        return false;
    };
    let evidence = format!("it called {host}, and the gateway is {}", gateway.host());
    let remedy = "have the client use the gateway's address";
    found.cause(Likely, "the client still calls the old address", [evidence], remedy);
    true
}

/// D-03.
pub(super) fn bypassed(case: &Case<'_>, found: &mut Found) {
    let Some(call) = model_call(case).filter(|call| call.passed_gateway == Some(false)) else { return };
    if ungoverned(case, found) {
        return;
    }
    let Some(gateway) = case.gateway() else { return };
    let at = case.called();
    let since = case.seen.project.as_ref().and_then(|project| gateway.memberships.get(project)).map(|m| m.since);
    let remedy = "nothing is left to do for later calls; look at one that was made since";
    if let Some(enabled) = gateway.enabled.filter(|enabled| at < *enabled) {
        let evidence = format!("the call was made at {at}, and the gateway Enabled at {enabled}");
        found.cause(Certain, "the gateway was not ready when the call was made", [evidence], remedy);
    } else if let Some(since) = since.filter(|since| at < *since) {
        let evidence = format!("the call was made at {at}, and the project Enabled at {since}");
        found.cause(Certain, "the project was added after the call", [evidence], remedy);
    } else if !old_address(gateway, call, found) {
        let evidence = "gateway and project were Enabled when the call was made".to_owned();
        let remedy = format!("see that the client calls {}, and look at the gateway's logs", gateway.host());
        found.cause(Possible, "the client calls another address, or the log is behind", [evidence], remedy);
    }
}

/// D-06.
pub(super) fn not_refused(case: &Case<'_>, found: &mut Found) {
    let Some(spent) = case.seen.unrefused else { return };
    if ungoverned(case, found) {
        return;
    }
    let Some(gateway) = case.gateway() else { return };
    let (Some(project), Some(deployment)) = (&case.seen.project, &case.seen.deployment) else {
        let missing = if case.seen.project.is_none() { "project" } else { "deployment" };
        let evidence = format!("{} tokens passed in {} s; no {missing} was given", spent.tokens, spent.seconds);
        let remedy = format!("give the {missing} as well: a limit is on a project and a deployment");
        return found.cause(Possible, "which limit should have refused was not said", [evidence], remedy);
    };
    if !case.resource.deployments.contains_key(deployment) {
        let names: Vec<_> = case.resource.deployments.keys().map(|name| name.as_str()).collect();
        let evidence = format!("the resource's deployments are {}", names.join(", "));
        let remedy = "set the limit on the name that calls use; that is the deployment's, not the model's";
        return found.cause(Certain, "the calls name no deployment of the resource", [evidence], remedy);
    }
    let Some(limit) = gateway.limits.of(project, deployment) else {
        let evidence = format!("no limit for {:?} on {:?}", project.as_str(), deployment.as_str());
        let remedy = "set one in the Admin console, under Token management";
        return found.cause(Certain, "no limit is set", [evidence], remedy);
    };
    if !gateway.traffic.enforce {
        let evidence = "limits are set, and only count".to_owned();
        let remedy = "open the settings again and switch the enforcement of limits on";
        return found.cause(Certain, "the enforcement of limits is switched off", [evidence], remedy);
    }
    if let Some(enough) = allows(limit, spent.tokens, spent.seconds) {
        let remedy = "use more in less time, or set a smaller limit to see it refuse";
        return found.cause(Likely, "the limit allows that much", [enough], remedy);
    }
    if let Some(call) = model_call(case)
        && old_address(gateway, call, found)
    {
        return;
    }
    let evidence = format!("the limit is {limit}, and {} tokens were used in {} s", spent.tokens, spent.seconds);
    let remedy = "look up in the gateway's logs which project and deployment the calls resolved to";
    found.cause(Possible, "the calls count for another project or deployment", [evidence], remedy);
}

/// Why a limit would let so many tokens pass, if it would: a bucket starts full and refills all the time (E-07), a quota
/// lasts its whole period.
fn allows(limit: TokenLimit, tokens: u64, seconds: u64) -> Option<String> {
    let rate = limit.tokens_per_minute().map(|rate| u64::from(rate.get()));
    let by_rate = rate.map(|rate| rate.saturating_add(rate.saturating_mul(seconds) / 60));
    let quota = limit.quota().map(|quota| quota.tokens());
    if by_rate.is_some_and(|most| tokens > most) || quota.is_some_and(|quota| tokens > quota) {
        return None;
    }
    Some(match (rate, by_rate) {
        (Some(rate), Some(most)) => {
            format!("{tokens} tokens in {seconds} s; {rate} TPM refill {}/s, so up to {most} pass", decimal(rate))
        }
        _ => format!("{tokens} tokens of a quota of {}", quota.unwrap_or(0)),
    })
}

/// A rate per minute as one per second, with one decimal.
fn decimal(per_minute: u64) -> String {
    let tenths = per_minute / 6;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// D-07.
pub(super) fn error_500(case: &Case<'_>, found: &mut Found) {
    let Some(call) = model_call(case).filter(|call| call.status == Some(500)) else { return };
    let direct = call.direct.and_then(|direct| direct.status);
    if let Some(status) = direct.filter(|status| *status >= 400) {
        let evidence = format!("the same call past the gateway ends with status {status}");
        let remedy = "see to the deployment first; the gateway only passes its answer on";
        found.cause(Certain, "the deployment itself fails", [evidence], remedy);
    }
    if let Some(deployment) =
        case.seen.deployment.as_ref().filter(|name| !case.resource.deployments.contains_key(*name))
    {
        let evidence = format!("the resource has no deployment {:?}", deployment.as_str());
        let remedy = "deploy the model, or correct the name";
        found.cause(Certain, "the deployment is not mapped: the resource does not have it", [evidence], remedy);
    }
    if call.last_error_reason.as_deref() == Some("ExpressionValueEvaluationFailure") {
        let evidence = "LastErrorReason is ExpressionValueEvaluationFailure".to_owned();
        let remedy = "set the limit again, or take the empty variable out of the product's policy";
        found.cause(
            Likely,
            "a limit was removed and left an empty variable in the product's policy",
            [evidence],
            remedy,
        );
    }
    if direct.is_none()
        && let Some(evidence) = outside(case, call)
    {
        // What does not pass the gateway, it cannot break.
        let remedy = "see to the deployment: its calls do not pass the gateway";
        return found.cause(Likely, "the deployment itself fails: the gateway has no part in it", [evidence], remedy);
    }
    let age = case.gateway().and_then(|gateway| gateway.enabled).map(|enabled| case.called().seconds_since(enabled));
    if let Some(age) = age.filter(|age| *age < case.estate.settings().usual_provisioning_seconds) {
        let evidence = format!("the gateway was Enabled {age} s before the call");
        found.cause(Likely, "the endpoints are not fully provisioned", [evidence], "wait a few minutes and try again");
    }
    if direct.is_some_and(|status| status < 400) {
        let evidence = "the same call past the gateway succeeds".to_owned();
        let remedy = "read Monitoring > Logs of the instance for the backend that was called, then remove and re-add the project";
        found.cause(Likely, "the deployment is not mapped at the gateway", [evidence], remedy);
    }
    let evidence = "calls to models end with status 500".to_owned();
    let remedy =
        "try the call past the gateway, read Monitoring > Logs, and remove and re-add the project as a last resort";
    found.cause(Possible, "the project's setup at the gateway is broken", [evidence], remedy);
}

/// D-09.
pub(super) fn slow(case: &Case<'_>, found: &mut Found) {
    let Some(call) = model_call(case) else { return };
    let (Some(latency), Some(gateway)) = (call.latency_ms, case.gateway()) else { return };
    let direct = call.direct.and_then(|direct| direct.latency_ms);
    // Not half as slow again: the gateway is not what takes the time.
    if let Some(direct) = direct.filter(|direct| latency.saturating_mul(2) < direct.saturating_mul(3)) {
        let evidence = format!("{latency} ms through the gateway, {direct} ms past it");
        let remedy = "see to the deployment: its capacity, its region, the length of its answers";
        return found.cause(Certain, "the deployment itself is that slow", [evidence], remedy);
    }
    let compared = direct.map_or_else(
        || format!("{latency} ms through the gateway"),
        |direct| format!("{latency} ms through the gateway, {direct} ms past it"),
    );
    let ours = &case.resource.site.region;
    if let Some(theirs) = case.estate.instances().get(&gateway.instance).map(|instance| &instance.site.region)
        && theirs != ours
    {
        let evidence = format!("the instance is in {:?}, the resource in {:?}", theirs.as_str(), ours.as_str());
        let remedy = "use an instance in the resource's region, and measure both ways";
        found.cause(Likely, "the instance is in another region", [evidence, compared.clone()], remedy);
    }
    let age = gateway.enabled.map(|enabled| case.called().seconds_since(enabled));
    if let Some(age) = age.filter(|age| *age < case.estate.settings().usual_provisioning_seconds) {
        let evidence = format!("the gateway was Enabled {age} s before the call");
        let remedy = "call a few times more, and measure then";
        found.cause(Likely, "a cold start", [evidence, compared.clone()], remedy);
    }
    if direct.is_none() {
        let remedy = "measure the same call past the gateway";
        found.cause(Possible, "the deployment itself is slow", [compared], remedy);
    }
}

/// D-12.
pub(super) fn too_many(case: &Case<'_>, found: &mut Found) {
    let Some(call) = model_call(case).filter(|call| call.status == Some(429)) else { return };
    let header = |name: &str| {
        call.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    };
    let body = call.body.as_deref().and_then(|body| serde_json::from_str::<serde_json::Value>(body).ok());
    let has = |field: &str| body.as_ref().is_some_and(|body| body.get(field).is_some());
    let raise = "raise the deployment's capacity, or lower max_tokens of the calls";
    if has("statusCode") && !has("error") {
        let message = body.as_ref().and_then(|body| body.get("message")?.as_str()).unwrap_or("no message").to_owned();
        let mut remedy = "wait as Retry-After says, or raise the project's limit at the gateway".to_owned();
        if let Some(seconds) = header("retry-after") {
            remedy = format!("wait {seconds} s (Retry-After), or raise the project's limit at the gateway");
        }
        let evidence = format!("the body has the gateway's shape: {message}");
        return found.cause(Certain, "the gateway's own limit refuses", [evidence], remedy);
    }
    if has("error") {
        let evidence = "the body has the deployment's shape, {\"error\": ...}".to_owned();
        found.cause(Certain, "the deployment's own tokens or requests per minute are used up", [evidence], raise);
    } else if header("x-ratelimit-remaining-tokens").or(header("retry-after-ms")).is_some() {
        let evidence = "the headers are the deployment's (x-ratelimit-*, retry-after-ms)".to_owned();
        found.cause(Likely, "the deployment's own tokens or requests per minute are used up", [evidence], raise);
    } else if let Some(evidence) = outside(case, call) {
        found.cause(Likely, "the deployment's own tokens or requests per minute are used up", [evidence], raise);
    } else {
        let evidence = "status 429, and nothing that tells whose it is".to_owned();
        let remedy = "look at the body: {\"statusCode\": ...} is the gateway's, {\"error\": ...} the deployment's";
        found.cause(Possible, "either the gateway or the deployment refuses", [evidence], remedy);
    }
    let configured =
        case.seen.deployment.as_ref().and_then(|name| case.resource.deployments.get(name)?.tokens_per_minute);
    let effective = header("x-ratelimit-limit-tokens").and_then(|value| value.trim().parse::<u64>().ok());
    if let (Some(configured), Some(effective)) = (configured, effective)
        && effective < configured
    {
        let evidence = format!("x-ratelimit-limit-tokens is {effective}, and the deployment has {configured} TPM");
        let remedy = "wait: the service lowers a limit for a time when it is short of capacity";
        found.cause(Likely, "the service has lowered the deployment's limit for a time", [evidence], remedy);
    }
}
