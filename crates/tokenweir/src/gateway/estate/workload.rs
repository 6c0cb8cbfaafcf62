//! Custom agents and tools (b.4, b.5).

use super::limit::{checked, not_set, with_limit};
use super::project::of_project;
use super::{Estate, guard};
use crate::gateway::code::Code;
use crate::gateway::finding::{Applied, Attempt, Refused};
use crate::gateway::model::{
    AgentName, AgentStatus, AiGateway, CustomAgent, FoundryResource, GovernedTool, PrincipalId, ProjectName,
    ResourceName, Timestamp, ToolAuth, ToolKind, ToolName, ToolRoute, WorkloadLimitFields,
};
use crate::gateway::operation::{AgentRegistration, Event};
use crate::gateway::rules::{AgentFacts, Facts, ToolFacts, judge, not_an_address, not_routed, protocol};

/// A tool that is asked for.
pub(super) struct ToolToMake<'a> {
    pub(super) kind: ToolKind,
    pub(super) auth: ToolAuth,
    pub(super) url: &'a str,
    pub(super) require_gated: bool,
}

impl Estate {
    pub(super) fn register_agent(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
        project: &ProjectName,
        agent: &AgentName,
        registration: &AgentRegistration,
    ) -> Result<Applied, Refused> {
        let event = Event::RegisterAgent;
        let held = self.resource(event, resource)?;
        let facts = Facts {
            agent: Some(AgentFacts { registration, same_url: with_url(held, &registration.url) }),
            ..self.facts(by, resource, held)
        };
        let known = agent_of(held, project, agent);
        let mut attempt =
            Attempt::new(event, of_agent(resource, project, agent), agent_state(known)).found(judge(event, &facts));
        guard::answering(&mut attempt, resource, held, Code::GatewayRequired);
        guard::of_the_resource(&mut attempt, resource, held, project);
        if known.is_some() {
            attempt.against(Code::NameTaken, "the project has an agent of that name", "choose another name");
        }
        let gateway_url = held.gateway.as_ref().map(|gateway| at_gateway(gateway, project, agent.as_str(), ""));
        let attempt = attempt.check()?;
        let (Some(protocol), Some(gateway_url)) = (protocol(&registration.protocol), gateway_url) else {
            return Err(attempt.refuse(Code::AgentInvalid, "the protocol is not known", "give HTTP or A2A"));
        };
        let note = format!("clients must use {gateway_url} from now on; how they prove who they are does not change");
        let registered = CustomAgent {
            url: registration.url.clone(),
            protocol,
            card_path: registration.card_path.clone().unwrap_or_else(CustomAgent::default_card),
            otel_agent_id: registration.otel_agent_id.clone(),
            admin_url: registration.admin_url.clone(),
            description: registration.description.clone(),
            status: AgentStatus::Running,
            registered: now,
            gateway_url,
        };
        if let Some(project) = self.project_mut(resource, project) {
            project.agents.insert(agent.clone(), registered);
        }
        Ok(attempt.applied("Running", vec![note]))
    }

    /// Blocks an agent, lets it through again, or forgets it; starting and stopping are always refused.
    pub(super) fn change_agent(
        &mut self,
        by: &PrincipalId,
        event: Event,
        resource: &ResourceName,
        project: &ProjectName,
        agent: &AgentName,
    ) -> Result<Applied, Refused> {
        let (mut attempt, known) = self.at_agent(by, event, resource, project, agent)?;
        match (event, known.map(|agent| agent.status)) {
            (Event::StartAgent | Event::StopAgent, _) => attempt.against(
                Code::AgentLifecycleUnsupported,
                "a custom agent runs elsewhere and cannot be started or stopped from here",
                "block or unblock it, or start and stop it where it runs",
            ),
            (Event::BlockAgent, Some(AgentStatus::Blocked)) => {
                attempt.against(Code::AgentAlreadyBlocked, "the agent is blocked already", "nothing has to be done");
            }
            (Event::UnblockAgent, Some(AgentStatus::Running)) => {
                attempt.against(Code::AgentNotBlocked, "the agent is not blocked", "nothing has to be done");
            }
            _ => {}
        }
        let attempt = attempt.check()?;
        if event == Event::RemoveAgent {
            if let Some(project) = self.project_mut(resource, project) {
                project.agents.remove(agent);
            }
            self.forget_agent_limit(resource, project, agent);
            return Ok(attempt.applied("Absent", vec![]));
        }
        let (status, note) = match event {
            Event::BlockAgent => {
                (AgentStatus::Blocked, Some("the agent itself keeps running where it is hosted".to_owned()))
            }
            _ => (AgentStatus::Running, None),
        };
        if let Some(agent) = self.project_mut(resource, project).and_then(|project| project.agents.get_mut(agent)) {
            agent.status = status;
        }
        Ok(attempt.applied(status.as_str(), note.into_iter().collect()))
    }

    pub(super) fn set_agent_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        agent: &AgentName,
        limit: &WorkloadLimitFields,
    ) -> Result<Applied, Refused> {
        let event = Event::SetAgentLimit;
        let (limit, errors) = checked(limit.check());
        let (attempt, _) = self.at_agent(by, event, resource, project, agent)?;
        let after = with_limit(self.resource(event, resource)?, limit, |limits, limit| {
            limits.agents.entry(project.clone()).or_default().insert(agent.clone(), limit);
        });
        let about = Facts { limit_errors: &errors, after: after.as_ref(), ..Facts::default() };
        let mut attempt = attempt.found(judge(event, &about));
        let held = self.resource(event, resource)?;
        if guard::enabled(&mut attempt, resource, held) {
            guard::behind(&mut attempt, held.gateway.as_ref(), project, "add the project to the gateway first");
        }
        let attempt = attempt.check()?;
        if let (Some(gateway), Some(limit)) = (self.gateway_mut(resource), limit) {
            gateway.limits.agents.entry(project.clone()).or_default().insert(agent.clone(), limit);
        }
        Ok(attempt.applied("Active", vec![]))
    }

    pub(super) fn clear_agent_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        agent: &AgentName,
    ) -> Result<Applied, Refused> {
        let event = Event::ClearAgentLimit;
        let (mut attempt, known) = self.at_agent(by, event, resource, project, agent)?;
        let held = self.resource(event, resource)?;
        let limits = held.gateway.as_ref().and_then(|gateway| gateway.limits.agents.get(project));
        if known.is_some() && limits.is_none_or(|limits| !limits.contains_key(agent)) {
            not_set(&mut attempt);
        }
        let attempt = attempt.check()?;
        self.forget_agent_limit(resource, project, agent);
        Ok(attempt.applied("Unset", vec![]))
    }

    pub(super) fn create_tool(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
        made: &ToolToMake<'_>,
    ) -> Result<Applied, Refused> {
        let event = Event::CreateTool;
        let held = self.resource(event, resource)?;
        let facts = Facts {
            tool: Some(ToolFacts { kind: made.kind, auth: made.auth, must: made.require_gated }),
            ..self.facts(by, resource, held)
        };
        let known = tool_of(held, project, tool);
        let mut attempt =
            Attempt::new(event, of_tool(resource, project, tool), tool_state(known)).found(judge(event, &facts));
        let governed = held.governs(project);
        if guard::of_the_resource(&mut attempt, resource, held, project)
            && made.require_gated
            && !governed
            && guard::answering(&mut attempt, resource, held, Code::GatewayRequired)
        {
            guard::behind(&mut attempt, held.gateway.as_ref(), project, "add the project to the gateway first");
        }
        if let Some(why) = not_an_address(made.url) {
            attempt.against(Code::ToolInvalid, format!("the tool's URL is not valid: {why}"), "correct the URL");
        }
        if known.is_some() {
            attempt.against(
                Code::NameTaken,
                "the project has a tool of that name",
                "choose another name, or delete that one",
            );
        }
        let route = match &held.gateway {
            Some(gateway) if governed && not_routed(made.kind, made.auth).is_none() => {
                ToolRoute::Gated { endpoint: at_gateway(gateway, project, tool.as_str(), "mcp/") }
            }
            _ => ToolRoute::Direct,
        };
        let attempt = attempt.check()?;
        let note = match &route {
            ToolRoute::Gated { endpoint } => format!("its calls pass the gateway at {endpoint}"),
            ToolRoute::Direct => "its calls go to its server, past the gateway, until it is made anew".to_owned(),
        };
        let (kind, auth, url) = (made.kind, made.auth, made.url.to_owned());
        let made = GovernedTool { kind, auth, url, created: now, route };
        let state = made.route.as_str();
        if let Some(project) = self.project_mut(resource, project) {
            project.tools.insert(tool.clone(), made);
        }
        Ok(attempt.applied(state, vec![note]))
    }

    pub(super) fn gate_tool(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
    ) -> Result<Applied, Refused> {
        let (mut attempt, known) = self.at_tool(by, Event::GateTool, resource, project, tool)?;
        match known.map(|tool| &tool.route) {
            Some(ToolRoute::Gated { .. }) => {
                let reason = "the tool's calls pass the gateway already";
                attempt.against(Code::ToolAlreadyGated, reason, "nothing has to be done");
            }
            Some(ToolRoute::Direct) => attempt.against(
                Code::ToolMustBeRecreated,
                "which way a tool's calls go is decided when it is made",
                "delete the tool and create it again while its project is behind a gateway",
            ),
            None => {}
        }
        attempt.check().map(|attempt| attempt.applied("Direct", vec![]))
    }

    pub(super) fn delete_tool(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
    ) -> Result<Applied, Refused> {
        let (attempt, _) = self.at_tool(by, Event::DeleteTool, resource, project, tool)?;
        let attempt = attempt.check()?;
        if let Some(project) = self.project_mut(resource, project) {
            project.tools.remove(tool);
        }
        self.forget_tool_limit(resource, project, tool);
        Ok(attempt.applied("Absent", vec![]))
    }

    pub(super) fn set_tool_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
        limit: &WorkloadLimitFields,
    ) -> Result<Applied, Refused> {
        let event = Event::SetToolLimit;
        let (limit, errors) = checked(limit.check());
        let (attempt, known) = self.at_tool(by, event, resource, project, tool)?;
        let after = with_limit(self.resource(event, resource)?, limit, |limits, limit| {
            limits.tools.entry(project.clone()).or_default().insert(tool.clone(), limit);
        });
        let about = Facts {
            limit_errors: &errors,
            after: after.as_ref(),
            tool: known.map(|tool| ToolFacts { kind: tool.kind, auth: tool.auth, must: true }),
            ..Facts::default()
        };
        let mut attempt = attempt.found(judge(event, &about));
        let held = self.resource(event, resource)?;
        if guard::enabled(&mut attempt, resource, held) {
            guard::behind(&mut attempt, held.gateway.as_ref(), project, "add the project to the gateway first");
        }
        if known.is_some_and(|tool| tool.route == ToolRoute::Direct && not_routed(tool.kind, tool.auth).is_none()) {
            let reason = "the tool was made before the gateway, so its calls do not pass it";
            attempt.against(Code::ToolMustBeRecreated, reason, "delete the tool and create it again");
        }
        let attempt = attempt.check()?;
        if let (Some(gateway), Some(limit)) = (self.gateway_mut(resource), limit) {
            gateway.limits.tools.entry(project.clone()).or_default().insert(tool.clone(), limit);
        }
        Ok(attempt.applied("Active", vec![]))
    }

    pub(super) fn clear_tool_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
    ) -> Result<Applied, Refused> {
        let event = Event::ClearToolLimit;
        let (mut attempt, known) = self.at_tool(by, event, resource, project, tool)?;
        let held = self.resource(event, resource)?;
        let limits = held.gateway.as_ref().and_then(|gateway| gateway.limits.tools.get(project));
        if known.is_some() && limits.is_none_or(|limits| !limits.contains_key(tool)) {
            not_set(&mut attempt);
        }
        let attempt = attempt.check()?;
        self.forget_tool_limit(resource, project, tool);
        Ok(attempt.applied("Unset", vec![]))
    }

    /// An operation on an agent that should be there.
    fn at_agent(
        &self,
        by: &PrincipalId,
        event: Event,
        resource: &ResourceName,
        project: &ProjectName,
        agent: &AgentName,
    ) -> Result<(Attempt, Option<&CustomAgent>), Refused> {
        let held = self.resource(event, resource)?;
        let known = agent_of(held, project, agent);
        let mut attempt = Attempt::new(event, of_agent(resource, project, agent), agent_state(known))
            .found(judge(event, &self.facts(by, resource, held)));
        if guard::of_the_resource(&mut attempt, resource, held, project) && known.is_none() {
            let reason = format!("project {:?} has no custom agent {:?}", project.as_str(), agent.as_str());
            attempt.against(Code::AgentNotFound, reason, "register the agent, or correct its name");
        }
        Ok((attempt, known))
    }

    /// An operation on a tool that should be there.
    fn at_tool(
        &self,
        by: &PrincipalId,
        event: Event,
        resource: &ResourceName,
        project: &ProjectName,
        tool: &ToolName,
    ) -> Result<(Attempt, Option<&GovernedTool>), Refused> {
        let held = self.resource(event, resource)?;
        let known = tool_of(held, project, tool);
        let mut attempt = Attempt::new(event, of_tool(resource, project, tool), tool_state(known))
            .found(judge(event, &self.facts(by, resource, held)));
        if guard::of_the_resource(&mut attempt, resource, held, project) && known.is_none() {
            let reason = format!("project {:?} has no tool {:?}", project.as_str(), tool.as_str());
            attempt.against(Code::ToolNotFound, reason, "create the tool, or correct its name");
        }
        Ok((attempt, known))
    }

    fn project_mut(
        &mut self,
        resource: &ResourceName,
        project: &ProjectName,
    ) -> Option<&mut crate::gateway::model::Project> {
        self.holdings.resources.get_mut(resource)?.projects.get_mut(project)
    }

    fn forget_agent_limit(&mut self, resource: &ResourceName, project: &ProjectName, agent: &AgentName) {
        if let Some(gateway) = self.gateway_mut(resource)
            && let Some(limits) = gateway.limits.agents.get_mut(project)
        {
            limits.remove(agent);
            gateway.limits.agents.retain(|_, limits| !limits.is_empty());
        }
    }

    fn forget_tool_limit(&mut self, resource: &ResourceName, project: &ProjectName, tool: &ToolName) {
        if let Some(gateway) = self.gateway_mut(resource)
            && let Some(limits) = gateway.limits.tools.get_mut(project)
        {
            limits.remove(tool);
            gateway.limits.tools.retain(|_, limits| !limits.is_empty());
        }
    }
}

fn agent_of<'a>(resource: &'a FoundryResource, project: &ProjectName, agent: &AgentName) -> Option<&'a CustomAgent> {
    resource.projects.get(project)?.agents.get(agent)
}

fn tool_of<'a>(resource: &'a FoundryResource, project: &ProjectName, tool: &ToolName) -> Option<&'a GovernedTool> {
    resource.projects.get(project)?.tools.get(tool)
}

fn agent_state(agent: Option<&CustomAgent>) -> &'static str {
    agent.map_or("Absent", |agent| agent.status.as_str())
}

fn tool_state(tool: Option<&GovernedTool>) -> &'static str {
    tool.map_or("Absent", |tool| tool.route.as_str())
}

/// The agent of the resource that has this address.
fn with_url<'a>(resource: &'a FoundryResource, url: &str) -> Option<&'a str> {
    let mut agents = resource.projects.values().flat_map(|project| &project.agents);
    agents.find(|(_, agent)| agent.url == url).map(|(name, _)| name.as_str())
}

/// An address at the gateway: the vendor's host and, for tools, `mcp/` \[D\]; what follows is not confirmed \[U\], and keeps
/// projects apart.
fn at_gateway(gateway: &AiGateway, project: &ProjectName, name: &str, prefix: &str) -> String {
    format!("https://{}/{prefix}{}/{}", gateway.host(), encoded(project.as_str()), encoded(name))
}

/// As part of a path.
fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

fn of_agent(resource: &ResourceName, project: &ProjectName, agent: &AgentName) -> String {
    format!("custom agent {:?} of {}", agent.as_str(), of_project(resource, project))
}

fn of_tool(resource: &ResourceName, project: &ProjectName, tool: &ToolName) -> String {
    format!("tool {:?} of {}", tool.as_str(), of_project(resource, project))
}
