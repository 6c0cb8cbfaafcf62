//! What is imported: documents with their scopes, fragments, and the values of what stands in braces.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::Problem;
use crate::xml::{self, Tree};

/// The longest text that named values and placeholders may make of an attribute.
const MAX_TEXT: usize = 1 << 16;

/// At which level of API Management a document stands; the outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All APIs.
    Global,
    /// A workspace.
    Workspace,
    /// A product.
    Product,
    /// An API.
    Api,
    /// An operation of an API.
    Operation,
}

impl Scope {
    pub(crate) const INNERMOST_FIRST: [Scope; 5] =
        [Scope::Operation, Scope::Api, Scope::Product, Scope::Workspace, Scope::Global];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Global => "global",
            Scope::Workspace => "workspace",
            Scope::Product => "product",
            Scope::Api => "api",
            Scope::Operation => "operation",
        }
    }

    /// The part of a request that says which one it is of; everything is global.
    pub(crate) const fn part(self) -> Option<&'static str> {
        match self {
            Scope::Global => None,
            Scope::Workspace => Some("key:workspace"),
            Scope::Product => Some("key:product"),
            Scope::Api => Some("key:api"),
            Scope::Operation => Some("key:operation"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = Scope::INNERMOST_FIRST.map(Scope::as_str);
        Scope::INNERMOST_FIRST
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("unknown scope {text:?}; write one of {}", words.join(", ")))
    }
}

/// A policy document.
#[derive(Debug, Clone)]
pub struct Document {
    /// What it is called in messages: the name of its file.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Where it stands.
    pub scope: Scope,
    /// Of which product, API and so on it is; without it, of all that the import is about.
    pub id: Option<String>,
}

/// A document that has been read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    pub(crate) tree: Tree,
    pub(crate) role: Role,
    /// The number of its first element among the elements of all documents.
    pub(crate) base: usize,
}

#[derive(Debug)]
pub(crate) enum Role {
    Policy { scope: Scope, id: Option<String> },
    Fragment { id: String },
}

impl Loaded {
    pub(crate) fn new(name: &str, text: &str, role: Role, base: usize) -> Result<Self, Problem> {
        Ok(Loaded { name: name.to_owned(), tree: xml::read(name, text)?, role, base })
    }
}

/// Values for `{{named values}}` and `{placeholders}`, and which of them have been asked for.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) named: BTreeMap<String, String>,
    pub(crate) placeholders: BTreeMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

impl Values {
    /// Fills in what stands in braces.
    ///
    /// # Errors
    /// What has no value, with the option that gives it one.
    pub(crate) fn fill(&self, text: &str) -> Result<String, String> {
        if !text.contains('{') {
            return Ok(text.to_owned());
        }
        let text = self.fill_named(text)?;
        let expression = text.trim_start().starts_with('@');
        let mut filled = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            let name = from[1..].split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
            let Some(name) = name else {
                filled.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            };
            let after = &from[name.len() + 2..];
            match self.placeholders.get(name) {
                Some(value) => {
                    self.used.borrow_mut().insert(format!("{{{name}}}"));
                    // Terraform and shells write ${name}.
                    filled.push_str(before.strip_suffix('$').unwrap_or(before));
                    filled.push_str(value);
                }
                // In C# braces have other uses.
                None if expression => filled.push_str(&rest[..at + name.len() + 2]),
                None => {
                    return Err(format!("the placeholder {{{name}}} has no value; give it one (--set {name}=VALUE)"));
                }
            }
            rest = after;
            bounded(&filled)?;
        }
        filled.push_str(rest);
        bounded(&filled)?;
        Ok(filled)
    }

    fn fill_named(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let name = from[2..].split_once("}}").map(|(name, _)| name).filter(|name| is_name(name.trim()));
            let Some(name) = name else {
                filled.push_str("{{");
                rest = &from[2..];
                continue;
            };
            let trimmed = name.trim();
            let Some(value) = self.named.get(trimmed) else {
                return Err(format!(
                    "the named value {{{{{trimmed}}}}} is not given; give it (--named-value {trimmed}=VALUE)"
                ));
            };
            self.used.borrow_mut().insert(format!("{{{{{trimmed}}}}}"));
            filled.push_str(value);
            rest = &from[name.len() + 4..];
            bounded(&filled)?;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The names that were given and that nothing asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let named = self.named.keys().map(|name| format!("{{{{{name}}}}}"));
        let placeholders = self.placeholders.keys().map(|name| format!("{{{name}}}"));
        named.chain(placeholders).filter(|name| !used.contains(name)).collect()
    }
}

fn is_name(text: &str) -> bool {
    let starts = text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    starts && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn bounded(text: &str) -> Result<(), String> {
    if text.len() > MAX_TEXT {
        return Err(format!("with its values filled in it is longer than {MAX_TEXT} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_filled_in() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        let values = Values {
            named: pairs(&[("tpm-gold", "900"), ("key", "@(context.Api.Id)"), ("nest", "{tpm}")]),
            placeholders: pairs(&[("tpm", "70"), ("spare", "1")]),
            used: RefCell::default(),
        };
        for (text, expected) in [
            ("{tpm}", Ok("70")),
            ("${tpm}0", Ok("700")),
            ("a{{tpm-gold}}b", Ok("a900b")),
            ("{{ tpm-gold }}", Ok("900")),
            ("{{key}}", Ok("@(context.Api.Id)")),
            ("{{nest}}", Ok("70")),
            ("{}{ x }{", Ok("{}{ x }{")),
            ("@{ return x; }", Ok("@{ return x; }")),
            ("@($\"{tpm}{other}\")", Ok("@($\"70{other}\")")),
            ("{nope}", Err("--set nope=VALUE")),
            ("{{nope}}", Err("--named-value nope=VALUE")),
        ] {
            match (values.fill(text), expected) {
                (Ok(filled), Ok(expected)) => assert_eq!(filled, expected, "{text}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert_eq!(values.unused(), ["{spare}"]);
        let long = Values { placeholders: pairs(&[("a", &"x".repeat(1000))]), ..Values::default() };
        assert!(long.fill(&"{a}".repeat(1000)).is_err());
    }
}
