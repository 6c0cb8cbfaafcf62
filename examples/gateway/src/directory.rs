//! What the data path looks up: projects by key, targets by name. Replaced whole when something changes.

use http::{HeaderMap, HeaderName, Uri};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokenweir::gateway::model::{FoundryResource, ToolRoute};

use crate::config::{Admin, Config};
use crate::keys::Digest;
use crate::upstream::{Backend, Target};

/// The directory at present, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Current(Arc<RwLock<Arc<Directory>>>);

impl Current {
    pub(crate) fn new(directory: Directory) -> Self {
        Current(Arc::new(RwLock::new(Arc::new(directory))))
    }

    pub(crate) fn get(&self) -> Arc<Directory> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, directory: Directory) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }
}

#[derive(Debug)]
pub(crate) struct Directory {
    keys: Vec<Key>,
    deployments: HashMap<String, Arc<Target>>,
    /// By project and name.
    agents: HashMap<(String, String), Arc<Backend>>,
    tools: HashMap<(String, String), Arc<Backend>>,
    pub(crate) caller_headers: Vec<(String, HeaderName)>,
    pub(crate) public_url: Option<String>,
    /// The keys of who may do everything, and of who may look.
    admin: Admin,
}

/// What the holder of a key of the operator's may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    Look,
    Change,
}

/// An API key.
#[derive(Debug)]
struct Key {
    digest: Digest,
    project: Arc<str>,
    name: Arc<str>,
}

/// Whose a key is.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) project: Arc<str>,
    pub(crate) key: Arc<str>,
}

impl Directory {
    /// What the file and the resource say together.
    ///
    /// # Errors
    /// A key that is not in the environment, an address that is none.
    pub(crate) fn new(config: &Config, resource: &FoundryResource) -> Result<Directory, String> {
        let mut upstreams = HashMap::new();
        for (name, upstream) in &config.upstream {
            let is_used = config.deployment.values().any(|deployment| deployment.upstream == *name);
            if is_used {
                upstreams.insert(name, Arc::new(Backend::of_upstream(name, upstream)?));
            }
        }
        let deployments = config.deployment.iter().filter_map(|(name, deployment)| {
            let backend = upstreams.get(&deployment.upstream)?.clone();
            let model = deployment.model.clone().unwrap_or_else(|| name.to_string());
            Some((name.to_string(), Arc::new(Target { backend, model })))
        });
        let keys = config.project.iter().flat_map(|(project, one)| {
            let project: Arc<str> = project.as_str().into();
            one.keys.iter().map(move |(name, digest)| Key {
                digest: *digest,
                project: project.clone(),
                name: name.as_str().into(),
            })
        });
        let (mut agents, mut tools) = (HashMap::new(), HashMap::new());
        for (project, held) in &resource.projects {
            let key = |name: &str| (project.to_string(), name.to_owned());
            for (name, agent) in &held.agents {
                let backend = Backend::plain(&agent.url, Some(&agent.card_path))?;
                agents.insert(key(name.as_str()), Arc::new(backend));
            }
            for (name, tool) in &held.tools {
                if matches!(tool.route, ToolRoute::Gated { .. }) {
                    tools.insert(key(name.as_str()), Arc::new(Backend::plain(&tool.url, None)?));
                }
            }
        }
        let header = |(key, name): (&String, &String)| Some((key.clone(), HeaderName::try_from(name.as_str()).ok()?));
        Ok(Directory {
            keys: keys.collect(),
            deployments: deployments.collect(),
            agents,
            tools,
            caller_headers: config.caller_headers.iter().filter_map(header).collect(),
            public_url: config.public_url.clone(),
            admin: config.admin.clone(),
        })
    }

    /// Whose the key is that a request brings. Every key is compared, in the same time.
    pub(crate) fn holder(&self, headers: &HeaderMap) -> Option<Holder> {
        let (given, _) = presented(headers)?;
        let given = Digest::of(given);
        let mut found = None;
        for key in &self.keys {
            if key.digest.is(&given) {
                found = Some(Holder { project: key.project.clone(), key: key.name.clone() });
            }
        }
        found
    }

    /// What the holder of the key that a request brings may do as an operator.
    pub(crate) fn operator(&self, headers: &HeaderMap) -> Option<May> {
        let (given, _) = presented(headers)?;
        let given = Digest::of(given);
        // Both are compared, whatever the first says.
        let change = self.admin.key_sha256.is(&given);
        let look = self.admin.read_key_sha256.is_some_and(|key| key.is(&given));
        match (change, look) {
            (true, _) => Some(May::Change),
            (false, true) => Some(May::Look),
            (false, false) => None,
        }
    }

    pub(crate) fn target(&self, deployment: &str) -> Option<Arc<Target>> {
        self.deployments.get(deployment).cloned()
    }

    pub(crate) fn agent(&self, project: &str, name: &str) -> Option<Arc<Backend>> {
        self.agents.get(&(project.to_owned(), name.to_owned())).cloned()
    }

    pub(crate) fn tool(&self, project: &str, name: &str) -> Option<Arc<Backend>> {
        self.tools.get(&(project.to_owned(), name.to_owned())).cloned()
    }

    /// The names of all deployments, in order.
    pub(crate) fn deployments(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.deployments.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// The headers in which clients bring their keys.
pub(crate) const KEY_HEADERS: [&str; 4] = ["api-key", "x-api-key", "x-goog-api-key", "authorization"];

/// The key that a request brings. Those of OpenAI's clients have it as a bearer, Azure's as `api-key`, Anthropic's as
/// `x-api-key`. The first that is there counts, so that `authorization` may be for somebody behind the gateway.
pub(crate) fn presented(headers: &HeaderMap) -> Option<(&[u8], HeaderName)> {
    for name in KEY_HEADERS {
        let Some(value) = headers.get(name) else { continue };
        let value = value.as_bytes();
        let key = match name {
            "authorization" => bearer(value)?,
            _ => value,
        };
        return Some((key, HeaderName::from_static(name)));
    }
    None
}

/// The token of `Bearer TOKEN`.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// An address without a slash at its end.
pub(crate) fn base(url: &str) -> Result<Uri, String> {
    url.trim_end_matches('/').parse().map_err(|error| format!("{url:?} is no address: {error}"))
}
