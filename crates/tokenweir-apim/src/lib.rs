//! Azure API Management policy documents turned into tokenweir policies.
//!
//! [`Importer`] takes documents (global, workspace, product, API, operation), the fragments that they include, and the
//! values of their `{{named values}}` and `{placeholders}`. It runs them as API Management does, without a request at
//! hand: what depends on the request becomes the scope and the match of a limit. The result is a policy in TOML, with
//! comments that say where each limit comes from and how it differs, and an account of every element: imported, not
//! mapped (with the reason), or not about limits.
//!
//! It does no I/O. Documents may come from anywhere: they are refused where they declare entities or are too deep or
//! too large, and whatever they hold, the work and memory they take is bounded.
//!
//! - `escape`, `xml`: a document as a tree that knows its lines, though its expressions are no XML;
//! - `csharp`, `value`, `eval`, `calls`, `compare`, `known`: expressions, worked out case by case;
//! - `source`, `walk`, `branch`, `limits`, `attributes`, `metric`: what is run, and what its elements say;
//! - `plan`, `write`, `report`: the limits of the policy, its text, and the account.
//!
//! # Example
//! ```
//! use tokenweir_apim::{Document, Importer, Scope, Tier};
//!
//! let text = r#"<policies><inbound><base />
//!     <llm-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="{tpm}" estimate-prompt-tokens="false" />
//! </inbound></policies>"#;
//! let imported = Importer::new(Tier::V2)
//!     .document(Document { name: "policy.xml".into(), text: text.into(), scope: Scope::Api, id: None })
//!     .placeholder("tpm", "1000")
//!     .import()?;
//! assert_eq!(imported.policy.limits()[0].scope()[0].to_string(), "key:subscription");
//! assert!(imported.report.not_mapped.is_empty());
//! # Ok::<(), tokenweir_apim::ImportError>(())
//! ```

mod attributes;
mod branch;
mod calls;
mod compare;
mod csharp;
mod error;
mod escape;
mod eval;
mod import;
mod known;
mod limits;
mod metric;
mod plan;
mod report;
mod source;
mod value;
mod walk;
mod write;
mod xml;

pub use error::{ImportError, Problem};
pub use import::{Imported, Importer, Tier};
pub use report::{Accounted, Dimension, ImportedLimit, Line, Part, Report, Source};
pub use source::{Document, Scope};
