//! Why something does not work: D-01 to D-12.
//!
//! A diagnosis is a row of a table: what is observed, and a look at it beside the state of things. It yields causes, each
//! with its evidence and what to do. All rows whose observation was made are looked at; the surest causes come first, and
//! equally sure ones in the order of the table, which is that of the vendor's own troubleshooting.
//!
//! - `setup`: gateways, projects, instances, permissions (D-01, D-02, D-04, D-05, D-08);
//! - `calls`: calls to models (D-03, D-06, D-07, D-09, D-12);
//! - `tools`: tools and agents (D-10, D-11).

mod calls;
mod setup;
mod tools;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::estate::Estate;
use super::finding::Refused;
use super::model::{
    AgentName, AiGateway, DeploymentName, FoundryResource, InstanceName, MembershipStatus, PrincipalId, ProjectName,
    ResourceName, Timestamp, ToolName,
};

/// What was observed. Everything is optional; absent is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observation {
    /// Who saw it.
    pub by: Option<PrincipalId>,
    /// The project it is about.
    pub project: Option<ProjectName>,
    /// The deployment, as the call named it.
    pub deployment: Option<DeploymentName>,
    /// The instance it is about.
    pub instance: Option<InstanceName>,
    /// The tool that was called.
    pub tool: Option<ToolName>,
    /// The custom agent that was called.
    pub agent: Option<AgentName>,
    /// What the console showed.
    pub listing: Listing,
    /// A call, and what came of it.
    pub call: Option<ObservedCall>,
    /// Use that a limit should have refused, and did not.
    pub unrefused: Option<Spent>,
    /// What the making of a gateway was refused with (`PERMISSION_DENIED`).
    pub refused: Vec<String>,
}

/// What the console showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listing {
    /// Whether the gateway is in its list.
    pub gateway: Option<bool>,
    /// Whether the project is in the gateway's list.
    pub project: Option<bool>,
    /// Which Gateway status the project has there.
    pub status: Option<MembershipStatus>,
    /// Whether the instance can be chosen for a gateway.
    pub instance: Option<bool>,
    /// When the list was read last.
    pub read: Option<Timestamp>,
}

/// A call, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObservedCall {
    /// When; now if absent.
    pub at: Option<Timestamp>,
    /// The host that the client called.
    pub host: Option<String>,
    /// The status.
    pub status: Option<u16>,
    /// The headers of the answer. Their names are compared without regard to case.
    pub headers: BTreeMap<String, String>,
    /// The body of the answer.
    pub body: Option<String>,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// Whether it passed the gateway: its counters moved, or its log has the call.
    pub passed_gateway: Option<bool>,
    /// `LastErrorReason` of the gateway's log.
    pub last_error_reason: Option<String>,
    /// The same call to the deployment or tool itself, past the gateway.
    pub direct: Option<Direct>,
}

/// What came of a call past the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Direct {
    /// The status.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub latency_ms: Option<u64>,
}

/// Tokens that were used in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// The tokens.
    pub tokens: u64,
    /// The span in seconds, from the first call to the last.
    pub seconds: u64,
}

/// How sure a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It follows from the state of things and what was observed.
    Certain,
    /// It fits, and something else could too.
    Likely,
    /// Nothing speaks for it but that nothing else was found.
    Possible,
}

/// A probable cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cause {
    /// The diagnosis (`D-03`).
    pub diagnosis: &'static str,
    /// How sure it is.
    pub certainty: Certainty,
    /// What is the matter.
    pub cause: String,
    /// What speaks for it.
    pub evidence: Vec<String>,
    /// What to do.
    pub remedy: String,
}

/// One row of the table.
#[derive(Debug)]
#[non_exhaustive]
pub struct Diagnosis {
    /// Its id.
    pub id: &'static str,
    /// What is observed.
    pub observable: &'static str,
    check: fn(&Case<'_>, &mut Found),
}

/// All rows, in order.
pub fn diagnoses() -> impl Iterator<Item = &'static Diagnosis> {
    TABLE.iter()
}

static TABLE: [Diagnosis; 14] = [
    Diagnosis { id: "D-01", observable: "the gateway is not listed after it was made", check: setup::gateway_missing },
    Diagnosis { id: "D-02", observable: "a project's Gateway status is Disabled", check: setup::project_disabled },
    Diagnosis { id: "D-03", observable: "calls bypass the gateway", check: calls::bypassed },
    Diagnosis { id: "D-04", observable: "making a gateway ends in a permission error", check: setup::not_permitted },
    Diagnosis { id: "D-05", observable: "an existing instance cannot be chosen", check: setup::instance_missing },
    Diagnosis { id: "D-06", observable: "a limit does not refuse", check: calls::not_refused },
    Diagnosis { id: "D-07", observable: "calls to models end with status 500", check: calls::error_500 },
    Diagnosis { id: "D-08", observable: "a project is missing in the gateway's list", check: setup::project_missing },
    Diagnosis { id: "D-09", observable: "calls are slow since the gateway is there", check: calls::slow },
    Diagnosis { id: "D-10", observable: "a tool's calls go to its server directly", check: tools::direct },
    Diagnosis { id: "D-11", observable: "calls to a tool fail since policies were added", check: tools::failing },
    Diagnosis { id: "D-12", observable: "status 429, and the gateway's counters are fine", check: calls::too_many },
    Diagnosis { id: "A-01", observable: "calls to a custom agent are refused", check: tools::agent_refused },
    Diagnosis { id: "A-02", observable: "what was seen names something that is not there", check: tools::unknown },
];

/// What a row looks at.
struct Case<'a> {
    estate: &'a Estate,
    name: &'a ResourceName,
    resource: &'a FoundryResource,
    now: Timestamp,
    seen: &'a Observation,
}

impl<'a> Case<'a> {
    fn gateway(&self) -> Option<&'a AiGateway> {
        self.resource.gateway.as_ref()
    }

    /// When the call was made.
    fn called(&self) -> Timestamp {
        self.seen.call.as_ref().and_then(|call| call.at).unwrap_or(self.now)
    }

    /// What the gateway is at, in words.
    fn gateway_is(&self) -> String {
        match self.gateway() {
            Some(gateway) => format!("gateway {:?} is {}", gateway.name.as_str(), gateway.state),
            None => format!("Foundry resource {:?} has no gateway", self.name.as_str()),
        }
    }
}

/// The causes that have been found so far.
struct Found {
    diagnosis: &'static str,
    causes: Vec<Cause>,
}

impl Found {
    fn cause<const N: usize>(
        &mut self,
        certainty: Certainty,
        cause: impl Into<String>,
        evidence: [String; N],
        remedy: impl Into<String>,
    ) {
        let (cause, evidence, remedy) = (cause.into(), evidence.to_vec(), remedy.into());
        self.causes.push(Cause { diagnosis: self.diagnosis, certainty, cause, evidence, remedy });
    }
}

/// The probable causes of what was observed at a Foundry resource, the surest first. None: nothing that was observed
/// points at anything.
///
/// # Errors
/// `RESOURCE_NOT_FOUND`.
pub fn diagnose(
    estate: &Estate,
    resource: &ResourceName,
    now: Timestamp,
    seen: &Observation,
) -> Result<Vec<Cause>, Refused> {
    let Some((name, held)) = estate.resources().get_key_value(resource) else {
        return Err(estate.unknown_resource(resource));
    };
    let case = Case { estate, name, resource: held, now, seen };
    let mut causes = Vec::new();
    // Of a project that is not there, nothing else can be said; whether it is another resource's is D-08.
    let unknown = seen.project.as_ref().is_some_and(|project| !held.projects.contains_key(project));
    let about = |row: &&Diagnosis| !unknown || ["D-08", "A-02"].contains(&row.id);
    for row in TABLE.iter().filter(about) {
        let mut found = Found { diagnosis: row.id, causes };
        (row.check)(&case, &mut found);
        causes = found.causes;
    }
    causes.sort_by_key(|cause| cause.certainty);
    Ok(causes)
}

/// Whether the making of a gateway was refused with this code.
fn refused_with(seen: &Observation, code: Code) -> bool {
    seen.refused.iter().any(|word| word == code.as_str())
}
