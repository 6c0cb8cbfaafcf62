//! What a console shows: resources, gateways, projects, limits and what is left of them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::control::Control;
use super::error::ConsoleError;
use crate::clock::Now;
use crate::gateway::compile::{AGGREGATE, of_key, of_project, of_workload};
use crate::gateway::model::{
    AiGateway, ApimInstance, FoundryResource, GatewayState, InstanceName, MembershipStatus, Project, ProjectName,
    ResourceName, Timestamp,
};
use crate::gateway::traffic::Gate;
use crate::limiter::CounterUsage;
use crate::policy::{Algorithm, Limit, Policy};

/// The most counters of one limit that are shown: those with the most use.
const MOST_SHOWN: usize = 20;

impl Control {
    pub(super) fn status(&self, named: Option<&ResourceName>, now: Now) -> Result<Value, ConsoleError> {
        let only = named.map(|name| self.named(Some(name))).transpose()?;
        let shown = self.estate.resources().iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == *name));
        let resources = shown.map(|(name, resource)| (name.to_string(), self.resource(name, resource, now)));
        let instances =
            self.estate.instances().iter().map(|(name, held)| (name.to_string(), self.instance(name, held)));
        Ok(json!({
            "now": Timestamp::from(now),
            "resources": resources.collect::<Map<_, _>>(),
            "instances": instances.collect::<Map<_, _>>(),
        }))
    }

    fn resource(&self, name: &ResourceName, resource: &FoundryResource, now: Now) -> Value {
        let gate = self.gates.get(name).map(|follower| &follower.gate);
        let uses = Uses::of(gate, resource.gateway.as_ref(), self, now);
        let projects = resource.projects.iter().map(|(project, held)| {
            (project.to_string(), shown_project(project, held, resource.gateway.as_ref(), gate, &uses))
        });
        let deployments = resource.deployments.iter().map(|(name, held)| (name.to_string(), json!(held)));
        json!({
            "site": resource.site,
            "public_network_access": resource.public_network_access,
            "gateway": resource.gateway.as_ref().map(|gateway| shown_gateway(gateway, &uses)),
            "state": resource.gateway.as_ref().map_or("Absent", |gateway| gateway.state.as_str()),
            "deployments": deployments.collect::<Map<_, _>>(),
            "projects": projects.collect::<Map<_, _>>(),
            "requests": gate.map(Gate::figures).unwrap_or_default(),
            "unknown_projects": gate.map(Gate::unknown_figures).unwrap_or_default(),
        })
    }

    fn instance(&self, name: &InstanceName, held: &ApimInstance) -> Value {
        let hosts: Vec<_> = self.estate.holdings.hosted_by(name).collect();
        let mut shown = json!(held);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("status".into(), held.status.to_string().into());
            fields.insert("bills".into(), held.bills().into());
            fields.insert("hosts".into(), json!(hosts));
        }
        shown
    }
}

fn shown_gateway(gateway: &AiGateway, uses: &Uses) -> Value {
    let keyed =
        gateway.limits.keyed.iter().map(|(name, limit)| {
            (name.to_string(), json!({ "limit": limit, "use": uses.each(&of_key(name.as_str())) }))
        });
    let reason = match &gateway.state {
        GatewayState::Failed { reason } => Some(reason),
        _ => None,
    };
    json!({
        "name": gateway.name,
        "state": gateway.state.as_str(),
        "reason": reason,
        "since": gateway.since,
        "enabled": gateway.enabled,
        "instance": gateway.instance,
        "host": gateway.host(),
        "traffic": gateway.traffic,
        "metric_dimensions": gateway.metric_dimensions,
        "aggregate": gateway.limits.aggregate.map(|limit| json!({ "limit": limit, "use": uses.each(AGGREGATE) })),
        "keyed": keyed.collect::<Map<_, _>>(),
    })
}

fn shown_project(
    name: &ProjectName,
    project: &Project,
    gateway: Option<&AiGateway>,
    gate: Option<&Gate>,
    uses: &Uses,
) -> Value {
    let limits = gateway.map(|gateway| &gateway.limits);
    let of_project_limits = limits.and_then(|limits| limits.projects.get(name)).into_iter().flatten();
    let by_deployment = of_project_limits.map(|(deployment, limit)| {
        let shown = json!({ "limit": limit, "use": uses.each(&of_project(name.as_str(), deployment.as_str())) });
        (deployment.to_string(), shown)
    });
    let agents = project.agents.iter().map(|(agent, held)| {
        let limit = limits.and_then(|limits| limits.agents.get(name)?.get(agent));
        let prefix = of_workload("agent", agent.as_str(), name.as_str());
        (agent.to_string(), json!({ "agent": held, "limit": limit, "use": uses.each(&prefix) }))
    });
    let tools = project.tools.iter().map(|(tool, held)| {
        let limit = limits.and_then(|limits| limits.tools.get(name)?.get(tool));
        let prefix = of_workload("tool", tool.as_str(), name.as_str());
        (tool.to_string(), json!({ "tool": held, "limit": limit, "use": uses.each(&prefix) }))
    });
    let status = gateway.map_or(MembershipStatus::Disabled, |gateway| gateway.status(name));
    json!({
        "status": status.as_str(),
        "governed": gateway.is_some_and(|gateway| gateway.governs(name)),
        "created": project.created,
        "limits": by_deployment.collect::<Map<_, _>>(),
        "agents": agents.collect::<Map<_, _>>(),
        "tools": tools.collect::<Map<_, _>>(),
        "requests": gate.and_then(|gate| gate.project_figures(name)).unwrap_or_default(),
    })
}

/// The counters of a gate, by limit.
struct Uses {
    policy: Policy,
    counters: BTreeMap<String, Vec<CounterUsage>>,
}

impl Uses {
    fn of(gate: Option<&Gate>, gateway: Option<&AiGateway>, control: &Control, now: Now) -> Uses {
        let mut counters: BTreeMap<String, Vec<CounterUsage>> = BTreeMap::new();
        for counter in gate.map(|gate| gate.usage_at(&Default::default(), now)).unwrap_or_default() {
            counters.entry(counter.limit.clone()).or_default().push(counter);
        }
        for counters in counters.values_mut() {
            counters.sort_by(|a, b| (b.used, &a.scope).cmp(&(a.used, &b.scope)));
        }
        let policy = match (gate, gateway) {
            (Some(gate), _) => gate.limiter().policy(),
            (None, Some(gateway)) => gateway.policy(&control.making.terms()).unwrap_or_default(),
            (None, None) => Policy::default(),
        };
        Uses { policy, counters }
    }

    /// The limits of the engine that a limit has become, with their counters.
    fn each(&self, prefix: &str) -> Vec<Value> {
        let is_of = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(": "));
        let limits = self.policy.limits().iter().filter(|limit| is_of(limit.name()));
        limits.map(|limit| self.one(limit, prefix.len() + 2)).collect()
    }

    fn one(&self, limit: &Limit, named_from: usize) -> Value {
        let none = Vec::new();
        let counters = self.counters.get(&**limit.name()).unwrap_or(&none);
        let algorithm = match limit.algorithm() {
            Algorithm::Bucket { .. } => "bucket",
            Algorithm::Window { .. } => "window",
            Algorithm::Quota { .. } => "quota",
            Algorithm::InFlight { .. } => "in_flight",
        };
        let amount = limit.algorithm().amount();
        let mut shown = json!({
            "name": limit.name().get(named_from..).unwrap_or_default(),
            "limit": &**limit.name(),
            "meter": limit.meter().to_string(),
            "algorithm": algorithm,
            "amount": amount,
            "enforced": limit.mode() == crate::policy::Mode::Enforce,
        });
        let more = if is_one(limit) {
            let counter = counters.first();
            state(amount, counter)
        } else {
            let each = counters.iter().take(MOST_SHOWN).map(|counter| {
                let mut of = state(amount, Some(counter));
                of.insert("key".into(), scope(counter));
                Value::Object(of)
            });
            Map::from_iter([
                ("counters".to_owned(), counters.len().into()),
                ("most_used".to_owned(), each.collect::<Vec<_>>().into()),
            ])
        };
        if let Some(fields) = shown.as_object_mut() {
            fields.extend(more);
        }
        shown
    }
}

/// Whether the limit has one counter: every part of its scope is matched exactly, as the limits of projects are.
fn is_one(limit: &Limit) -> bool {
    limit.scope().iter().all(|part| limit.matches().iter().any(|(field, _)| field.to_string() == part.to_string()))
}

fn state(amount: u64, counter: Option<&CounterUsage>) -> Map<String, Value> {
    let resets_at = counter.and_then(|counter| counter.resets_at).map(Timestamp::from);
    let fresh = i64::try_from(amount).unwrap_or(i64::MAX);
    let state = json!({
        "used": counter.map_or(0, |counter| counter.used),
        "held": counter.map_or(0, |counter| counter.held),
        "remaining": counter.map_or(fresh, |counter| counter.remaining),
        "settled_total": counter.map_or(0, |counter| counter.settled_total),
        "resets_at": resets_at,
    });
    match state {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn scope(counter: &CounterUsage) -> Value {
    let parts = counter.scope.iter().map(|(part, value)| (part.clone(), String::from_utf8_lossy(value).into()));
    Value::Object(parts.collect())
}
