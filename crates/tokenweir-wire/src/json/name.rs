//! The member names that any dialect looks at. All others are one name, [`Name::Other`].
//!
//! Upper and lower case are one, as they are to a provider that reads JSON with Go's `encoding/json`: whoever goes by
//! `model` where the provider goes by a `Model` further on meters another call than is made.

macro_rules! names {
    ($($variant:ident = $($text:literal)|+),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Name {
            Other,
            $($variant),*
        }

        impl Name {
            /// The name of a member as it is written in the document, unescaped.
            pub(crate) fn of(key: &[u8]) -> Name {
                $($(const _: () = assert!($text.len() <= super::LONGEST_KEY);)+)*
                match key {
                    $($($text)|+ => Name::$variant,)*
                    _ if is_folded(key) => Name::Other,
                    _ => Name::of_any_case(key),
                }
            }

            #[cold]
            fn of_any_case(key: &[u8]) -> Name {
                let mut folded = [0; super::LONGEST_KEY];
                let Some(key) = fold(key, &mut folded) else { return Name::Other };
                match key {
                    $($(_ if key.eq_ignore_ascii_case($text) => Name::$variant,)+)*
                    _ => Name::Other,
                }
            }
        }
    };
}

/// Whether no other case of it could be a name.
fn is_folded(key: &[u8]) -> bool {
    !key.iter().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
}

/// The key without the two letters outside ASCII that Unicode folds into it: the long s and the Kelvin sign. `None` if it
/// cannot be a name.
fn fold<'a>(key: &[u8], folded: &'a mut [u8; super::LONGEST_KEY]) -> Option<&'a [u8]> {
    let mut length = 0;
    for letter in std::str::from_utf8(key).ok()?.chars() {
        let letter = match letter {
            '\u{17f}' => b's',
            '\u{212a}' => b'k',
            _ => u8::try_from(letter).ok().filter(u8::is_ascii)?,
        };
        *folded.get_mut(length)? = letter;
        length += 1;
    }
    folded.get(..length)
}

names! {
    Args = b"args",
    Arguments = b"arguments",
    Audio = b"audio",
    AudioTokens = b"audio_tokens",
    Background = b"background",
    BestOf = b"best_of",
    CacheCreationInputTokens = b"cache_creation_input_tokens",
    CacheReadInputTokens = b"cache_read_input_tokens",
    CachedContent = b"cachedContent" | b"cached_content",
    CachedContentTokenCount = b"cachedContentTokenCount",
    CachedTokens = b"cached_tokens",
    CandidateCount = b"candidateCount" | b"candidate_count",
    Candidates = b"candidates",
    CandidatesTokenCount = b"candidatesTokenCount",
    CandidatesTokensDetails = b"candidatesTokensDetails",
    Choices = b"choices",
    Code = b"code",
    CompletionTokens = b"completion_tokens",
    CompletionTokensDetails = b"completion_tokens_details",
    Content = b"content",
    ContentBlock = b"content_block",
    Contents = b"contents",
    Conversation = b"conversation",
    Data = b"data",
    Delta = b"delta",
    Detail = b"detail",
    Error = b"error",
    ExecutableCode = b"executableCode" | b"executable_code",
    File = b"file",
    FileData = b"fileData" | b"file_data",
    FileId = b"file_id",
    FileUri = b"fileUri" | b"file_uri",
    FileUrl = b"file_url",
    FinishReason = b"finish_reason" | b"finishReason",
    Function = b"function",
    FunctionCall = b"functionCall" | b"function_call",
    FunctionResponse = b"functionResponse" | b"function_response",
    Functions = b"functions",
    GenerationConfig = b"generationConfig" | b"generation_config",
    ImageUrl = b"image_url",
    IncludeUsage = b"include_usage",
    InlineData = b"inlineData" | b"inline_data",
    Input = b"input",
    InputAudio = b"input_audio",
    InputTokens = b"input_tokens",
    InputTokensDetails = b"input_tokens_details",
    Instructions = b"instructions",
    MaxCompletionTokens = b"max_completion_tokens",
    MaxOutputTokens = b"maxOutputTokens" | b"max_output_tokens",
    MaxTokens = b"max_tokens",
    MediaType = b"media_type" | b"mimeType" | b"mime_type",
    Message = b"message",
    Messages = b"messages",
    Modality = b"modality",
    Model = b"model",
    N = b"n",
    Named = b"name",
    Output = b"output",
    OutputTokens = b"output_tokens",
    OutputTokensDetails = b"output_tokens_details",
    PartialJson = b"partial_json",
    Parts = b"parts",
    PreviousResponseId = b"previous_response_id",
    Prompt = b"prompt",
    PromptTokenCount = b"promptTokenCount",
    PromptTokens = b"prompt_tokens",
    PromptTokensDetails = b"prompt_tokens_details" | b"promptTokensDetails",
    Reasoning = b"reasoning",
    ReasoningContent = b"reasoning_content",
    ReasoningTokens = b"reasoning_tokens",
    Refusal = b"refusal",
    Response = b"response",
    ResponseFormat = b"response_format",
    ResponseSchema = b"responseSchema" | b"response_schema" | b"responseJsonSchema" | b"response_json_schema",
    Source = b"source",
    Status = b"status",
    StopReason = b"stop_reason",
    Stream = b"stream",
    StreamOptions = b"stream_options",
    Suffix = b"suffix",
    Summary = b"summary",
    System = b"system",
    SystemInstruction = b"systemInstruction" | b"system_instruction",
    Text = b"text",
    Thinking = b"thinking",
    ThoughtsTokenCount = b"thoughtsTokenCount",
    TokenCount = b"tokenCount",
    ToolCalls = b"tool_calls",
    ToolUsePromptTokenCount = b"toolUsePromptTokenCount",
    Tools = b"tools",
    TotalTokenCount = b"totalTokenCount",
    TotalTokens = b"total_tokens",
    Transcript = b"transcript",
    Type = b"type",
    Url = b"url",
    Usage = b"usage",
    UsageMetadata = b"usageMetadata",
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn both_spellings_of_a_field_are_one_name_and_others_are_other() {
        assert_eq!(Name::of(b"generationConfig"), Name::of(b"generation_config"));
        assert_eq!(Name::of(b"usage"), Name::Usage);
        assert_eq!(Name::of(b"usages"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn a_name_is_the_same_in_any_case() {
        for key in ["model", "Model", "MODEL"] {
            assert_eq!(Name::of(key.as_bytes()), Name::Model, "{key}");
        }
        for key in ["max_tokens", "MAX_TOKENS", "max_to\u{212a}ens", "max_token\u{17f}"] {
            assert_eq!(Name::of(key.as_bytes()), Name::MaxTokens, "{key}");
        }
        assert_eq!(Name::of(b"GENERATIONCONFIG"), Name::GenerationConfig);
        assert_eq!(Name::of("m\u{f6}del".as_bytes()), Name::Other);
        assert_eq!(Name::of(b"\xffModel"), Name::Other);
        assert_eq!(Name::of(&[b'A'; super::super::LONGEST_KEY]), Name::Other);
    }
}
