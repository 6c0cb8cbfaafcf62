//! What is chosen where the service's behaviour is not confirmed, and how much is kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Role;

/// The settings of an [`Estate`](super::Estate). The defaults are what the evidence says, where there is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who may have an instance made, in the target resource group or above: Contributor or Owner \[S\] (V-01).
    pub creator_roles: BTreeSet<Role>,
    /// Who may use an instance and put projects behind it: API Management Service Contributor or Owner on it, or above
    /// \[S\]\[D\] (V-02, V-13). Whether a Contributor may too is not said \[U\].
    pub instance_roles: BTreeSet<Role>,
    /// Who reaches the Admin console of a Foundry resource: Foundry Account Owner and Foundry Owner \[S\] (V-03). The
    /// vendor names these as examples; whom else is not confirmed \[U\].
    pub console_roles: BTreeSet<Role>,
    /// Who may make projects: Foundry Project Manager, Foundry Account Owner, Foundry Owner, Contributor, Owner \[D\].
    pub project_roles: BTreeSet<Role>,
    /// Whether several resources may share an instance. The portal does not offer it \[S\]; some link them by hand \[G\].
    pub relaxed_association: bool,
    /// Whether a classic Developer instance of the channel "AI Gateway Early" may host a gateway, as was seen once \[M\].
    pub early_channel: bool,
    /// Whether an instance must be in the resource's region, as an older page demanded instead of the subscription \[D,
    /// superseded\].
    pub same_region: bool,
    /// How long provisioning usually takes at most, in seconds: 10 minutes for Basic v2 \[S\]. Beyond it, it is suspect
    /// \[I\].
    pub usual_provisioning_seconds: u64,
    /// How many entries the audit trail keeps: 1 to 100,000. The oldest go first, and are counted.
    pub audit_entries: usize,
}

impl Settings {
    /// The most entries of an audit trail.
    pub const MOST_AUDIT_ENTRIES: usize = 100_000;
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            creator_roles: BTreeSet::from([Role::Contributor, Role::Owner]),
            instance_roles: BTreeSet::from([Role::ApimServiceContributor, Role::Owner]),
            console_roles: BTreeSet::from([Role::FoundryAccountOwner, Role::FoundryOwner]),
            project_roles: BTreeSet::from([
                Role::FoundryProjectManager,
                Role::FoundryAccountOwner,
                Role::FoundryOwner,
                Role::Contributor,
                Role::Owner,
            ]),
            relaxed_association: false,
            early_channel: false,
            same_region: false,
            usual_provisioning_seconds: 600,
            audit_entries: 1_000,
        }
    }
}
