//! What a host says of a call, and of its end.

use std::time::Duration;

use smallvec::SmallVec;

use crate::gateway::compile::{AGENT, TOOL};
use crate::request::{Estimate, Key, Request, Usage};

/// What a call that is not to a model has for a deployment: no name of one, since names have no control characters.
const NO_DEPLOYMENT: &str = "\0";

/// One call to a model, an agent or a tool of a project.
///
/// # Example
/// ```
/// use tokenweir::gateway::Call;
/// use tokenweir::{Estimate, Key};
/// let keys = [Key::new("user", "u-17")];
/// let call = Call::model("search", "gpt-4o").with_keys(&keys).with_estimate(Estimate::new(900, 400)).streamed();
/// assert_eq!(call.deployment, Some("gpt-4o"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The project that calls.
    pub project: &'a str,
    /// The deployment that it calls, if it calls a model.
    pub deployment: Option<&'a str>,
    /// The custom agent that is called, or on whose behalf.
    pub agent: Option<&'a str>,
    /// The tool that is called.
    pub tool: Option<&'a str>,
    /// Who calls: user, subscription, address and what else limits or records tell callers apart by. `agent` and `tool`
    /// are not for the host to give: the gate does.
    pub keys: &'a [Key<'a>],
    /// What it is expected to take. What of it is charged at once is for the gate's profile to say.
    pub estimate: Option<Estimate>,
    /// Whether its response is streamed.
    pub streamed: bool,
    /// The host's id of the call; the gate makes one if there is none.
    pub correlation_id: Option<&'a str>,
    /// What is done: `chat`, `embeddings`, `execute_tool`.
    pub operation: Option<&'a str>,
}

impl<'a> Call<'a> {
    fn of(project: &'a str) -> Self {
        Call {
            project,
            deployment: None,
            agent: None,
            tool: None,
            keys: &[],
            estimate: None,
            streamed: false,
            correlation_id: None,
            operation: None,
        }
    }

    /// A call to a model deployment.
    pub fn model(project: &'a str, deployment: &'a str) -> Self {
        Call { deployment: Some(deployment), ..Self::of(project) }
    }

    /// A call to a custom agent (A2A).
    pub fn agent(project: &'a str, agent: &'a str) -> Self {
        Call { agent: Some(agent), ..Self::of(project) }
    }

    /// A call to a tool (MCP).
    pub fn tool(project: &'a str, tool: &'a str) -> Self {
        Call { tool: Some(tool), ..Self::of(project) }
    }

    /// The same call on behalf of a custom agent.
    pub fn by_agent(self, agent: &'a str) -> Self {
        Call { agent: Some(agent), ..self }
    }

    /// The same call of this caller.
    pub fn with_keys(self, keys: &'a [Key<'a>]) -> Self {
        Call { keys, ..self }
    }

    /// The same call, expected to take so much.
    pub fn with_estimate(self, estimate: Estimate) -> Self {
        Call { estimate: Some(estimate), ..self }
    }

    /// The same call with its response streamed.
    pub fn streamed(self) -> Self {
        Call { streamed: true, ..self }
    }

    /// The same call by the host's id.
    pub fn with_correlation_id(self, id: &'a str) -> Self {
        Call { correlation_id: Some(id), ..self }
    }

    /// The same call, doing this.
    pub fn with_operation(self, operation: &'a str) -> Self {
        Call { operation: Some(operation), ..self }
    }

    /// Passes the call as a limiter sees it: see [`request`](Call::request).
    pub fn with_request<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        act(&self.request(&self.request_keys()))
    }

    /// The keys of the [request](Call::request) that the call is to a limiter.
    pub fn request_keys(&self) -> SmallVec<[Key<'a>; 8]> {
        let mut keys: SmallVec<[Key<'_>; 8]> = self.keys.into();
        keys.extend(self.agent.map(|agent| Key::new(AGENT, agent)));
        keys.extend(self.tool.map(|tool| Key::new(TOOL, tool)));
        keys
    }

    /// The call as a limiter sees it, with its [keys](Call::request_keys): agent and tool are caller keys, and a call without a
    /// deployment has one that no deployment can be called.
    pub fn request<'k>(&self, keys: &'k [Key<'k>]) -> Request<'k>
    where
        'a: 'k,
    {
        Request::new(self.project, self.deployment.unwrap_or(NO_DEPLOYMENT)).with_keys(keys)
    }
}

/// How a call ended, as far as the host knows. What it does not know it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Completion<'a> {
    /// What the provider reported, or what the host counted where it did not.
    pub usage: Usage,
    /// Whether a part of `usage` was counted by the host.
    pub estimated: bool,
    /// Of the output tokens, how many were spent on reasoning.
    pub reasoning: Option<u64>,
    /// What the caller was answered with.
    pub response_code: Option<u16>,
    /// What the provider answered with.
    pub backend_response_code: Option<u16>,
    /// The deployment that served it, if it may be another than was asked for.
    pub deployment_served: Option<&'a str>,
    /// The model that the provider says served it.
    pub model_served: Option<&'a str>,
    /// How long the provider took.
    pub backend_time: Option<Duration>,
    /// How long the first piece of a stream took.
    pub first_token_time: Option<Duration>,
}

impl Completion<'_> {
    /// It went well and took so many tokens.
    pub fn of(usage: Usage) -> Self {
        Completion { usage, response_code: Some(200), backend_response_code: Some(200), ..Completion::default() }
    }
}
