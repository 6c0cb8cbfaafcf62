//! Gateways, projects, instances and permissions that are not as expected: D-01, D-02, D-04, D-05, D-08.

use super::Certainty::{Certain, Likely, Possible};
use super::{Case, Found, refused_with};
use crate::gateway::code::Code;
use crate::gateway::finding::{Finding, Severity};
use crate::gateway::model::{AiGateway, FoundryResource, GatewayState, MembershipStatus};

/// D-01.
pub(super) fn gateway_missing(case: &Case<'_>, found: &mut Found) {
    if case.seen.listing.gateway != Some(false) {
        return;
    }
    let evidence = case.gateway_is();
    let Some(gateway) = case.gateway() else {
        return found.cause(
            Certain,
            "there is no gateway",
            [evidence],
            "create one, or associate an existing instance",
        );
    };
    let usual = case.estate.settings().usual_provisioning_seconds;
    let age = case.now.seconds_since(gateway.since);
    match &gateway.state {
        GatewayState::Provisioning if age < usual => found.cause(
            Certain,
            "provisioning has not finished",
            [evidence, format!("it was asked for {age} s ago; up to {usual} s is usual")],
            "wait and refresh; Basic v2 usually takes 5 to 10 minutes",
        ),
        GatewayState::Provisioning => found.cause(
            Likely,
            "provisioning is stuck",
            [evidence, format!("it was asked for {age} s ago; up to {usual} s is usual")],
            "look at the instance's own provisioning state; if it failed, delete the gateway and make it again",
        ),
        GatewayState::Failed { reason } => found.cause(
            Certain,
            format!("provisioning failed: {reason}"),
            [evidence],
            "see to the reason and retry, or delete the gateway",
        ),
        GatewayState::Enabled => {
            found.cause(Likely, "the list is older than the gateway", [evidence], "refresh the list");
        }
        GatewayState::Orphaned | GatewayState::Deleting => found.cause(
            Certain,
            "the gateway was deleted",
            [evidence],
            "delete its instance or keep it; then make a new gateway",
        ),
    }
}

/// D-02.
pub(super) fn project_disabled(case: &Case<'_>, found: &mut Found) {
    let (Some(name), Some(MembershipStatus::Disabled)) = (&case.seen.project, case.seen.listing.status) else { return };
    let Some(project) = case.resource.projects.get(name) else { return };
    let Some(gateway) = case.gateway().filter(|gateway| gateway.state == GatewayState::Enabled) else {
        let remedy = "have the gateway Enabled first, then add the project";
        return found.cause(Certain, "the gateway is not Enabled", [case.gateway_is()], remedy);
    };
    let add = "open the gateway and add the project";
    match (gateway.memberships.get(name), gateway.enabled) {
        (Some(membership), _) if membership.status == MembershipStatus::Enabled => found.cause(
            Likely,
            "the list is older than the project's being added",
            [format!("the project is Enabled since {}", membership.since)],
            "refresh the list",
        ),
        (Some(membership), _) => {
            let evidence = format!("it was removed at {}", membership.since);
            found.cause(Certain, "the project was removed from the gateway", [evidence], add);
        }
        (None, Some(enabled)) if project.created < enabled => found.cause(
            Certain,
            "the project is older than the gateway, and existing projects are not added by themselves",
            [format!("it was made at {}, and the gateway Enabled at {enabled}", project.created)],
            add,
        ),
        (None, _) => found.cause(Likely, "the project was never added", ["it has no membership".to_owned()], add),
    }
}

/// D-04.
pub(super) fn not_permitted(case: &Case<'_>, found: &mut Found) {
    if !refused_with(case.seen, Code::PermissionDenied) && !refused_with(case.seen, Code::ApimNotEligible) {
        return;
    }
    let Some(by) = &case.seen.by else {
        let remedy = "have Contributor or Owner granted on the resource group, or API Management Service Contributor or Owner \
                      on the instance, and Foundry Owner on the resource";
        return found.cause(Likely, "a role is missing", ["who asked was not said".to_owned()], remedy);
    };
    let lacking = case.estate.lacking_roles(by, case.name, case.resource, case.seen.instance.as_ref());
    if lacking.is_empty() {
        let evidence = format!("{:?} holds all that is demanded, as declared here", by.as_str());
        let remedy = "sign in again, and compare what is granted in the cloud with what is declared here";
        return found.cause(Possible, "a role was granted just now, or elsewhere", [evidence], remedy);
    }
    for finding in lacking {
        failing(found, finding);
    }
}

/// D-05.
pub(super) fn instance_missing(case: &Case<'_>, found: &mut Found) {
    if case.seen.listing.instance != Some(false) {
        return;
    }
    let Some(instance) = &case.seen.instance else { return };
    let Some(by) = &case.seen.by else {
        let remedy = "say who it was, as \"by\"; which instances can be chosen is a matter of that person's roles too";
        let evidence = format!("instance {:?} cannot be chosen", instance.as_str());
        return found.cause(Possible, "who asked was not said", [evidence], remedy);
    };
    if let Some(gateway) = case.gateway().filter(|gateway| gateway.instance == *instance) {
        let evidence = format!("gateway {:?} is on it, and is {}", gateway.name.as_str(), gateway.state);
        let remedy = "nothing is to be chosen: a resource has one gateway";
        return found.cause(Certain, "the instance hosts the gateway of this resource already", [evidence], remedy);
    }
    let candidates = case.estate.candidates(by, case.name).unwrap_or_default();
    match candidates.get(instance) {
        None => found.cause(
            Certain,
            "there is no such instance",
            [format!("instance {:?} is not known here", instance.as_str())],
            "correct the name, or declare the instance",
        ),
        Some(findings) if findings.is_empty() => found.cause(
            Likely,
            "the list is older than what made the instance eligible",
            ["every requirement is met".to_owned()],
            "refresh the list",
        ),
        Some(findings) => findings.iter().cloned().for_each(|finding| failing(found, finding)),
    }
}

/// A requirement that is not met, as a cause.
fn failing(found: &mut Found, finding: Finding) {
    if finding.severity == Severity::Error {
        let evidence = format!("{}{}", finding.rule.unwrap_or_default(), aspect(&finding));
        found.cause(Certain, finding.reason, [evidence], finding.next);
    }
}

fn aspect(finding: &Finding) -> String {
    let code = finding.code;
    finding.aspect.map_or_else(|| format!(" fails: {code}"), |aspect| format!(" fails: {code}({aspect})"))
}

/// D-08.
pub(super) fn project_missing(case: &Case<'_>, found: &mut Found) {
    if case.seen.listing.project != Some(false) {
        return;
    }
    let Some(name) = &case.seen.project else { return };
    let Some(project) = case.resource.projects.get(name) else {
        let evidence = format!("Foundry resource {:?} has no project {:?}", case.name.as_str(), name.as_str());
        let remedy = "look at the gateway of the project's own resource";
        return found.cause(Certain, "the project belongs to another Foundry resource", [evidence], remedy);
    };
    let Some(gateway) = case.gateway().filter(|gateway| gateway.state == GatewayState::Enabled) else {
        let remedy = "have the gateway Enabled first; projects are listed then";
        return found.cause(Certain, "the gateway is not Enabled", [case.gateway_is()], remedy);
    };
    if let Some(read) = case.seen.listing.read.filter(|read| *read < project.created) {
        let evidence = format!("the list was read at {read}, and the project made at {}", project.created);
        return found.cause(
            Certain,
            "the list is older than the project",
            [evidence],
            "refresh, or open the tab again",
        );
    }
    if predates(gateway, case.resource, case.seen.project.as_ref()) {
        let evidence = format!("the project was made at {}, before the gateway was Enabled", project.created);
        let remedy = "refresh, confirm that the gateway is Enabled, and add the project by hand";
        found.cause(Likely, "the project is older than the gateway", [evidence], remedy);
    }
    let evidence = "the project and the gateway are there".to_owned();
    found.cause(Possible, "the list lags behind", [evidence], "refresh, or leave the tab and open it again");
}

/// Whether the project is older than the gateway and was never added.
fn predates(
    gateway: &AiGateway,
    resource: &FoundryResource,
    project: Option<&crate::gateway::model::ProjectName>,
) -> bool {
    let made = project.and_then(|name| Some((name, resource.projects.get(name)?)));
    made.is_some_and(|(name, project)| {
        gateway.enabled.is_some_and(|enabled| project.created < enabled) && !gateway.memberships.contains_key(name)
    })
}
