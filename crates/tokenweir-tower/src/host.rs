//! What a host says of a request: who calls what.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use std::borrow::Cow;
use tokenweir::Estimate;
use tokenweir::gateway::Call;
use tokenweir::{Key, PermitId};
use tokenweir_wire::{Api, Asked, Dialect, Endpoint};

use crate::answer::error;

/// Says who calls what. Implemented by the host, or by a closure where a request's head says it all.
///
/// Called on the request's path, from many threads at once: it must not block.
pub trait Host: Send + Sync + 'static {
    /// Who sends a request, by its head, which may be changed: what is put into its extensions reaches the service.
    fn identify(&self, head: &mut Parts) -> Identified;

    /// Completes who calls what, once the body is read: `asked` is what it says, `None` where nothing of it was read. The
    /// last chance to choose the deployment, or to refuse the call.
    ///
    /// Unless it is implemented, a call whose head names no deployment is for the model that the body names.
    ///
    /// # Errors
    /// The response to refuse with; 400 if no model is named.
    fn resolve(
        &self,
        head: &mut Parts,
        caller: &mut Caller,
        asked: Option<&Asked>,
    ) -> Result<(), Box<Response<Bytes>>> {
        let (_, Some(asked)) = (head, asked) else { return Ok(()) };
        if caller.deployment.is_none() {
            caller.deployment.clone_from(&asked.model);
        }
        match caller.deployment {
            Some(_) => Ok(()),
            None => {
                Err(error(caller.dialect, 400, "The request names no model. Name one in the field \"model\".").into())
            }
        }
    }
}

impl<F: Fn(&mut Parts) -> Identified + Send + Sync + 'static> Host for F {
    fn identify(&self, head: &mut Parts) -> Identified {
        self(head)
    }
}

/// What a request is.
#[derive(Debug)]
// Most requests are metered: what is large about it is not to be allocated for each of them.
#[allow(clippy::large_enum_variant)]
pub enum Identified {
    /// A call that is metered.
    Metered(Caller),
    /// None that takes anything: it passes untouched (lists of models, health).
    Unmetered,
    /// One that is refused: the key is missing, say.
    Refused(Response<Bytes>),
}

/// What of a call is metered, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// Tokens, as the bodies of this API say. The request's body is read.
    #[non_exhaustive]
    Tokens {
        /// The API.
        api: Api,
        /// Whether the response is a stream, where something else than the body says so.
        stream: Option<bool>,
    },
    /// What the host states: nothing of the bodies is read, and what is stated is what it is settled by. For calls that
    /// only count as requests it is nothing.
    Stated(Estimate),
}

impl Takes {
    /// Tokens, as the bodies of an endpoint say.
    pub fn tokens(endpoint: Endpoint<'_>) -> Self {
        Takes::Tokens { api: endpoint.api, stream: endpoint.stream }
    }
}

/// Who calls what, as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The project that calls.
    pub project: String,
    /// The deployment or model, where the head of the request names it.
    pub deployment: Option<String>,
    /// The custom agent that is called, or on whose behalf.
    pub agent: Option<String>,
    /// The tool that is called.
    pub tool: Option<String>,
    /// Further keys of the caller, by name.
    pub keys: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// The id by which records know the call.
    pub correlation_id: Option<String>,
    /// What is done: `chat`, `embeddings`, `execute_tool`.
    pub operation: Option<Cow<'static, str>>,
    /// In whose words the caller is answered; OpenAI's unless set.
    pub dialect: Dialect,
    /// What of the call is metered.
    pub takes: Takes,
}

impl Caller {
    /// A caller of whom the project is known.
    pub fn new(project: impl Into<String>, takes: Takes) -> Self {
        Caller {
            project: project.into(),
            deployment: None,
            agent: None,
            tool: None,
            keys: Vec::new(),
            correlation_id: None,
            operation: None,
            dialect: Dialect::OpenAi,
            takes,
        }
    }

    /// Its keys, as calls have them.
    pub(crate) fn call_keys(&self) -> Vec<Key<'_>> {
        self.keys.iter().map(|(name, value)| Key { name, value }).collect()
    }

    /// The call that it makes, with its [keys](Caller::call_keys).
    pub(crate) fn call<'a>(&'a self, keys: &'a [Key<'a>], estimate: Option<Estimate>, streamed: bool) -> Call<'a> {
        let mut call = Call::model(&self.project, "").with_keys(keys);
        call.deployment = self.deployment.as_deref();
        call.agent = self.agent.as_deref();
        call.tool = self.tool.as_deref();
        call.correlation_id = self.correlation_id.as_deref();
        call.operation = self.operation.as_deref();
        call.estimate = estimate;
        call.streamed = streamed;
        call
    }
}

/// What the layer knows of a call that it has admitted: in the extensions of the request, for the service behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metered {
    /// The project that calls.
    pub project: String,
    /// The deployment that it calls.
    pub deployment: Option<String>,
    /// The API, where tokens are metered.
    pub api: Option<Api>,
    /// Whether the response is to be a stream, as far as the request says.
    pub streamed: bool,
    /// What was charged.
    pub charged: Estimate,
    /// The permit; a call that bypasses the gateway has none.
    pub permit: Option<PermitId>,
}

/// Put into the extensions of a response by a service that has sent the request to the provider and got no answer: the
/// response is its own, and the call is settled as [`Settings::unanswered`](crate::Settings::unanswered) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoAnswer;

/// Put into the extensions of a response by a service that did not reach the provider: the call is cancelled, nothing is
/// charged, and it does not count as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NotReached;
