//! Figures through the `metrics` facade, named after OpenTelemetry's semantic conventions for generative AI (status:
//! development) where they have a name.
//!
//! | metric | kind, unit | labels |
//! |---|---|---|
//! | `tokenweir.gateway.requests` | counter | `resource`, `project`, `deployment`, `outcome`, `limit` (if one refused) |
//! | `gen_ai.client.token.usage` | histogram, `{token}` | those below, `gen_ai.token.type`: `input`, `output`, and `dimension.*` |
//! | `gen_ai.client.operation.duration` | histogram, `s` | those below |
//!
//! The latter two have `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.response.model` (if
//! the provider said), and `project` and `deployment`. Unknown counts are not recorded \[D\]; reported ones are, also of
//! calls that bypass the gateway.
//!
//! `dimension.*` are the metric dimensions that an administrator has set at the gateway, each under its name.
//!
//! Callers are in no label, unless one of these dimensions is about them: there is no end of them. A project or deployment that the resource does not have, a client can
//! make up, so it goes by an empty label.

use ::metrics::{Label, SharedString, Unit, counter, describe_counter, describe_histogram, histogram};
use tokenweir::gateway::{RecordObserver, UsageRecord};

pub(crate) const REQUESTS: &str = "tokenweir.gateway.requests";
pub(crate) const TOKENS: &str = "gen_ai.client.token.usage";
pub(crate) const DURATION: &str = "gen_ai.client.operation.duration";

/// Records calls, tokens and durations with the recorder that is installed when they end.
#[derive(Debug, Clone)]
pub struct Metrics {
    provider: SharedString,
}

impl Metrics {
    /// Figures of calls to a provider, by OpenTelemetry's word for it: `azure.ai.openai`, `azure.ai.inference`, `openai`,
    /// `anthropic`.
    pub fn new(provider: impl Into<String>) -> Self {
        Metrics { provider: provider.into().into() }
    }

    /// Describes the metrics to the recorder that is installed.
    pub fn describe(&self) {
        describe_counter!(REQUESTS, Unit::Count, "Calls, by what came of them at the gateway");
        describe_histogram!(TOKENS, Unit::Count, "Tokens of calls, as the provider reported them");
        describe_histogram!(DURATION, Unit::Seconds, "How long calls took that passed the gateway");
    }
}

impl RecordObserver for Metrics {
    fn recorded(&self, record: &UsageRecord) {
        let project = if record.project_known { &*record.project } else { "" };
        let deployment = record.model.as_ref().and(record.deployment.as_deref()).unwrap_or("");
        let own = |key: &'static str, value: &str| Label::new(key, value.to_owned());
        let mut labels = vec![
            own("resource", record.resource.as_str()),
            own("project", project),
            own("deployment", deployment),
            Label::from_static_parts("outcome", record.outcome.as_str()),
        ];
        labels.extend(record.limit.as_deref().map(|limit| own("limit", limit)));
        counter!(REQUESTS, labels).increment(1);
        if record.last_error.is_some() {
            // It was not passed on.
            return;
        }
        let mut labels = vec![
            own("gen_ai.operation.name", operation(record)),
            Label::new("gen_ai.provider.name", self.provider.clone()),
            own("gen_ai.request.model", record.model.as_deref().unwrap_or("")),
            own("project", project),
            own("deployment", deployment),
        ];
        labels.extend(record.model_served.as_deref().map(|model| own("gen_ai.response.model", model)));
        for (kind, tokens) in [("input", record.input), ("output", record.output)] {
            if let Some(tokens) = tokens {
                let mut labels = labels.clone();
                labels.push(Label::from_static_parts("gen_ai.token.type", kind));
                let dimensions = record.dimensions.iter();
                labels.extend(dimensions.map(|(name, value)| Label::new(format!("dimension.{name}"), value.clone())));
                histogram!(TOKENS, labels).record(tokens as f64);
            }
        }
        let took = record.backend_time.unwrap_or(record.total_time);
        histogram!(DURATION, labels).record(took.as_secs_f64());
    }
}

/// What was done; where the host does not say, what such calls mostly do.
fn operation(record: &UsageRecord) -> &str {
    match &record.operation {
        Some(operation) => operation,
        None if record.tool.is_some() => "execute_tool",
        None if record.deployment.is_none() && record.agent.is_some() => "invoke_agent",
        None => "chat",
    }
}
