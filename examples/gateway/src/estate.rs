//! Brings the console to what the file says.
//!
//! What the file says applies when it is first read and whenever it changes; what is administered meanwhile stays until
//! the file changes the same thing.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokenweir::Policy;
use tokenweir::apim::Profile;
use tokenweir::gateway::model::{FoundryResource, GatewayState};
use tokenweir::gateway::{Console, ConsoleBuilder, ConsoleError, ConsoleOptions, Gate};

use crate::config::{Agent, Counting, Declared, DeclaredProject, LONGEST_TIMEOUT, Tool};

/// The one resource that the gateway is of.
pub(crate) const RESOURCE: &str = "gateway";

/// Who does what the file says.
const FILE: &str = "configuration file";

/// Who does what is asked with the admin key.
pub(crate) const ADMINISTRATOR: &str = "administrator";

/// No answer takes as long to begin as a permit lives.
pub(crate) const PERMIT_TTL: Duration = Duration::from_secs(LONGEST_TIMEOUT + 600);

/// How API Management counts and answers, if that is how.
pub(crate) fn profile(counting: Counting) -> Option<Profile> {
    match counting {
        Counting::Native => None,
        Counting::ApimV2 => Some(Profile::v2()),
        Counting::ApimClassic => Some(Profile::classic()),
    }
}

/// A console that counts and answers so.
pub(crate) fn builder(counting: Counting) -> ConsoleBuilder {
    // Records are for `history` to keep.
    let options = ConsoleOptions {
        profile: profile(counting),
        records: 0,
        max_counters: 100_000,
        call_ttl_seconds: PERMIT_TTL.as_secs(),
        ..ConsoleOptions::default()
    };
    Console::builder().options(&options)
}

/// The resource as it stands.
pub(crate) fn resource(console: &Console) -> Result<FoundryResource, String> {
    let found = console.estate(|estate| estate.resources().get(RESOURCE).cloned());
    found.ok_or_else(|| "there is no resource".to_owned())
}

/// Its gate.
pub(crate) fn gate(console: &Console) -> Result<Gate, String> {
    let gate = RESOURCE.parse().ok().and_then(|name| console.gate(&name));
    gate.ok_or_else(|| "the limits cannot be put in force".to_owned())
}

/// Its limits.
pub(crate) fn policy(console: &Console) -> Result<Policy, String> {
    gate(console).map(|gate| gate.limiter().policy())
}

/// Has the console do everything that the file says now and did not say before.
///
/// # Errors
/// The first thing that is refused; what came before it is done. Try it on a copy.
pub(crate) fn reconcile(console: &Console, was: &Declared, now: &Declared) -> Result<(), ConsoleError> {
    let steps = Steps { console };
    steps.begin()?;
    for (name, model) in &now.deployments {
        if was.deployments.get(name) != Some(model) || steps.look(|resource| !resource.deployments.contains_key(name)) {
            steps.declare("deployment", json!({ "name": name, "model": model }))?;
        }
    }
    for (name, project) in &now.projects {
        let nothing = DeclaredProject::default();
        if steps.look(|resource| !resource.projects.contains_key(name)) {
            steps.operate("create_project", json!({ "project": name }))?;
        }
        steps.project(name.as_str(), was.projects.get(name).unwrap_or(&nothing), project)?;
    }
    for name in was.projects.keys().filter(|name| !now.projects.contains_key(*name)) {
        if steps.look(|resource| resource.projects.contains_key(name)) {
            steps.declare("project_gone", json!({ "name": name }))?;
        }
    }
    if was.all_projects != now.all_projects {
        match &now.all_projects {
            Some(limit) => steps.operate("set_aggregate_limit", json!({ "limit": limit }))?,
            None => steps.clear("clear_aggregate_limit", json!({}))?,
        }
    }
    for name in was.keyed.keys().filter(|name| !now.keyed.contains_key(*name)) {
        steps.clear("clear_keyed_limit", json!({ "name": name }))?;
    }
    for (name, limit) in changed(&was.keyed, &now.keyed) {
        steps.operate("set_keyed_limit", json!({ "name": name, "limit": limit }))?;
    }
    if was.traffic != now.traffic
        && let Some(traffic) = now.traffic
    {
        steps.operate("set_traffic", json!({ "traffic": traffic }))?;
    }
    for name in was.deployments.keys().filter(|name| !now.deployments.contains_key(*name)) {
        if steps.look(|resource| resource.deployments.contains_key(name)) {
            steps.declare("deployment_gone", json!({ "name": name }))?;
        }
    }
    Ok(())
}

/// What is in `now` as it was not in `was`.
fn changed<'a, K: Ord, V: PartialEq>(
    was: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    now.iter().filter(|(name, value)| was.get(*name) != Some(value))
}

struct Steps<'a> {
    console: &'a Console,
}

impl Steps<'_> {
    fn look(&self, look: impl FnOnce(&FoundryResource) -> bool) -> bool {
        self.console.estate(|estate| estate.resources().get(RESOURCE).is_some_and(look))
    }

    fn declare(&self, what: &str, mut fields: Value) -> Result<(), ConsoleError> {
        fields["resource"] = RESOURCE.into();
        self.console.execute(json!({ "declare": { what: fields } })).map(drop)
    }

    fn operate(&self, what: &str, mut fields: Value) -> Result<(), ConsoleError> {
        fields["resource"] = RESOURCE.into();
        self.console.execute(json!({ "apply": { "by": FILE, "operation": { what: fields } } })).map(drop)
    }

    /// Takes a limit away, if somebody else has not done it already.
    fn clear(&self, what: &str, fields: Value) -> Result<(), ConsoleError> {
        match self.operate(what, fields) {
            Err(error) if error.code == "LIMIT_NOT_FOUND" => Ok(()),
            done => done,
        }
    }

    /// The resource, who acts on it, and an Enabled gateway.
    fn begin(&self) -> Result<(), ConsoleError> {
        let at_work = |resource: &FoundryResource| {
            resource.gateway.as_ref().is_some_and(|gateway| gateway.state == GatewayState::Enabled)
        };
        if self.look(at_work) {
            return Ok(());
        }
        let site = json!({ "tenant": "local", "subscription": "local", "resource_group": "local", "region": "local" });
        let fields = json!({ "name": RESOURCE, "site": site, "public_network_access": true });
        self.console.execute(json!({ "declare": { "resource": fields } }))?;
        for id in [FILE, ADMINISTRATOR] {
            let roles = ["Owner", "Foundry Owner"].map(|role| json!({ "role": role, "scope": "/subscriptions/local" }));
            self.console.execute(json!({ "declare": { "principal": { "id": id, "assignments": roles } } }))?;
        }
        self.operate("create_gateway", json!({ "name": "gateway" }))?;
        self.console.execute(json!({ "refresh": {} })).map(drop)
    }

    fn project(&self, name: &str, was: &DeclaredProject, now: &DeclaredProject) -> Result<(), ConsoleError> {
        for deployment in was.limits.keys().filter(|deployment| !now.limits.contains_key(*deployment)) {
            self.clear("clear_limit", json!({ "project": name, "deployment": deployment }))?;
        }
        for (deployment, limit) in changed(&was.limits, &now.limits) {
            self.operate("set_limit", json!({ "project": name, "deployment": deployment, "limit": limit }))?;
        }
        let project = |resource: &FoundryResource| resource.projects.get(name).cloned();
        let held = self.console.estate(|estate| estate.resources().get(RESOURCE).and_then(project));
        for agent in was.agents.keys().filter(|agent| !now.agents.contains_key(*agent)) {
            if held.as_ref().is_some_and(|held| held.agents.contains_key(agent)) {
                self.operate("remove_agent", json!({ "project": name, "agent": agent }))?;
            }
        }
        for (agent, declared) in changed(&was.agents, &now.agents) {
            let is_held = held.as_ref().is_some_and(|held| held.agents.contains_key(agent));
            self.agent(name, agent.as_str(), was.agents.get(agent), declared, is_held)?;
        }
        for tool in was.tools.keys().filter(|tool| !now.tools.contains_key(*tool)) {
            if held.as_ref().is_some_and(|held| held.tools.contains_key(tool)) {
                self.operate("delete_tool", json!({ "project": name, "tool": tool }))?;
            }
        }
        for (tool, declared) in changed(&was.tools, &now.tools) {
            let is_held = held.as_ref().is_some_and(|held| held.tools.contains_key(tool));
            self.tool(name, tool.as_str(), was.tools.get(tool), declared, is_held)?;
        }
        Ok(())
    }

    fn agent(
        &self,
        project: &str,
        agent: &str,
        was: Option<&Agent>,
        now: &Agent,
        is_held: bool,
    ) -> Result<(), ConsoleError> {
        let of = json!({ "project": project, "agent": agent });
        let same = was.is_some_and(|was| was.registration == now.registration);
        if is_held && !same {
            self.operate("remove_agent", of.clone())?;
        }
        if !(is_held && same) {
            self.operate("register_agent", with(&of, "registration", &now.registration))?;
        }
        match (&now.limit, was.is_some_and(|was| was.limit.is_some())) {
            (Some(limit), _) => self.operate("set_agent_limit", with(&of, "limit", limit)),
            (None, true) => self.clear("clear_agent_limit", of),
            (None, false) => Ok(()),
        }
    }

    fn tool(
        &self,
        project: &str,
        tool: &str,
        was: Option<&Tool>,
        now: &Tool,
        is_held: bool,
    ) -> Result<(), ConsoleError> {
        let of = json!({ "project": project, "tool": tool });
        let same = was.is_some_and(|was| was.url == now.url);
        if is_held && !same {
            self.operate("delete_tool", of.clone())?;
        }
        if !(is_held && same) {
            let made = json!({ "project": project, "tool": tool, "kind": "mcp", "auth": "key", "url": now.url,
                "require_gated": true });
            self.operate("create_tool", made)?;
        }
        match (&now.limit, was.is_some_and(|was| was.limit.is_some())) {
            (Some(limit), _) => self.operate("set_tool_limit", with(&of, "limit", limit)),
            (None, true) => self.clear("clear_tool_limit", of),
            (None, false) => Ok(()),
        }
    }
}

fn with(fields: &Value, name: &str, value: &impl serde::Serialize) -> Value {
    let mut fields = fields.clone();
    fields[name] = json!(value);
    fields
}
