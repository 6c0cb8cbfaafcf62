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
    /// The stable number of this kind of error, among those of [`tokenweir::Error::code`]; of what the engine said, its own.
    pub fn code(&self) -> u16 {
        match self {
            Error::Line { .. } => 50,
            Error::Request { source, .. } => source.code(),
        }
    }

    /// The stable name that goes with [`code`](Error::code).
    pub fn name(&self) -> &'static str {
        match self {
            Error::Line { .. } => "TRACE_INVALID",
            Error::Request { source, .. } => source.name(),
        }
    }

    /// The number of the line, counted from 1.
    pub fn line(&self) -> u64 {
        match self {
            Error::Line { line, .. } | Error::Request { line, .. } => *line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_what_they_always_were() {
        let line = Error::Line { line: 1, reason: String::new(), remedy: String::new() };
        assert_eq!((line.code(), line.name()), (50, "TRACE_INVALID"));
        let source = tokenweir::Error::EstimateTooLarge { what: "input", tokens: 1 << 54 };
        assert_eq!(Error::Request { line: 1, source }.code(), 14);
    }
}
