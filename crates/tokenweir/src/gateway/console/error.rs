//! What a command is refused with.

use serde::Serialize;

use crate::error::Error;
use crate::gateway::code::Code;
use crate::gateway::compile::CompileError;
use crate::gateway::document::DocumentError;
use crate::gateway::finding::{Finding, Refused};
use crate::gateway::traffic::GateError;

/// Why a command was not carried out. It has changed nothing but the audit trail, if it was for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsoleError {
    /// The stable code: one of [`Code`], or of [`Error::name`].
    pub code: &'static str,
    /// What is wrong, and what it is about.
    pub message: String,
    /// What to do.
    pub next: String,
    /// Everything that stands against an operation, in order of weight, and then what is advice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl std::fmt::Display for ConsoleError {
    /// `CODE: message; next`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.message, self.next)
    }
}

impl std::error::Error for ConsoleError {}

impl ConsoleError {
    pub(super) fn new(code: Code, message: impl Into<String>, next: impl Into<String>) -> Self {
        ConsoleError { code: code.as_str(), message: message.into(), next: next.into(), findings: Vec::new() }
    }

    /// Of a command that cannot be read.
    pub(super) fn invalid(reason: impl std::fmt::Display, next: impl Into<String>) -> Self {
        Self::new(Code::CommandInvalid, format!("the command cannot be read: {reason}"), next)
    }

    /// Of an error whose text ends with what to do.
    fn of(code: &'static str, text: &str) -> Self {
        let (message, next) = text.rsplit_once("; ").unwrap_or((text, "correct it, and try again"));
        ConsoleError { code, message: message.to_owned(), next: next.to_owned(), findings: Vec::new() }
    }
}

impl From<Refused> for ConsoleError {
    fn from(refused: Refused) -> Self {
        let weightiest = refused.findings.first();
        let reason = weightiest.map_or("", |finding| &finding.reason);
        let message = format!("{} is {}; {} is refused: {reason}", refused.entity, refused.state, refused.event);
        let next = weightiest.map_or_else(String::new, |finding| finding.next.clone());
        ConsoleError { code: refused.code().as_str(), message, next, findings: refused.findings }
    }
}

impl From<DocumentError> for ConsoleError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Version { .. } => ConsoleError::of(error.code().as_str(), &error.to_string()),
            _ => ConsoleError::new(error.code(), error.to_string(), "load a document as it was saved"),
        }
    }
}

impl From<CompileError> for ConsoleError {
    fn from(error: CompileError) -> Self {
        ConsoleError::of(error.code().as_str(), &error.to_string())
    }
}

impl From<GateError> for ConsoleError {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Compile(error) => error.into(),
            GateError::Limiter(error) => error.into(),
            GateError::NotBuilt { reason } => ConsoleError::of(Code::LimiterNotBuilt.as_str(), &reason),
            other => ConsoleError::of(Code::GatewayAlreadyExists.as_str(), &other.to_string()),
        }
    }
}

impl From<Error> for ConsoleError {
    fn from(error: Error) -> Self {
        ConsoleError::of(error.name(), &error.to_string())
    }
}
