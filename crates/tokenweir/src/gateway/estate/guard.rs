//! What the state of things says to an operation. Each guard adds what stands against it, and says whether that is all.

use crate::gateway::code::Code;
use crate::gateway::finding::Attempt;
use crate::gateway::model::{
    AiGateway, DeploymentName, FoundryResource, GatewayState, MembershipStatus, ProjectName, ResourceName,
};

/// The gateway must be Enabled.
pub(super) fn enabled(attempt: &mut Attempt, name: &ResourceName, resource: &FoundryResource) -> bool {
    answering(attempt, name, resource, Code::GatewayNotFound)
}

/// The gateway must be Enabled; if there is none, that is `absent`.
pub(super) fn answering(attempt: &mut Attempt, name: &ResourceName, resource: &FoundryResource, absent: Code) -> bool {
    let none = format!("Foundry resource {:?} has no gateway", name.as_str());
    match &resource.gateway {
        Some(AiGateway { state: GatewayState::Enabled, .. }) => return true,
        None => attempt.against(absent, none, "create a gateway, or associate an existing instance"),
        Some(gateway @ AiGateway { state: GatewayState::Orphaned | GatewayState::Deleting, .. }) => {
            attempt.against(absent, format!("{none} any more"), after_deletion(gateway));
        }
        Some(AiGateway { state: GatewayState::Provisioning, .. }) => attempt.against(
            Code::GatewayNotReady,
            "the gateway is still provisioning",
            "refresh and try again; Basic v2 usually takes 5 to 10 minutes",
        ),
        Some(AiGateway { state: GatewayState::Failed { reason }, .. }) => attempt.against(
            Code::GatewayNotReady,
            format!("provisioning of the gateway failed: {reason}"),
            "retry it, or delete the gateway",
        ),
    }
    false
}

/// What to do about the instance of a gateway that was deleted.
pub(super) fn after_deletion(gateway: &AiGateway) -> String {
    let instance = gateway.instance.as_str();
    match gateway.state {
        GatewayState::Deleting => format!("wait until instance {instance:?} is deleted, and refresh"),
        _ => format!("delete instance {instance:?} or keep it; then a new gateway can be made"),
    }
}

/// The project must be one of the resource.
pub(super) fn of_the_resource(
    attempt: &mut Attempt,
    name: &ResourceName,
    resource: &FoundryResource,
    project: &ProjectName,
) -> bool {
    if resource.projects.contains_key(project) {
        return true;
    }
    let reason = format!("Foundry resource {:?} has no project {:?}", name.as_str(), project.as_str());
    let next = "choose a project of that resource; projects of another belong to its own gateway";
    attempt.against(Code::ProjectNotInResource, reason, next);
    false
}

/// The project must be behind the gateway.
pub(super) fn behind(attempt: &mut Attempt, gateway: Option<&AiGateway>, project: &ProjectName, next: &str) -> bool {
    if gateway.is_some_and(|gateway| gateway.status(project) == MembershipStatus::Enabled) {
        return true;
    }
    let reason = format!("project {:?} is not behind the gateway: its Gateway status is Disabled", project.as_str());
    attempt.against(Code::ProjectNotEnabled, reason, next);
    false
}

/// The deployment must be one of the resource.
pub(super) fn has_deployment(
    attempt: &mut Attempt,
    name: &ResourceName,
    resource: &FoundryResource,
    deployment: &DeploymentName,
) -> bool {
    if resource.deployments.contains_key(deployment) {
        return true;
    }
    let reason = format!("Foundry resource {:?} has no deployment {:?}", name.as_str(), deployment.as_str());
    attempt.against(Code::DeploymentNotFound, reason, "give the name of the deployment, not of its model");
    false
}
