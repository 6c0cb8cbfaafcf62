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
//! - `name`: what things are called;
//! - `time`: instants;
//! - `limit`: limits on tokens and calls, free of the engine's types;
//! - `entity`: resources, instances, gateways, projects, deployments, agents, tools.

mod entity;
mod limit;
mod name;
mod time;

pub use entity::{
    AgentProtocol, AgentStatus, AiGateway, ApimInstance, ApimTier, CustomAgent, FoundryResource, GatewayState,
    GovernedTool, InstanceStatus, Membership, MembershipStatus, ModelDeployment, NetworkMode, Project, ToolAuth,
    ToolKind, ToolRoute, TrafficSettings, Ungoverned, Weekday,
};
pub use limit::{
    CallQuota, CallRate, CounterKey, KeyPart, KeyedLimit, LimitError, LimitScope, Limits, QuotaPeriod, TokenLimit,
    TokenLimitFields, TokenQuota, TokensPerMinute, WorkloadLimit,
};
pub use name::{
    AgentName, DeploymentName, GatewayName, GroupName, InstanceName, KeyName, LimitName, NameError, PrincipalId,
    ProjectName, Region, ResourceName, SubscriptionId, TenantId, ToolName,
};
pub use time::{Timestamp, TimestampError};
