//! Limits, traffic and metrics (b.3). What is set applies to the next decision.

use super::guard;
use super::project::of_project;
use super::{Estate, gateway_state, of_gateway};
use crate::gateway::code::Code;
use crate::gateway::finding::{Applied, Attempt, Refused};
use crate::gateway::model::{
    AiGateway, DeploymentName, FoundryResource, KeyedLimitFields, LimitError, LimitName, Limits, MetricDimension,
    PrincipalId, ProjectName, ResourceName, TokenLimitFields, TrafficSettings,
};
use crate::gateway::operation::Event;
use crate::gateway::rules::{Facts, judge};

/// A limit and what is wrong with it: one of the two is empty.
pub(super) fn checked<T>(result: Result<T, Vec<LimitError>>) -> (Option<T>, Vec<LimitError>) {
    match result {
        Ok(limit) => (Some(limit), Vec::new()),
        Err(errors) => (None, errors),
    }
}

/// The gateway of a resource as it would be with this limit.
pub(super) fn with_limit<T>(
    held: &FoundryResource,
    limit: Option<T>,
    insert: impl FnOnce(&mut Limits, T),
) -> Option<AiGateway> {
    let (mut gateway, limit) = held.gateway.clone().zip(limit)?;
    insert(&mut gateway.limits, limit);
    Some(gateway)
}

/// What a limit that is not set says to whoever clears it.
pub(super) fn not_set(attempt: &mut Attempt) {
    attempt.against(Code::LimitNotFound, "there is no such limit", "nothing has to be done; absence is no limit");
}

impl Estate {
    pub(super) fn set_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        deployment: &DeploymentName,
        limit: &TokenLimitFields,
    ) -> Result<Applied, Refused> {
        let event = Event::SetLimit;
        let held = self.resource(event, resource)?;
        let (limit, errors) = checked(limit.check());
        let after = with_limit(held, limit, |limits, limit| {
            limits.projects.entry(project.clone()).or_default().insert(deployment.clone(), limit);
        });
        let facts = Facts { limit_errors: &errors, after: after.as_ref(), ..self.facts(by, resource, held) };
        let before = held.gateway.as_ref().and_then(|gateway| gateway.limits.of(project, deployment));
        let state = before.map_or_else(|| "Unset".to_owned(), |limit| limit.to_string());
        let mut attempt =
            Attempt::new(event, of_limit(resource, project, deployment), state).found(judge(event, &facts));
        if guard::enabled(&mut attempt, resource, held) && guard::of_the_resource(&mut attempt, resource, held, project)
        {
            guard::behind(&mut attempt, held.gateway.as_ref(), project, "add the project to the gateway first");
        }
        guard::has_deployment(&mut attempt, resource, held, deployment);
        let attempt = attempt.check()?;
        if let (Some(gateway), Some(limit)) = (self.gateway_mut(resource), limit) {
            gateway.limits.projects.entry(project.clone()).or_default().insert(deployment.clone(), limit);
        }
        let state = limit.map_or_else(String::new, |limit| limit.to_string());
        Ok(attempt.applied(state, vec![]))
    }

    /// A limit can be cleared while the project is Disabled: limits are kept then.
    pub(super) fn clear_limit(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        project: &ProjectName,
        deployment: &DeploymentName,
    ) -> Result<Applied, Refused> {
        let event = Event::ClearLimit;
        let held = self.resource(event, resource)?;
        let before = held.gateway.as_ref().and_then(|gateway| gateway.limits.of(project, deployment));
        let state = before.map_or_else(|| "Unset".to_owned(), |limit| limit.to_string());
        let mut attempt = Attempt::new(event, of_limit(resource, project, deployment), state)
            .found(judge(event, &self.facts(by, resource, held)));
        if guard::enabled(&mut attempt, resource, held)
            && guard::of_the_resource(&mut attempt, resource, held, project)
            && guard::has_deployment(&mut attempt, resource, held, deployment)
            && before.is_none()
        {
            not_set(&mut attempt);
        }
        let attempt = attempt.check()?;
        if let Some(gateway) = self.gateway_mut(resource)
            && let Some(of_project) = gateway.limits.projects.get_mut(project)
        {
            of_project.remove(deployment);
            gateway.limits.projects.retain(|_, limits| !limits.is_empty());
        }
        Ok(attempt.applied("Unset", vec!["the project's use of this deployment is unlimited from now on".to_owned()]))
    }

    pub(super) fn set_aggregate(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        limit: &TokenLimitFields,
    ) -> Result<Applied, Refused> {
        let (limit, errors) = checked(limit.check());
        let held = self.resource(Event::SetAggregateLimit, resource)?;
        let after = with_limit(held, limit, |limits, limit| limits.aggregate = Some(limit));
        let facts = Facts { limit_errors: &errors, after: after.as_ref(), ..Facts::default() };
        let change = |gateway: &mut AiGateway| gateway.limits.aggregate = limit;
        let state = limit.map_or_else(String::new, |limit| limit.to_string());
        self.change_gateway(by, Event::SetAggregateLimit, resource, &facts, |_, _| {}, change, state)
    }

    pub(super) fn clear_aggregate(&mut self, by: &PrincipalId, resource: &ResourceName) -> Result<Applied, Refused> {
        let set = |attempt: &mut Attempt, gateway: &AiGateway| {
            if gateway.limits.aggregate.is_none() {
                not_set(attempt);
            }
        };
        let change = |gateway: &mut AiGateway| gateway.limits.aggregate = None;
        self.change_gateway(by, Event::ClearAggregateLimit, resource, &Facts::default(), set, change, "Unset".into())
    }

    pub(super) fn set_keyed(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        name: &LimitName,
        limit: &KeyedLimitFields,
    ) -> Result<Applied, Refused> {
        // Where it applies is looked at whatever else is wrong.
        let scope = &limit.scope;
        let (limit, errors) = checked(limit.check());
        let held = self.resource(Event::SetKeyedLimit, resource)?;
        let after = with_limit(held, limit.clone(), |limits, limit| {
            limits.keyed.insert(name.clone(), limit);
        });
        let facts = Facts { limit_errors: &errors, after: after.as_ref(), ..Facts::default() };
        let project_known = scope.project.as_ref().is_none_or(|project| held.projects.contains_key(project));
        let deployment_known =
            scope.deployment.as_ref().is_none_or(|deployment| held.deployments.contains_key(deployment));
        let places = |attempt: &mut Attempt, _: &AiGateway| {
            if !project_known {
                let reason = "the resource has no project of the limit's scope";
                attempt.against(Code::ProjectNotInResource, reason, "correct the scope, or leave the project out");
            }
            if !deployment_known {
                let reason = "the resource has no deployment of the limit's scope";
                attempt.against(Code::DeploymentNotFound, reason, "correct the scope, or leave the deployment out");
            }
        };
        let change = |gateway: &mut AiGateway| {
            if let Some(limit) = limit.clone() {
                gateway.limits.keyed.insert(name.clone(), limit);
            }
        };
        self.change_gateway(by, Event::SetKeyedLimit, resource, &facts, places, change, "Active".into())
    }

    pub(super) fn clear_keyed(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        name: &LimitName,
    ) -> Result<Applied, Refused> {
        let set = |attempt: &mut Attempt, gateway: &AiGateway| {
            if !gateway.limits.keyed.contains_key(name) {
                not_set(attempt);
            }
        };
        let change = |gateway: &mut AiGateway| {
            gateway.limits.keyed.remove(name);
        };
        self.change_gateway(by, Event::ClearKeyedLimit, resource, &Facts::default(), set, change, "Unset".into())
    }

    pub(super) fn set_traffic(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        traffic: TrafficSettings,
    ) -> Result<Applied, Refused> {
        let change = |gateway: &mut AiGateway| gateway.traffic = traffic;
        self.change_gateway(by, Event::SetTraffic, resource, &Facts::default(), |_, _| {}, change, "Enabled".into())
    }

    pub(super) fn set_dimensions(
        &mut self,
        by: &PrincipalId,
        resource: &ResourceName,
        dimensions: &[MetricDimension],
    ) -> Result<Applied, Refused> {
        let facts = Facts { dimensions: Some(dimensions), ..Facts::default() };
        let change = |gateway: &mut AiGateway| gateway.metric_dimensions = dimensions.to_vec();
        self.change_gateway(by, Event::SetMetricDimensions, resource, &facts, |_, _| {}, change, "Enabled".into())
    }

    /// Changes something of a gateway as a whole, which must be Enabled: `about` are the facts on the change, `guard` says
    /// what stands against it, and `state` is what its entity is at then.
    #[allow(clippy::too_many_arguments)]
    fn change_gateway(
        &mut self,
        by: &PrincipalId,
        event: Event,
        resource: &ResourceName,
        about: &Facts<'_>,
        guard: impl FnOnce(&mut Attempt, &AiGateway),
        change: impl FnOnce(&mut AiGateway),
        state: String,
    ) -> Result<Applied, Refused> {
        let held = self.resource(event, resource)?;
        let common = self.facts(by, resource, held);
        let facts = Facts {
            settings: common.settings,
            by: common.by,
            resource: common.resource,
            instance: common.instance,
            ..*about
        };
        let mut attempt = Attempt::new(event, of_gateway(resource), gateway_state(held)).found(judge(event, &facts));
        if guard::enabled(&mut attempt, resource, held)
            && let Some(gateway) = &held.gateway
        {
            guard(&mut attempt, gateway);
        }
        let attempt = attempt.check()?;
        if let Some(gateway) = self.gateway_mut(resource) {
            change(gateway);
        }
        Ok(attempt.applied(state, vec![]))
    }
}

fn of_limit(resource: &ResourceName, project: &ProjectName, deployment: &DeploymentName) -> String {
    format!("the limit on deployment {:?} of {}", deployment.as_str(), of_project(resource, project))
}
