//! Who is governed just now, out of the model: looked at by each call, replaced whole when the model changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::call::Call;
use crate::gateway::figures::Counts;
use crate::gateway::model::{
    AgentStatus, FoundryResource, GatewayName, GatewayState, MetricDimension, ProjectName, Region, ResourceName,
    Timestamp, ToolRoute, TrafficSettings, Ungoverned,
};

/// What traffic has to know of the model.
#[derive(Debug)]
pub(super) struct Standing {
    /// The gateway and when it was asked for: which gateway it is.
    pub(super) gateway: Option<(GatewayName, Timestamp)>,
    pub(super) region: Region,
    enabled: bool,
    settings: TrafficSettings,
    dimensions: Vec<MetricDimension>,
    /// Each deployment's model.
    pub(super) deployments: HashMap<Box<str>, Box<str>>,
    pub(super) projects: HashMap<ProjectName, ProjectStanding>,
    /// Calls of projects that the resource does not have.
    pub(super) unknown: Arc<Counts>,
}

#[derive(Debug)]
pub(super) struct ProjectStanding {
    governed: bool,
    /// Each custom agent, and whether it is blocked.
    agents: HashMap<Box<str>, bool>,
    /// Each tool, and whether its calls pass the gateway.
    tools: HashMap<Box<str>, bool>,
    pub(super) counts: Arc<Counts>,
}

/// How a call stands with the gateway, before any limit is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Governed,
    Bypassed,
    /// Denied, with status, reason and what is wrong.
    Refused(u16, &'static str, Wrong),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    NotGoverned,
    AgentBlocked,
    UnknownProject,
    UnknownDeployment,
    UnknownAgent,
    UnknownTool,
    ToolDirect,
}

impl Standing {
    /// As `resource` stands; the counts go on that `before` has.
    pub(super) fn new(resource: &FoundryResource, before: Option<&Standing>) -> Self {
        let gateway = resource.gateway.as_ref();
        let projects = resource.projects.iter().map(|(name, project)| {
            let known = before.and_then(|before| before.projects.get(name));
            let blocked = |status: AgentStatus| status == AgentStatus::Blocked;
            let gated = |route: &ToolRoute| matches!(route, ToolRoute::Gated { .. });
            let standing = ProjectStanding {
                governed: resource.governs(name),
                agents: project.agents.iter().map(|(name, of)| (name.as_str().into(), blocked(of.status))).collect(),
                tools: project.tools.iter().map(|(tool, how)| (tool.as_str().into(), gated(&how.route))).collect(),
                counts: known.map(|known| known.counts.clone()).unwrap_or_default(),
            };
            (name.clone(), standing)
        });
        let deployments = resource.deployments.iter();
        Standing {
            gateway: gateway.map(|gateway| (gateway.name.clone(), gateway.created)),
            region: resource.site.region.clone(),
            enabled: gateway.is_some_and(|gateway| gateway.state == GatewayState::Enabled),
            settings: gateway.map(|gateway| gateway.traffic).unwrap_or_default(),
            dimensions: gateway.map(|gateway| gateway.metric_dimensions.clone()).unwrap_or_default(),
            deployments: deployments.map(|(name, what)| (name.as_str().into(), what.model.as_str().into())).collect(),
            projects: projects.collect(),
            unknown: before.map(|before| before.unknown.clone()).unwrap_or_default(),
        }
    }

    /// Where the calls of a project are counted.
    pub(super) fn counts(&self, project: &str) -> &Arc<Counts> {
        self.projects.get(project).map_or(&self.unknown, |project| &project.counts)
    }

    /// By what a call's token metrics are told apart (V-20). A default dimension has the value that the service's own
    /// artefacts would have \[G\], as far as the call says it.
    pub(super) fn dimensions(&self, resource: &ResourceName, call: &Call<'_>) -> BTreeMap<String, String> {
        let key = |name: &str| {
            let key = call.keys.iter().find(|key| key.name == name)?;
            Some(String::from_utf8_lossy(key.value).into_owned())
        };
        let value = |dimension: &MetricDimension| match (&dimension.value, &*dimension.name) {
            (Some(value), _) if !value.is_empty() => Some(value.clone()),
            (_, "API ID" | "Backend ID") => Some(resource.to_string()),
            (_, "Product ID") => {
                self.projects.contains_key(call.project).then(|| format!("{resource}-{}", call.project))
            }
            (_, "Operation ID") => call.operation.map(str::to_owned),
            (_, "Location") => Some(self.region.to_string()),
            (_, "Gateway ID") => self.gateway.as_ref().map(|(name, _)| name.to_string()),
            (_, "User ID") => key("user"),
            (_, "Subscription ID") => key("subscription"),
            _ => None,
        };
        self.dimensions.iter().filter_map(|dimension| Some((dimension.name.clone(), value(dimension)?))).collect()
    }

    /// How a call stands. A blocked agent is refused wherever the gateway answers, also where other calls bypass it.
    pub(super) fn stand(&self, call: &Call<'_>) -> Stand {
        let Some(project) = self.projects.get(call.project) else {
            return unless(self.settings.unknown_project, 404, "ProjectNotFound", Wrong::UnknownProject);
        };
        let agent = call.agent.map(|agent| project.agents.get(agent).copied());
        if self.enabled && agent == Some(Some(true)) {
            return Stand::Refused(403, "AgentBlocked", Wrong::AgentBlocked);
        }
        if !project.governed {
            return unless(self.settings.ungoverned, 403, "ProjectNotGoverned", Wrong::NotGoverned);
        }
        if call.deployment.is_some_and(|deployment| !self.deployments.contains_key(deployment)) {
            return unless(self.settings.unknown_deployment, 404, "DeploymentNotFound", Wrong::UnknownDeployment);
        }
        // A model or a tool is called on behalf of agents that are nobody's to register, too.
        if agent == Some(None) && call.deployment.is_none() && call.tool.is_none() {
            return unless(self.settings.unknown_deployment, 404, "AgentNotFound", Wrong::UnknownAgent);
        }
        match call.tool.map(|tool| project.tools.get(tool)) {
            None | Some(Some(true)) => Stand::Governed,
            // What was decided when it was made: its calls do not pass the gateway [D].
            Some(Some(false)) => unless(self.settings.ungoverned, 403, "ToolNotGoverned", Wrong::ToolDirect),
            Some(None) => unless(self.settings.unknown_deployment, 404, "ToolNotFound", Wrong::UnknownTool),
        }
    }
}

fn unless(setting: Ungoverned, status: u16, reason: &'static str, wrong: Wrong) -> Stand {
    match setting {
        Ungoverned::Bypass => Stand::Bypassed,
        Ungoverned::Deny => Stand::Refused(status, reason, wrong),
    }
}

impl Wrong {
    /// What the caller is told, with the next step.
    pub(super) fn message(self, call: &Call<'_>) -> String {
        let project = call.project;
        match self {
            Wrong::NotGoverned => format!(
                "Project {project:?} is not governed by the gateway, and such calls are denied. Add the project to the \
                 gateway, or let ungoverned calls bypass it."
            ),
            Wrong::AgentBlocked => {
                format!("Agent {:?} of project {project:?} is blocked. Unblock it.", call.agent.unwrap_or_default())
            }
            Wrong::UnknownProject => format!("There is no project {project:?}. Check the name, or create it."),
            Wrong::UnknownDeployment => {
                let deployment = call.deployment.unwrap_or_default();
                format!(
                    "There is no deployment {deployment:?}. Check the name: callers name the deployment, not the model."
                )
            }
            Wrong::UnknownAgent => {
                let agent = call.agent.unwrap_or_default();
                format!("Project {project:?} has no custom agent {agent:?}. Check the name, or register it.")
            }
            Wrong::UnknownTool => {
                format!(
                    "Project {project:?} has no tool {:?}. Check the name, or create it.",
                    call.tool.unwrap_or_default()
                )
            }
            Wrong::ToolDirect => format!(
                "Tool {:?} of project {project:?} does not pass the gateway. Re-create it behind the gateway, as an MCP \
                 server without managed OAuth.",
                call.tool.unwrap_or_default()
            ),
        }
    }
}
