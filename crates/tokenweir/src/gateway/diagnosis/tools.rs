//! Tools and agents: D-10, D-11, and agents that are blocked.

use super::Certainty::{Certain, Likely, Possible};
use super::calls::old_address;
use super::{Case, Found};
use crate::gateway::model::{AgentStatus, GovernedTool, ToolRoute};
use crate::gateway::rules::not_routed;

/// The tool that was called.
fn tool<'a>(case: &Case<'a>) -> Option<&'a GovernedTool> {
    case.resource.projects.get(case.seen.project.as_ref()?)?.tools.get(case.seen.tool.as_ref()?)
}

/// D-10.
pub(super) fn direct(case: &Case<'_>, found: &mut Found) {
    let Some(call) = case.seen.call.as_ref().filter(|call| call.passed_gateway == Some(false)) else { return };
    let Some(tool) = tool(case) else { return };
    let recreate = "delete the tool and create it again";
    if let Some(why) = not_routed(tool.kind, tool.auth) {
        let remedy = "make it an MCP server without managed OAuth, and create it again";
        return found.cause(Certain, "such a tool is not routed through a gateway", [why.to_owned()], remedy);
    }
    let Some(gateway) = case.gateway() else {
        return found.cause(
            Certain,
            "there is no gateway",
            [case.gateway_is()],
            "create a gateway, then the tool again",
        );
    };
    if let ToolRoute::Gated { endpoint } = &tool.route {
        if !old_address(gateway, call, found) {
            let evidence = format!("its address at the gateway is {endpoint}");
            let remedy = "have the callers use that address";
            found.cause(Possible, "its callers use the address of its server", [evidence], remedy);
        }
        return;
    }
    match gateway.enabled {
        Some(enabled) if tool.created < enabled => {
            let evidence = format!("it was made at {}, and the gateway Enabled at {enabled}", tool.created);
            found.cause(Certain, "the tool is older than the gateway", [evidence], recreate);
        }
        Some(_) => {
            let evidence = format!("it was made at {}, when its project was not behind the gateway", tool.created);
            let remedy = "add the project, delete the tool and create it again";
            found.cause(Certain, "the tool was made while its project was not behind the gateway", [evidence], remedy);
        }
        None => found.cause(Certain, "the gateway is not Enabled", [case.gateway_is()], recreate),
    }
}

/// D-11.
pub(super) fn failing(case: &Case<'_>, found: &mut Found) {
    let (Some(call), Some(name)) = (&case.seen.call, &case.seen.tool) else { return };
    let Some(status) = call.status.filter(|status| *status >= 400) else { return };
    let evidence = format!("calls to tool {:?} end with status {status}", name.as_str());
    let limit = case
        .gateway()
        .zip(case.seen.project.as_ref())
        .and_then(|(gateway, project)| gateway.limits.tools.get(project)?.get(name));
    match status {
        429 if limit.is_some() => {
            let remedy = "raise the tool's limit, or clear it";
            found.cause(
                Certain,
                "the tool's own limit refuses",
                [evidence, "a limit is set on the tool".to_owned()],
                remedy,
            );
        }
        429 => {
            let remedy = "relax or disable the tool's rate policy in the portal, or slow its callers down";
            found.cause(Likely, "a rate policy refuses", [evidence], remedy);
        }
        403 => {
            let remedy = "let the callers' addresses pass the tool's ip-filter policy, or disable it";
            found.cause(Likely, "an address filter refuses", [evidence], remedy);
        }
        401 => {
            let remedy = "have the tool's policies keep the Authorization header, or set it anew";
            found.cause(Likely, "a policy strips the header that proves who calls", [evidence], remedy);
        }
        _ => {
            let remedy = "disable the tool's policies one by one until its calls succeed";
            found.cause(Possible, "one of the tool's policies interferes", [evidence], remedy);
        }
    }
}

/// Calls to an agent that is blocked (b.4).
pub(super) fn agent_refused(case: &Case<'_>, found: &mut Found) {
    let (Some(project), Some(name)) = (&case.seen.project, &case.seen.agent) else { return };
    let agent = case.resource.projects.get(project).and_then(|project| project.agents.get(name));
    let refused = case.seen.call.as_ref().and_then(|call| call.status).is_some_and(|status| status >= 400);
    if refused && agent.is_some_and(|agent| agent.status == AgentStatus::Blocked) {
        let evidence = format!("custom agent {:?} is Blocked; it keeps running where it is hosted", name.as_str());
        found.cause(Certain, "the agent is blocked", [evidence], "unblock the agent");
    }
}

/// What was seen names something that the resource does not have.
pub(super) fn unknown(case: &Case<'_>, found: &mut Found) {
    // D-06 and D-07 say so of deployments then.
    let said = case.seen.unrefused.is_some() || case.seen.call.as_ref().is_some_and(|call| call.status == Some(500));
    if let Some(name) = case.seen.deployment.as_ref().filter(|name| !case.resource.deployments.contains_key(*name))
        && !said
    {
        let known: Vec<_> = case.resource.deployments.keys().map(|name| name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let cause = format!("Foundry resource {:?} has no deployment {:?}", case.name.as_str(), name.as_str());
        let remedy = "correct the name: calls name the deployment, not the model";
        found.cause(Certain, cause, [format!("its deployments are: {known}")], remedy);
    }
    let Some(name) = &case.seen.project else {
        if case.seen.tool.is_some() || case.seen.agent.is_some() {
            let evidence = "a tool or an agent was given, and no project".to_owned();
            found.cause(Possible, "whose tool or agent it is was not said", [evidence], "give its project as well");
        }
        return;
    };
    let Some(project) = case.resource.projects.get(name) else {
        // D-08 says so then.
        if case.seen.listing.project == Some(false) {
            return;
        }
        let known: Vec<_> = case.resource.projects.keys().map(|name| name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let cause = format!("Foundry resource {:?} has no project {:?}", case.name.as_str(), name.as_str());
        let remedy = "correct the project's name, or look at the gateway of its own resource";
        return found.cause(Certain, cause, [format!("its projects are: {known}")], remedy);
    };
    let tool = case.seen.tool.as_ref().filter(|tool| !project.tools.contains_key(*tool));
    let agent = case.seen.agent.as_ref().filter(|agent| !project.agents.contains_key(*agent));
    let tools: Vec<_> = project.tools.keys().map(|name| name.as_str()).collect();
    let agents: Vec<_> = project.agents.keys().map(|name| name.as_str()).collect();
    for (what, missing, known) in
        [("tool", tool.map(|tool| tool.as_str()), tools), ("custom agent", agent.map(|agent| agent.as_str()), agents)]
    {
        if let Some(missing) = missing {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let cause = format!("project {:?} has no {what} {missing:?}", name.as_str());
            let remedy = format!("correct the {what}'s name, or make it");
            found.cause(Certain, cause, [format!("its {what}s are: {known}")], remedy);
        }
    }
}
