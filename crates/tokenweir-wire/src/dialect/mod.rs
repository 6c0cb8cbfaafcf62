//! What a client is told, in the words of the API that it speaks.
//!
//! - `headers`: how its limits stand, and when to come back;
//! - `errors`: bodies of refusals and other errors.

mod errors;
mod headers;

pub use errors::Refused;
pub use headers::{ApimHeaders, Header, ietf_headers};

/// In whose words a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI's API.
    OpenAi,
    /// Azure OpenAI.
    AzureOpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Gemini and Vertex.
    Gemini,
    /// An API behind Azure API Management. Its remaining-tokens headers are named by the operator: [`ApimHeaders`].
    Apim,
}
