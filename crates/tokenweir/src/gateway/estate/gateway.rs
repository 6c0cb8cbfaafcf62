//! Gateways and their instances (b.1).

use std::collections::{BTreeMap, BTreeSet};

use super::guard;
use super::{Estate, gateway_state, of_gateway};
use crate::gateway::code::Code;
use crate::gateway::finding::{Applied, Attempt, Refused};
use crate::gateway::model::{
    AgentStatus, AiGateway, ApimInstance, ApimTier, FoundryResource, GatewayName, GatewayState, GroupName,
    InstanceName, InstanceStatus, Limits, MembershipStatus, NetworkMode, PrincipalId, ResourceName, Scope, Site,
    Timestamp, ToolRoute, TrafficSettings,
};
use crate::gateway::operation::Event;
use crate::gateway::provider::{Progress, Task, TaskKind};
use crate::gateway::rules::{Facts, judge};

impl Estate {
    pub(super) fn create_gateway(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
        name: &str,
        instance: Option<&InstanceName>,
        group: Option<&GroupName>,
    ) -> Result<Applied, Refused> {
        let event = Event::CreateGateway;
        let held = self.resource(event, resource)?;
        let site = Site { resource_group: group.unwrap_or(&held.site.resource_group).clone(), ..held.site.clone() };
        let target = Scope::ResourceGroup(site.subscription.clone(), site.resource_group.clone());
        // The instance is not made yet, and so is no fact.
        let facts =
            Facts { target: Some(&target), gateway_name: Some(name), instance: None, ..self.facts(by, resource, held) };
        let mut attempt = begin(event, resource, held).found(judge(event, &facts));
        absent(&mut attempt, resource, held);
        let gateway_name = GatewayName::new(name).ok();
        let instance = instance.cloned().or_else(|| InstanceName::new(name).ok());
        if let Some(taken) = instance.as_ref().filter(|name| self.holdings.instances.contains_key(*name)) {
            let reason = format!("there is an instance {:?} already", taken.as_str());
            attempt.against(Code::NameTaken, reason, "choose another name, or use that instance");
        }
        let attempt = attempt.check()?;
        let (Some(gateway_name), Some(instance)) = (gateway_name, instance) else {
            return Err(attempt.refuse(Code::NameInvalid, "the name is not valid", "choose another name"));
        };
        let made = ApimInstance {
            site,
            tier: ApimTier::BasicV2,
            network: NetworkMode::Public,
            status: InstanceStatus::Creating,
            billed_since: None,
            early_channel: false,
            dependants: BTreeSet::new(),
        };
        self.holdings.instances.insert(instance.clone(), made);
        self.associate(now, resource, gateway_name, instance, true);
        Ok(self.begin_work(now, resource, attempt))
    }

    pub(super) fn use_existing(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
        instance: &InstanceName,
        name: &str,
    ) -> Result<Applied, Refused> {
        let event = Event::UseExisting;
        let held = self.resource(event, resource)?;
        let mut attempt = begin(event, resource, held);
        let Some(found) = self.holdings.instances.get(instance) else {
            return Err(no_instance(attempt, instance));
        };
        let facts = Facts {
            instance: Some((instance, found)),
            hosts: self.holdings.hosted_by(instance).find(|host| *host != resource),
            gateway_name: Some(name),
            ..self.facts(by, resource, held)
        };
        attempt = attempt.found(judge(event, &facts));
        absent(&mut attempt, resource, held);
        let attempt = attempt.check()?;
        let Ok(gateway_name) = GatewayName::new(name) else {
            return Err(attempt.refuse(Code::NameInvalid, "the name is not valid", "choose another name"));
        };
        self.associate(now, resource, gateway_name, instance.clone(), false);
        Ok(self.begin_work(now, resource, attempt))
    }

    pub(super) fn retry_gateway(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
    ) -> Result<Applied, Refused> {
        let event = Event::RetryGateway;
        let held = self.resource(event, resource)?;
        let mut attempt = begin(event, resource, held);
        let Some(gateway) = &held.gateway else {
            guard::enabled(&mut attempt, resource, held);
            return attempt
                .found(judge(event, &self.facts(by, resource, held)))
                .check()
                .map(|a| a.applied("Absent", vec![]));
        };
        // What was demanded at first is demanded again; the console's own rule stands for both.
        let site = self.holdings.instances.get(&gateway.instance).map_or(&held.site, |instance| &instance.site);
        let target = Scope::ResourceGroup(site.subscription.clone(), site.resource_group.clone());
        let original = if gateway.made_instance { Event::CreateGateway } else { Event::UseExisting };
        let facts = Facts {
            target: Some(&target),
            hosts: self.holdings.hosted_by(&gateway.instance).find(|host| *host != resource),
            ..self.facts(by, resource, held)
        };
        attempt = attempt.found(judge(original, &facts));
        if !matches!(gateway.state, GatewayState::Failed { .. }) {
            let reason = format!("the gateway is {}, it has not failed", gateway.state);
            attempt.against(
                Code::GatewayNotFailed,
                reason,
                "refresh to see how far it is; only what failed is retried",
            );
        }
        let attempt = attempt.check()?;
        if let Some(gateway) = self.gateway_mut(resource) {
            gateway.state = GatewayState::Provisioning;
            gateway.since = now;
        }
        Ok(self.begin_work(now, resource, attempt))
    }

    pub(super) fn delete_gateway(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
    ) -> Result<Applied, Refused> {
        let event = Event::DeleteGateway;
        let held = self.resource(event, resource)?;
        let mut attempt = begin(event, resource, held).found(judge(event, &self.facts(by, resource, held)));
        let failed = matches!(held.gateway, Some(AiGateway { state: GatewayState::Failed { .. }, .. }));
        if !failed {
            guard::enabled(&mut attempt, resource, held);
        }
        let enabled = enabled_projects(held);
        if !enabled.is_empty() {
            let reason = format!("projects are still behind the gateway: {}", enabled.join(", "));
            attempt.against(Code::GatewayHasEnabledProjects, reason, "remove each of them from the gateway first");
        }
        let attempt = attempt.check()?;
        let Some(gateway) = self.gateway_mut(resource) else {
            return Err(attempt.refuse(Code::GatewayNotFound, "there is no gateway", "create one"));
        };
        let (instance, made) = (gateway.instance.clone(), gateway.made_instance);
        if failed {
            self.forget_gateway(resource);
            // What was being made for it never answered, and never billed.
            if made {
                self.holdings.instances.remove(&instance);
            }
            return Ok(attempt.applied("Absent", vec![]));
        }
        gateway.state = GatewayState::Orphaned;
        gateway.since = now;
        gateway.memberships = BTreeMap::new();
        gateway.limits = Limits::default();
        // What it denied goes with it, as it would with a gateway that is Absent.
        gateway.traffic = TrafficSettings::default();
        gateway.metric_dimensions = Vec::new();
        let note = format!(
            "instance {:?} still exists and bills; delete it, or keep it for another gateway",
            instance.as_str()
        );
        let ended = self.holdings.resources.get_mut(resource).map(end_addresses).unwrap_or_default();
        Ok(attempt.applied(GatewayState::Orphaned, [note].into_iter().chain(ended).collect()))
    }

    pub(super) fn disable_gateway(&mut self, by: &PrincipalId, resource: &ResourceName) -> Result<Applied, Refused> {
        let event = Event::DisableGateway;
        let held = self.resource(event, resource)?;
        let mut attempt = begin(event, resource, held).found(judge(event, &self.facts(by, resource, held)));
        match &held.gateway {
            None => {
                guard::enabled(&mut attempt, resource, held);
            }
            Some(_) => attempt.against(
                Code::GatewayDisableUnsupported,
                "a gateway cannot be disabled, only its projects can",
                "remove projects from the gateway one by one, or delete the gateway",
            ),
        }
        attempt.check().map(|attempt| attempt.applied(gateway_state_of(self, resource), vec![]))
    }

    pub(super) fn delete_instance(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        name: &InstanceName,
    ) -> Result<Applied, Refused> {
        let (mut attempt, instance) = self.at_instance(by, Event::DeleteInstance, name)?;
        for resource in self.holdings.hosted_by(name) {
            let state = self.gateway(resource.as_str()).map(|gateway| &gateway.state);
            if !matches!(state, Some(GatewayState::Orphaned | GatewayState::Deleting)) {
                let reason = format!("the instance serves the gateway of Foundry resource {:?}", resource.as_str());
                let next = "delete the gateway from that resource first, then the instance";
                attempt.against(Code::GatewayStillAssociated, reason, next);
            }
        }
        if !instance.dependants.is_empty() {
            let names: Vec<_> = instance.dependants.iter().map(String::as_str).collect();
            let reason = format!("other workloads depend on the instance and would break: {}", names.join(", "));
            attempt.against(Code::ApimInUse, reason, "move them to another instance first, or keep this one");
        }
        if matches!(instance.status, InstanceStatus::Deleting { .. }) {
            attempt.against(Code::GatewayNotReady, "the instance is being deleted already", "refresh to see it gone");
        }
        let attempt = attempt.check()?;
        if let Some(instance) = self.holdings.instances.get_mut(name) {
            instance.status = InstanceStatus::Deleting { since: now };
        }
        self.orphans_of(name, |gateway| {
            gateway.state = GatewayState::Deleting;
            gateway.since = now;
        });
        let progress = match self.holdings.instances.get(name) {
            Some(instance) => self.provider.begin(&Task { kind: TaskKind::Delete, name, instance, since: now }),
            None => Progress::Done,
        };
        let (state, note) = match self.conclude_deletion(name, progress) {
            Some(Ok(())) => ("Absent", "its charges have stopped".to_owned()),
            Some(Err(reason)) => ("Ready", format!("it was not deleted, and still bills: {reason}")),
            None => ("Deleting", "it bills until it is gone; refresh to see when".to_owned()),
        };
        Ok(attempt.applied(state, vec![note]))
    }

    pub(super) fn keep_instance(&mut self, by: &PrincipalId, name: &InstanceName) -> Result<Applied, Refused> {
        let (mut attempt, _) = self.at_instance(by, Event::KeepInstance, name)?;
        let orphaned: Vec<ResourceName> = self
            .holdings
            .hosted_by(name)
            .filter(|resource| {
                self.gateway(resource.as_str()).is_some_and(|gateway| gateway.state == GatewayState::Orphaned)
            })
            .cloned()
            .collect();
        if orphaned.is_empty() {
            let reason = "no gateway of this instance was deleted and waits for what becomes of the instance";
            attempt.against(Code::GatewayNotOrphaned, reason, "delete the gateway from its resource first");
        }
        let attempt = attempt.check()?;
        for resource in &orphaned {
            self.forget_gateway(resource);
        }
        let note = "it goes on billing until it is deleted, and can host another gateway".to_owned();
        Ok(attempt.applied("Ready", vec![note]))
    }

    /// What is being made or taken down, looked at.
    pub(super) fn look(&mut self, now: Timestamp) -> Vec<Applied> {
        let mut changes = Vec::new();
        let provisioning: Vec<ResourceName> = self
            .holdings
            .resources
            .iter()
            .filter(|(_, resource)| {
                resource.gateway.as_ref().is_some_and(|gateway| gateway.state == GatewayState::Provisioning)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for resource in &provisioning {
            let progress = self.with_task(resource, |provider, task| provider.progress(task, now));
            if let Some((event, state)) = self.conclude(resource, now, progress) {
                changes.push(Attempt::new(event, of_gateway(resource), &state).applied(&state, vec![]));
            }
        }
        let deleting: Vec<(InstanceName, Timestamp)> = self
            .holdings
            .instances
            .iter()
            .filter_map(|(name, instance)| match instance.status {
                InstanceStatus::Deleting { since } => Some((name.clone(), since)),
                _ => None,
            })
            .collect();
        for (name, since) in deleting {
            let Some(instance) = self.holdings.instances.get(&name) else { continue };
            let task = Task { kind: TaskKind::Delete, name: &name, instance, since };
            let progress = self.provider.progress(&task, now);
            let attempt = |event, state: &str| Attempt::new(event, of_instance(&name), state);
            match self.conclude_deletion(&name, progress) {
                Some(Ok(())) => {
                    let note = "its charges have stopped".to_owned();
                    changes.push(attempt(Event::Gone, "Absent").applied("Absent", vec![note]));
                }
                Some(Err(reason)) => {
                    let note = format!("it was not deleted, and still bills: {reason}");
                    changes.push(attempt(Event::Fail, "Ready").applied("Ready", vec![note]));
                }
                None => {}
            }
        }
        changes
    }

    fn associate(
        &mut self,
        now: Timestamp,
        resource: &ResourceName,
        name: GatewayName,
        instance: InstanceName,
        made_instance: bool,
    ) {
        if let Some(resource) = self.holdings.resources.get_mut(resource) {
            resource.gateway = Some(AiGateway {
                name,
                instance,
                state: GatewayState::Provisioning,
                created: now,
                enabled: None,
                memberships: BTreeMap::new(),
                limits: Limits::default(),
                traffic: TrafficSettings::default(),
                metric_dimensions: Vec::new(),
                made_instance,
                since: now,
            });
        }
    }

    /// Has the provider begin on a gateway that is Provisioning.
    fn begin_work(&mut self, now: Timestamp, resource: &ResourceName, attempt: Attempt) -> Applied {
        let progress = self.with_task(resource, |provider, task| provider.begin(task));
        let state = self.conclude(resource, now, progress).map_or(GatewayState::Provisioning, |(_, state)| state);
        let note = match &state {
            GatewayState::Provisioning => Some("Basic v2 usually takes 5 to 10 minutes; refresh to see".to_owned()),
            GatewayState::Failed { reason } => Some(format!("provisioning failed: {reason}")),
            _ => None,
        };
        attempt.applied(&state, note.into_iter().collect())
    }

    fn with_task(
        &mut self,
        resource: &ResourceName,
        ask: impl FnOnce(&mut dyn crate::gateway::InstanceProvider, &Task<'_>) -> Progress,
    ) -> Progress {
        let gateway = self.holdings.resources.get(resource).and_then(|resource| resource.gateway.as_ref());
        let found = gateway.and_then(|gateway| Some((gateway, self.holdings.instances.get(&gateway.instance)?)));
        let Some((gateway, instance)) = found else { return Progress::Underway };
        let kind = if gateway.made_instance { TaskKind::Create } else { TaskKind::Associate };
        let task = Task { kind, name: &gateway.instance, instance, since: gateway.since };
        ask(self.provider.as_mut(), &task)
    }

    /// Takes up the end of a gateway's provisioning.
    fn conclude(
        &mut self,
        resource: &ResourceName,
        now: Timestamp,
        progress: Progress,
    ) -> Option<(Event, GatewayState)> {
        let gateway = self.holdings.resources.get_mut(resource)?.gateway.as_mut()?;
        let instance = self.holdings.instances.get_mut(&gateway.instance);
        let event = match progress {
            Progress::Underway => return None,
            Progress::Done => {
                gateway.state = GatewayState::Enabled;
                gateway.enabled = Some(gateway.enabled.unwrap_or(now));
                if let Some(instance) = instance {
                    instance.status = InstanceStatus::Ready;
                    // One that was there before has billed before.
                    if gateway.made_instance {
                        instance.billed_since = Some(instance.billed_since.unwrap_or(now));
                    }
                }
                Event::Ready
            }
            Progress::Failed { reason } => {
                if let Some(instance) = instance.filter(|_| gateway.made_instance) {
                    instance.status = InstanceStatus::Failed { reason: reason.clone() };
                }
                gateway.state = GatewayState::Failed { reason };
                Event::Fail
            }
        };
        gateway.since = now;
        Some((event, gateway.state.clone()))
    }

    /// Takes up the end of an instance's deletion.
    fn conclude_deletion(&mut self, name: &InstanceName, progress: Progress) -> Option<Result<(), String>> {
        match progress {
            Progress::Underway => None,
            Progress::Done => {
                let orphaned: Vec<_> = self.holdings.hosted_by(name).cloned().collect();
                for resource in &orphaned {
                    self.forget_gateway(resource);
                }
                self.holdings.instances.remove(name);
                Some(Ok(()))
            }
            Progress::Failed { reason } => {
                if let Some(instance) = self.holdings.instances.get_mut(name) {
                    instance.status = InstanceStatus::Ready;
                }
                self.orphans_of(name, |gateway| gateway.state = GatewayState::Orphaned);
                Some(Err(reason))
            }
        }
    }

    fn forget_gateway(&mut self, resource: &ResourceName) {
        if let Some(resource) = self.holdings.resources.get_mut(resource) {
            resource.gateway = None;
        }
    }

    fn orphans_of(&mut self, name: &InstanceName, mut change: impl FnMut(&mut AiGateway)) {
        let gateways = self.holdings.resources.values_mut().filter_map(|resource| resource.gateway.as_mut());
        gateways.filter(|gateway| gateway.instance == *name).for_each(&mut change);
    }

    fn at_instance(
        &self,
        by: &PrincipalId,
        event: Event,
        name: &InstanceName,
    ) -> Result<(Attempt, &ApimInstance), Refused> {
        let Some(instance) = self.holdings.instances.get(name) else {
            return Err(no_instance(Attempt::new(event, of_instance(name), "Absent"), name));
        };
        let facts = Facts { instance: Some((name, instance)), ..self.facts_about(by) };
        let attempt = Attempt::new(event, of_instance(name), &instance.status).found(judge(event, &facts));
        Ok((attempt, instance))
    }
}

fn begin(event: Event, name: &ResourceName, resource: &FoundryResource) -> Attempt {
    Attempt::new(event, of_gateway(name), gateway_state(resource))
}

fn of_instance(name: &InstanceName) -> String {
    format!("API Management instance {:?}", name.as_str())
}

fn no_instance(attempt: Attempt, name: &InstanceName) -> Refused {
    let reason = format!("there is no API Management instance {:?} here", name.as_str());
    attempt.refuse(Code::InstanceNotFound, reason, "declare the instance, or correct its name")
}

fn gateway_state_of(estate: &Estate, resource: &ResourceName) -> &'static str {
    estate.holdings.resources.get(resource).map_or("Absent", gateway_state)
}

/// The resource must have no gateway.
fn absent(attempt: &mut Attempt, name: &ResourceName, resource: &FoundryResource) {
    let Some(gateway) = &resource.gateway else { return };
    let state = &gateway.state;
    let reason = format!(
        "Foundry resource {:?} already has gateway {:?}, which is {state}; there is one for each resource",
        name.as_str(),
        gateway.name.as_str()
    );
    let next = match state {
        GatewayState::Orphaned | GatewayState::Deleting => guard::after_deletion(gateway),
        _ => "to keep projects apart on another gateway, put them in a second Foundry resource".to_owned(),
    };
    attempt.against(Code::GatewayAlreadyExists, reason, next);
}

/// Ends what has an address at the gateway, which no longer answers: a custom agent is registered with a gateway, so its
/// registration ends; a tool's calls go to its server, until it is made anew. What is said of them.
fn end_addresses(resource: &mut FoundryResource) -> Vec<String> {
    let (mut agents, mut tools) = (Vec::new(), Vec::new());
    for (name, project) in &mut resource.projects {
        let of = |what: &str| format!("{what:?} of project {:?}", name.as_str());
        agents.extend(std::mem::take(&mut project.agents).iter().map(|(agent, registered)| {
            let blocked = if registered.status == AgentStatus::Blocked { " (blocked)" } else { "" };
            format!("{}{blocked}", of(agent.as_str()))
        }));
        for (tool, made) in &mut project.tools {
            if made.route != ToolRoute::Direct {
                made.route = ToolRoute::Direct;
                tools.push(of(tool.as_str()));
            }
        }
    }
    let mut notes = Vec::new();
    if !agents.is_empty() {
        let agents = agents.join(", ");
        notes.push(format!(
            "the registrations of these custom agents end: {agents}; register them with another gateway"
        ));
    }
    if !tools.is_empty() {
        let tools = tools.join(", ");
        notes.push(format!(
            "the calls of these tools go to their servers from now on, until they are made anew: {tools}"
        ));
    }
    notes
}

/// The projects that are behind the gateway.
fn enabled_projects(resource: &FoundryResource) -> Vec<String> {
    let Some(gateway) = &resource.gateway else { return Vec::new() };
    let enabled = gateway.memberships.iter().filter(|(_, membership)| membership.status == MembershipStatus::Enabled);
    enabled.map(|(project, _)| format!("{:?}", project.as_str())).collect()
}
