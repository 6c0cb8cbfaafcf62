//! The APIs whose bodies this crate reads.

use crate::dialect::Dialect;
use crate::request::{Asked, RequestError};

/// The shape of a request and its response. Azure OpenAI has those of OpenAI, Vertex those of Gemini and Anthropic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Api {
    /// OpenAI Chat Completions.
    ChatCompletions,
    /// OpenAI Completions (legacy).
    Completions,
    /// OpenAI Embeddings.
    Embeddings,
    /// OpenAI Responses.
    Responses,
    /// Anthropic Messages.
    Messages,
    /// Gemini and Vertex `generateContent` and `streamGenerateContent`.
    GenerateContent,
}

impl Api {
    /// All of them.
    pub const ALL: [Api; 6] =
        [Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses, Api::Messages, Api::GenerateContent];

    /// The word for it in settings and other languages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Api::ChatCompletions => "chat_completions",
            Api::Completions => "completions",
            Api::Embeddings => "embeddings",
            Api::Responses => "responses",
            Api::Messages => "messages",
            Api::GenerateContent => "generate_content",
        }
    }

    /// The API that a [word](Api::as_str) is for.
    pub fn from_word(word: &str) -> Option<Self> {
        Api::ALL.into_iter().find(|api| api.as_str() == word)
    }
}

/// Which API a path is of, and what the path says besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint<'a> {
    /// The API.
    pub api: Api,
    /// The deployment or model, where the path names it (Azure OpenAI, Gemini, Vertex); as written, not percent-decoded.
    pub model: Option<&'a str>,
    /// Whether the response is a stream, where the path says so (Gemini, Vertex); elsewhere the body does.
    pub stream: Option<bool>,
}

impl<'a> Endpoint<'a> {
    /// The endpoint that a URL's path names, by its last segments, whatever stands before them. A query is ignored.
    ///
    /// `None` for what generates no tokens (`/v1/models`, `/v1/messages/count_tokens`) and what is not known.
    ///
    /// # Example
    /// ```
    /// use tokenweir_wire::{Api, Endpoint};
    /// let endpoint = Endpoint::of("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21").unwrap();
    /// assert_eq!((endpoint.api, endpoint.model), (Api::ChatCompletions, Some("gpt-4o")));
    /// ```
    pub fn of(path: &'a str) -> Option<Self> {
        // Looked for as bytes: this is on the way of each request, and a search for a character takes longer to begin.
        let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
        let path = &path[..end];
        let path = path.strip_suffix('/').unwrap_or(path);
        let last_of = |path: &'a str| {
            let slash = path.bytes().rposition(|byte| byte == b'/');
            slash.map_or(("", path), |slash| (&path[..slash], &path[slash + 1..]))
        };
        let (front, last) = last_of(path);
        let (_, before) = last_of(front);
        if let Some((model, method)) = last.split_once(':') {
            let (api, stream) = match method {
                "generateContent" => (Api::GenerateContent, false),
                "streamGenerateContent" => (Api::GenerateContent, true),
                "rawPredict" if path.contains("/publishers/anthropic/") => (Api::Messages, false),
                "streamRawPredict" if path.contains("/publishers/anthropic/") => (Api::Messages, true),
                _ => return None,
            };
            let model = Some(model).filter(|model| !model.is_empty());
            return Some(Endpoint { api, model, stream: Some(stream) });
        }
        let api = match (before, last) {
            ("chat", "completions") => Api::ChatCompletions,
            (_, "completions") => Api::Completions,
            (_, "embeddings") => Api::Embeddings,
            (_, "responses") => Api::Responses,
            (_, "messages") => Api::Messages,
            _ => return None,
        };
        let segments = path.as_bytes().split(|byte| *byte == b'/');
        let mut names = segments.skip_while(|&segment| segment != b"deployments").skip(1);
        let model = names.next().filter(|model| !model.is_empty() && names.next().is_some());
        // Between two slashes of a text is a text.
        let model = model.and_then(|model| std::str::from_utf8(model).ok());
        Some(Endpoint { api, model, stream: None })
    }

    /// Reads a request that is sent to it, as [`Asked::read`] does. What the path says of model and stream goes before
    /// what the body says.
    ///
    /// # Errors
    /// [`RequestError`] if the body is not one JSON object.
    ///
    /// # Example
    /// ```
    /// use tokenweir_wire::Endpoint;
    /// let endpoint = Endpoint::of("/openai/deployments/search-4o/chat/completions").unwrap();
    /// let asked = endpoint.read(br#"{"model": "gpt-4o", "messages": []}"#)?;
    /// assert_eq!(asked.model.as_deref(), Some("search-4o"));
    /// # Ok::<(), tokenweir_wire::RequestError>(())
    /// ```
    pub fn read(&self, body: &[u8]) -> Result<Asked, RequestError> {
        let mut asked = Asked::read(self.api, body)?;
        if let Some(model) = self.model {
            asked.model = Some(model.to_owned());
        }
        asked.stream = self.stream.unwrap_or(asked.stream);
        Ok(asked)
    }

    /// In whose words its callers are answered: Azure OpenAI's where the path names a deployment of OpenAI's APIs.
    pub const fn dialect(&self) -> Dialect {
        match (self.api, self.model) {
            (Api::Messages, _) => Dialect::Anthropic,
            (Api::GenerateContent, _) => Dialect::Gemini,
            (_, Some(_)) => Dialect::AzureOpenAi,
            (_, None) => Dialect::OpenAi,
        }
    }
}

/// The endpoint of an API, of whose path nothing is known.
impl From<Api> for Endpoint<'_> {
    fn from(api: Api) -> Self {
        Endpoint { api, model: None, stream: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_before_the_body() {
        let read = |path, body: &str| {
            let asked = Endpoint::of(path).expect("an endpoint").read(body.as_bytes()).expect("an object");
            (asked.model, asked.stream)
        };
        let body = r#"{"model": "m", "stream": true}"#;
        assert_eq!(read("/v1/responses", body), (Some("m".to_owned()), true));
        assert_eq!(read("/deployments/d/completions", body), (Some("d".to_owned()), true));
        assert_eq!(read("/models/g:generateContent", body), (Some("g".to_owned()), false));
        assert_eq!(read("/models/g:streamGenerateContent", "{}"), (Some("g".to_owned()), true));
    }

    #[test]
    fn paths_name_their_api() {
        let of = |path| Endpoint::of(path).map(|endpoint| (endpoint.api, endpoint.model, endpoint.stream));
        assert_eq!(of("/v1/chat/completions"), Some((Api::ChatCompletions, None, None)));
        assert_eq!(of("/v1/completions/"), Some((Api::Completions, None, None)));
        assert_eq!(of("/openai/deployments/ada/embeddings?x=/y"), Some((Api::Embeddings, Some("ada"), None)));
        assert_eq!(of("/openai/v1/responses"), Some((Api::Responses, None, None)));
        assert_eq!(of("/anthropic/v1/messages"), Some((Api::Messages, None, None)));
        let gemini = Some((Api::GenerateContent, Some("gemini-2.5-pro"), Some(true)));
        assert_eq!(of("/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"), gemini);
        let vertex = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict";
        assert_eq!(of(vertex), Some((Api::Messages, Some("claude-x"), Some(false))));
        for none in ["", "/", "/v1/models", "/v1/messages/count_tokens", "/v1/responses/resp_1", "/x:embedContent"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(of("/deployments//completions"), Some((Api::Completions, None, None)));
    }

    #[test]
    fn callers_are_answered_in_the_words_of_the_path_that_they_use() {
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/openai/v1/responses", Dialect::OpenAi),
            ("/openai/deployments/gpt-4o/chat/completions", Dialect::AzureOpenAi),
            ("/anthropic/v1/messages", Dialect::Anthropic),
            ("/v1beta/models/gemini-2.5-pro:generateContent", Dialect::Gemini),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:rawPredict", Dialect::Anthropic),
        ] {
            assert_eq!(Endpoint::of(path).map(|endpoint| endpoint.dialect()), Some(dialect), "{path}");
        }
    }

    #[test]
    fn words_name_their_api() {
        for api in Api::ALL {
            assert_eq!(Api::from_word(api.as_str()), Some(api));
        }
        assert_eq!(Api::from_word("chat"), None);
    }
}
