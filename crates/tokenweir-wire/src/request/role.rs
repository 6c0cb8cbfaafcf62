//! What a value of a request is, by where it stands.

use crate::api::Api;
use crate::json::Name::{self, *};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Model,
    Stream,
    IncludeUsage,
    /// The most tokens that an answer may have.
    Bound,
    /// How many answers there will be.
    Answers,
    /// A prompt, several, or their tokens by number.
    Prompts,
    /// A list whose objects are messages; a string here is text.
    Conversation,
    Text,
    /// JSON that the model reads: it counts by its bytes.
    Json,
    /// Something that is not text, in an object or as a string.
    Attachment,
    /// Its encoded bytes.
    Bytes,
    /// Its media type.
    Media,
    /// How closely an image is looked at.
    Detail,
    /// Where the provider finds it.
    Reference,
    /// Input that the request only refers to.
    Elsewhere,
    Nothing,
}

pub(super) fn of(api: Api, path: &[Name]) -> Role {
    match path {
        [Model] => Role::Model,
        [Stream] => Role::Stream,
        [StreamOptions, IncludeUsage] => Role::IncludeUsage,
        [MaxTokens | MaxCompletionTokens | MaxOutputTokens] | [GenerationConfig, MaxOutputTokens] => Role::Bound,
        [N | BestOf | CandidateCount] | [GenerationConfig, CandidateCount] => Role::Answers,
        [Prompt] if api == Api::Completions => Role::Prompts,
        [Input] if api == Api::Embeddings => Role::Prompts,
        [PreviousResponseId | Conversation | CachedContent | Prompt] => Role::Elsewhere,
        [Tools | Functions | ResponseFormat | Text] | [GenerationConfig, ResponseSchema] => Role::Json,
        [Instructions | Suffix] => Role::Text,
        [Input | Messages | Contents | System | SystemInstruction] => Role::Conversation,
        [Input | Messages | Contents | System | SystemInstruction, inner @ ..] => message(inner),
        _ => Role::Nothing,
    }
}

/// Inside a message, at any depth: parts hold parts, and tools' results hold both.
fn message(path: &[Name]) -> Role {
    match path {
        [.., FunctionCall | FunctionResponse] => Role::Json,
        // An object here is a tool's input, a string that of a custom tool.
        [.., Input] => Role::Json,
        [.., ImageUrl | InputAudio | File | Source | InlineData | FileData] => Role::Attachment,
        [.., ImageUrl, Detail] => Role::Detail,
        [.., Data] => Role::Bytes,
        [.., MediaType] => Role::Media,
        [.., FileId | FileUri | FileUrl] | [.., Source, Url] => Role::Reference,
        [.., Content | Text | Refusal | Thinking | Reasoning | ReasoningContent | Arguments | Named | Output] => {
            Role::Text
        }
        _ => Role::Nothing,
    }
}
