//! The estate: everything that is administered, and the one way in which it changes.
//!
//! - `gateway`: gateways and their instances (b.1);
//! - `project`: what is behind a gateway (b.2);
//! - `limit`: limits, traffic and metrics (b.3);
//! - `workload`: agents and tools (b.4, b.5);
//! - `declare`: what the cloud around says;
//! - `guard`: what the state of things says to an operation.

mod declare;
mod gateway;
mod guard;
mod limit;
mod project;
mod workload;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::audit::{AuditEntry, AuditOutcome, AuditTrail};
use super::code::Code;
use super::finding::{Applied, Attempt, Finding, Refused, Severity};
use super::model::{
    AiGateway, ApimInstance, FoundryResource, InstanceName, Principal, PrincipalId, ResourceName, Scope, Timestamp,
};
use super::operation::{Declaration, Event, Operation};
use super::provider::InstanceProvider;
use super::rules::{Facts, judge};
use super::settings::Settings;

/// What an estate holds: the body of its document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Holdings {
    #[serde(default)]
    pub(super) settings: Settings,
    #[serde(default)]
    pub(super) resources: BTreeMap<ResourceName, FoundryResource>,
    #[serde(default)]
    pub(super) instances: BTreeMap<InstanceName, ApimInstance>,
    #[serde(default)]
    pub(super) principals: BTreeMap<PrincipalId, Principal>,
}

/// Foundry resources, instances and principals, and what an administrator makes of them: the control plane, in memory.
///
/// It changes by [`apply`](Estate::apply) (someone does something in the console), [`declare`](Estate::declare) (the cloud
/// around is so) and [`refresh`](Estate::refresh) (time went by). Each of them is whole or not at all: what is refused
/// has changed nothing but the audit trail. Nothing reads a clock; `now` is wall time.
///
/// It is one value, without threads or locks; a host that shares it puts a lock around it. Gateways share nothing but
/// what is plainly common to them, and each is limited by counters of its own.
///
/// # Example
/// ```
/// use tokenweir::gateway::model::{GatewayState, Timestamp};
/// use tokenweir::gateway::{Estate, InProcessProvider};
///
/// let now: Timestamp = "2026-11-23T09:00:00Z".parse()?;
/// let mut estate = Estate::new(InProcessProvider { ready_after: 480, ..InProcessProvider::default() });
/// for fact in [
///     r#"{"resource": {"name": "contoso", "public_network_access": true, "site": {"tenant": "t", "subscription": "s",
///         "resource_group": "g", "region": "swedencentral"}}}"#,
///     r#"{"principal": {"id": "ada", "assignments": [{"role": "Owner", "scope": "/subscriptions/s"},
///         {"role": "Azure AI Owner", "scope": "/subscriptions/s"}]}}"#,
/// ] {
///     estate.declare(now, &serde_json::from_str(fact)?)?;
/// }
/// let ada = "ada".parse()?;
/// let create = serde_json::from_str(r#"{"create_gateway": {"resource": "contoso", "name": "front"}}"#)?;
/// let applied = estate.apply(&ada, now, &create)?;
/// assert_eq!(applied.state, "Provisioning");
///
/// estate.refresh(now.plus_seconds(480));
/// let gateway = estate.gateway("contoso").ok_or("a gateway")?;
/// assert_eq!((gateway.name.as_str(), &gateway.state), ("front", &GatewayState::Enabled));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Estate {
    pub(super) holdings: Holdings,
    pub(super) audit: AuditTrail,
    provider: Box<dyn InstanceProvider + Send>,
}

impl fmt::Debug for Estate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Estate").field("holdings", &self.holdings).field("audit", &self.audit).finish_non_exhaustive()
    }
}

impl Estate {
    /// An estate that holds nothing, whose instances `provider` makes.
    pub fn new(provider: impl InstanceProvider + Send + 'static) -> Self {
        Estate::of(Holdings::default(), AuditTrail::default(), Box::new(provider))
    }

    pub(super) fn of(holdings: Holdings, audit: AuditTrail, provider: Box<dyn InstanceProvider + Send>) -> Self {
        Estate { holdings, audit, provider }
    }

    /// Becomes what a document says, with another provider where one is given.
    pub(super) fn replace(
        &mut self,
        holdings: Holdings,
        audit: AuditTrail,
        provider: Option<Box<dyn InstanceProvider + Send>>,
    ) {
        (self.holdings, self.audit) = (holdings, audit);
        if let Some(provider) = provider {
            self.provider = provider;
        }
    }

    /// Does what `by` asks for, at `now`.
    ///
    /// # Errors
    /// Everything that stands against it: missing roles, the state of things, failed requirements. Nothing has changed
    /// then. The audit trail has it either way.
    pub fn apply(&mut self, by: &PrincipalId, now: Timestamp, operation: &Operation) -> Result<Applied, Refused> {
        let result = self.perform(by, now, operation);
        let detail = serde_json::to_string(operation).unwrap_or_default();
        self.note(Some(by), now, detail, &result);
        result
    }

    /// Takes up a fact.
    ///
    /// # Errors
    /// If it cannot be: a resource that is not known, a role that does not exist, a resource that goes with its gateway
    /// still there.
    pub fn declare(&mut self, now: Timestamp, declaration: &Declaration) -> Result<Applied, Refused> {
        let result = self.take_up(declaration);
        let detail = serde_json::to_string(declaration).unwrap_or_default();
        self.note(None, now, detail, &result);
        result
    }

    /// Looks at what is being made or taken down, and takes up what has come to an end. What it returns is what changed.
    pub fn refresh(&mut self, now: Timestamp) -> Vec<Applied> {
        let changes = self.look(now);
        for change in &changes {
            self.note(None, now, String::new(), &Ok(change.clone()));
        }
        changes
    }

    fn perform(&mut self, by: &PrincipalId, now: Timestamp, operation: &Operation) -> Result<Applied, Refused> {
        let event = operation.event();
        match operation {
            Operation::CreateGateway { resource, name, instance, resource_group } => {
                self.create_gateway(by, now, resource, name, instance.as_ref(), resource_group.as_ref())
            }
            Operation::UseExisting { resource, instance, name } => self.use_existing(by, now, resource, instance, name),
            Operation::RetryGateway { resource } => self.retry_gateway(by, now, resource),
            Operation::DeleteGateway { resource } => self.delete_gateway(by, now, resource),
            Operation::DisableGateway { resource } => self.disable_gateway(by, resource),
            Operation::DeleteInstance { instance } => self.delete_instance(by, now, instance),
            Operation::KeepInstance { instance } => self.keep_instance(by, instance),
            Operation::CreateProject { resource, project } => self.create_project(by, now, resource, project),
            Operation::AddProject { resource, project }
            | Operation::RemoveProject { resource, project }
            | Operation::ReAddProject { resource, project } => self.move_project(by, now, event, resource, project),
            Operation::SetLimit { resource, project, deployment, limit } => {
                self.set_limit(by, resource, project, deployment, limit)
            }
            Operation::ClearLimit { resource, project, deployment } => {
                self.clear_limit(by, resource, project, deployment)
            }
            Operation::SetAggregateLimit { resource, limit } => self.set_aggregate(by, resource, limit),
            Operation::ClearAggregateLimit { resource } => self.clear_aggregate(by, resource),
            Operation::SetKeyedLimit { resource, name, limit } => self.set_keyed(by, resource, name, limit),
            Operation::ClearKeyedLimit { resource, name } => self.clear_keyed(by, resource, name),
            Operation::SetTraffic { resource, traffic } => self.set_traffic(by, resource, *traffic),
            Operation::SetMetricDimensions { resource, dimensions } => self.set_dimensions(by, resource, dimensions),
            Operation::SetAgentLimit { resource, project, agent, limit } => {
                self.set_agent_limit(by, resource, project, agent, limit)
            }
            Operation::ClearAgentLimit { resource, project, agent } => {
                self.clear_agent_limit(by, resource, project, agent)
            }
            Operation::SetToolLimit { resource, project, tool, limit } => {
                self.set_tool_limit(by, resource, project, tool, limit)
            }
            Operation::ClearToolLimit { resource, project, tool } => self.clear_tool_limit(by, resource, project, tool),
            Operation::RegisterAgent { resource, project, agent, registration } => {
                self.register_agent(by, now, resource, project, agent, registration)
            }
            Operation::BlockAgent { resource, project, agent }
            | Operation::UnblockAgent { resource, project, agent }
            | Operation::StartAgent { resource, project, agent }
            | Operation::StopAgent { resource, project, agent }
            | Operation::RemoveAgent { resource, project, agent } => {
                self.change_agent(by, event, resource, project, agent)
            }
            Operation::CreateTool { resource, project, tool, kind, auth, url, require_gated } => {
                let made = workload::ToolToMake { kind: *kind, auth: *auth, url, require_gated: *require_gated };
                self.create_tool(by, now, resource, project, tool, &made)
            }
            Operation::GateTool { resource, project, tool } => self.gate_tool(by, resource, project, tool),
            Operation::DeleteTool { resource, project, tool } => self.delete_tool(by, resource, project, tool),
        }
    }

    fn note(&mut self, by: Option<&PrincipalId>, now: Timestamp, detail: String, result: &Result<Applied, Refused>) {
        let (event, entity, outcome) = match result {
            Ok(applied) => (applied.event, &applied.entity, AuditOutcome::Done { state: applied.state.clone() }),
            Err(refused) => {
                let codes = refused.codes().iter().map(|code| code.as_str().to_owned()).collect();
                (refused.event, &refused.entity, AuditOutcome::Refused { codes })
            }
        };
        let entry = AuditEntry {
            number: 0,
            at: now,
            by: by.cloned(),
            event: event.as_str().to_owned(),
            entity: entity.clone(),
            detail,
            outcome,
        };
        self.audit.push(self.holdings.settings.audit_entries, entry);
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.holdings.settings
    }

    /// All Foundry resources, with their projects, deployments and gateways, by name.
    pub fn resources(&self) -> &BTreeMap<ResourceName, FoundryResource> {
        &self.holdings.resources
    }

    /// All instances, by name.
    pub fn instances(&self) -> &BTreeMap<InstanceName, ApimInstance> {
        &self.holdings.instances
    }

    /// Everyone who is known, by id.
    pub fn principals(&self) -> &BTreeMap<PrincipalId, Principal> {
        &self.holdings.principals
    }

    /// Who did what, when, and how it ended.
    pub fn audit(&self) -> &AuditTrail {
        &self.audit
    }

    /// The gateway of a resource, unless that is Absent.
    pub fn gateway(&self, resource: &str) -> Option<&AiGateway> {
        self.holdings.resources.get(resource)?.gateway.as_ref()
    }

    /// What an instance is to its resource's portal: each instance, with everything that keeps `by` from using it for a
    /// gateway of `resource`. What nothing stands against is listed for choice (D-05).
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND`.
    pub fn candidates(
        &self,
        by: &PrincipalId,
        resource: &ResourceName,
    ) -> Result<BTreeMap<InstanceName, Vec<Finding>>, Refused> {
        let held = self.resource(Event::UseExisting, resource)?;
        let candidate = |(name, instance)| {
            let facts = Facts {
                instance: Some((name, instance)),
                hosts: self.holdings.hosted_by(name).find(|host| *host != resource),
                ..self.facts(by, resource, held)
            };
            let mut findings = judge(Event::UseExisting, &facts);
            findings.retain(|finding| finding.severity == Severity::Error);
            (name.clone(), findings)
        };
        Ok(self.holdings.instances.iter().map(candidate).collect())
    }

    /// The facts that all operations on a resource have in common.
    fn facts<'a>(&'a self, by: &'a PrincipalId, name: &'a ResourceName, resource: &'a FoundryResource) -> Facts<'a> {
        let instance = resource.gateway.as_ref().and_then(|gateway| {
            self.holdings.instances.get(&gateway.instance).map(|instance| (&gateway.instance, instance))
        });
        Facts { resource: Some((name, resource)), instance, ..self.facts_about(by) }
    }

    /// The facts about whoever asks.
    fn facts_about<'a>(&'a self, by: &'a PrincipalId) -> Facts<'a> {
        Facts {
            settings: Some(&self.holdings.settings),
            by: Some((by, self.holdings.principals.get(by))),
            ..Facts::default()
        }
    }

    /// What keeps `by` from making a gateway for `resource`, as far as roles go: on `instance` if that exists, else on a new
    /// one (D-04).
    pub(super) fn lacking_roles(
        &self,
        by: &PrincipalId,
        name: &ResourceName,
        resource: &FoundryResource,
        instance: Option<&InstanceName>,
    ) -> Vec<Finding> {
        let instance = instance.and_then(|name| self.holdings.instances.get_key_value(name));
        let target = Scope::ResourceGroup(resource.site.subscription.clone(), resource.site.resource_group.clone());
        let facts = Facts { instance, target: Some(&target), ..self.facts(by, name, resource) };
        let event = if instance.is_some() { Event::UseExisting } else { Event::CreateGateway };
        let mut findings = judge(event, &facts);
        findings.retain(|finding| finding.code == Code::PermissionDenied || finding.aspect == Some("role"));
        findings
    }

    fn resource(&self, event: Event, name: &ResourceName) -> Result<&FoundryResource, Refused> {
        self.holdings.resources.get(name).ok_or_else(|| no_resource(event, name))
    }

    /// That there is no such resource, for who only looks.
    pub(super) fn unknown_resource(&self, name: &ResourceName) -> Refused {
        no_resource(Event::Diagnose, name)
    }

    fn gateway_mut(&mut self, resource: &ResourceName) -> Option<&mut AiGateway> {
        self.holdings.resources.get_mut(resource)?.gateway.as_mut()
    }
}

impl Holdings {
    /// The resources whose gateways are, or were last, on this instance.
    pub(super) fn hosted_by(&self, instance: &InstanceName) -> impl Iterator<Item = &ResourceName> {
        self.resources
            .iter()
            .filter(move |(_, resource)| resource.gateway.as_ref().is_some_and(|gateway| gateway.instance == *instance))
            .map(|(name, _)| name)
    }
}

fn no_resource(event: Event, name: &ResourceName) -> Refused {
    Attempt::new(event, of_resource(name), "not known").refuse(
        Code::ResourceNotFound,
        format!("there is no Foundry resource {:?} here", name.as_str()),
        "declare the resource, or correct its name",
    )
}

fn of_resource(name: &ResourceName) -> String {
    format!("Foundry resource {:?}", name.as_str())
}

fn of_gateway(name: &ResourceName) -> String {
    format!("the gateway of Foundry resource {:?}", name.as_str())
}

/// What the gateway of a resource is at, in a word.
fn gateway_state(resource: &FoundryResource) -> &'static str {
    resource.gateway.as_ref().map_or("Absent", |gateway| gateway.state.as_str())
}
