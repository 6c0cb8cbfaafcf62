//! What there is: entities, their fields, and how many of one belong to another.
//!
//! ```text
//! FoundryResource 1--* Project, ModelDeployment      FoundryResource 1--0..1 AiGateway 1--1 ApimInstance
//! AiGateway 1--* membership of a Project             (Project, ModelDeployment) 1--0..1 TokenLimit
//! Project 1--* CustomAgent, GovernedTool
//! ```
//!
//! Values that cannot be do not construct; whether a combination is allowed is for the rules to say. Everything reads and
//! writes JSON, and refuses fields that it does not know.
//!
//! - `name`, `time`: what things are called, and instants;
//! - `limit`, `tokens`, `workload`: limits on tokens and calls, free of the engine's types;
//! - `entity`, `instance`, `association`, `agent`: resources with their projects, instances, gateways, agents and tools;
//! - `access`: roles, scopes, principals.

mod access;
mod agent;
mod association;
mod entity;
mod instance;
mod limit;
mod name;
mod time;
mod tokens;
mod workload;

pub use access::{Principal, Role, RoleAssignment, RoleError, RoleId, Scope, ScopeError};
pub use agent::{AgentProtocol, AgentStatus, CustomAgent, GovernedTool, ToolAuth, ToolKind, ToolRoute};
pub use association::{
    AiGateway, GatewayState, Membership, MembershipStatus, MetricDimension, TrafficSettings, Ungoverned, Weekday,
};
pub use entity::{FoundryResource, ModelDeployment, Project};
pub use instance::{ApimInstance, ApimTier, InstanceStatus, NetworkMode, Site};
pub use limit::{CounterKey, KeyPart, KeyedLimit, KeyedLimitFields, LimitError, LimitScope, Limits};
pub use name::{
    AgentName, DeploymentName, GatewayName, GroupName, InstanceName, KeyName, LimitName, NameError, PrincipalId,
    ProjectName, Region, ResourceName, SubscriptionId, TenantId, ToolName,
};
pub use time::{Timestamp, TimestampError};
pub use tokens::{QuotaPeriod, TokenLimit, TokenLimitFields, TokenQuota, TokensPerMinute};
pub use workload::{CallQuota, CallQuotaFields, CallRate, CallRateFields, WorkloadLimit, WorkloadLimitFields};
