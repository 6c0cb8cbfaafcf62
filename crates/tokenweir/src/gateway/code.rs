//! The stable codes of everything that the control plane refuses.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// Why something was refused, or what is wrong. The word is the same in every language and in records, and is never
        /// used for anything else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// All there are.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    // Gateways (b.1).
    /// The resource has a gateway; one for each resource.
    GatewayAlreadyExists = "GATEWAY_ALREADY_EXISTS",
    /// The instance serves another gateway; one for each instance (V-08).
    ApimAlreadyAssociated = "APIM_ALREADY_ASSOCIATED",
    /// Projects are still enabled behind the gateway.
    GatewayHasEnabledProjects = "GATEWAY_HAS_ENABLED_PROJECTS",
    /// The instance still serves a gateway.
    GatewayStillAssociated = "GATEWAY_STILL_ASSOCIATED",
    /// Other workloads depend on the instance.
    ApimInUse = "APIM_IN_USE",
    /// The gateway does not answer yet, or no longer.
    GatewayNotReady = "GATEWAY_NOT_READY",
    /// The resource has no gateway.
    GatewayNotFound = "GATEWAY_NOT_FOUND",
    /// A gateway cannot be disabled, only its projects can.
    GatewayDisableUnsupported = "GATEWAY_DISABLE_UNSUPPORTED",
    /// There is nothing to retry: the gateway has not failed.
    GatewayNotFailed = "GATEWAY_NOT_FAILED",
    /// The instance has no gateway that was deleted and is waiting for a decision.
    GatewayNotOrphaned = "GATEWAY_NOT_ORPHANED",
    // Projects (b.2).
    /// The project is behind the gateway.
    ProjectAlreadyEnabled = "PROJECT_ALREADY_ENABLED",
    /// The project is not behind the gateway.
    ProjectNotEnabled = "PROJECT_NOT_ENABLED",
    /// The resource has no such project.
    ProjectNotInResource = "PROJECT_NOT_IN_RESOURCE",
    /// The principal lacks a role.
    PermissionDenied = "PERMISSION_DENIED",
    // Limits (b.3, V-14 to V-19).
    /// The resource has no such deployment.
    DeploymentNotFound = "DEPLOYMENT_NOT_FOUND",
    /// The limit limits nothing.
    LimitEmpty = "LIMIT_EMPTY",
    /// A quota without a period, or the reverse.
    QuotaPeriodMismatch = "QUOTA_PERIOD_MISMATCH",
    /// An amount of 0 or less.
    LimitNotPositive = "LIMIT_NOT_POSITIVE",
    /// An amount that is too large.
    OutOfRange = "OUT_OF_RANGE",
    /// A word that is no period.
    QuotaPeriodUnknown = "QUOTA_PERIOD_UNKNOWN",
    /// A counter key that is empty, or that has different rates in two places.
    CounterConflict = "COUNTER_CONFLICT",
    /// A renewal period that is not taken.
    RenewalOutOfRange = "RENEWAL_OUT_OF_RANGE",
    /// A call quota without calls and bandwidth.
    QuotaEmpty = "QUOTA_EMPTY",
    /// There is no such limit to clear.
    LimitNotFound = "LIMIT_NOT_FOUND",
    // Requirements (c.1).
    /// The instance cannot host the gateway; an aspect says why.
    ApimNotEligible = "APIM_NOT_ELIGIBLE",
    /// The networks of the resource and the instance do not fit.
    NetworkIncompatible = "NETWORK_INCOMPATIBLE",
    /// A name that is not valid.
    NameInvalid = "NAME_INVALID",
    /// Advice: the tier is for development and tests.
    TierAdvice = "TIER_ADVICE",
    /// Too many metric dimensions, or one without a value.
    MetricDimensions = "METRIC_DIMENSIONS",
    /// A word that names no role.
    RoleUnknown = "ROLE_UNKNOWN",
    // Agents and tools (b.4, b.5).
    /// Custom agents are not started or stopped from here.
    AgentLifecycleUnsupported = "AGENT_LIFECYCLE_UNSUPPORTED",
    /// The resource of the project has no gateway.
    GatewayRequired = "GATEWAY_REQUIRED",
    /// The registration of an agent is not complete, or cannot be.
    AgentInvalid = "AGENT_INVALID",
    /// The project has no such agent.
    AgentNotFound = "AGENT_NOT_FOUND",
    /// The agent is blocked.
    AgentAlreadyBlocked = "AGENT_ALREADY_BLOCKED",
    /// The agent is not blocked.
    AgentNotBlocked = "AGENT_NOT_BLOCKED",
    /// A tool's route is decided when it is made.
    ToolMustBeRecreated = "TOOL_MUST_BE_RECREATED",
    /// A tool of this kind does not pass the gateway.
    ToolNotEligible = "TOOL_NOT_ELIGIBLE",
    /// The tool passes the gateway.
    ToolAlreadyGated = "TOOL_ALREADY_GATED",
    /// The description of a tool cannot be.
    ToolInvalid = "TOOL_INVALID",
    /// The project has no such tool.
    ToolNotFound = "TOOL_NOT_FOUND",
    // What is around.
    /// There is no such Foundry resource.
    ResourceNotFound = "RESOURCE_NOT_FOUND",
    /// There is no such instance.
    InstanceNotFound = "INSTANCE_NOT_FOUND",
    /// A document that cannot be read, or that contradicts itself.
    DocumentInvalid = "DOCUMENT_INVALID",
    /// A document of a version that is not known here.
    DocumentVersion = "DOCUMENT_VERSION",
    /// The name is another's.
    NameTaken = "NAME_TAKEN",
    // Limits that cannot be put in force.
    /// A quota of kilobytes: bytes are not counted.
    BandwidthUnsupported = "BANDWIDTH_UNSUPPORTED",
    /// The engine refuses the limits.
    PolicyInvalid = "POLICY_INVALID",
    // Commands to a console.
    /// A command that is no JSON, is not known, or has a field that is not known, lacks one or has a value that cannot be.
    CommandInvalid = "COMMAND_INVALID",
    /// A command that is too long.
    CommandTooLarge = "COMMAND_TOO_LARGE",
    /// The console is told the time, and was not.
    NowMissing = "NOW_MISSING",
    /// The console has a clock, and was told the time.
    NowNotTaken = "NOW_NOT_TAKEN",
    /// Whoever builds the gateway's limiter cannot: the host's business.
    LimiterNotBuilt = "LIMITER_NOT_BUILT",
    /// No call of this id is under way.
    CallUnknown = "CALL_UNKNOWN",
    /// As many calls are under way as may be.
    CallsExhausted = "CALLS_EXHAUSTED",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_used_twice_and_all_are_capitals() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte == b'_' || byte.is_ascii_uppercase())));
        words.sort_unstable();
        let all = words.len();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
