//! Custom agents and tools of a project.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;
use crate::gateway::operation::AgentRegistration;

/// An agent hosted elsewhere and registered here, so that its traffic passes the gateway \[D\].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomAgent {
    /// Where it is.
    pub url: String,
    /// How it is spoken to.
    pub protocol: AgentProtocol,
    /// Where its card is.
    #[serde(default = "CustomAgent::default_card")]
    pub card_path: String,
    /// Its id in traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otel_agent_id: Option<String>,
    /// Where it is administered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether requests reach it. The agent itself keeps running either way \[D\].
    pub status: AgentStatus,
    /// When it was registered.
    pub registered: Timestamp,
    /// The address that clients must use from then on; how they prove who they are does not change \[D\].
    pub gateway_url: String,
}

impl CustomAgent {
    /// Where an agent's card is unless it says otherwise \[D\].
    pub fn default_card() -> String {
        "/.well-known/agent-card.json".to_owned()
    }

    /// What it was registered with.
    pub(in crate::gateway) fn registration(&self) -> AgentRegistration {
        AgentRegistration {
            url: self.url.clone(),
            protocol: self.protocol.as_str().to_owned(),
            card_path: Some(self.card_path.clone()),
            otel_agent_id: self.otel_agent_id.clone(),
            admin_url: self.admin_url.clone(),
            description: self.description.clone(),
            reachable: None,
        }
    }
}

/// How an agent is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AgentProtocol {
    /// Plain HTTP.
    #[serde(rename = "HTTP")]
    Http,
    /// Agent to agent.
    A2A,
}

impl AgentProtocol {
    /// As the vendor writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentProtocol::Http => "HTTP",
            AgentProtocol::A2A => "A2A",
        }
    }
}

/// Whether requests reach an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// They do.
    Running,
    /// They are refused at the gateway.
    Blocked,
}

impl AgentStatus {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            AgentStatus::Running => "Running",
            AgentStatus::Blocked => "Blocked",
        }
    }
}

/// A tool of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernedTool {
    /// What it is.
    pub kind: ToolKind,
    /// How callers prove who they are.
    pub auth: ToolAuth,
    /// Where its server is.
    pub url: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether its calls pass the gateway: decided when it is made, and never after \[D\].
    pub route: ToolRoute,
}

/// What a tool is. Only MCP servers are routed through the gateway \[D\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// An MCP server.
    Mcp,
    /// An agent called as a tool. A scenario of the vendor's, though the article on tools is about MCP only \[D\].
    A2a,
    /// An OpenAPI tool.
    OpenApi,
    /// SharePoint.
    SharePoint,
    /// An MCP server declared in code.
    CodeFirstMcp,
}

/// How callers of a tool prove who they are (V-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolAuth {
    /// By a managed identity.
    ManagedIdentity,
    /// By a key.
    Key,
    /// By OAuth of the caller's own, passed through.
    CustomOAuth,
    /// Not at all.
    None,
    /// By OAuth that the service manages: such a tool is not routed.
    ManagedOAuth,
}

/// Which way the calls of a tool go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToolRoute {
    /// To its server.
    Direct,
    /// Through the gateway.
    Gated {
        /// The address that callers use.
        endpoint: String,
    },
}

impl ToolRoute {
    /// In one word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ToolRoute::Direct => "Direct",
            ToolRoute::Gated { .. } => "Gated",
        }
    }
}
