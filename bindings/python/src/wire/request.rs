//! Requests.

use super::{endpoint, found};
use crate::convert::{body, whole, with_request};
use crate::errors::{bad_body, raise};
use crate::limiter::Limiter;
use crate::record::Estimate;
use crate::store::released;
use crate::value::{repr, value};
use crate::wire::Dialect;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

value! {
    /// Which API a path is of, and what the path says besides.
    Endpoint as "tokenweir.wire" {
        /// `chat_completions`, `completions`, `embeddings`, `responses`, `messages` (Anthropic) or `generate_content`
        /// (Gemini, Vertex).
        api: &'static str,
        /// The deployment or model, where the path names it (Azure OpenAI, Gemini, Vertex); as written.
        model: Option<String>,
        /// Whether the response is a stream, where the path says so (Gemini, Vertex).
        stream: Option<bool>,
        /// In whose words its callers are answered.
        dialect: Dialect,
    }
    {
        /// The endpoint that a URL's path names, by its last segments (a query is ignored), or the word for an API does.
        /// None for what generates no tokens and what is not known.
        #[staticmethod]
        fn of(path_or_api: &str) -> Option<Self> {
            let found = found(path_or_api)?;
            Some(Endpoint {
                api: found.api.as_str(),
                model: found.model.map(str::to_owned),
                stream: found.stream,
                dialect: Dialect(found.dialect()),
            })
        }
    }
}

/// The most tokens there can be.
const MOST: u64 = 1 << 53;

/// What is held for the output of a request that states no bound: `OutputRule(tokens, *, per_mille_of_input=0,
/// share_per_mille=250)`.
///
/// For each answer so many tokens, and so many thousandths of the input besides. Whatever that comes to, it takes at most
/// `share_per_mille` thousandths of a limit (1 to 1000), and never makes a request too large for a limit that its input
/// alone would fit. ValueError for what is out of range: `tokens` and `per_mille_of_input` are from 0 to 2**53.
#[pyclass(frozen, eq, module = "tokenweir.wire")]
#[derive(PartialEq)]
pub struct OutputRule(tokenweir_wire::OutputRule);

#[pymethods]
impl OutputRule {
    #[new]
    #[pyo3(signature = (tokens, *, per_mille_of_input=None, share_per_mille=None),
           text_signature = "(tokens, *, per_mille_of_input=0, share_per_mille=250)")]
    fn new(
        tokens: &Bound<'_, PyAny>,
        per_mille_of_input: Option<&Bound<'_, PyAny>>,
        share_per_mille: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let tokens = whole("tokens", tokens, 0..=MOST)?;
        let per_mille = per_mille_of_input.map_or(Ok(0), |value| whole("per_mille_of_input", value, 0..=MOST))?;
        let rule = tokenweir_wire::OutputRule::per_mille_of_input(per_mille).plus_tokens(tokens);
        let share = share_per_mille.map(|value| whole("share_per_mille", value, 1..=1000)).transpose()?;
        Ok(OutputRule(share.map_or(rule, |share| rule.within_share(share))))
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// What a request asks for, and what it may cost.
#[pyclass(frozen, module = "tokenweir.wire")]
pub struct Asked(tokenweir_wire::Asked);

#[pymethods]
impl Asked {
    /// Reads the body of a request. `path_or_api` is the path that it was sent to, or the word for its API (see
    /// Endpoint.api). Text is counted by the characters rule: four ASCII characters are a token.
    ///
    /// Raises BodyError if the body is not one JSON object, ValueError for a path that takes no tokens. Fields that make no
    /// sense are the provider's to refuse.
    #[staticmethod]
    fn read(path_or_api: &str, body: &Bound<'_, PyAny>) -> PyResult<Self> {
        endpoint(path_or_api)?.read(&self::body("body", body)?).map(Asked).map_err(bad_body)
    }

    /// The API.
    #[getter]
    fn api(&self) -> &'static str {
        self.0.api.as_str()
    }

    /// The model or deployment that the path names, else the one of the body; None if neither does.
    #[getter]
    fn model(&self) -> Option<&str> {
        self.0.model.as_deref()
    }

    /// Whether it asks for a stream.
    #[getter]
    fn stream(&self) -> bool {
        self.0.stream
    }

    /// Whether it asks for the usage at the end of the stream (`stream_options.include_usage`).
    #[getter]
    fn include_usage(&self) -> bool {
        self.0.include_usage
    }

    /// Input tokens, estimated.
    #[getter]
    fn input(&self) -> u64 {
        self.0.input
    }

    /// How many answers there will be: `n`, `best_of` or `candidateCount`, for each of the prompts; at least 1.
    #[getter]
    fn answers(&self) -> u64 {
        self.0.answers
    }

    /// The most output tokens that it allows, for all answers. None if it states no bound; 0 for embeddings.
    #[getter]
    fn output(&self) -> Option<u64> {
        self.0.output
    }

    /// Whether it refers to input that is not in its body (an earlier response, cached content), so that `input` is too low.
    #[getter]
    fn input_elsewhere(&self) -> bool {
        self.0.input_elsewhere
    }

    /// What to admit it with: its estimated input, and the output that it states. Where it states none, what `rule` says,
    /// cut to the limits that the request meets in `limiter`. Nothing is taken from them. Raises RequestError, and
    /// StoreError where the limiter has a store that fails.
    #[pyo3(signature = (rule, limiter, project, deployment, *, keys=None))]
    fn estimate(
        &self,
        rule: &Bound<'_, OutputRule>,
        limiter: &Bound<'_, Limiter>,
        project: &Bound<'_, PyAny>,
        deployment: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Estimate> {
        let (rule, limiter) = (&rule.get().0, limiter.get());
        with_request(project, deployment, keys, |request| {
            // A caller that is new is looked for in the store, if there is one.
            let estimate =
                released(limiter.waits(), || self.0.estimate(rule, limiter.inner(), request)).map_err(raise)?;
            Ok(Estimate { input: estimate.input, output: estimate.output })
        })
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["api", "model", "stream", "input", "answers", "output"])
    }
}

/// What has to be done to a request so that its stream ends with its usage.
///
/// Chat Completions and Completions report the usage of a stream only where `stream_options.include_usage` is true; all
/// other APIs always do.
#[pyclass(frozen, eq, module = "tokenweir.wire")]
#[derive(PartialEq)]
pub struct StreamUsage(tokenweir_wire::StreamUsage);

#[pymethods]
impl StreamUsage {
    /// Reads the body of a request; see Asked.read. Raises BodyError, and ValueError for a path that takes no tokens.
    #[staticmethod]
    fn of(path_or_api: &str, body: &Bound<'_, PyAny>) -> PyResult<Self> {
        let api = endpoint(path_or_api)?.api;
        tokenweir_wire::StreamUsage::of(api, &self::body("body", body)?).map(StreamUsage).map_err(bad_body)
    }

    /// Whether the client expects the usage: if not, a UsageChunkFilter keeps it from what it did not ask for.
    #[getter]
    fn client_asked(&self) -> bool {
        self.0.client_asked()
    }

    /// The body that asks for the usage: `body`, the one that was read, with at most one insertion or replacement.
    fn ask<'py>(&self, body: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(body.py(), &self.0.ask(&self::body("body", body)?)))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr(slf.as_any(), &["client_asked"])
    }
}
