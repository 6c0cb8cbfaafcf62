//! Who may do what: V-01 to V-03, V-13, V-23, and who makes projects.

use std::collections::BTreeSet;

use super::{Facts, Failure, Rule};
use crate::gateway::code::Code;
use crate::gateway::finding::Severity;
use crate::gateway::model::{Role, Scope};
use crate::gateway::operation::Event;

pub(super) static FIRST: [Rule; 3] = [
    Rule {
        id: "V-01",
        demands: "whoever has a gateway made holds Contributor or Owner on the target resource group or its subscription",
        evidence: "S",
        severity: Severity::Error,
        remedy: "have Contributor or Owner granted there, or use an instance that exists",
        events: &[Event::CreateGateway],
        check: |facts, failures| {
            if let (Some(settings), Some(target)) = (facts.settings, facts.target) {
                demand(facts, &settings.creator_roles, target, failures);
            }
        },
    },
    Rule {
        id: "V-02",
        demands: "whoever uses an existing instance holds API Management Service Contributor or Owner on it or above",
        evidence: "S",
        severity: Severity::Error,
        remedy: "have API Management Service Contributor or Owner granted on the instance, or choose another",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let Some((settings, scope)) = facts.settings.zip(instance_scope(facts))
                && let Some(reason) = lacking(facts, &settings.instance_roles, &scope)
            {
                failures.push(Failure::not_eligible("role", reason));
            }
        },
    },
    Rule {
        id: "V-03",
        demands: "whoever works in the Admin console of a resource holds Foundry Account Owner or Foundry Owner on it or above",
        evidence: "S",
        severity: Severity::Error,
        remedy: "have Foundry Account Owner or Foundry Owner granted on the Foundry resource",
        events: &[
            Event::CreateGateway,
            Event::UseExisting,
            Event::RetryGateway,
            Event::DeleteGateway,
            Event::DisableGateway,
            Event::AddProject,
            Event::RemoveProject,
            Event::ReAddProject,
            Event::SetLimit,
            Event::ClearLimit,
            Event::SetAggregateLimit,
            Event::ClearAggregateLimit,
            Event::SetKeyedLimit,
            Event::ClearKeyedLimit,
            Event::SetAgentLimit,
            Event::ClearAgentLimit,
            Event::SetToolLimit,
            Event::ClearToolLimit,
            Event::SetTraffic,
            Event::SetMetricDimensions,
            Event::RegisterAgent,
            Event::BlockAgent,
            Event::UnblockAgent,
            Event::StartAgent,
            Event::StopAgent,
            Event::RemoveAgent,
            Event::CreateTool,
            Event::GateTool,
            Event::DeleteTool,
        ],
        check: |facts, failures| {
            if let Some((settings, scope)) = facts.settings.zip(resource_scope(facts)) {
                demand(facts, &settings.console_roles, &scope, failures);
            }
        },
    },
];

pub(super) static LAST: [Rule; 3] = [
    Rule {
        id: "V-13",
        demands: "whoever puts projects behind a gateway, or takes the gateway or its instance down, holds API Management \
                  Service Contributor or Owner on the instance or above",
        evidence: "D; I for taking down",
        severity: Severity::Error,
        remedy: "have API Management Service Contributor or Owner granted on the instance",
        events: &[
            Event::AddProject,
            Event::RemoveProject,
            Event::ReAddProject,
            Event::DeleteGateway,
            Event::DeleteInstance,
            Event::KeepInstance,
        ],
        check: |facts, failures| {
            if let Some((settings, scope)) = facts.settings.zip(instance_scope(facts)) {
                demand(facts, &settings.instance_roles, &scope, failures);
            }
        },
    },
    Rule {
        id: "V-23",
        demands: "roles are named by their old or their new name, or by id",
        evidence: "S",
        severity: Severity::Error,
        remedy: "use a built-in role's name, or the id of the role's definition",
        events: &[Event::Declare],
        check: |facts, failures| {
            for word in facts.role_words {
                if let Err(unknown) = word.parse::<Role>() {
                    failures.push(Failure::new(Code::RoleUnknown, unknown.to_string()));
                }
            }
        },
    },
    Rule {
        id: "P-01",
        demands: "whoever makes a project holds Foundry Project Manager, Foundry Account Owner, Foundry Owner, Contributor or \
                  Owner on the resource or above",
        evidence: "D",
        severity: Severity::Error,
        remedy: "have Foundry Project Manager granted on the Foundry resource",
        events: &[Event::CreateProject],
        check: |facts, failures| {
            if let Some((settings, scope)) = facts.settings.zip(resource_scope(facts)) {
                demand(facts, &settings.project_roles, &scope, failures);
            }
        },
    },
];

fn resource_scope(facts: &Facts<'_>) -> Option<Scope> {
    facts.resource.map(|(name, resource)| Scope::of_resource(name, &resource.site))
}

fn instance_scope(facts: &Facts<'_>) -> Option<Scope> {
    facts.instance.map(|(name, instance)| Scope::of_instance(name, &instance.site))
}

/// Fails if whoever asks holds none of `roles` at `scope` or above it.
fn demand(facts: &Facts<'_>, roles: &BTreeSet<Role>, scope: &Scope, failures: &mut Vec<Failure>) {
    if let Some(reason) = lacking(facts, roles, scope) {
        failures.push(Failure::new(Code::PermissionDenied, reason));
    }
}

/// What whoever asks lacks. Nothing if nobody asks.
fn lacking(facts: &Facts<'_>, roles: &BTreeSet<Role>, scope: &Scope) -> Option<String> {
    let (id, principal) = facts.by?;
    match principal {
        None => Some(format!("principal {:?} is not known here, and so holds no role", id.as_str())),
        Some(principal) if principal.holds(roles, scope) => None,
        Some(_) => {
            let names: Vec<_> = roles.iter().map(Role::name).collect();
            Some(format!("principal {:?} holds none of {} on {scope} or above it", id.as_str(), names.join(", ")))
        }
    }
}
