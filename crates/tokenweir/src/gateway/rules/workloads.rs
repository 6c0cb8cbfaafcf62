//! Agents and tools: V-21, V-22.

use super::{Failure, Rule};
use crate::gateway::code::Code;
use crate::gateway::finding::Severity;
use crate::gateway::model::{AgentProtocol, ToolAuth, ToolKind};
use crate::gateway::operation::Event;

/// The most bytes of an address or a description.
const LONGEST: usize = 2048;

/// Why `url` is not the address of something that answers HTTP.
pub(in crate::gateway) fn not_an_address(url: &str) -> Option<&'static str> {
    let lower = url.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return Some("it does not begin with http:// or https://");
    };
    if rest.is_empty() || rest.starts_with(['/', ':', '?', '#']) {
        return Some("it names no host");
    }
    if url.len() > LONGEST {
        return Some("it is longer than 2048 bytes");
    }
    url.chars().any(|c| c.is_whitespace() || c.is_control()).then_some("it has spaces or control characters")
}

/// The protocol of that name.
pub(in crate::gateway) fn protocol(word: &str) -> Option<AgentProtocol> {
    match word.to_ascii_uppercase().as_str() {
        "HTTP" => Some(AgentProtocol::Http),
        "A2A" => Some(AgentProtocol::A2A),
        _ => None,
    }
}

/// Why the calls of such a tool do not pass a gateway (V-22).
pub(in crate::gateway) fn not_routed(kind: ToolKind, auth: ToolAuth) -> Option<&'static str> {
    match (kind, auth) {
        (ToolKind::OpenApi, _) => Some("OpenAPI tools are not routed"),
        (ToolKind::SharePoint, _) => Some("SharePoint tools are not routed"),
        (ToolKind::CodeFirstMcp, _) => Some("MCP servers declared in code are not routed"),
        (_, ToolAuth::ManagedOAuth) => Some("tools with managed OAuth are not routed"),
        (ToolKind::Mcp | ToolKind::A2a, _) => None,
    }
}

pub(super) static RULES: [Rule; 2] = [
    Rule {
        id: "V-21",
        demands: "a custom agent has an address that answers and is its alone, and a protocol, HTTP or A2A",
        evidence: "D",
        severity: Severity::Error,
        remedy: "complete the registration, and see that the resource's network reaches the address",
        events: &[Event::RegisterAgent],
        check: |facts, failures| {
            let Some(agent) = facts.agent else { return };
            let registration = agent.registration;
            let mut invalid = |reason: String| failures.push(Failure::new(Code::AgentInvalid, reason));
            if let Some(why) = not_an_address(&registration.url) {
                invalid(format!("the agent's URL is not valid: {why}"));
            }
            if let Some(why) = registration.admin_url.as_deref().and_then(not_an_address) {
                invalid(format!("the agent's admin URL is not valid: {why}"));
            }
            if protocol(&registration.protocol).is_none() {
                invalid(format!("{:?} is not a protocol of agents; it is HTTP or A2A", registration.protocol));
            }
            if registration.card_path.as_deref().is_some_and(|path| !path.starts_with('/') || path.len() > LONGEST) {
                invalid("the path of the agent's card does not begin with /, or is longer than 2048 bytes".to_owned());
            }
            if registration.reachable == Some(false) {
                invalid("the agent's URL is not reachable from the network of the Foundry resource".to_owned());
            }
            if let Some(other) = agent.same_url {
                invalid(format!("the agent's URL is that of agent {other:?} already; each has its own"));
            }
            if registration.description.len() > LONGEST
                || registration.otel_agent_id.as_ref().is_some_and(|id| id.len() > LONGEST)
            {
                invalid("the description or the OpenTelemetry id is longer than 2048 bytes".to_owned());
            }
        },
    },
    Rule {
        id: "V-22",
        demands: "a tool whose calls pass the gateway is an MCP server with a managed identity, a key, OAuth of the caller's \
                  own, or nothing to prove",
        evidence: "D; U for A2A, which is named as a scenario only",
        severity: Severity::Error,
        remedy: "make the tool an MCP server without managed OAuth, or let its calls go directly",
        events: &[Event::CreateTool, Event::SetToolLimit],
        check: |facts, failures| {
            if let Some(tool) = facts.tool
                && let Some(why) = not_routed(tool.kind, tool.auth)
            {
                let severity = if tool.must { Severity::Error } else { Severity::Warning };
                failures.push(Failure { severity: Some(severity), ..Failure::new(Code::ToolNotEligible, why) });
            }
        },
    },
];
