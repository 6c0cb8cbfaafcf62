//! What is behind a gateway (b.2).

use std::collections::BTreeMap;

use super::guard;
use super::{Estate, gateway_state, of_resource};
use crate::gateway::code::Code;
use crate::gateway::finding::{Applied, Attempt, Refused};
use crate::gateway::model::{
    AiGateway, GatewayState, Membership, MembershipStatus, PrincipalId, Project, ProjectName, ResourceName, Timestamp,
};
use crate::gateway::operation::Event;
use crate::gateway::rules::judge;

impl Estate {
    pub(super) fn create_project(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        resource: &ResourceName,
        project: &ProjectName,
    ) -> Result<Applied, Refused> {
        let event = Event::CreateProject;
        let held = self.resource(event, resource)?;
        let mut attempt = Attempt::new(event, of_project(resource, project), "Absent")
            .found(judge(event, &self.facts(by, resource, held)));
        if held.projects.contains_key(project) {
            attempt.against(Code::NameTaken, "the resource has a project of that name", "choose another name");
        }
        let attempt = attempt.check()?;
        let status = self.put_project(resource, project, now);
        Ok(attempt.applied(status, vec![]))
    }

    /// Puts a project into a resource that is known. It is behind the gateway if that was Enabled when the project was
    /// made; older ones are added by hand \[S\].
    pub(super) fn put_project(
        &mut self,
        resource: &ResourceName,
        project: &ProjectName,
        created: Timestamp,
    ) -> MembershipStatus {
        let Some(resource) = self.holdings.resources.get_mut(resource) else { return MembershipStatus::Disabled };
        let made = Project { created, agents: BTreeMap::new(), tools: BTreeMap::new() };
        resource.projects.insert(project.clone(), made);
        match &mut resource.gateway {
            Some(gateway)
                if gateway.state == GatewayState::Enabled
                    && gateway.enabled.is_some_and(|enabled| created >= enabled) =>
            {
                enroll(gateway, project, created);
                MembershipStatus::Enabled
            }
            _ => MembershipStatus::Disabled,
        }
    }

    /// Adds a project to the gateway, removes it, or both in a row.
    pub(super) fn move_project(
        &mut self,
        by: &PrincipalId,
        now: Timestamp,
        event: Event,
        resource: &ResourceName,
        project: &ProjectName,
    ) -> Result<Applied, Refused> {
        let held = self.resource(event, resource)?;
        let status = held.gateway.as_ref().map_or(MembershipStatus::Disabled, |gateway| gateway.status(project));
        let state = format!("{status} (gateway {})", gateway_state(held));
        let mut attempt = Attempt::new(event, of_project(resource, project), state)
            .found(judge(event, &self.facts(by, resource, held)));
        let known = guard::of_the_resource(&mut attempt, resource, held, project);
        if guard::enabled(&mut attempt, resource, held) && known {
            match (event, status) {
                (Event::AddProject, MembershipStatus::Enabled) => {
                    let reason = format!("project {:?} is behind the gateway already", project.as_str());
                    attempt.against(Code::ProjectAlreadyEnabled, reason, "nothing has to be done");
                }
                (Event::AddProject, MembershipStatus::Disabled) => {}
                _ => {
                    guard::behind(&mut attempt, held.gateway.as_ref(), project, "add the project if it should be");
                }
            }
        }
        let attempt = attempt.check()?;
        let Some(gateway) = self.gateway_mut(resource) else {
            return Err(attempt.refuse(Code::GatewayNotFound, "there is no gateway", "create one"));
        };
        if event == Event::RemoveProject {
            if let Some(membership) = gateway.memberships.get_mut(project) {
                membership.status = MembershipStatus::Disabled;
                membership.since = now;
            }
            let notes = vec![
                "its traffic bypasses the gateway from now on; its limits are kept, and other projects go on"
                    .to_owned(),
                "this does not stop the charges of the instance; deleting the instance does".to_owned(),
            ];
            return Ok(attempt.applied(MembershipStatus::Disabled, notes));
        }
        enroll(gateway, project, now);
        let note = format!("its clients call https://{}/{resource}", gateway.host());
        Ok(attempt.applied(MembershipStatus::Enabled, vec![note]))
    }
}

fn enroll(gateway: &mut AiGateway, project: &ProjectName, now: Timestamp) {
    let times = gateway.memberships.get(project).map_or(0, |membership| membership.enabled_times);
    let enabled_times = times.saturating_add(1);
    let membership = Membership { status: MembershipStatus::Enabled, since: now, enabled_times };
    gateway.memberships.insert(project.clone(), membership);
}

pub(super) fn of_project(resource: &ResourceName, project: &ProjectName) -> String {
    format!("project {:?} of {}", project.as_str(), of_resource(resource))
}
