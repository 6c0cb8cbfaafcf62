//! An estate as a document: JSON with a version.
//!
//! ```json
//! {"format": "tokenweir gateway", "version": 1, "estate": {}, "audit": {}, "counters": {"contoso": {}}, "console": {}}
//! ```
//!
//! What is read is checked as if it had been administered here: unknown fields, names given twice, and parts that
//! contradict one another are refused. Nothing is left out in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Code;
use super::audit::AuditTrail;
use super::console::ConsoleSettings;
use super::estate::{Estate, Holdings};
use super::model::{FoundryResource, GatewayState, InstanceStatus, MembershipStatus, ResourceName, ToolRoute};
use super::operation::Event;
use super::provider::InstanceProvider;
use super::rules::{AgentFacts, Facts, judge, not_an_address, not_routed};
use super::settings::Settings;

/// What every document says it is.
const FORMAT: &str = "tokenweir gateway";

/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// The counters of gateways, by Foundry resource: what their limiters gave to be kept, which is theirs to read.
pub type Counters = BTreeMap<ResourceName, serde_json::Value>;

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is no JSON, has a field that is not known, lacks one, or has a value that cannot be.
    #[error("the document cannot be read: {reason}")]
    Unreadable {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// It is of another format or version.
    #[error(
        "the document is {found}, and this library reads \"tokenweir gateway\" version 1; use the version of the library that \
         wrote it"
    )]
    Version {
        /// What it says it is.
        found: String,
    },
    /// Its parts contradict one another.
    #[error("the document contradicts itself: {}", .problems.join("; "))]
    Inconsistent {
        /// Each contradiction.
        problems: Vec<String>,
    },
}

impl DocumentError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            DocumentError::Version { .. } => Code::DocumentVersion,
            DocumentError::Unreadable { .. } | DocumentError::Inconsistent { .. } => Code::DocumentInvalid,
        }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    version: u64,
    estate: &'a Holdings,
    audit: &'a AuditTrail,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    counters: &'a Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<&'a ConsoleSettings>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    estate: Holdings,
    #[serde(default)]
    audit: AuditTrail,
    #[serde(default)]
    counters: Counters,
    #[serde(default)]
    console: Option<ConsoleSettings>,
}

/// What a document says, checked.
pub(super) struct Document {
    pub(super) holdings: Holdings,
    pub(super) audit: AuditTrail,
    pub(super) counters: Counters,
    pub(super) console: Option<ConsoleSettings>,
}

/// As much as is needed to know whether the rest can be read.
#[derive(Deserialize)]
struct Heading {
    #[serde(default)]
    format: serde_json::Value,
    #[serde(default)]
    version: serde_json::Value,
}

impl Estate {
    /// The estate as a document, with its audit trail and, where they are given, counters.
    ///
    /// Equal estates make equal documents.
    pub fn save(&self, counters: &Counters) -> String {
        // Cannot fail: every key is a string, and writing to memory does not fail.
        serde_json::to_string_pretty(&self.written(counters, None)).unwrap_or_default()
    }

    /// The same as a value, with what a console keeps beside it.
    pub(super) fn document(&self, counters: &Counters, console: &ConsoleSettings) -> serde_json::Value {
        serde_json::to_value(self.written(counters, Some(console))).unwrap_or_default()
    }

    fn written<'a>(&'a self, counters: &'a Counters, console: Option<&'a ConsoleSettings>) -> Written<'a> {
        let (estate, audit) = (&self.holdings, &self.audit);
        Written { format: FORMAT, version: VERSION, estate, audit, counters, console }
    }

    /// The estate that a document describes, and the counters that came with it. Work that was under way goes on:
    /// `provider` is asked about it at the next refresh.
    ///
    /// # Errors
    /// [`DocumentError`]: another version, anything that is not known or given twice, or a contradiction.
    pub fn load(
        document: &str,
        provider: impl InstanceProvider + Send + 'static,
    ) -> Result<(Estate, Counters), DocumentError> {
        let Document { holdings, audit, counters, .. } = Document::read(document)?;
        Ok((Estate::of(holdings, audit, Box::new(provider)), counters))
    }
}

impl Document {
    pub(super) fn read(document: &str) -> Result<Document, DocumentError> {
        let unreadable = |error: serde_json::Error| DocumentError::Unreadable { reason: error.to_string() };
        each_once(document).map_err(unreadable)?;
        let heading: Heading = serde_json::from_str(document).map_err(unreadable)?;
        if heading.format != FORMAT || heading.version != VERSION {
            let found = format!("of format {} and version {}", heading.format, heading.version);
            return Err(DocumentError::Version { found });
        }
        let Read { estate: holdings, mut audit, counters, console, .. } =
            serde_json::from_str(document).map_err(unreadable)?;
        let problems = problems(&holdings, &audit, &counters);
        if !problems.is_empty() {
            return Err(DocumentError::Inconsistent { problems });
        }
        audit.shorten(holdings.settings.audit_entries);
        Ok(Document { holdings, audit, counters, console })
    }
}

/// What cannot be true of an estate at once.
fn problems(holdings: &Holdings, audit: &AuditTrail, counters: &Counters) -> Vec<String> {
    let mut problems = Vec::new();
    if !(1..=Settings::MOST_AUDIT_ENTRIES).contains(&holdings.settings.audit_entries) {
        problems.push("the settings keep less than 1 or more than 100000 audit entries".to_owned());
    }
    let numbers = audit.entries().map(|entry| entry.number);
    if !numbers.eq((1..=audit.entries().len() as u64).map(|number| audit.dropped().saturating_add(number))) {
        problems.push("the entries of the audit trail are not numbered one after the other".to_owned());
    }
    let mut hosts = BTreeSet::new();
    for (name, resource) in &holdings.resources {
        let mut found = Vec::new();
        problems_of(holdings, name, resource, &mut found);
        if let Some(gateway) = &resource.gateway
            && !hosts.insert(&gateway.instance)
            && !holdings.settings.relaxed_association
        {
            found.push(format!("instance {:?} hosts another gateway too", gateway.instance.as_str()));
        }
        problems.extend(found.into_iter().map(|problem| format!("Foundry resource {:?}: {problem}", name.as_str())));
    }
    for name in counters.keys() {
        if holdings.resources.get(name).is_none_or(|resource| resource.gateway.is_none()) {
            problems.push(format!("there are counters for {:?}, which has no gateway", name.as_str()));
        }
    }
    problems
}

fn problems_of(holdings: &Holdings, name: &ResourceName, resource: &FoundryResource, problems: &mut Vec<String>) {
    let standing = resource.gateway.as_ref();
    let standing = standing.filter(|gateway| !matches!(gateway.state, GatewayState::Orphaned | GatewayState::Deleting));
    let mut addresses: BTreeMap<&str, &str> = BTreeMap::new();
    for project in resource.projects.values() {
        for (agent, registered) in &project.agents {
            if standing.is_none() {
                problems.push(format!("agent {:?} is registered, and there is no gateway", agent.as_str()));
            }
            let registration = registered.registration();
            let same_url = addresses.insert(&registered.url, agent.as_str());
            let facts = AgentFacts { registration: &registration, same_url };
            let facts = Facts { agent: Some(facts), ..Facts::default() };
            let wrong = judge(Event::RegisterAgent, &facts);
            problems.extend(wrong.iter().map(|wrong| format!("agent {:?}: {wrong}", agent.as_str())));
        }
        for (tool, made) in &project.tools {
            if let Some(why) = not_an_address(&made.url) {
                problems.push(format!("the URL of tool {:?} is not valid: {why}", tool.as_str()));
            }
            if let (ToolRoute::Gated { .. }, Some(why)) = (&made.route, not_routed(made.kind, made.auth)) {
                problems.push(format!("tool {:?} is routed through the gateway, and {why}", tool.as_str()));
            }
            if let ToolRoute::Gated { endpoint } = &made.route
                && standing.is_none_or(|gateway| !endpoint.starts_with(&format!("https://{}/", gateway.host())))
            {
                problems.push(format!("tool {:?} is at {endpoint}, which is not at the gateway", tool.as_str()));
            }
        }
    }
    let Some(gateway) = &resource.gateway else { return };
    match holdings.instances.get(&gateway.instance) {
        None => {
            problems.push(format!("its gateway is on instance {:?}, which is not there", gateway.instance.as_str()))
        }
        Some(instance) if gateway.state == GatewayState::Enabled && instance.status != InstanceStatus::Ready => {
            problems.push(format!("its gateway is Enabled, and its instance {}", instance.status));
        }
        Some(_) => {}
    }
    if gateway.state == GatewayState::Enabled && gateway.enabled.is_none() {
        problems.push("its gateway is Enabled, and was never enabled".to_owned());
    }
    for (project, membership) in &gateway.memberships {
        if !resource.projects.contains_key(project) {
            problems.push(format!("project {:?} is behind the gateway, and is not there", project.as_str()));
        }
        if membership.status == MembershipStatus::Enabled && gateway.state != GatewayState::Enabled {
            problems.push(format!("project {:?} is behind a gateway that is {}", project.as_str(), gateway.state));
        }
    }
    let limits = &gateway.limits;
    for (project, of_project) in &limits.projects {
        if !resource.projects.contains_key(project) {
            problems.push(format!("there are limits for project {:?}, which is not there", project.as_str()));
        }
        for deployment in of_project.keys().filter(|deployment| !resource.deployments.contains_key(*deployment)) {
            problems.push(format!("there is a limit on deployment {:?}, which is not there", deployment.as_str()));
        }
    }
    for (project, agents) in &limits.agents {
        let known = resource.projects.get(project).map(|project| &project.agents);
        for agent in agents.keys().filter(|agent| known.is_none_or(|known| !known.contains_key(*agent))) {
            problems.push(format!("there is a limit for agent {:?}, which is not there", agent.as_str()));
        }
    }
    for (project, tools) in &limits.tools {
        let known = resource.projects.get(project).map(|project| &project.tools);
        for tool in tools.keys().filter(|tool| known.is_none_or(|known| !known.contains_key(*tool))) {
            problems.push(format!("there is a limit for tool {:?}, which is not there", tool.as_str()));
        }
    }
    for (limit_name, limit) in &limits.keyed {
        let scope = &limit.scope;
        if scope.project.as_ref().is_some_and(|project| !resource.projects.contains_key(project))
            || scope.deployment.as_ref().is_some_and(|deployment| !resource.deployments.contains_key(deployment))
        {
            problems.push(format!("limit {:?} is for a project or deployment that is not there", limit_name.as_str()));
        }
    }
    let facts = Facts { after: Some(gateway), ..Facts::default() };
    problems.extend(judge(Event::SetKeyedLimit, &facts).iter().map(ToString::to_string));
    let facts =
        Facts { dimensions: Some(&gateway.metric_dimensions), resource: Some((name, resource)), ..Facts::default() };
    problems.extend(judge(Event::SetMetricDimensions, &facts).iter().map(ToString::to_string));
}

/// Whether a text is JSON in which no object has a name twice.
pub(super) fn each_once(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<EachOnce>(text).map(|_| ())
}

/// Any JSON in which no object has a name twice: otherwise the last one would win unseen.
struct EachOnce;

impl<'de> Deserialize<'de> for EachOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EachOnce)
    }
}

impl<'de> Visitor<'de> for EachOnce {
    type Value = EachOnce;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_i64<E>(self, _: i64) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_u64<E>(self, _: u64) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_f64<E>(self, _: f64) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_str<E>(self, _: &str) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_unit<E>(self) -> Result<EachOnce, E> {
        Ok(EachOnce)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<EachOnce, A::Error> {
        while items.next_element::<EachOnce>()?.is_some() {}
        Ok(EachOnce)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<EachOnce, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("{name:?} is given twice")));
            }
            fields.next_value::<EachOnce>()?;
            names.insert(name);
        }
        Ok(EachOnce)
    }
}
