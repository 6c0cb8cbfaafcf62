//! A gateway: the association of a resource with an instance, and which projects are behind it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::limit::Limits;
use super::name::{GatewayName, InstanceName, ProjectName};
use super::time::Timestamp;

/// The association of a Foundry resource with an instance, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AiGateway {
    /// Its name.
    pub name: GatewayName,
    /// What hosts it.
    pub instance: InstanceName,
    /// What it is at.
    pub state: GatewayState,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it was first Enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<Timestamp>,
    /// Which projects are behind it. A project without an entry is Disabled.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memberships: BTreeMap<ProjectName, Membership>,
    /// What it limits.
    #[serde(default)]
    pub limits: Limits,
    /// How traffic is treated that no limit is for.
    #[serde(default)]
    pub traffic: TrafficSettings,
    /// What its token metrics are told apart by (V-20).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metric_dimensions: Vec<MetricDimension>,
    /// Whether the instance was made for it.
    pub made_instance: bool,
    /// Since when it has been in its state.
    pub since: Timestamp,
}

/// One dimension of the token metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDimension {
    /// Its name.
    pub name: String,
    /// Its value; only the default dimensions do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl MetricDimension {
    /// The most dimensions of a metric \[D\].
    pub const MOST: usize = 5;

    /// The dimensions that need no value \[D\].
    pub const DEFAULTS: [&str; 8] =
        ["API ID", "Operation ID", "Product ID", "User ID", "Subscription ID", "Location", "Gateway ID", "Backend ID"];
}

impl AiGateway {
    /// The status of a project: the portal's column "Gateway status".
    pub fn status(&self, project: &ProjectName) -> MembershipStatus {
        self.memberships.get(project).map_or(MembershipStatus::Disabled, |membership| membership.status)
    }

    /// The host that clients of the gateway call.
    pub fn host(&self) -> String {
        format!("{}.azure-api.net", self.instance)
    }

    /// Whether requests of `project` are governed: both the gateway and the membership are Enabled \[S\].
    pub fn governs(&self, project: &ProjectName) -> bool {
        self.state == GatewayState::Enabled && self.status(project) == MembershipStatus::Enabled
    }
}

/// What a gateway is at. Absent is the lack of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GatewayState {
    /// Being made: usually 5 to 10 minutes for Basic v2 \[S\].
    Provisioning,
    /// Its endpoints answer.
    Enabled,
    /// It could not be made \[I\].
    Failed {
        /// Why.
        reason: String,
    },
    /// The instance is being deleted.
    Deleting,
    /// The association is gone; the instance still exists, and bills.
    Orphaned,
}

impl GatewayState {
    /// In one word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            GatewayState::Provisioning => "Provisioning",
            GatewayState::Enabled => "Enabled",
            GatewayState::Failed { .. } => "Failed",
            GatewayState::Deleting => "Deleting",
            GatewayState::Orphaned => "Orphaned",
        }
    }
}

impl fmt::Display for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a project is behind the gateway: the portal's column "Gateway status".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipStatus {
    /// Its traffic bypasses the gateway.
    Disabled,
    /// Its traffic is governed.
    Enabled,
}

impl MembershipStatus {
    /// As the portal shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            MembershipStatus::Disabled => "Disabled",
            MembershipStatus::Enabled => "Enabled",
        }
    }
}

impl fmt::Display for MembershipStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A project's place behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Whether it is behind it now.
    pub status: MembershipStatus,
    /// Since when.
    pub since: Timestamp,
    /// How often it has been enabled. Rates start anew each time, quotas do not: what the service does is not confirmed
    /// \[U\].
    pub enabled_times: u32,
}

/// What happens to a request that the gateway does not govern, or does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ungoverned {
    /// It passes, and is counted as bypassed \[S\].
    #[default]
    Bypass,
    /// It is denied.
    Deny,
}

/// How traffic is treated where no limit says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrafficSettings {
    /// The toggle of the console: whether limits refuse. Off, they only count.
    pub enforce: bool,
    /// Requests of a project that is not governed.
    pub ungoverned: Ungoverned,
    /// Requests of a project that the resource does not have.
    pub unknown_project: Ungoverned,
    /// Requests to a deployment that the resource does not have, or to a custom agent or a tool that the project does not
    /// have.
    pub unknown_deployment: Ungoverned,
    /// The day that weekly quotas begin on, at 00:00 UTC. Not confirmed \[U\]: Monday unless set.
    pub week_start: Weekday,
}

impl Default for TrafficSettings {
    fn default() -> Self {
        TrafficSettings {
            enforce: true,
            ungoverned: Ungoverned::default(),
            unknown_project: Ungoverned::default(),
            unknown_deployment: Ungoverned::default(),
            week_start: Weekday::default(),
        }
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Weekday {
    #[default]
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    /// The word that policies use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Weekday::Monday => "monday",
            Weekday::Tuesday => "tuesday",
            Weekday::Wednesday => "wednesday",
            Weekday::Thursday => "thursday",
            Weekday::Friday => "friday",
            Weekday::Saturday => "saturday",
            Weekday::Sunday => "sunday",
        }
    }
}
