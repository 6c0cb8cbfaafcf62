//! The requirements V-01 to V-23, as a table of rules.
//!
//! A rule says for which events it stands, what it demands, and looks at the facts. All that fail are reported, not only
//! the first. What the state of things allows is no rule: that is for the operations (`estate`).
//!
//! - `access`: who may do it (V-01 to V-03, V-13, V-23);
//! - `instance`: which instance may host a gateway (V-04 to V-12);
//! - `limits`: limits and metrics (V-14 to V-20);
//! - `workloads`: agents and tools (V-21, V-22).

mod access;
mod instance;
mod limits;
mod workloads;

pub(super) use workloads::{not_an_address, not_routed, protocol};

use super::code::Code;
use super::compile::CompileError;
use super::finding::{Finding, Severity};
use super::model::{
    AiGateway, ApimInstance, FoundryResource, InstanceName, LimitError, MetricDimension, Principal, PrincipalId,
    ResourceName, Scope, Site, ToolAuth, ToolKind,
};
use super::operation::{AgentRegistration, Event};
use super::settings::Settings;

/// One requirement.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rule {
    /// Its id: `V-07`.
    pub id: &'static str,
    /// What it demands.
    pub demands: &'static str,
    /// Where that comes from: S, D, M, G, I or U as explained at [`gateway`](super).
    pub evidence: &'static str,
    /// Whether a failure stops the operation, unless the failure itself says otherwise.
    pub severity: Severity,
    /// What to do about a failure.
    pub remedy: &'static str,
    /// The events that it stands for.
    pub events: &'static [Event],
    check: fn(&Facts<'_>, &mut Vec<Failure>),
}

/// All rules, in the order of their ids; what the vendor's list does not have comes last.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    TABLE.iter().copied().flatten()
}

static TABLE: [&[Rule]; 5] = [&access::FIRST, &instance::RULES, &limits::RULES, &workloads::RULES, &access::LAST];

/// What a rule may look at. A rule for which something is missing does not fail.
#[derive(Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    pub(super) settings: Option<&'a Settings>,
    /// Who asks; the principal is not known if it was never declared.
    pub(super) by: Option<(&'a PrincipalId, Option<&'a Principal>)>,
    pub(super) resource: Option<(&'a ResourceName, &'a FoundryResource)>,
    /// The instance that is to host the gateway, or that is acted upon.
    pub(super) instance: Option<(&'a InstanceName, &'a ApimInstance)>,
    /// Another resource whose gateway that instance hosts.
    pub(super) hosts: Option<&'a ResourceName>,
    /// Where a new instance is to be made.
    pub(super) target: Option<&'a Scope>,
    pub(super) gateway_name: Option<&'a str>,
    /// What is wrong with a limit in itself.
    pub(super) limit_errors: &'a [LimitError],
    /// The gateway as it would be with the limit.
    pub(super) after: Option<&'a AiGateway>,
    pub(super) dimensions: Option<&'a [MetricDimension]>,
    pub(super) agent: Option<AgentFacts<'a>>,
    pub(super) tool: Option<ToolFacts>,
    /// Words that should name roles.
    pub(super) role_words: &'a [String],
}

/// A registration, and what holds its address already.
#[derive(Clone, Copy)]
pub(super) struct AgentFacts<'a> {
    pub(super) registration: &'a AgentRegistration,
    pub(super) same_url: Option<&'a str>,
}

/// A tool that is to be made, or limited.
#[derive(Clone, Copy)]
pub(super) struct ToolFacts {
    pub(super) kind: ToolKind,
    pub(super) auth: ToolAuth,
    /// Whether it must pass the gateway.
    pub(super) must: bool,
}

impl<'a> Facts<'a> {
    /// The sites of the resource and of the instance, if both are known.
    fn sites(&self) -> Option<(&'a Site, &'a Site)> {
        Some((&self.resource?.1.site, &self.instance?.1.site))
    }
}

/// One way in which a rule is not met.
struct Failure {
    code: Code,
    aspect: Option<&'static str>,
    severity: Option<Severity>,
    reason: String,
    /// What to do, where that is more than the rule's remedy.
    next: Option<String>,
}

impl Failure {
    fn new(code: Code, reason: impl Into<String>) -> Failure {
        Failure { code, aspect: None, severity: None, reason: reason.into(), next: None }
    }

    /// That limits cannot be put in force: the text of the error ends with what to do.
    fn of_limits(error: &CompileError) -> Failure {
        let text = error.to_string();
        let (reason, next) = match text.rsplit_once("; ") {
            Some((reason, next)) => (reason, Some(next.to_owned())),
            None => (&*text, None),
        };
        Failure { next, ..Failure::new(error.code(), reason) }
    }

    fn not_eligible(aspect: &'static str, reason: impl Into<String>) -> Failure {
        Failure { aspect: Some(aspect), ..Failure::new(Code::ApimNotEligible, reason) }
    }
}

/// Everything that the rules for `event` find in `facts`, in the order of the table.
pub(super) fn judge(event: Event, facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in rules().filter(|rule| rule.events.contains(&event)) {
        let mut failures = Vec::new();
        (rule.check)(facts, &mut failures);
        findings.extend(failures.into_iter().map(|failure| Finding {
            code: failure.code,
            aspect: failure.aspect,
            rule: Some(rule.id),
            severity: failure.severity.unwrap_or(rule.severity),
            reason: failure.reason,
            next: failure.next.unwrap_or_else(|| rule.remedy.to_owned()),
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_requirement_once() {
        let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
        ids.sort_unstable();
        let mut expected: Vec<_> = (1..=23).map(|n| format!("V-{n:02}")).collect();
        expected.splice(0..0, ["L-01", "P-01", "R-01", "R-02"].map(str::to_owned));
        assert_eq!(ids, expected);
        assert!(rules().all(|rule| !rule.events.is_empty() && !rule.remedy.is_empty() && !rule.demands.is_empty()));
    }
}
