//! The one file that says what there is.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokenweir::gateway::AgentRegistration;
use tokenweir::gateway::model::{
    AgentName, DeploymentName, KeyedLimitFields, LimitName, ProjectName, TokenLimitFields, ToolName, TrafficSettings,
    Ungoverned, WorkloadLimitFields,
};

use tokenweir_tower::Unanswered;

use crate::keys::Digest;

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read at all.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not TOML, or has a field that is not known, or a value that cannot be.
    #[error("{}: {error}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where, and why.
        error: Box<toml::de::Error>,
    },
    /// What it says cannot be.
    #[error("{}: {reason}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

/// The longest time that anything is waited for, in seconds. Permits live longer.
pub(crate) const LONGEST_TIMEOUT: u64 = 3600;

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// Where it is reached from outside, if that is another address: for the cards of agents.
    pub public_url: Option<String>,
    /// Where counters and what was administered are kept; nothing outlives the process if absent.
    pub state_file: Option<PathBuf>,
    /// Where a line is written for each call.
    pub usage_log: Option<PathBuf>,
    /// Where the use of quotas is recorded in advance, so that it outlives a kill; or the server that has all counters.
    pub store: Option<StoreUrl>,
    /// How the server is asked, where the store is one.
    #[serde(default)]
    pub server: ServerRules,
    /// Where workers have their counters; a file of the gateway's own unless set.
    pub region: Option<PathBuf>,
    /// Who administers.
    pub admin: Admin,
    /// How limits count and answer.
    #[serde(default)]
    pub counting: Counting,
    /// What is held for requests that do not say enough.
    #[serde(default)]
    pub estimate: EstimateRules,
    /// Where models are.
    #[serde(default)]
    pub upstream: BTreeMap<String, Upstream>,
    /// How long a connection may stand still, in seconds: one that is kept with a client or an upstream and has no call on
    /// it, and one whose client takes nothing of its answer.
    #[serde(default = "idle")]
    pub idle_seconds: u64,
    /// What callers name as the model.
    #[serde(default)]
    pub deployment: BTreeMap<DeploymentName, Deployment>,
    /// Who calls.
    #[serde(default)]
    pub project: BTreeMap<ProjectName, Project>,
    /// A limit on all projects together.
    pub all_projects: Option<TokenLimitFields>,
    /// Limits on what a key tells apart: `key` (the name of the API key), and what `caller_headers` names.
    #[serde(default)]
    pub keyed: BTreeMap<LimitName, KeyedLimitFields>,
    /// Caller keys, and the header that each is read from.
    #[serde(default)]
    pub caller_headers: BTreeMap<String, String>,
    /// How traffic is treated where no limit says so.
    #[serde(default = "strict")]
    pub traffic: TrafficSettings,
}

/// Where the use of quotas is recorded, `redb:PATH`, or where all counters are: `redis://HOST:PORT` and whatever else a
/// [`Server`](tokenweir_redis::Server) is; or the name of an environment variable that says so, `env:NAME`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    /// A file of quotas.
    Redb(PathBuf),
    /// A server. It may have a password in it.
    Server(String),
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreUrl::Redb(path) => f.debug_tuple("Redb").field(path).finish(),
            StoreUrl::Server(_) => f.write_str("Server"),
        }
    }
}

/// How a server of counters is asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerRules {
    /// What all keys on the server begin with. Gateways share counters if it is the same.
    pub prefix: String,
    /// How long a decision may wait for the server, in milliseconds; 1 to 60,000.
    pub deadline_ms: u64,
    /// What a call gets while the server does not answer.
    pub when_away: WhenAway,
    /// With `local_share`: thousandths of every limit that this gateway admits by itself meanwhile; 1 to 1000.
    pub per_mille: Option<u32>,
    /// Whether capacity is leased from the server in advance, and most calls are decided here.
    pub leases: bool,
}

impl Default for ServerRules {
    fn default() -> Self {
        let (prefix, when_away) = ("tokenweir-gateway".to_owned(), WhenAway::Deny);
        ServerRules { prefix, deadline_ms: 50, when_away, per_mille: None, leases: false }
    }
}

/// What a call gets while the server does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenAway {
    /// 503.
    Deny,
    /// It passes, and the server is charged when it is back.
    Allow,
    /// It passes, if a share of every limit has room for it.
    LocalShare,
}

impl TryFrom<String> for StoreUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("redb", path)) if !path.is_empty() => Ok(StoreUrl::Redb(path.into())),
            Some(("env", name)) => match std::env::var(name) {
                Ok(value) if !value.starts_with("env:") => StoreUrl::try_from(value),
                _ => Err(format!(
                    "the environment variable {name:?} names no store; give \"redb:PATH\" or \"redis://HOST\""
                )),
            },
            // What is wrong with it the server's crate says, without its password.
            Some((scheme, _)) if scheme.contains("redis") || scheme.contains("valkey") => Ok(StoreUrl::Server(text)),
            _ => Err("that is no store; give \"redb:PATH\" or \"redis://HOST:PORT\"".to_owned()),
        }
    }
}

fn idle() -> u64 {
    120
}

/// What is not known is refused, unless the file says otherwise.
fn strict() -> TrafficSettings {
    TrafficSettings {
        unknown_project: Ungoverned::Deny,
        unknown_deployment: Ungoverned::Deny,
        ..TrafficSettings::default()
    }
}

/// Who administers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// The digest of the key that may do everything.
    pub key_sha256: Digest,
    /// The digest of the key that may look.
    pub read_key_sha256: Option<Digest>,
}

/// How limits count and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counting {
    /// As the engine does: estimates are held, errors are in the caller's dialect.
    #[default]
    Native,
    /// As API Management's v2 tiers do: charged afterwards, with its statuses, texts and waits.
    ApimV2,
    /// As its classic tiers do.
    ApimClassic,
}

/// What is held for requests that do not say enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EstimateRules {
    /// The output tokens of a request that states no bound.
    pub output_tokens: u64,
    /// The longest request that is read, in bytes.
    pub max_body_bytes: usize,
    /// What a call is charged that was sent and never answered: its `estimate`, its `input`, or `nothing`.
    #[serde(deserialize_with = "unanswered")]
    pub unanswered: Unanswered,
}

fn unanswered<'a, D: serde::Deserializer<'a>>(from: D) -> Result<Unanswered, D::Error> {
    let word = String::deserialize(from)?;
    let wrong =
        || serde::de::Error::custom(format!("{word:?} is not known; give \"estimate\", \"input\" or \"nothing\""));
    Unanswered::from_word(&word).ok_or_else(wrong)
}

impl Default for EstimateRules {
    fn default() -> Self {
        EstimateRules { output_tokens: 1024, max_body_bytes: 32 << 20, unanswered: Unanswered::default() }
    }
}

/// Where models are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// What stands before `/chat/completions` or `/messages`: `https://api.openai.com/v1`. `http://sample.internal/v1` is the
    /// sample inside this program.
    pub base_url: String,
    /// The environment variable that has its key.
    pub api_key_env: Option<String>,
    /// How it takes its key.
    #[serde(default)]
    pub auth: Auth,
    /// How long its response may take to begin, and then each piece of it to come, in seconds; an hour at most.
    #[serde(default = "Upstream::default_timeout")]
    pub timeout_seconds: u64,
}

impl Upstream {
    fn default_timeout() -> u64 {
        600
    }
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `authorization: Bearer`: OpenAI and most others.
    #[default]
    Bearer,
    /// `api-key`: Azure OpenAI.
    ApiKey,
    /// `x-api-key`: Anthropic.
    XApiKey,
    /// `x-goog-api-key`: Gemini.
    XGoogApiKey,
}

/// What callers name as the model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Where it is.
    pub upstream: String,
    /// What it is called there; as the deployment if absent.
    pub model: Option<String>,
}

/// Who calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its API keys: the digest of each, by a name that records show.
    #[serde(default)]
    pub keys: BTreeMap<String, Digest>,
    /// Its limits, by deployment.
    #[serde(default)]
    pub limits: BTreeMap<DeploymentName, TokenLimitFields>,
    /// Its custom agents.
    #[serde(default)]
    pub agents: BTreeMap<AgentName, Agent>,
    /// Its tools.
    #[serde(default)]
    pub tools: BTreeMap<ToolName, Tool>,
}

/// An agent that is hosted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// What it is.
    pub registration: AgentRegistration,
    /// Its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<WorkloadLimitFields>,
}

/// A tool: an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Where it is.
    pub url: String,
    /// Its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<WorkloadLimitFields>,
}

/// What of the file is administered: what the state remembers, to see what a file has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Declared {
    /// Each deployment's model.
    pub(crate) deployments: BTreeMap<DeploymentName, String>,
    pub(crate) projects: BTreeMap<ProjectName, DeclaredProject>,
    pub(crate) all_projects: Option<TokenLimitFields>,
    pub(crate) keyed: BTreeMap<LimitName, KeyedLimitFields>,
    pub(crate) traffic: Option<TrafficSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeclaredProject {
    pub(crate) limits: BTreeMap<DeploymentName, TokenLimitFields>,
    pub(crate) agents: BTreeMap<AgentName, Agent>,
    pub(crate) tools: BTreeMap<ToolName, Tool>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.into(), error })?;
        Config::parse(&text, path)
    }

    /// The file's text; `path` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let toml = |error| ConfigError::Toml { path: path.into(), error: Box::new(error) };
        let config: Config = toml::from_str(text).map_err(toml)?;
        config.check().map_err(|reason| ConfigError::Wrong { path: path.into(), reason })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        for (name, upstream) in &self.upstream {
            let uri = upstream.base_url.parse::<http::Uri>().ok().filter(|uri| uri.query().is_none());
            let Some("http" | "https") = uri.as_ref().and_then(http::Uri::scheme_str) else {
                let given = &upstream.base_url;
                return Err(format!(
                    "upstream {name:?} has base_url {given:?}; give an http or https address without a query"
                ));
            };
            if upstream.timeout_seconds > LONGEST_TIMEOUT {
                let given = upstream.timeout_seconds;
                return Err(format!("upstream {name:?} has timeout_seconds {given}; give {LONGEST_TIMEOUT} at most"));
            }
        }
        if !(1..=LONGEST_TIMEOUT).contains(&self.idle_seconds) {
            let given = self.idle_seconds;
            return Err(format!("idle_seconds is {given}; give seconds from 1 to {LONGEST_TIMEOUT}"));
        }
        for (name, deployment) in &self.deployment {
            if !self.upstream.contains_key(&deployment.upstream) {
                let upstream = &deployment.upstream;
                return Err(format!(
                    "deployment \"{name}\" is at upstream {upstream:?}, which is not there; add [upstream.{upstream}]"
                ));
            }
        }
        let mut digests: BTreeSet<String> = BTreeSet::new();
        for (project, one) in &self.project {
            for (key, digest) in &one.keys {
                if !digests.insert(digest.to_string()) {
                    return Err(format!(
                        "key {key:?} of project \"{project}\" is another key already; give each its own"
                    ));
                }
            }
            if let Some(deployment) = one.limits.keys().find(|deployment| !self.deployment.contains_key(*deployment)) {
                return Err(format!(
                    "project \"{project}\" has a limit on deployment \"{deployment}\", which is not there; add \
                     [deployment.{deployment}]"
                ));
            }
        }
        let header = |name: &String| http::HeaderName::try_from(name.as_str()).is_err();
        if let Some((key, name)) = self.caller_headers.iter().find(|(_, name)| header(name)) {
            return Err(format!("caller key {key:?} is read from header {name:?}, which is no name of one"));
        }
        if let Some(key) = self.caller_headers.keys().find(|key| matches!(&***key, "key" | "agent" | "tool" | "")) {
            return Err(format!("caller key {key:?} is the gateway's own, or empty; choose another name"));
        }
        Ok(())
    }

    pub(crate) fn declared(&self) -> Declared {
        let projects = self.project.iter().map(|(name, project)| {
            let Project { limits, agents, tools, .. } = project.clone();
            (name.clone(), DeclaredProject { limits, agents, tools })
        });
        let deployments = self
            .deployment
            .iter()
            .map(|(name, deployment)| (name.clone(), deployment.model.clone().unwrap_or_else(|| name.to_string())));
        Declared {
            deployments: deployments.collect(),
            projects: projects.collect(),
            all_projects: self.all_projects.clone(),
            keyed: self.keyed.clone(),
            traffic: Some(self.traffic),
        }
    }
}
