//! The limits of one gateway as one policy of the engine.
//!
//! Each limit becomes limits of the engine that are named after what they are on, and the name is the counter's identity:
//! to change one leaves all other counters alone, and its own as well, as far as the engine keeps them through a change.
//! The limits of projects that are Disabled are compiled too, so that their counters wait for them.
//!
//! | what | engine's limit | scope |
//! |---|---|---|
//! | a project's tokens per minute on a deployment | `project "p" on "d": tokens per minute`, with ` #2` and so on each time the project is enabled again | project, deployment |
//! | its token quota | `project "p" on "d": token quota` | project, deployment |
//! | the aggregate | `all projects: tokens per minute`, `all projects: token quota` | none |
//! | a keyed limit | `key "name": ...` | the parts of its key but constants |
//! | an agent, a tool | `agent "a" of "p": ...`, `tool "t" of "p": ...` | project and agent, or tool |

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::code::Code;
use super::model::{
    AiGateway, CallQuota, CallRate, CounterKey, KeyPart, KeyedLimit, LimitName, LimitScope, QuotaPeriod, TokenLimit,
    TrafficSettings, WorkloadLimit,
};
use crate::apim::{Profile, Tier};
use crate::policy::{MAX_TOKENS, Policy, PolicyError, Until};

/// The caller keys that traffic itself gives a request: the agent and the tool that are called.
pub(super) const AGENT: &str = "agent";
pub(super) const TOOL: &str = "tool";

/// How the limits of a gateway are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// How rates are counted.
    pub rates: Rates,
    /// Until when a window lasts for requests that are charged at settlement.
    pub rates_until: Until,
    /// The same of quotas.
    pub quotas_until: Until,
    /// Whether tokens from a provider's cache count.
    pub count_cached: bool,
}

/// How rates are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rates {
    /// By token buckets.
    Buckets,
    /// By sliding windows.
    Windows {
        /// 1 to 500, or the next number below that divides the window.
        sub_windows: u32,
    },
}

impl Terms {
    /// The engine's own: token buckets, quotas that last until they are reached, cached tokens count.
    pub const fn native() -> Self {
        Terms { rates: Rates::Buckets, rates_until: Until::Reached, quotas_until: Until::Reached, count_cached: true }
    }
}

impl From<&Profile> for Terms {
    /// As API Management counts.
    fn from(profile: &Profile) -> Self {
        Terms {
            rates: match profile.tier {
                Tier::Classic => Rates::Windows { sub_windows: profile.sub_windows },
                Tier::V2 => Rates::Buckets,
            },
            rates_until: profile.tokens_per_minute_until,
            quotas_until: profile.quota_until,
            count_cached: profile.count_cached,
        }
    }
}

/// Why the limits of a gateway cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A name with a star in it cannot be told from a pattern.
    #[error("{what} {name:?} has a * in its name, which the engine takes for any text; rename it")]
    Star {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// V-16. More than the engine counts.
    #[error("{limit}: {amount} is more than is counted exactly; give at most 2^53")]
    TooLarge {
        /// The engine's limit.
        limit: String,
        /// Its amount.
        amount: u64,
    },
    /// A quota of kilobytes: bytes are not counted.
    #[error("{limit}: bandwidth is not counted; give calls, or take the bandwidth away")]
    Bandwidth {
        /// The limit.
        limit: String,
    },
    /// V-17. Two keyed limits of one key are one counter, and cannot be.
    #[error(
        "the limits {:?} and {:?} have the same key, so they are one counter, and {reason}", .first.as_str(),
        .second.as_str()
    )]
    CounterConflict {
        /// The first by name.
        first: LimitName,
        /// The other.
        second: LimitName,
        /// What they differ in, and the next step.
        reason: &'static str,
    },
    /// The engine refuses the policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl CompileError {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            CompileError::Star { .. } => Code::NameInvalid,
            CompileError::TooLarge { .. } => Code::OutOfRange,
            CompileError::Bandwidth { .. } => Code::BandwidthUnsupported,
            CompileError::CounterConflict { .. } => Code::CounterConflict,
            CompileError::Policy(_) => Code::PolicyInvalid,
        }
    }
}

/// What the names of a project's limits on a deployment begin with, before `: `.
pub(super) fn of_project(project: &str, deployment: &str) -> String {
    format!("project {project:?} on {deployment:?}")
}

/// The same of the limits on all projects.
pub(super) const AGGREGATE: &str = "all projects";

/// The same of a keyed limit.
pub(super) fn of_key(name: &str) -> String {
    format!("key {name:?}")
}

/// The same of the limits on an agent or a tool (`what`).
pub(super) fn of_workload(what: &str, name: &str, project: &str) -> String {
    format!("{what} {name:?} of {project:?}")
}

impl AiGateway {
    /// The gateway's limits as a policy of the engine.
    ///
    /// A project without a limit on a deployment is not limited there \[G\].
    ///
    /// # Errors
    /// [`CompileError`]: what cannot be put in force is never dropped in silence.
    pub fn policy(&self, terms: &Terms) -> Result<Policy, CompileError> {
        Ok(Policy::from_json(&self.policy_document(terms)?.to_string())?)
    }

    /// The same policy as operators write it, in JSON.
    ///
    /// # Errors
    /// As [`policy`](AiGateway::policy), but for what the engine finds.
    pub fn policy_document(&self, terms: &Terms) -> Result<Value, CompileError> {
        let mut compiler = Compiler { terms, traffic: &self.traffic, limits: Vec::new() };
        for (project, deployments) in &self.limits.projects {
            // A project that was removed and added again starts with rates that nobody has used; quotas go on \[U\].
            let times = self.memberships.get(project).map_or(0, |membership| membership.enabled_times);
            for (deployment, limit) in deployments {
                let on = On {
                    name: of_project(project.as_str(), deployment.as_str()),
                    scope: vec!["project".to_owned(), "deployment".to_owned()],
                    matches: vec![
                        ("project", exact("project", project)?),
                        ("deployment", exact("deployment", deployment)?),
                    ],
                    again: times,
                };
                compiler.tokens(&on, *limit)?;
            }
        }
        if let Some(limit) = self.limits.aggregate {
            compiler.tokens(&On::new(AGGREGATE), limit)?;
        }
        for (name, keyed) in one_for_each_key(&self.limits.keyed)? {
            compiler.workload(&on_key(name, keyed)?, keyed.limit)?;
        }
        for (project, agents) in &self.limits.agents {
            for (agent, limit) in agents {
                compiler.workload(&part("agent", "key:agent", agent.as_str(), project.as_str())?, *limit)?;
            }
        }
        for (project, tools) in &self.limits.tools {
            for (tool, limit) in tools {
                compiler.workload(&part("tool", "key:tool", tool.as_str(), project.as_str())?, *limit)?;
            }
        }
        Ok(json!({ "limit": compiler.limits }))
    }
}

/// What limits are on: their common name, scope and match.
struct On {
    name: String,
    scope: Vec<String>,
    matches: Vec<(&'static str, String)>,
    /// Rates of this number are other counters than those of another.
    again: u32,
}

impl On {
    fn new(name: impl Into<String>) -> Self {
        On { name: name.into(), scope: Vec::new(), matches: Vec::new(), again: 0 }
    }
}

/// An agent or a tool of a project.
fn part(what: &'static str, key: &'static str, name: &str, project: &str) -> Result<On, CompileError> {
    Ok(On {
        name: of_workload(what, name, project),
        scope: vec!["project".to_owned(), key.to_owned()],
        matches: vec![("project", exact("project", project)?), (key, exact(what, name)?)],
        again: 0,
    })
}

fn on_key(name: &LimitName, keyed: &KeyedLimit) -> Result<On, CompileError> {
    let mut on = On::new(of_key(name.as_str()));
    for part in keyed.key.parts() {
        let part = match part {
            KeyPart::Project => "project".to_owned(),
            KeyPart::Deployment => "deployment".to_owned(),
            KeyPart::Caller(key) => format!("key:{key}"),
            KeyPart::Constant(_) => continue,
        };
        if !on.scope.contains(&part) {
            on.scope.push(part);
        }
    }
    if let Some(project) = &keyed.scope.project {
        on.matches.push(("project", exact("project", project)?));
    }
    if let Some(deployment) = &keyed.scope.deployment {
        on.matches.push(("deployment", exact("deployment", deployment)?));
    }
    Ok(on)
}

/// A name as an exact match.
fn exact(what: &'static str, name: &(impl AsRef<str> + ?Sized)) -> Result<String, CompileError> {
    let name = name.as_ref();
    match name.contains('*') {
        true => Err(CompileError::Star { what, name: name.to_owned() }),
        false => Ok(name.to_owned()),
    }
}

/// The same key is the same counter wherever it is used \[D\]: of several limits with one key, the one that stands for
/// them all.
pub(super) fn one_for_each_key(
    keyed: &BTreeMap<LimitName, KeyedLimit>,
) -> Result<Vec<(&LimitName, &KeyedLimit)>, CompileError> {
    let mut by_key: BTreeMap<&CounterKey, (&LimitName, &KeyedLimit)> = BTreeMap::new();
    for (name, limit) in keyed {
        let Some((first, known)) = by_key.get(&limit.key).copied() else {
            by_key.insert(&limit.key, (name, limit));
            continue;
        };
        let conflict = |reason| {
            let (first, second) = (first.clone(), name.clone());
            Err(CompileError::CounterConflict { first, second, reason })
        };
        if known.limit != limit.limit {
            return conflict("they limit it differently; give both the same limit, or one of them another key");
        }
        let all = LimitScope::default();
        if limit.scope == all {
            by_key.insert(&limit.key, (name, limit));
        } else if known.scope != all && known.scope != limit.scope {
            return conflict("they are on different requests; make it one limit on both, or give one another key");
        }
    }
    // In the order of their names, as they are listed.
    let mut each: Vec<_> = by_key.into_values().collect();
    each.sort_by_key(|(name, _)| *name);
    Ok(each)
}

/// Writes limits of the engine.
struct Compiler<'a> {
    terms: &'a Terms,
    traffic: &'a TrafficSettings,
    limits: Vec<Value>,
}

impl Compiler<'_> {
    fn tokens(&mut self, on: &On, limit: TokenLimit) -> Result<(), CompileError> {
        if let Some(rate) = limit.tokens_per_minute() {
            let again = if on.again > 1 { format!(" #{}", on.again) } else { String::new() };
            let mut limit = self.limit(on, format_args!("tokens per minute{again}"), "total", rate.get().into())?;
            self.rate(&mut limit, 60);
            self.push(limit);
        }
        if let Some(quota) = limit.quota() {
            let mut limit = self.limit(on, format_args!("token quota"), "total", quota.tokens())?;
            limit.insert("algorithm".into(), "quota".into());
            limit.insert("until".into(), self.terms.quotas_until.as_str().into());
            let period = match quota.period() {
                QuotaPeriod::Hourly => "hourly",
                QuotaPeriod::Daily => "daily",
                QuotaPeriod::Weekly => "weekly",
                QuotaPeriod::Monthly => "monthly",
                QuotaPeriod::Yearly => "yearly",
            };
            limit.insert("period".into(), period.into());
            if quota.period() == QuotaPeriod::Weekly {
                limit.insert("week_start".into(), self.traffic.week_start.as_str().into());
            }
            self.push(limit);
        }
        Ok(())
    }

    fn workload(&mut self, on: &On, limit: WorkloadLimit) -> Result<(), CompileError> {
        if let Some(rate) = limit.calls() {
            self.calls(on, rate)?;
        }
        if let Some(quota) = limit.call_quota() {
            self.call_quota(on, quota)?;
        }
        if let Some(places) = limit.concurrency() {
            let mut limit = self.limit(on, format_args!("calls at a time"), "in_flight", places.get().into())?;
            limit.insert("algorithm".into(), "in_flight".into());
            self.push(limit);
        }
        match limit.tokens() {
            Some(tokens) => self.tokens(on, tokens),
            None => Ok(()),
        }
    }

    fn calls(&mut self, on: &On, rate: CallRate) -> Result<(), CompileError> {
        let mut limit = self.limit(on, format_args!("calls"), "requests", rate.calls())?;
        self.rate(&mut limit, rate.renewal_seconds());
        self.push(limit);
        Ok(())
    }

    fn call_quota(&mut self, on: &On, quota: CallQuota) -> Result<(), CompileError> {
        if quota.bandwidth_kilobytes().is_some() {
            return Err(CompileError::Bandwidth { limit: on.name.clone() });
        }
        let Some(calls) = quota.calls() else { return Ok(()) };
        let mut limit = self.limit(on, format_args!("call quota"), "requests", calls)?;
        limit.insert("algorithm".into(), "quota".into());
        let period = match quota.renewal_seconds() {
            0 => json!("never"),
            // From 0001-01-01T00:00:00Z on, unless the policy says otherwise \[D\]: that is the engine's anchor as well.
            seconds => json!({ "every": format!("{seconds}s") }),
        };
        limit.insert("period".into(), period);
        self.push(limit);
        Ok(())
    }

    /// What all limits have.
    fn limit(
        &self,
        on: &On,
        what: fmt::Arguments<'_>,
        meter: &str,
        amount: u64,
    ) -> Result<Map<String, Value>, CompileError> {
        let name = format!("{}: {what}", on.name);
        if amount > MAX_TOKENS {
            return Err(CompileError::TooLarge { limit: name, amount });
        }
        let mut limit = Map::new();
        limit.insert("name".into(), name.into());
        limit.insert("meter".into(), meter.into());
        limit.insert("amount".into(), amount.into());
        limit.insert("scope".into(), on.scope.clone().into());
        if !on.matches.is_empty() {
            let matches = on.matches.iter().map(|(field, name)| ((*field).to_owned(), Value::from(name.as_str())));
            limit.insert("match".into(), Value::Object(matches.collect()));
        }
        if !self.traffic.enforce {
            limit.insert("mode".into(), "shadow".into());
        }
        if meter == "total" && !self.terms.count_cached {
            limit.insert("weights".into(), json!({ "cached_input": 0 }));
        }
        Ok(limit)
    }

    fn rate(&self, limit: &mut Map<String, Value>, seconds: u32) {
        limit.insert("per".into(), format!("{seconds}s").into());
        match self.terms.rates {
            Rates::Buckets => limit.insert("algorithm".into(), "bucket".into()),
            Rates::Windows { sub_windows } => {
                let nanos = u64::from(seconds) * 1_000_000_000;
                let fitting = (1..=sub_windows.min(500)).rev().find(|parts| nanos.is_multiple_of(u64::from(*parts)));
                limit.insert("sub_windows".into(), fitting.unwrap_or(1).into());
                limit.insert("until".into(), self.terms.rates_until.as_str().into());
                limit.insert("algorithm".into(), "window".into())
            }
        };
    }

    fn push(&mut self, limit: Map<String, Value>) {
        self.limits.push(Value::Object(limit));
    }
}
