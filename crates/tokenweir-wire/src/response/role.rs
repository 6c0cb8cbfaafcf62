//! What a value of a response is, by where it stands.

use crate::api::Api;
use crate::json::Name::{self, *};
use crate::usage::Figure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Text that the model produced.
    Text,
    /// JSON that the model produced: it counts by its bytes.
    Json,
    Figure(Figure),
    /// A word that says what the document is.
    Type,
    /// A word that stands here once the answer has ended.
    Stop,
    /// What a list of figures by modality counts.
    Modality,
    /// How many of them.
    Count,
    /// The end of one element of such a list.
    ByModality(Figure),
    /// Whether the provider goes on with the answer when nobody reads it.
    Background,
    /// An object here says that the call failed.
    Error,
    /// What only a response of this API has.
    Shape,
    Nothing,
}

pub(super) fn of(api: Api, path: &[Name]) -> Role {
    match api {
        Api::ChatCompletions | Api::Completions | Api::Embeddings => openai(path),
        Api::Responses => responses(path),
        Api::Messages => messages(path),
        Api::GenerateContent => generate_content(path),
    }
}

fn openai(path: &[Name]) -> Role {
    match path {
        [Choices] => Role::Shape,
        [Choices, FinishReason] => Role::Stop,
        [Choices, Text] => Role::Text,
        [Choices, Delta | Message, inner @ ..] => match inner {
            // Some servers call what a model thinks `reasoning_content`, some `reasoning`, some give a list of parts.
            [Content | Refusal | ReasoningContent | Reasoning] | [Content, Text] | [Content, Thinking, Text] => {
                Role::Text
            }
            [ToolCalls, Function, Arguments | Named] | [FunctionCall, Arguments | Named] | [Audio, Transcript] => {
                Role::Text
            }
            _ => Role::Nothing,
        },
        [Usage, PromptTokens] => Role::Figure(Figure::Input),
        [Usage, PromptTokensDetails, CachedTokens] => Role::Figure(Figure::CachedInput),
        [Usage, PromptTokensDetails, AudioTokens] => Role::Figure(Figure::AudioInput),
        [Usage, CompletionTokens] => Role::Figure(Figure::Output),
        [Usage, CompletionTokensDetails, ReasoningTokens] => Role::Figure(Figure::Reasoning),
        [Usage, CompletionTokensDetails, AudioTokens] => Role::Figure(Figure::AudioOutput),
        [Usage, TotalTokens] => Role::Figure(Figure::Total),
        [Error] => Role::Error,
        _ => Role::Nothing,
    }
}

fn responses(path: &[Name]) -> Role {
    match path {
        [Type] | [Status] | [Response, Status] => Role::Type,
        [Response] | [Output] => Role::Shape,
        // Of a stream.
        [Delta] => Role::Text,
        // Of a body. A stream's last event repeats all this below `response`.
        [Output, Content | Summary, Text | Refusal] | [Output, Arguments | Input | Code | Named] => Role::Text,
        [Usage, figure @ ..] | [Response, Usage, figure @ ..] => match figure {
            [InputTokens] => Role::Figure(Figure::Input),
            [InputTokensDetails, CachedTokens] => Role::Figure(Figure::CachedInput),
            [OutputTokens] => Role::Figure(Figure::Output),
            [OutputTokensDetails, ReasoningTokens] => Role::Figure(Figure::Reasoning),
            [TotalTokens] => Role::Figure(Figure::Total),
            _ => Role::Nothing,
        },
        [Background] | [Response, Background] => Role::Background,
        [Error] | [Response, Error] => Role::Error,
        _ => Role::Nothing,
    }
}

fn messages(path: &[Name]) -> Role {
    match path {
        [Type] => Role::Type,
        [Message] | [Content] | [Delta] | [ContentBlock] => Role::Shape,
        [Delta, StopReason] | [StopReason] => Role::Stop,
        [Delta, Text | PartialJson | Thinking] => Role::Text,
        [Content | ContentBlock, Text | Thinking | Named] => Role::Text,
        [Content | ContentBlock, Input] => Role::Json,
        [Usage, figure] | [Message, Usage, figure] => match figure {
            InputTokens => Role::Figure(Figure::Input),
            CacheReadInputTokens => Role::Figure(Figure::CachedInput),
            CacheCreationInputTokens => Role::Figure(Figure::CacheWrite),
            OutputTokens => Role::Figure(Figure::Output),
            _ => Role::Nothing,
        },
        [Error] => Role::Error,
        _ => Role::Nothing,
    }
}

fn generate_content(path: &[Name]) -> Role {
    match path {
        [Candidates] => Role::Shape,
        [Candidates, FinishReason] => Role::Stop,
        [Candidates, Content, Parts, Text | FunctionCall | ExecutableCode, inner @ ..] => match (path[3], inner) {
            (Text, []) | (FunctionCall, [Named]) | (ExecutableCode, [Code]) => Role::Text,
            (FunctionCall, [Args]) => Role::Json,
            _ => Role::Nothing,
        },
        [UsageMetadata, figure] => match figure {
            PromptTokenCount => Role::Figure(Figure::Input),
            ToolUsePromptTokenCount => Role::Figure(Figure::ToolInput),
            CachedContentTokenCount => Role::Figure(Figure::CachedInput),
            CandidatesTokenCount => Role::Figure(Figure::Output),
            ThoughtsTokenCount => Role::Figure(Figure::Reasoning),
            TotalTokenCount => Role::Figure(Figure::Total),
            PromptTokensDetails => Role::ByModality(Figure::AudioInput),
            CandidatesTokensDetails => Role::ByModality(Figure::AudioOutput),
            _ => Role::Nothing,
        },
        [UsageMetadata, PromptTokensDetails | CandidatesTokensDetails, Modality] => Role::Modality,
        [UsageMetadata, PromptTokensDetails | CandidatesTokensDetails, TokenCount] => Role::Count,
        [Error] => Role::Error,
        _ => Role::Nothing,
    }
}
