//! Commands, as they are read.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::ConsoleError;
use crate::gateway::Observation;
use crate::gateway::document::each_once;
use crate::gateway::model::{PrincipalId, ResourceName, Timestamp};
use crate::gateway::operation::{Declaration, Operation};
use crate::gateway::traffic::{Call, Completion};
use crate::request::{Estimate, Key, Usage};

/// The most bytes of a text that a call brings: records keep them.
const LONGEST: usize = 4096;

/// The most caller keys of a call.
const MOST_KEYS: usize = 64;

/// What a console can be told to do.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Command {
    Apply {
        by: PrincipalId,
        operation: Operation,
    },
    Declare(Declaration),
    Refresh {},
    Status {
        #[serde(default)]
        resource: Option<ResourceName>,
    },
    Candidates {
        by: PrincipalId,
        #[serde(default)]
        resource: Option<ResourceName>,
    },
    Verify(VerifyFields),
    Call(Box<CallFields>),
    Observe {
        call: String,
        #[serde(default)]
        input: u64,
        #[serde(default)]
        output: u64,
    },
    Renew {
        call: String,
    },
    Settle(Box<SettleFields>),
    Cancel {
        call: String,
    },
    Diagnose {
        #[serde(default)]
        resource: Option<ResourceName>,
        seen: Observation,
    },
    Audit {
        #[serde(default)]
        after: u64,
        #[serde(default = "all")]
        most: usize,
    },
    Records {
        #[serde(default = "all")]
        most: usize,
    },
    Policy {
        #[serde(default)]
        resource: Option<ResourceName>,
    },
    Rules {},
    Save {
        #[serde(default = "yes")]
        counters: bool,
    },
    Load {
        document: Value,
    },
}

fn all() -> usize {
    usize::MAX
}

fn yes() -> bool {
    true
}

/// A command, and when it is given.
pub(super) struct Envelope {
    now: Option<Timestamp>,
    command: Command,
}

impl Envelope {
    /// The command that a text is.
    pub(super) fn read(text: &str) -> Result<Envelope, ConsoleError> {
        let wrong = |error: serde_json::Error| ConsoleError::invalid(error, "correct the JSON");
        each_once(text).map_err(wrong)?;
        Envelope::of(serde_json::from_str(text).map_err(wrong)?)
    }

    /// The command that a value is.
    pub(super) fn of(value: Value) -> Result<Envelope, ConsoleError> {
        let form = "give an object with the name of one command, and \"now\" where the console is told the time";
        let Value::Object(mut fields) = value else {
            return Err(ConsoleError::invalid("it is not an object", form));
        };
        let now = match fields.remove("now") {
            None | Some(Value::Null) => None,
            Some(now) => Some(serde_json::from_value(now).map_err(|error| {
                ConsoleError::invalid(format_args!("\"now\": {error}"), "give an instant like 2026-11-23T17:30:00Z")
            })?),
        };
        if fields.len() != 1 {
            let names: Vec<_> = fields.keys().take(4).map(|name| format!("{name:?}")).collect();
            let reason = match fields.len() {
                0 => "it names no command".to_owned(),
                more => format!("it has {more} fields ({}) where one command is expected", names.join(", ")),
            };
            return Err(ConsoleError::invalid(reason, form));
        }
        let name = fields.keys().next().cloned().unwrap_or_default();
        let command: Command = serde_json::from_value(Value::Object(fields)).map_err(|error| {
            let next = "correct that field; the documentation of gateway::Console has the commands with their fields";
            ConsoleError::invalid(format_args!("{name:?}: {error}"), next)
        })?;
        match &command {
            Command::Call(call) => call.check()?,
            Command::Settle(settle) => settle.check()?,
            _ => {}
        }
        Ok(Envelope { now, command })
    }

    pub(super) fn parts(self) -> (Option<Timestamp>, Command) {
        (self.now, self.command)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyFields {
    #[serde(default)]
    pub(super) resource: Option<ResourceName>,
    pub(super) project: String,
    pub(super) deployment: String,
    #[serde(default = "one_each")]
    pub(super) usage: UsageFields,
}

/// What the test call of `verify` takes: one token each way.
fn one_each() -> UsageFields {
    UsageFields { input: Some(1), cached_input: None, output: Some(1) }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallFields {
    #[serde(default)]
    pub(super) resource: Option<ResourceName>,
    project: String,
    #[serde(default)]
    deployment: Option<String>,
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
    #[serde(default)]
    estimate: Option<EstimateFields>,
    #[serde(default)]
    streamed: bool,
    #[serde(default)]
    correlation_id: Option<String>,
    #[serde(default)]
    operation: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EstimateFields {
    input: u64,
    output: u64,
}

impl CallFields {
    /// A call to a model, that costs nothing to describe.
    pub(super) fn model(verify: &VerifyFields) -> Self {
        CallFields {
            resource: verify.resource.clone(),
            project: verify.project.clone(),
            deployment: Some(verify.deployment.clone()),
            agent: None,
            tool: None,
            keys: BTreeMap::new(),
            estimate: None,
            streamed: false,
            correlation_id: None,
            operation: None,
        }
    }

    fn check(&self) -> Result<(), ConsoleError> {
        if self.keys.len() > MOST_KEYS {
            let reason = format!("the call has {} keys", self.keys.len());
            return Err(ConsoleError::invalid(reason, format!("give at most {MOST_KEYS}")));
        }
        let named = [("project", Some(&self.project)), ("deployment", self.deployment.as_ref())];
        let more = [("agent", self.agent.as_ref()), ("tool", self.tool.as_ref())];
        let told = [("correlation_id", self.correlation_id.as_ref()), ("operation", self.operation.as_ref())];
        let keys = self.keys.iter().flat_map(|(name, value)| [("keys", Some(name)), ("keys", Some(value))]);
        [named, more, told].into_iter().flatten().chain(keys).try_for_each(|(field, text)| short(field, text))
    }

    /// Passes the call on.
    pub(super) fn with<T>(&self, act: impl FnOnce(&Call<'_>) -> T) -> T {
        let keys: Vec<Key<'_>> = self.keys.iter().map(|(name, value)| Key::new(name, value)).collect();
        let estimate = self.estimate.map(|estimate| Estimate::new(estimate.input, estimate.output));
        let call = Call {
            deployment: self.deployment.as_deref(),
            agent: self.agent.as_deref(),
            tool: self.tool.as_deref(),
            keys: &keys,
            estimate,
            streamed: self.streamed,
            correlation_id: self.correlation_id.as_deref(),
            operation: self.operation.as_deref(),
            ..Call::model(&self.project, "")
        };
        act(&call)
    }
}

fn short(field: &str, text: Option<&String>) -> Result<(), ConsoleError> {
    match text {
        Some(text) if text.len() > LONGEST => {
            let reason = format!("{field:?} has a text of {} bytes", text.len());
            Err(ConsoleError::invalid(reason, format!("give at most {LONGEST} bytes")))
        }
        _ => Ok(()),
    }
}

/// What a provider reported; what is absent is not known.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UsageFields {
    input: Option<u64>,
    cached_input: Option<u64>,
    output: Option<u64>,
}

impl From<UsageFields> for Usage {
    fn from(fields: UsageFields) -> Usage {
        Usage { input: fields.input, cached_input: fields.cached_input, output: fields.output }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettleFields {
    pub(super) call: String,
    #[serde(default)]
    usage: Option<UsageFields>,
    #[serde(default)]
    estimated: bool,
    #[serde(default)]
    reasoning: Option<u64>,
    #[serde(default)]
    response_code: Option<u16>,
    #[serde(default)]
    backend_response_code: Option<u16>,
    #[serde(default)]
    deployment_served: Option<String>,
    #[serde(default)]
    model_served: Option<String>,
    #[serde(default)]
    backend_ns: Option<u64>,
    #[serde(default)]
    first_token_ns: Option<u64>,
}

impl SettleFields {
    fn check(&self) -> Result<(), ConsoleError> {
        short("deployment_served", self.deployment_served.as_ref())?;
        short("model_served", self.model_served.as_ref())
    }

    pub(super) fn completion(&self) -> Completion<'_> {
        Completion {
            usage: self.usage.unwrap_or_default().into(),
            estimated: self.estimated,
            reasoning: self.reasoning,
            response_code: self.response_code,
            backend_response_code: self.backend_response_code,
            deployment_served: self.deployment_served.as_deref(),
            model_served: self.model_served.as_deref(),
            backend_time: self.backend_ns.map(Duration::from_nanos),
            first_token_time: self.first_token_ns.map(Duration::from_nanos),
        }
    }
}
