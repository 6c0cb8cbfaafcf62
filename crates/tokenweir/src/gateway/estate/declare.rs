//! What the cloud around says there is.

use std::collections::BTreeMap;

use super::project::of_project;
use super::{Estate, of_resource};
use crate::gateway::code::Code;
use crate::gateway::finding::{Applied, Attempt, Refused};
use crate::gateway::model::{
    ApimInstance, FoundryResource, InstanceStatus, ModelDeployment, Principal, PrincipalId, RoleAssignment,
};
use crate::gateway::operation::{Declaration, Event, Grant};
use crate::gateway::rules::{Facts, judge};
use crate::gateway::settings::Settings;

const DECLARE: Event = Event::Declare;

impl Estate {
    pub(super) fn take_up(&mut self, declaration: &Declaration) -> Result<Applied, Refused> {
        let attempt = |entity: String| Attempt::new(DECLARE, entity, "as declared before");
        let done = |entity: String, state: &str| Ok(attempt(entity).applied(state, vec![]));
        match declaration {
            Declaration::Resource { name, site, public_network_access } => {
                let fresh = || FoundryResource {
                    site: site.clone(),
                    public_network_access: *public_network_access,
                    deployments: BTreeMap::new(),
                    projects: BTreeMap::new(),
                    gateway: None,
                };
                let resource = self.holdings.resources.entry(name.clone()).or_insert_with(fresh);
                resource.site = site.clone();
                resource.public_network_access = *public_network_access;
                done(of_resource(name), "known")
            }
            Declaration::ResourceGone { name } => {
                let held = self.resource(DECLARE, name)?;
                if held.gateway.is_some() {
                    let reason = "the resource still has a gateway";
                    let next = "delete the gateway, and decide what becomes of its instance";
                    return Err(attempt(of_resource(name)).refuse(Code::GatewayStillAssociated, reason, next));
                }
                self.holdings.resources.remove(name);
                done(of_resource(name), "not known")
            }
            Declaration::Deployment { resource, name, model, tokens_per_minute, requests_per_minute } => {
                self.resource(DECLARE, resource)?;
                let deployment = ModelDeployment {
                    model: model.clone(),
                    tokens_per_minute: *tokens_per_minute,
                    requests_per_minute: *requests_per_minute,
                };
                if let Some(resource) = self.holdings.resources.get_mut(resource) {
                    resource.deployments.insert(name.clone(), deployment);
                }
                done(format!("deployment {:?} of {}", name.as_str(), of_resource(resource)), "known")
            }
            Declaration::DeploymentGone { resource, name } => {
                self.resource(DECLARE, resource)?;
                if let Some(resource) = self.holdings.resources.get_mut(resource) {
                    resource.deployments.remove(name);
                    if let Some(gateway) = &mut resource.gateway {
                        gateway.limits.projects.retain(|_, limits| {
                            limits.remove(name);
                            !limits.is_empty()
                        });
                        gateway.limits.keyed.retain(|_, limit| limit.scope.deployment.as_ref() != Some(name));
                    }
                }
                done(format!("deployment {:?} of {}", name.as_str(), of_resource(resource)), "not known")
            }
            Declaration::Project { resource, name, created } => {
                let held = self.resource(DECLARE, resource)?;
                if held.projects.contains_key(name) {
                    if let Some(project) =
                        self.holdings.resources.get_mut(resource).and_then(|resource| resource.projects.get_mut(name))
                    {
                        project.created = *created;
                    }
                    return done(of_project(resource, name), "known");
                }
                let status = self.put_project(resource, name, *created);
                done(of_project(resource, name), status.as_str())
            }
            Declaration::ProjectGone { resource, name } => {
                self.resource(DECLARE, resource)?;
                if let Some(resource) = self.holdings.resources.get_mut(resource) {
                    resource.projects.remove(name);
                    if let Some(gateway) = &mut resource.gateway {
                        gateway.memberships.remove(name);
                        gateway.limits.projects.remove(name);
                        gateway.limits.agents.remove(name);
                        gateway.limits.tools.remove(name);
                        gateway.limits.keyed.retain(|_, limit| limit.scope.project.as_ref() != Some(name));
                    }
                }
                done(of_project(resource, name), "not known")
            }
            Declaration::Instance { name, site, tier, network, billed_since, early_channel, dependants } => {
                let before = self.holdings.instances.get(name);
                let status = before.map_or(InstanceStatus::Ready, |instance| instance.status.clone());
                let instance = ApimInstance {
                    site: site.clone(),
                    tier: *tier,
                    network: *network,
                    status,
                    billed_since: billed_since.or(before.and_then(|instance| instance.billed_since)),
                    early_channel: *early_channel,
                    dependants: dependants.clone(),
                };
                self.holdings.instances.insert(name.clone(), instance);
                done(format!("API Management instance {:?}", name.as_str()), "known")
            }
            Declaration::Principal { id, assignments, hidden_subscriptions } => {
                let principal = grants(id, assignments)?;
                let hidden_subscriptions = hidden_subscriptions.clone();
                self.holdings.principals.insert(id.clone(), Principal { hidden_subscriptions, ..principal });
                done(of_principal(id), "known")
            }
            Declaration::PrincipalGone { id } => {
                self.holdings.principals.remove(id);
                done(of_principal(id), "not known")
            }
            Declaration::Settings(settings) => {
                let entity = || "the settings of the estate".to_owned();
                if !(1..=Settings::MOST_AUDIT_ENTRIES).contains(&settings.audit_entries) {
                    let reason = format!("the audit trail cannot keep {} entries", settings.audit_entries);
                    return Err(attempt(entity()).refuse(Code::OutOfRange, reason, "give 1 to 100000"));
                }
                self.holdings.settings = settings.clone();
                done(entity(), "known")
            }
        }
    }
}

fn of_principal(id: &PrincipalId) -> String {
    format!("principal {:?}", id.as_str())
}

/// A principal that holds what these words say.
fn grants(id: &PrincipalId, assignments: &[Grant]) -> Result<Principal, Refused> {
    let words: Vec<String> = assignments.iter().map(|grant| grant.role.clone()).collect();
    let facts = Facts { role_words: &words, ..Facts::default() };
    Attempt::new(DECLARE, of_principal(id), "as declared before").found(judge(DECLARE, &facts)).check()?;
    let held = assignments
        .iter()
        .filter_map(|grant| Some(RoleAssignment { role: grant.role.parse().ok()?, scope: grant.scope.clone() }));
    Ok(Principal { assignments: held.collect(), ..Principal::default() })
}
