//! Why a replay ended early.

/// What is wrong with a line of a trace, or what the engine has against it. Lines are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The line cannot be read.
    #[error("line {line}: {reason}; {remedy}")]
    Line {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// The line is right, and the engine cannot decide on it: it lacks a required key or a price, for instance.
    #[error("line {line}: {source}")]
    Request {
        /// Its number.
        line: u64,
        /// What the engine said, with its remedy.
        source: tokenweir::Error,
    },
}

impl Error {
    /// The number of the line, counted from 1.
    pub fn line(&self) -> u64 {
        match self {
            Error::Line { line, .. } | Error::Request { line, .. } => *line,
        }
    }
}
