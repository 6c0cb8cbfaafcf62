//! Where calls go: addresses, keys, and the client that all share.

use axum::Router;
use axum::body::Body;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, HeaderName, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::time::Duration;
use tower_service::Service;

use crate::config::{Auth, Upstream};
use crate::directory::base;
use crate::sample::{self, Sample};

/// A deployment: where it is, and what it is called there.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) backend: std::sync::Arc<Backend>,
    pub(crate) model: String,
}

/// What calls are sent to.
pub(crate) struct Backend {
    base: Uri,
    /// The header that has the operator's key.
    key: Option<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    /// Where an agent's card is.
    pub(crate) card_path: Option<String>,
}

impl fmt::Debug for Backend {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Backend {
    pub(crate) fn of_upstream(name: &str, upstream: &Upstream) -> Result<Backend, String> {
        let key = upstream.api_key_env.as_ref().map(|variable| {
            let key = std::env::var(variable).map_err(|_| {
                format!(
                    "upstream {name:?} has its key in the environment variable {variable}, which is not set; set it"
                )
            })?;
            let (header, value) = match upstream.auth {
                Auth::Bearer => (AUTHORIZATION, format!("Bearer {}", key.trim())),
                Auth::ApiKey => (HeaderName::from_static("api-key"), key.trim().to_owned()),
                Auth::XApiKey => (HeaderName::from_static("x-api-key"), key.trim().to_owned()),
                Auth::XGoogApiKey => (HeaderName::from_static("x-goog-api-key"), key.trim().to_owned()),
            };
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("the key in {variable} has characters that no header can have"))?;
            value.set_sensitive(true);
            Ok::<_, String>((header, value))
        });
        let timeout = Duration::from_secs(upstream.timeout_seconds);
        Ok(Backend { base: base(&upstream.base_url)?, key: key.transpose()?, timeout, card_path: None })
    }

    /// An agent or a tool: who calls it proves itself as before.
    pub(crate) fn plain(url: &str, card_path: Option<&str>) -> Result<Backend, String> {
        let card_path = card_path.map(str::to_owned);
        Ok(Backend { base: base(url)?, key: None, timeout: Duration::from_secs(600), card_path })
    }

    /// The address of `path` (which begins with `/`, or is empty) there.
    pub(crate) fn uri(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        let own = self.base.path().trim_end_matches('/');
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = match (own, path) {
            ("", "") => "/",
            _ => path,
        };
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(format!("{own}{path}{query}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Sets the operator's key.
    pub(crate) fn authorise(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.key {
            headers.insert(name.clone(), value.clone());
        }
    }

    pub(crate) fn base(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) struct SendError {
    /// Nothing of the request can have arrived.
    pub(crate) not_reached: bool,
    pub(crate) reason: String,
}

/// Sends requests: over the network, or to the sample inside this program.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Body>,
    sample: Router,
}

impl Client {
    pub(crate) fn new(sample: Sample, idle: Duration) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_secs(10)));
        let https =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(http);
        let pool =
            Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(idle).build(https);
        Client { pool, sample: sample::router(sample) }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        if request.uri().host() == Some(sample::HOST) {
            let mut sample = self.sample.clone();
            return sample.call(request).await.map_err(|error| match error {});
        }
        match self.pool.request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(error) => {
                // What a client is told names no address; the operator's log does.
                let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                Err(SendError { not_reached: error.is_connect(), reason })
            }
        }
    }
}
