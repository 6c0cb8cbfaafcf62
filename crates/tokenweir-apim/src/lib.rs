//! temp
#![allow(missing_docs, dead_code)]
mod csharp;
mod error;
mod escape;
mod xml;
pub use error::{ImportError, Problem};
