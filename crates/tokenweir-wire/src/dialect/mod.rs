//! What a client is told, in the words of the API that it speaks.
//!
//! - `headers`: how its limits stand, and when to come back;
//! - `errors`: bodies of refusals and other errors.

pub(crate) mod errors;
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

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 5] =
        [Dialect::OpenAi, Dialect::AzureOpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Apim];

    /// The word for it in settings and other languages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::AzureOpenAi => "azure_openai",
            Dialect::Anthropic => "anthropic",
            Dialect::Gemini => "gemini",
            Dialect::Apim => "apim",
        }
    }

    /// The dialect that a [word](Dialect::as_str) is for.
    pub fn from_word(word: &str) -> Option<Self> {
        Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == word)
    }
}
