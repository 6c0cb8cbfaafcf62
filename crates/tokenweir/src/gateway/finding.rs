//! What rules find, and what a refused operation says.

use std::fmt;

use serde::Serialize;

use super::code::Code;
use super::operation::Event;

/// Whether a finding stops an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not; it is advice.
    Warning,
}

/// One thing that is wrong, or that should be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The stable code.
    pub code: Code,
    /// Which side of it, where the code has several: `sku`, `tenant`, `role`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aspect: Option<&'static str>,
    /// The rule that found it (`V-07`); none where the state of things refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    /// Whether it stops the operation.
    pub severity: Severity,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Finding {
    /// `APIM_NOT_ELIGIBLE(sku) [V-07]: reason; next`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(aspect) = self.aspect {
            write!(f, "({aspect})")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " [{rule}]")?;
        }
        write!(f, ": {}; {}", self.reason, self.next)
    }
}

/// An operation that was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Refused {
    /// What it was about: `the gateway of Foundry resource "contoso"`.
    pub entity: String,
    /// What that is at: `Provisioning`.
    pub state: String,
    /// What was asked for.
    pub event: Event,
    /// Everything that stands against it, in order of weight, and then what is advice. The first is never advice.
    pub findings: Vec<Finding>,
}

impl Refused {
    /// The code of the weightiest finding.
    pub fn code(&self) -> Code {
        self.findings.first().map_or(Code::PermissionDenied, |finding| finding.code)
    }

    /// The codes of all findings that are errors, in order.
    pub fn codes(&self) -> Vec<Code> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).map(|finding| finding.code).collect()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}; {} is refused", self.entity, self.state, self.event)?;
        for finding in self.findings.iter().filter(|finding| finding.severity == Severity::Error) {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

/// An operation that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// What it was about.
    pub entity: String,
    /// What that is at now.
    pub state: String,
    /// What was asked for.
    pub event: Event,
    /// Advice. None of it is an error.
    pub warnings: Vec<Finding>,
    /// What follows from it, where that is not plain: what still bills, which address to use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// An operation under examination: what it is about, and what has been found so far.
pub(super) struct Attempt {
    entity: String,
    state: String,
    event: Event,
    findings: Vec<Finding>,
}

impl Attempt {
    pub(super) fn new(event: Event, entity: String, state: impl fmt::Display) -> Self {
        Attempt { entity, state: state.to_string(), event, findings: Vec::new() }
    }

    /// Adds what the rules found.
    pub(super) fn found(mut self, findings: Vec<Finding>) -> Self {
        self.findings.extend(findings);
        self
    }

    /// Adds that the state of things stands against it.
    pub(super) fn against(&mut self, code: Code, reason: impl Into<String>, next: impl Into<String>) {
        let (reason, next) = (reason.into(), next.into());
        self.findings.push(Finding { code, aspect: None, rule: None, severity: Severity::Error, reason, next });
    }

    /// Ends it here: the state of things stands against it.
    pub(super) fn refuse(mut self, code: Code, reason: impl Into<String>, next: impl Into<String>) -> Refused {
        self.against(code, reason, next);
        self.refused()
    }

    fn refused(mut self) -> Refused {
        // Who may not do it at all learns that first; then what the state of things says; then the rules, in their order.
        self.findings
            .sort_by_key(|finding| (finding.severity, finding.code != Code::PermissionDenied, finding.rule.is_some()));
        Refused { entity: self.entity, state: self.state, event: self.event, findings: self.findings }
    }

    /// Whether nothing stands against it so far.
    ///
    /// # Errors
    /// The refusal, if anything does.
    pub(super) fn check(self) -> Result<Attempt, Refused> {
        match self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            true => Err(self.refused()),
            false => Ok(self),
        }
    }

    /// It was carried out, and left its entity in `state`.
    pub(super) fn applied(self, state: impl fmt::Display, notes: Vec<String>) -> Applied {
        Applied { entity: self.entity, state: state.to_string(), event: self.event, warnings: self.findings, notes }
    }
}
