//! What is wrong with a policy, and why a request cannot be resolved.

use std::fmt;

/// One thing that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line it stands on, counted from 1; absent where it belongs to the document as a whole.
    pub line: Option<usize>,
    /// The limit it belongs to, if it belongs to one that has a name.
    pub limit: Option<String>,
    /// What is wrong; names the field and what was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(limit) = &self.limit {
            write!(f, "limit {limit:?}: ")?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// A policy that was refused, with everything that is wrong with it.
///
/// Its text has one line for each problem, in the order of the document: `line 12: limit "x": message; remedy`, or,
/// once it knows its file, `policy.toml:12: limit "x": message; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    file: Option<String>,
    problems: Vec<Problem>,
}

impl PolicyError {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        // Problems without a line come first: they concern everything that follows. The sort is stable.
        problems.sort_by_key(|problem| problem.line.unwrap_or(0));
        PolicyError { file: None, problems }
    }

    /// The problems, in the order of the document; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The same error, of the file `name`.
    #[must_use]
    pub fn with_file(self, name: impl Into<String>) -> Self {
        PolicyError { file: Some(name.into()), ..self }
    }

    /// The file, if it was named with [`with_file`](PolicyError::with_file).
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            match (&self.file, problem.line) {
                (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
                (Some(file), None) => write!(f, "{file}: ")?,
                (None, Some(line)) => write!(f, "line {line}: ")?,
                (None, None) => {}
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

/// Why a request cannot be resolved against the policy: the host has to mend the request or the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The project, the deployment, or a caller key that the policy names is empty.
    #[error("{part} of the request is empty; give it a value, or leave a caller key out altogether")]
    EmptyKey {
        /// `project`, `deployment` or `key:` and a name.
        part: String,
    },
    /// A limit with `require = true` has a caller key in its scope that the request lacks.
    #[error("limit {limit:?} requires the caller key {key:?}, which the request lacks; send it with the request")]
    KeyMissing {
        /// The name of the limit.
        limit: String,
        /// The name of the caller key, without `key:`.
        key: String,
    },
    /// A limit counts cost and no price fits the deployment, so what the request costs is unknown.
    #[error(
        "limit {limit:?} counts cost and no price fits the deployment {deployment:?}; \
         add a [[price]] for it to the policy"
    )]
    NoPrice {
        /// The name of the limit.
        limit: String,
        /// The deployment; bytes that are not UTF-8 are shown as U+FFFD.
        deployment: String,
    },
    /// The request gives the same caller key twice.
    #[error("the request gives the caller key {key:?} twice; send it once")]
    KeyTwice {
        /// The name of the caller key, without `key:`.
        key: String,
    },
}

impl ResolveError {
    /// A code that stays the same over releases, for C, Python, logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            ResolveError::EmptyKey { .. } => "empty_key",
            ResolveError::KeyMissing { .. } => "key_missing",
            ResolveError::NoPrice { .. } => "no_price",
            ResolveError::KeyTwice { .. } => "key_twice",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: Option<usize>, limit: Option<&str>) -> Problem {
        Problem {
            line,
            limit: limit.map(str::to_owned),
            message: "amount is 0".into(),
            remedy: "write at least 1".into(),
        }
    }

    #[test]
    fn one_line_for_each_problem() {
        let error = PolicyError::new(vec![problem(Some(12), Some("x")), problem(Some(3), None), problem(None, None)]);
        assert_eq!(
            error.to_string(),
            "amount is 0; write at least 1\n\
             line 3: amount is 0; write at least 1\n\
             line 12: limit \"x\": amount is 0; write at least 1"
        );
        let error = error.with_file("p.toml");
        assert_eq!(error.file(), Some("p.toml"));
        assert_eq!(
            error.to_string(),
            "p.toml: amount is 0; write at least 1\n\
             p.toml:3: amount is 0; write at least 1\n\
             p.toml:12: limit \"x\": amount is 0; write at least 1"
        );
    }

    #[test]
    fn resolve_errors_name_the_thing_and_the_next_step() {
        let error = ResolveError::KeyMissing { limit: "a".into(), key: "user".into() };
        assert_eq!(
            error.to_string(),
            "limit \"a\" requires the caller key \"user\", which the request lacks; send it with the request"
        );
        assert_eq!(error.code(), "key_missing");
    }
}
