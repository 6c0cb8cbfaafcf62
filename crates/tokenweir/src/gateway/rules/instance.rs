//! Which instance may host a gateway, and under which name: V-04 to V-12.

use super::{Failure, Rule};
use crate::gateway::code::Code;
use crate::gateway::finding::Severity;
use crate::gateway::model::{ApimTier, GatewayName, InstanceStatus, NetworkMode};
use crate::gateway::operation::Event;

/// The tiers that host a gateway (V-07).
fn hosts_gateways(tier: ApimTier) -> bool {
    tier.is_v2()
}

/// Whether an instance reaches a resource that the public network does not (V-09).
fn reaches_private(tier: ApimTier, network: NetworkMode) -> bool {
    match network {
        NetworkMode::Public => false,
        NetworkMode::PrivateEndpoint => matches!(tier, ApimTier::StandardV2 | ApimTier::PremiumV2),
        NetworkMode::VnetInjected => tier == ApimTier::PremiumV2,
    }
}

pub(super) static RULES: [Rule; 11] = [
    Rule {
        id: "V-04",
        demands: "the instance is in the tenant of the Foundry resource",
        evidence: "S",
        severity: Severity::Error,
        remedy: "choose an instance of the resource's tenant, or have a new one made",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let Some((ours, theirs)) = facts.sites()
                && ours.tenant != theirs.tenant
            {
                let reason = format!(
                    "the instance is in tenant {:?}, the resource in {:?}",
                    theirs.tenant.as_str(),
                    ours.tenant.as_str()
                );
                failures.push(Failure::not_eligible("tenant", reason));
            }
        },
    },
    Rule {
        id: "V-05",
        demands: "the instance is in the subscription of the Foundry resource",
        evidence: "S",
        severity: Severity::Error,
        remedy: "choose an instance of the resource's subscription, or have a new one made",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let Some((ours, theirs)) = facts.sites()
                && ours.subscription != theirs.subscription
            {
                let (ours, theirs) = (ours.subscription.as_str(), theirs.subscription.as_str());
                let reason = format!("the instance is in subscription {theirs:?}, the resource in {ours:?}");
                failures.push(Failure::not_eligible("subscription", reason));
            }
        },
    },
    Rule {
        id: "V-06",
        demands: "the portal of whoever asks shows the instance's subscription",
        evidence: "S",
        severity: Severity::Error,
        remedy: "add the subscription to the portal's filter, or have a role granted in it",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let (Some((id, principal)), Some((_, instance))) = (facts.by, facts.instance)
                && !principal.is_some_and(|principal| principal.sees(&instance.site.subscription))
            {
                let reason = format!(
                    "subscription {:?} is not visible to {:?}",
                    instance.site.subscription.as_str(),
                    id.as_str()
                );
                failures.push(Failure::not_eligible("visibility", reason));
            }
        },
    },
    Rule {
        id: "V-07",
        demands: "the instance's tier is Basic v2, Standard v2 or Premium v2",
        evidence: "S; M: a classic Developer instance of an early channel was accepted once",
        severity: Severity::Error,
        remedy: "choose an instance of a v2 tier; a classic one cannot be turned into one",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let (Some(settings), Some((_, instance))) = (facts.settings, facts.instance) {
                let early = settings.early_channel && instance.early_channel && instance.tier == ApimTier::Developer;
                if !hosts_gateways(instance.tier) && !early {
                    failures.push(Failure::not_eligible("sku", format!("the instance's tier is {}", instance.tier)));
                }
            }
        },
    },
    Rule {
        id: "V-08",
        demands: "the instance hosts no other gateway",
        evidence: "S",
        severity: Severity::Error,
        remedy: "choose another instance",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let (Some(settings), Some(other)) = (facts.settings, facts.hosts)
                && !settings.relaxed_association
            {
                let reason =
                    format!("the instance already serves the gateway of Foundry resource {:?}", other.as_str());
                failures.push(Failure::new(Code::ApimAlreadyAssociated, reason));
            }
        },
    },
    Rule {
        id: "V-09",
        demands: "for a resource without public network access, the instance is Standard v2 or Premium v2 with a private \
                  endpoint, or Premium v2 injected into a VNet",
        evidence: "S",
        severity: Severity::Error,
        remedy: "choose such an instance, or allow public network access to the resource",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let (Some((_, resource)), Some((_, instance))) = (facts.resource, facts.instance)
                && !resource.public_network_access
                && !reaches_private(instance.tier, instance.network)
            {
                let (tier, network) = (instance.tier, instance.network);
                let reason =
                    format!("the resource has no public network access, and the instance is {tier} ({network})");
                failures.push(Failure::new(Code::NetworkIncompatible, reason));
            }
        },
    },
    Rule {
        id: "V-10",
        demands: "a gateway on a new instance, which is Basic v2, is for a resource with public network access",
        evidence: "I",
        severity: Severity::Error,
        remedy: "use an existing instance: Standard v2 or Premium v2 with a private endpoint, or Premium v2 in a VNet",
        events: &[Event::CreateGateway],
        check: |facts, failures| {
            if let Some((_, resource)) = facts.resource
                && !resource.public_network_access
            {
                let reason = "the resource has no public network access, and a new instance is Basic v2";
                failures.push(Failure::new(Code::NetworkIncompatible, reason));
            }
        },
    },
    Rule {
        id: "V-11",
        demands: "production and high throughput run on Standard v2 or Premium v2",
        evidence: "S",
        severity: Severity::Warning,
        remedy: "for production or high throughput, use an existing Standard v2 or Premium v2 instance",
        events: &[Event::CreateGateway, Event::UseExisting],
        check: |facts, failures| {
            if facts.instance.is_none_or(|(_, instance)| instance.tier == ApimTier::BasicV2) {
                failures.push(Failure::new(Code::TierAdvice, "Basic v2 is meant for development and tests"));
            }
        },
    },
    Rule {
        id: "V-12",
        demands: "a gateway's name has letters, digits and hyphens, begins with a letter, and is 1 to 50 characters long",
        evidence: "U: from general knowledge of API Management",
        severity: Severity::Error,
        remedy: "choose another name",
        events: &[Event::CreateGateway, Event::UseExisting],
        check: |facts, failures| {
            if let Some(Err(wrong)) = facts.gateway_name.map(GatewayName::new) {
                failures.push(Failure::new(Code::NameInvalid, wrong.to_string()));
            }
        },
    },
    Rule {
        id: "R-01",
        demands: "if so configured, the instance is in the region of the Foundry resource",
        evidence: "D, superseded by V-05",
        severity: Severity::Error,
        remedy: "choose an instance of the resource's region",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let (Some(settings), Some((ours, theirs))) = (facts.settings, facts.sites())
                && settings.same_region
                && ours.region != theirs.region
            {
                let (ours, theirs) = (ours.region.as_str(), theirs.region.as_str());
                let reason = format!("the instance is in region {theirs:?}, the resource in {ours:?}");
                failures.push(Failure::not_eligible("region", reason));
            }
        },
    },
    Rule {
        id: "R-02",
        demands: "the instance answers",
        evidence: "I",
        severity: Severity::Error,
        remedy: "wait until the instance is ready, or choose another",
        events: &[Event::UseExisting],
        check: |facts, failures| {
            if let Some((_, instance)) = facts.instance
                && instance.status != InstanceStatus::Ready
            {
                failures.push(Failure::not_eligible("status", format!("the instance is {}", instance.status)));
            }
        },
    },
];
