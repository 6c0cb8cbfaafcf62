//! Foundry resources with their projects and deployments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agent::{CustomAgent, GovernedTool};
use super::association::AiGateway;
use super::instance::Site;
use super::name::{AgentName, DeploymentName, ProjectName, ToolName};
use super::time::Timestamp;

/// A Foundry resource (account): the parent of projects and deployments, with at most one gateway.
///
/// The vendor's figures are up to 250 projects and 32 deployments for each resource \[D\]; they are not enforced here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundryResource {
    /// Where it is.
    pub site: Site,
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
