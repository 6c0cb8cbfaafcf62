//! Resources, instances, gateways, projects, deployments, agents and tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::limit::Limits;
use super::name::{
    AgentName, DeploymentName, GatewayName, GroupName, InstanceName, ProjectName, Region, ResourceName, SubscriptionId,
    TenantId, ToolName,
};
use super::time::Timestamp;

/// A Foundry resource (account): the parent of projects and deployments, with at most one gateway.
///
/// The vendor's figures are up to 250 projects and 32 deployments for each resource \[D\]; they are not enforced here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundryResource {
    /// The directory it is in.
    pub tenant: TenantId,
    /// The subscription it is in.
    pub subscription: SubscriptionId,
    /// The resource group it is in.
    pub resource_group: GroupName,
    /// Where it is.
    pub region: Region,
    /// Whether it can be reached from the public network.
    pub public_network_access: bool,
    /// Its model deployments.
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentName, ModelDeployment>,
    /// Its projects.
    #[serde(default)]
    pub projects: BTreeMap<ProjectName, Project>,
    /// Its gateway, unless that is Absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<AiGateway>,
}

impl FoundryResource {
    /// Whether requests of `project` are governed: the gateway is Enabled and so is the membership \[S\]. Other traffic
    /// bypasses the gateway, and no counter moves.
    pub fn governs(&self, project: &ProjectName) -> bool {
        self.projects.contains_key(project) && self.gateway.as_ref().is_some_and(|gateway| gateway.governs(project))
    }
}

/// A model endpoint of a resource. Callers name the deployment, not the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDeployment {
    /// The model that it serves.
    pub model: String,
    /// Its own tokens per minute: a second throttle, behind the gateway and independent of it \[M\].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Its own requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
}

/// A project: the unit that is kept apart from others, and the scope of limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// When it was made. One that is older than the gateway has to be added to it by hand \[S\].
    pub created: Timestamp,
    /// Its custom agents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<AgentName, CustomAgent>,
    /// Its tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<ToolName, GovernedTool>,
}

/// What tiers of API Management there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ApimTier {
    /// Classic.
    Consumption,
    /// Classic.
    Developer,
    /// Classic.
    Basic,
    /// Classic.
    Standard,
    /// Classic.
    Premium,
    /// For development and tests \[S\]; what a new gateway gets.
    #[serde(rename = "Basic v2")]
    BasicV2,
    /// For production.
    #[serde(rename = "Standard v2")]
    StandardV2,
    /// For production.
    #[serde(rename = "Premium v2")]
    PremiumV2,
}

impl ApimTier {
    /// All there are.
    pub const ALL: [ApimTier; 8] = [
        ApimTier::Consumption,
        ApimTier::Developer,
        ApimTier::Basic,
        ApimTier::Standard,
        ApimTier::Premium,
        ApimTier::BasicV2,
        ApimTier::StandardV2,
        ApimTier::PremiumV2,
    ];

    /// As the vendor spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ApimTier::Consumption => "Consumption",
            ApimTier::Developer => "Developer",
            ApimTier::Basic => "Basic",
            ApimTier::Standard => "Standard",
            ApimTier::Premium => "Premium",
            ApimTier::BasicV2 => "Basic v2",
            ApimTier::StandardV2 => "Standard v2",
            ApimTier::PremiumV2 => "Premium v2",
        }
    }

    /// Whether it is a v2 tier: only these host a gateway \[S\], and their rates are token buckets where the classic
    /// tiers slide windows \[D\].
    pub const fn is_v2(self) -> bool {
        matches!(self, ApimTier::BasicV2 | ApimTier::StandardV2 | ApimTier::PremiumV2)
    }
}

impl fmt::Display for ApimTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an instance is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// From the public network only.
    Public,
    /// Through a private endpoint.
    PrivateEndpoint,
    /// It stands in a virtual network (VNet injection).
    VnetInjected,
}

impl NetworkMode {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            NetworkMode::Public => "public network",
            NetworkMode::PrivateEndpoint => "private endpoint",
            NetworkMode::VnetInjected => "VNet injection",
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance is at. It bills in each of these, until it is deleted \[S\].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InstanceStatus {
    /// It is being made.
    Creating,
    /// It answers.
    Ready,
    /// It could not be made.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is being taken down.
    Deleting,
}

/// An API Management instance. It hosts at most one gateway \[S\].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApimInstance {
    /// The directory it is in.
    pub tenant: TenantId,
    /// The subscription it is in.
    pub subscription: SubscriptionId,
    /// The resource group it is in.
    pub resource_group: GroupName,
    /// Where it is.
    pub region: Region,
    /// Its tier.
    pub tier: ApimTier,
    /// How it is reached.
    pub network: NetworkMode,
    /// What it is at.
    pub status: InstanceStatus,
    /// Since when it bills. It stops when the instance is deleted, and by nothing else \[S\].
    pub billed_since: Timestamp,
    /// Whether it is enrolled in the update channel "AI Gateway Early". A classic Developer instance that was has been
    /// seen with a gateway \[M\].
    #[serde(default)]
    pub early_channel: bool,
    /// What else depends on it, by name; an instance with dependants is not deleted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependants: BTreeSet<String>,
    /// The resource whose gateway it hosts or hosted last, until it is kept for another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_of: Option<ResourceName>,
}

/// The association of a Foundry resource with an instance, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AiGateway {
    /// Its name.
    pub name: GatewayName,
    /// What hosts it.
    pub instance: InstanceName,
    /// What it is at.
    pub state: GatewayState,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it was first Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<Timestamp>,
    /// Which projects are behind it. A project without an entry is Disabled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memberships: BTreeMap<ProjectName, Membership>,
    /// What it limits.
    #[serde(default)]
    pub limits: Limits,
    /// How traffic is treated that no limit is for.
    #[serde(default)]
    pub traffic: TrafficSettings,
}

impl AiGateway {
    /// The status of a project: the portal's column "Gateway status".
    pub fn status(&self, project: &ProjectName) -> MembershipStatus {
        self.memberships.get(project).map_or(MembershipStatus::Disabled, |membership| membership.status)
    }

    /// Whether requests of `project` are governed: both the gateway and the membership are Enabled \[S\].
    pub fn governs(&self, project: &ProjectName) -> bool {
        self.state == GatewayState::Enabled && self.status(project) == MembershipStatus::Enabled
    }
}

/// What a gateway is at. Absent is the lack of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GatewayState {
    /// Being made: usually 5 to 10 minutes for Basic v2 \[S\].
    Provisioning,
    /// Its endpoints answer.
    Enabled,
    /// It could not be made \[I\].
    Failed {
        /// Why.
        reason: String,
    },
    /// The instance is being deleted.
    Deleting,
    /// The association is gone; the instance still exists, and bills.
    Orphaned,
}

impl GatewayState {
    /// In one word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            GatewayState::Provisioning => "Provisioning",
            GatewayState::Enabled => "Enabled",
            GatewayState::Failed { .. } => "Failed",
            GatewayState::Deleting => "Deleting",
            GatewayState::Orphaned => "Orphaned",
        }
    }
}

impl fmt::Display for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a project is behind the gateway: the portal's column "Gateway status".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipStatus {
    /// Its traffic bypasses the gateway.
    Disabled,
    /// Its traffic is governed.
    Enabled,
}

impl MembershipStatus {
    /// As the portal shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            MembershipStatus::Disabled => "Disabled",
            MembershipStatus::Enabled => "Enabled",
        }
    }
}

impl fmt::Display for MembershipStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A project's place behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Whether it is behind it now.
    pub status: MembershipStatus,
    /// Since when.
    pub since: Timestamp,
    /// How often it has been enabled. Rates start anew each time, quotas do not: what the service does is not confirmed
    /// \[U\].
    pub enabled_times: u32,
}

/// What happens to a request that the gateway does not govern, or does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ungoverned {
    /// It passes, and is counted as bypassed \[S\].
    #[default]
    Bypass,
    /// It is denied.
    Deny,
}

/// How traffic is treated where no limit says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficSettings {
    /// Requests of a project that is not governed.
    pub ungoverned: Ungoverned,
    /// Requests of a project that the resource does not have.
    pub unknown_project: Ungoverned,
    /// Requests to a deployment that the resource does not have.
    pub unknown_deployment: Ungoverned,
    /// The day that weekly quotas begin on, at 00:00 UTC. Not confirmed \[U\]: Monday unless set.
    pub week_start: Weekday,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Weekday {
    #[default]
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// The word that policies use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Weekday::Monday => "monday",
            Weekday::Tuesday => "tuesday",
            Weekday::Wednesday => "wednesday",
            Weekday::Thursday => "thursday",
            Weekday::Friday => "friday",
            Weekday::Saturday => "saturday",
            Weekday::Sunday => "sunday",
        }
    }
}

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
}

impl CustomAgent {
    /// Where an agent's card is unless it says otherwise \[D\].
    pub fn default_card() -> String {
        "/.well-known/agent-card.json".to_owned()
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

/// Whether requests reach an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// They do.
    Running,
    /// They are refused at the gateway.
    Blocked,
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
