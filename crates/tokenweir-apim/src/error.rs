//! What is wrong with documents.

use std::fmt;

/// One thing that is wrong with a document.
///
/// Its text is `FILE:LINE: CODE: message; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name that the document was given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// A code that stays the same over releases, in capitals.
    pub code: &'static str,
    /// What is wrong; names the element or attribute and what was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, code, message, remedy } = self;
        write!(f, "{file}:{line}: {code}: {message}; {remedy}")
    }
}

/// Documents that were refused, with everything that is wrong with them. One line for each problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ImportError(pub(crate) Vec<Problem>);

impl ImportError {
    /// The problems, by document and line; never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}
