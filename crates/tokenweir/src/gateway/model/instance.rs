//! API Management instances.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{GroupName, Region, SubscriptionId, TenantId};
use super::time::Timestamp;

/// Where something is in the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The directory it is in.
    pub tenant: TenantId,
    /// The subscription it is in.
    pub subscription: SubscriptionId,
    /// The resource group it is in.
    pub resource_group: GroupName,
    /// Where it stands.
    pub region: Region,
}

/// What tiers of API Management there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ApimTier {
    /// Classic.
    Consumption,
    /// Classic.
    Developer,
    /// Classic.
    Basic,
    /// Classic.
    Standard,
    /// Classic.
    Premium,
    /// For development and tests \[S\]; what a new gateway gets.
    #[serde(rename = "Basic v2")]
    BasicV2,
    /// For production.
    #[serde(rename = "Standard v2")]
    StandardV2,
    /// For production.
    #[serde(rename = "Premium v2")]
    PremiumV2,
}

impl ApimTier {
    /// All there are.
    pub const ALL: [ApimTier; 8] = [
        ApimTier::Consumption,
        ApimTier::Developer,
        ApimTier::Basic,
        ApimTier::Standard,
        ApimTier::Premium,
        ApimTier::BasicV2,
        ApimTier::StandardV2,
        ApimTier::PremiumV2,
    ];

    /// As the vendor spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ApimTier::Consumption => "Consumption",
            ApimTier::Developer => "Developer",
            ApimTier::Basic => "Basic",
            ApimTier::Standard => "Standard",
            ApimTier::Premium => "Premium",
            ApimTier::BasicV2 => "Basic v2",
            ApimTier::StandardV2 => "Standard v2",
            ApimTier::PremiumV2 => "Premium v2",
        }
    }

    /// Whether it is a v2 tier: only these host a gateway \[S\], and their rates are token buckets where the classic
    /// tiers slide windows \[D\].
    pub const fn is_v2(self) -> bool {
        matches!(self, ApimTier::BasicV2 | ApimTier::StandardV2 | ApimTier::PremiumV2)
    }
}

impl fmt::Display for ApimTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How an instance is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// From the public network only.
    Public,
    /// Through a private endpoint.
    PrivateEndpoint,
    /// It stands in a virtual network (VNet injection).
    VnetInjected,
}

impl NetworkMode {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            NetworkMode::Public => "public network",
            NetworkMode::PrivateEndpoint => "private endpoint",
            NetworkMode::VnetInjected => "VNet injection",
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an instance is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InstanceStatus {
    /// It is being made.
    Creating,
    /// It answers.
    Ready,
    /// It could not be made.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is being taken down.
    Deleting {
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for InstanceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InstanceStatus::Creating => "Creating",
            InstanceStatus::Ready => "Ready",
            InstanceStatus::Failed { .. } => "Failed",
            InstanceStatus::Deleting { .. } => "Deleting",
        })
    }
}

/// An API Management instance. It hosts at most one gateway \[S\].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApimInstance {
    /// Where it is.
    pub site: Site,
    /// Its tier.
    pub tier: ApimTier,
    /// How it is reached.
    pub network: NetworkMode,
    /// What it is at.
    pub status: InstanceStatus,
    /// Since when it bills, where that is known: one that was made here since it was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed_since: Option<Timestamp>,
    /// Whether it is enrolled in the update channel "AI Gateway Early". A classic Developer instance that was has been
    /// seen with a gateway \[M\].
    #[serde(default)]
    pub early_channel: bool,
    /// What else depends on it, by name; an instance with dependants is not deleted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependants: BTreeSet<String>,
}

impl ApimInstance {
    /// Whether it bills: from when it is ready until it is deleted, and nothing else ends it \[S\].
    pub const fn bills(&self) -> bool {
        self.billed_since.is_some() || matches!(self.status, InstanceStatus::Ready | InstanceStatus::Deleting { .. })
    }
}
