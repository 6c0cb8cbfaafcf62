//! Who calls what, for the layer.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use std::borrow::Cow;
use std::sync::Arc;
use tokenweir::Estimate;
use tokenweir_tower::{Caller, Host, Identified, Takes, error};
use tokenweir_wire::{Api, Asked, Dialect, Endpoint};

use crate::directory::{Current, Directory};
use crate::upstream::{Backend, Target};

/// Identifies requests by the directory.
pub(crate) struct Identity {
    pub(crate) directory: Current,
}

/// Where a request goes: in its extensions, for the proxy.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    /// A model. `path` is what follows the upstream's base; what the body names as the model was `named`.
    Model { target: Arc<Target>, path: String, query: Option<String>, named: Option<String>, api: Api },
    /// An agent or a tool, at what follows its address.
    Peer { backend: Arc<Backend>, path: String, mount: String },
    /// The list of models.
    Models,
}

/// What the proxy has to know besides: the directory by which the call was identified, and how its client speaks.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) directory: Arc<Directory>,
    pub(crate) dialect: Dialect,
}

impl Host for Identity {
    fn identify(&self, head: &mut Parts) -> Identified {
        let directory = self.directory.get();
        let dialect = dialect(head);
        let Some(holder) = directory.holder(&head.headers) else {
            return Identified::Refused(unauthorised(dialect));
        };
        let path = head.uri.path().to_owned();
        // What is below an agent or a tool is theirs, whatever it is called.
        let mut caller = if let Some(peer) = Peer::of(&path) {
            let mut caller = Caller::new(&*holder.project, Takes::Stated(Estimate::default()));
            let backend = match peer.kind {
                _ if peer.project != *holder.project => None,
                Kind::Agent => directory.agent(&peer.project, &peer.name),
                Kind::Tool => directory.tool(&peer.project, &peer.name),
            };
            let Some(backend) = backend else {
                let what = if peer.kind == Kind::Agent { "agent" } else { "tool" };
                let message = format!("The key's project has no {what} {:?} behind this gateway.", peer.name);
                return Identified::Refused(error(dialect, 404, &message));
            };
            let name = Some(peer.name);
            match peer.kind {
                Kind::Agent => (caller.agent, caller.operation) = (name, Some("invoke_agent".into())),
                Kind::Tool => (caller.tool, caller.operation) = (name, Some("execute_tool".into())),
            }
            head.extensions.insert(Destination::Peer { backend, path: peer.rest, mount: peer.mount });
            caller
        } else if let Some(endpoint) = Endpoint::of(&path).filter(|_| !Peer::has(&path)) {
            if head.method != Method::POST {
                let message = format!("{} is not for this path. Send the request by POST.", head.method);
                let mut response = error(dialect, 405, &message);
                response.headers_mut().insert("allow", http::HeaderValue::from_static("POST"));
                return Identified::Refused(response);
            }
            let mut caller = Caller::new(&*holder.project, Takes::tokens(endpoint));
            caller.deployment = endpoint.model.map(decoded);
            caller.operation = Some(Cow::Borrowed(match endpoint.api {
                Api::Embeddings => "embeddings",
                Api::Completions => "text_completion",
                Api::GenerateContent => "generate_content",
                _ => "chat",
            }));
            caller
        } else if matches!(path.trim_end_matches('/'), "/v1/models" | "/openai/models" | "/openai/v1/models") {
            head.extensions.insert(Destination::Models);
            head.extensions.insert(Arrived { directory, dialect });
            return Identified::Unmetered;
        } else {
            return Identified::Refused(error(dialect, 404, "There is nothing at this path."));
        };
        caller.dialect = dialect;
        caller.keys.push((Cow::Borrowed("key"), holder.key.as_bytes().to_vec()));
        for (key, header) in &directory.caller_headers {
            if let Some(value) = head.headers.get(header).filter(|value| !value.is_empty()) {
                caller.keys.push((Cow::Owned(key.clone()), value.as_bytes().to_vec()));
            }
        }
        head.extensions.insert(Arrived { directory, dialect });
        Identified::Metered(caller)
    }

    fn resolve(
        &self,
        head: &mut Parts,
        caller: &mut Caller,
        asked: Option<&Asked>,
    ) -> Result<(), Box<Response<Bytes>>> {
        let Takes::Tokens { api, .. } = caller.takes else { return Ok(()) };
        let named = asked.and_then(|asked| asked.model.clone());
        let Some(deployment) = caller.deployment.clone().or_else(|| named.clone()) else {
            let message = "The request names no model. Name one in the field \"model\".";
            return Err(error(caller.dialect, 400, message).into());
        };
        let arrived = head.extensions.get::<Arrived>();
        // Whether a call to a deployment that is not there is refused is for the gate to say.
        if let Some(target) = arrived.and_then(|arrived| arrived.directory.target(&deployment)) {
            let path = match api {
                Api::ChatCompletions => "/chat/completions".to_owned(),
                Api::Completions => "/completions".to_owned(),
                Api::Embeddings => "/embeddings".to_owned(),
                Api::Responses => "/responses".to_owned(),
                Api::Messages => "/messages".to_owned(),
                _ => {
                    let method = head.uri.path().rsplit_once(':').map_or("generateContent", |(_, method)| method);
                    format!("/models/{}:{method}", target.model)
                }
            };
            let query = head.uri.query().filter(|_| api == Api::GenerateContent).map(without_key);
            head.extensions.insert(Destination::Model { target, path, query, named, api });
        }
        caller.deployment = Some(deployment);
        Ok(())
    }
}

/// In whose words a client is to be answered.
pub(crate) fn dialect(head: &Parts) -> Dialect {
    let path = head.uri.path();
    match Endpoint::of(path).filter(|_| !Peer::has(path)) {
        Some(endpoint) => endpoint.dialect(),
        // Of what is no endpoint (the list of models) Anthropic's clients say who they are.
        None if head.headers.contains_key("anthropic-version") => Dialect::Anthropic,
        None => Dialect::OpenAi,
    }
}

/// The same for a key that is missing and for one that is wrong.
fn unauthorised(dialect: Dialect) -> Response<Bytes> {
    let mut response = error(dialect, 401, "The API key is missing or not valid.");
    response.headers_mut().insert("www-authenticate", http::HeaderValue::from_static("Bearer"));
    response
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Agent,
    Tool,
}

/// `/mcp/{project}/{tool}` or `/agents/{project}/{agent}`, and what follows.
struct Peer {
    kind: Kind,
    project: String,
    name: String,
    /// From the next slash on, or nothing.
    rest: String,
    /// What comes before it.
    mount: String,
}

impl Peer {
    /// Whether a path is below where agents and tools are.
    fn has(path: &str) -> bool {
        path.starts_with("/mcp/") || path.starts_with("/agents/")
    }

    fn of(path: &str) -> Option<Peer> {
        let mut parts = path.strip_prefix('/')?.splitn(4, '/');
        let kind = match parts.next()? {
            "mcp" => Kind::Tool,
            "agents" => Kind::Agent,
            _ => return None,
        };
        let (project, name) = (parts.next()?, parts.next().filter(|name| !name.is_empty())?);
        let rest = parts.next().map(|rest| format!("/{rest}")).unwrap_or_default();
        // What follows stays below the peer's own address.
        if decoded(&rest).split(['/', '\\']).any(|segment| matches!(segment, "." | "..")) {
            return None;
        }
        let mount = path[..path.len() - rest.len()].to_owned();
        Some(Peer { kind, project: decoded(project), name: decoded(name), rest, mount })
    }
}

/// A segment of a path, percent-decoded; as it is if it makes no text.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

/// A query without the client's key.
fn without_key(query: &str) -> String {
    let kept: Vec<&str> = query.split('&').filter(|part| !part.starts_with("key=")).collect();
    kept.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_told_by_their_path() {
        let of = |path| Peer::of(path).map(|peer| (peer.kind, peer.project, peer.name, peer.rest, peer.mount));
        let tool = |rest: &str| {
            Some((
                Kind::Tool,
                "search".to_owned(),
                "d o/cs".to_owned(),
                rest.to_owned(),
                "/mcp/search/d%20o%2Fcs".to_owned(),
            ))
        };
        assert_eq!(of("/mcp/search/d%20o%2Fcs"), tool(""));
        assert_eq!(of("/mcp/search/d%20o%2Fcs/"), tool("/"));
        assert_eq!(of("/mcp/search/d%20o%2Fcs/a/b"), tool("/a/b"));
        for none in ["/mcp", "/mcp/search", "/mcp/search/", "/v1/search/docs", "", "/mcp/p/t/../x", "/mcp/p/t/a/%2e%2E"]
        {
            assert!(of(none).is_none(), "{none}");
        }
        assert_eq!((decoded("%zz%4"), decoded("%ff")), ("%zz%4".to_owned(), "%ff".to_owned()));
    }
}
