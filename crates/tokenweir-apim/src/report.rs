//! The account: what became of every element.

use serde::Serialize;

/// What was imported, what was not, and what is not about limits. Every element of every document is in exactly one of
/// `imported`, `not_mapped` and `not_about_limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// `classic` or `v2`.
    pub tier: &'static str,
    /// The documents and fragments, in the order in which they were given.
    pub documents: Vec<Source>,
    /// The limits of the policy, in its order.
    pub limits: Vec<ImportedLimit>,
    /// Elements whose meaning is in the policy, or in `dimensions`.
    pub imported: Vec<Accounted>,
    /// Elements that limit something, or may, and are not in the policy, or only in part.
    pub not_mapped: Vec<Accounted>,
    /// All others.
    pub not_about_limits: Vec<Accounted>,
    /// The parts of a request that the limits look at, and what a host has to send as each.
    pub parts: Vec<Part>,
    /// The dimensions of token metrics, which a policy has no place for.
    pub dimensions: Vec<Dimension>,
    /// What else the reader should know.
    pub warnings: Vec<String>,
}

/// A document or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name.
    pub file: String,
    /// `global`, `workspace`, `product`, `api`, `operation` or `fragment`.
    pub kind: &'static str,
    /// Of which product, API and so on it is; the id of a fragment.
    pub id: Option<String>,
}

/// A limit of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedLimit {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub from: Vec<Line>,
    /// How it differs from what API Management does.
    pub differs: Vec<String>,
    /// Attributes that concern what is answered: names of headers and variables, estimates.
    pub answers: Vec<(String, String)>,
}

/// A line of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The document.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The name of the element there.
    pub element: String,
}

/// What became of an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accounted {
    /// The element.
    #[serde(flatten)]
    pub place: Line,
    /// The limits that it became.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Why it is not mapped, or what is to be said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// As policies write it: `project`, `deployment`, `key:` and a name.
    pub part: String,
    /// What to send.
    pub meaning: String,
}

/// A dimension of a token metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dimension {
    /// The element.
    #[serde(flatten)]
    pub place: Line,
    /// Its name.
    pub name: String,
    /// What it says; parts of the request in braces.
    pub value: String,
}
