//! What can be asked of an estate, as values: what an administrator does, and what the cloud around says there is.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::model::{
    AgentName, ApimTier, DeploymentName, GroupName, InstanceName, KeyedLimitFields, LimitName, MetricDimension,
    NetworkMode, PrincipalId, ProjectName, ResourceName, Scope, Site, SubscriptionId, Timestamp, TokenLimitFields,
    ToolAuth, ToolKind, ToolName, TrafficSettings, WorkloadLimitFields,
};
use super::settings::Settings;

macro_rules! events {
    ($($name:ident = $text:literal,)+) => {
        /// The kinds of operations and declarations, and the steps that time takes. The word is the one that JSON uses.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Event {
            $($name,)+
        }

        impl Event {
            /// The word: `create_gateway`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Event::$name => $text,)+
                }
            }
        }
    };
}

events! {
    CreateGateway = "create_gateway",
    UseExisting = "use_existing",
    RetryGateway = "retry_gateway",
    DeleteGateway = "delete_gateway",
    DisableGateway = "disable_gateway",
    DeleteInstance = "delete_instance",
    KeepInstance = "keep_instance",
    CreateProject = "create_project",
    AddProject = "add_project",
    RemoveProject = "remove_project",
    ReAddProject = "re_add_project",
    SetLimit = "set_limit",
    ClearLimit = "clear_limit",
    SetAggregateLimit = "set_aggregate_limit",
    ClearAggregateLimit = "clear_aggregate_limit",
    SetKeyedLimit = "set_keyed_limit",
    ClearKeyedLimit = "clear_keyed_limit",
    SetAgentLimit = "set_agent_limit",
    ClearAgentLimit = "clear_agent_limit",
    SetToolLimit = "set_tool_limit",
    ClearToolLimit = "clear_tool_limit",
    SetTraffic = "set_traffic",
    SetMetricDimensions = "set_metric_dimensions",
    RegisterAgent = "register_agent",
    BlockAgent = "block_agent",
    UnblockAgent = "unblock_agent",
    StartAgent = "start_agent",
    StopAgent = "stop_agent",
    RemoveAgent = "remove_agent",
    CreateTool = "create_tool",
    GateTool = "gate_tool",
    DeleteTool = "delete_tool",
    Declare = "declare",
    Diagnose = "diagnose",
    Ready = "ready",
    Fail = "fail",
    Gone = "gone",
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What an administrator does in the console.
///
/// In JSON: `{"add_project": {"resource": "contoso", "project": "search"}}`. Fields that are not known are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Has a new Basic v2 instance made, and a gateway on it (b.1).
    CreateGateway {
        /// The Foundry resource.
        resource: ResourceName,
        /// The gateway's name.
        name: String,
        /// The new instance's name; the gateway's if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceName>,
        /// Where to make it, in the resource's subscription; the resource's own group if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_group: Option<GroupName>,
    },
    /// Makes a gateway on an instance that exists.
    UseExisting {
        /// The Foundry resource.
        resource: ResourceName,
        /// The instance.
        instance: InstanceName,
        /// The gateway's name.
        name: String,
    },
    /// Tries again what failed.
    RetryGateway {
        /// The Foundry resource.
        resource: ResourceName,
    },
    /// Takes the association away. All projects must be disabled. The instance stays, and bills; a gateway that failed is
    /// removed altogether.
    DeleteGateway {
        /// The Foundry resource.
        resource: ResourceName,
    },
    /// Never allowed: there is no such step.
    DisableGateway {
        /// The Foundry resource.
        resource: ResourceName,
    },
    /// Deletes the instance, which ends its charges.
    DeleteInstance {
        /// The instance.
        instance: InstanceName,
    },
    /// Keeps the instance whose gateway was deleted: it goes on billing, and can host another gateway \[I\].
    KeepInstance {
        /// The instance.
        instance: InstanceName,
    },
    /// Makes a project. Behind the gateway from the start if that is Enabled \[S\].
    CreateProject {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
    },
    /// Puts a project behind the gateway.
    AddProject {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
    },
    /// Takes a project from behind the gateway. Its limits are kept, others go on.
    RemoveProject {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
    },
    /// Removes and adds in one step: the last resort against errors 500 that stay \[S\].
    ReAddProject {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
    },
    /// Sets or adjusts the limit of a project on a deployment.
    SetLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The deployment.
        deployment: DeploymentName,
        /// The limit.
        limit: TokenLimitFields,
    },
    /// Takes that limit away. The use of the deployment is then unlimited.
    ClearLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The deployment.
        deployment: DeploymentName,
    },
    /// Limits all projects together.
    SetAggregateLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The limit.
        limit: TokenLimitFields,
    },
    /// Takes that limit away.
    ClearAggregateLimit {
        /// The Foundry resource.
        resource: ResourceName,
    },
    /// Limits whatever a key tells apart.
    SetKeyedLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The limit's name.
        name: LimitName,
        /// The limit.
        limit: KeyedLimitFields,
    },
    /// Takes that limit away.
    ClearKeyedLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The limit's name.
        name: LimitName,
    },
    /// Limits the use of a custom agent.
    SetAgentLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
        /// The limit.
        limit: WorkloadLimitFields,
    },
    /// Takes that limit away.
    ClearAgentLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Limits the use of a tool. Its calls must pass the gateway.
    SetToolLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The tool.
        tool: ToolName,
        /// The limit.
        limit: WorkloadLimitFields,
    },
    /// Takes that limit away.
    ClearToolLimit {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The tool.
        tool: ToolName,
    },
    /// Says how traffic is treated where no limit does.
    SetTraffic {
        /// The Foundry resource.
        resource: ResourceName,
        /// How.
        traffic: TrafficSettings,
    },
    /// Says what token metrics are told apart by: records have each call's values, and `crates/tokenweir-records` labels
    /// `gen_ai.client.token.usage` with them. `User ID` and `Subscription ID` are the caller keys `user` and `subscription`,
    /// and make a series for each.
    SetMetricDimensions {
        /// The Foundry resource.
        resource: ResourceName,
        /// By what.
        dimensions: Vec<MetricDimension>,
    },
    /// Registers an agent that is hosted elsewhere (b.4).
    RegisterAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
        /// What it is.
        registration: AgentRegistration,
    },
    /// Has requests to the agent refused at the gateway. The agent keeps running \[D\].
    BlockAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Lets requests through again.
    UnblockAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Never allowed: custom agents run elsewhere.
    StartAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Never allowed: custom agents run elsewhere.
    StopAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Forgets the agent and its limit.
    RemoveAgent {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The agent.
        agent: AgentName,
    },
    /// Makes a tool (b.5). Whether its calls pass the gateway is decided here, and never after \[D\].
    CreateTool {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The tool.
        tool: ToolName,
        /// What it is.
        kind: ToolKind,
        /// How its callers prove who they are.
        auth: ToolAuth,
        /// Where its server is.
        url: String,
        /// Whether to refuse it if its calls would not pass the gateway.
        #[serde(default)]
        require_gated: bool,
    },
    /// Never allowed: a tool's route is decided when it is made.
    GateTool {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The tool.
        tool: ToolName,
    },
    /// Deletes a tool and its limit.
    DeleteTool {
        /// The Foundry resource.
        resource: ResourceName,
        /// The project.
        project: ProjectName,
        /// The tool.
        tool: ToolName,
    },
}

/// A custom agent as it is registered, before anything is checked (V-21).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRegistration {
    /// Where it is: an http or https address that is the agent's alone.
    pub url: String,
    /// How it is spoken to: `HTTP` or `A2A`.
    pub protocol: String,
    /// Where its card is; `/.well-known/agent-card.json` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card_path: Option<String>,
    /// Its id in traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otel_agent_id: Option<String>,
    /// Where it is administered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether the address answered from the resource's network. Nobody looks here: absent is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
}

impl Operation {
    /// Its kind.
    pub const fn event(&self) -> Event {
        match self {
            Operation::CreateGateway { .. } => Event::CreateGateway,
            Operation::UseExisting { .. } => Event::UseExisting,
            Operation::RetryGateway { .. } => Event::RetryGateway,
            Operation::DeleteGateway { .. } => Event::DeleteGateway,
            Operation::DisableGateway { .. } => Event::DisableGateway,
            Operation::DeleteInstance { .. } => Event::DeleteInstance,
            Operation::KeepInstance { .. } => Event::KeepInstance,
            Operation::CreateProject { .. } => Event::CreateProject,
            Operation::AddProject { .. } => Event::AddProject,
            Operation::RemoveProject { .. } => Event::RemoveProject,
            Operation::ReAddProject { .. } => Event::ReAddProject,
            Operation::SetLimit { .. } => Event::SetLimit,
            Operation::ClearLimit { .. } => Event::ClearLimit,
            Operation::SetAggregateLimit { .. } => Event::SetAggregateLimit,
            Operation::ClearAggregateLimit { .. } => Event::ClearAggregateLimit,
            Operation::SetKeyedLimit { .. } => Event::SetKeyedLimit,
            Operation::ClearKeyedLimit { .. } => Event::ClearKeyedLimit,
            Operation::SetAgentLimit { .. } => Event::SetAgentLimit,
            Operation::ClearAgentLimit { .. } => Event::ClearAgentLimit,
            Operation::SetToolLimit { .. } => Event::SetToolLimit,
            Operation::ClearToolLimit { .. } => Event::ClearToolLimit,
            Operation::SetTraffic { .. } => Event::SetTraffic,
            Operation::SetMetricDimensions { .. } => Event::SetMetricDimensions,
            Operation::RegisterAgent { .. } => Event::RegisterAgent,
            Operation::BlockAgent { .. } => Event::BlockAgent,
            Operation::UnblockAgent { .. } => Event::UnblockAgent,
            Operation::StartAgent { .. } => Event::StartAgent,
            Operation::StopAgent { .. } => Event::StopAgent,
            Operation::RemoveAgent { .. } => Event::RemoveAgent,
            Operation::CreateTool { .. } => Event::CreateTool,
            Operation::GateTool { .. } => Event::GateTool,
            Operation::DeleteTool { .. } => Event::DeleteTool,
        }
    }
}

/// A fact of the cloud around: what there is that the console neither makes nor changes. Nobody's permission is asked.
///
/// Declaring something again replaces what was known of it, and leaves alone what the console made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Declaration {
    /// A Foundry resource.
    Resource {
        /// Its name.
        name: ResourceName,
        /// Where it is.
        site: Site,
        /// Whether it can be reached from the public network.
        public_network_access: bool,
    },
    /// A Foundry resource is no more. It must not have a gateway.
    ResourceGone {
        /// Its name.
        name: ResourceName,
    },
    /// A model deployment.
    Deployment {
        /// Its resource.
        resource: ResourceName,
        /// Its name.
        name: DeploymentName,
        /// What it serves.
        model: String,
        /// Its own tokens per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tokens_per_minute: Option<u64>,
        /// Its own requests per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        requests_per_minute: Option<u64>,
    },
    /// A model deployment is no more, nor are its limits.
    DeploymentGone {
        /// Its resource.
        resource: ResourceName,
        /// Its name.
        name: DeploymentName,
    },
    /// A project, made elsewhere at a known time.
    Project {
        /// Its resource.
        resource: ResourceName,
        /// Its name.
        name: ProjectName,
        /// When it was made.
        created: Timestamp,
    },
    /// A project is no more, nor are its membership, its limits, its agents and its tools.
    ProjectGone {
        /// Its resource.
        resource: ResourceName,
        /// Its name.
        name: ProjectName,
    },
    /// An API Management instance that answers.
    Instance {
        /// Its name.
        name: InstanceName,
        /// Where it is.
        site: Site,
        /// Its tier.
        tier: ApimTier,
        /// How it is reached.
        network: NetworkMode,
        /// Since when it bills.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        billed_since: Option<Timestamp>,
        /// Whether it is in the update channel "AI Gateway Early".
        #[serde(default)]
        early_channel: bool,
        /// What else depends on it.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        dependants: BTreeSet<String>,
    },
    /// Someone who acts, with all that they hold.
    Principal {
        /// Who.
        id: PrincipalId,
        /// What they hold, and where.
        assignments: Vec<Grant>,
        /// The subscriptions that their portal hides.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        hidden_subscriptions: BTreeSet<SubscriptionId>,
    },
    /// Someone who no longer acts.
    PrincipalGone {
        /// Who.
        id: PrincipalId,
    },
    /// The settings of the estate.
    Settings(Settings),
}

/// A role by name or id, and where it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role's name, old or new, or its id.
    pub role: String,
    /// Where.
    pub scope: Scope,
}
