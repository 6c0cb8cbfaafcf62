//! The layer and its service: the way of one request.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokenweir::Estimate;
use tokenweir::gateway::Completion;
use tokenweir_wire::{Api, Asked, Exchange, RequestReader, ResponseHead, StreamUsage, ietf_headers};
use tower_layer::Layer;
use tower_service::Service;

use crate::admission::{Admission, Admitted, Hold, Refusal};
use crate::answer::{as_grpc, error, is_grpc, refused, set_one, undecided};
use crate::host::{Caller, Host, Identified, Metered, NoAnswer, NotReached, Takes};
use crate::request::{Read, RequestBody, read};
use crate::response::ResponseBody;
use crate::settings::{Oversize, Settings};

/// What every service of a layer shares.
struct Shared<A, H> {
    admission: A,
    host: H,
    settings: Settings,
}

/// Puts a [`MeterService`] in front of a service. Cheap to clone; the services of all clones share the counters.
pub struct MeterLayer<A, H> {
    shared: Arc<Shared<A, H>>,
}

impl<A: Admission, H: Host> MeterLayer<A, H> {
    /// A layer that admits by `admission` (a [`Limiter`](tokenweir::Limiter), a [`Gate`](tokenweir::gateway::Gate),
    /// [`OnServer`](crate::OnServer)) what `host` identifies.
    pub fn new(admission: A, host: H, settings: Settings) -> Self {
        MeterLayer { shared: Arc::new(Shared { admission, host, settings }) }
    }
}

impl<A, H> Clone for MeterLayer<A, H> {
    fn clone(&self) -> Self {
        MeterLayer { shared: self.shared.clone() }
    }
}

impl<A, H> fmt::Debug for MeterLayer<A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterLayer").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl<S, A, H> Layer<S> for MeterLayer<A, H> {
    type Service = MeterService<S, A, H>;

    fn layer(&self, inner: S) -> Self::Service {
        MeterService { inner, shared: self.shared.clone() }
    }
}

/// A service that calls models, metered.
pub struct MeterService<S, A, H> {
    inner: S,
    shared: Arc<Shared<A, H>>,
}

impl<S: Clone, A, H> Clone for MeterService<S, A, H> {
    fn clone(&self) -> Self {
        MeterService { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

impl<S: fmt::Debug, A, H> fmt::Debug for MeterService<S, A, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeterService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

type Answer<R> = Response<ResponseBody<R>>;

impl<S, A, H, B, R> Service<Request<B>> for MeterService<S, A, H>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    A: Admission,
    H: Host,
    B: Body + Send + 'static,
    B::Data: Send,
    R: Body + Send + 'static,
{
    type Response = Answer<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let next = self.inner.clone();
        // The one that is ready is used, the clone waits for its turn.
        let inner = std::mem::replace(&mut self.inner, next);
        let shared = self.shared.clone();
        Box::pin(async move { shared.serve(inner, request).await })
    }
}

/// A call that may pass: what goes to the service, and what is held for it.
struct Passed<B> {
    body: RequestBody<B>,
    /// Dropped before the service has answered, the estimate stands.
    hold: Box<dyn Hold>,
    exchange: Exchange,
    /// Whether the usage is asked for that the client did not.
    asks_for_usage: bool,
}

impl<A: Admission, H: Host> Shared<A, H> {
    async fn serve<S, B, R>(&self, mut inner: S, request: Request<B>) -> Result<Answer<R>, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        B: Body,
        R: Body,
    {
        let (mut head, body) = request.into_parts();
        let grpc = is_grpc(&head);
        let own = |response: Response<Bytes>, limits: bool| {
            let response = if grpc { as_grpc(response, limits) } else { response };
            Ok(response.map(ResponseBody::own))
        };
        let caller = match self.host.identify(&mut head) {
            Identified::Metered(caller) => caller,
            Identified::Refused(response) => return own(response, false),
            Identified::Unmetered => {
                let request = Request::from_parts(head, RequestBody::untouched(body));
                return Ok(inner.call(request).await?.map(ResponseBody::unwatched));
            }
        };
        let dialect = caller.dialect;
        let Passed { body, hold, mut exchange, asks_for_usage } = match self.admit(&mut head, caller, body).await {
            Ok(passed) => passed,
            Err(Stopped { response, limits }) => return own(*response, limits),
        };
        let answered = inner.call(Request::from_parts(head, body)).await;
        let now = self.admission.limiter().now();
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                hold.settle_at(&exchange.unanswered(now), now);
                return Err(error);
            }
        };
        let (mut head, body) = response.into_parts();
        if head.extensions.get::<NotReached>().is_some() {
            hold.cancel_at(now);
            return Ok(Response::from_parts(head, ResponseBody::unwatched(body)));
        }
        if exchange.has_expired(hold.permits(), now) {
            return own(
                error(dialect, 504, "The model took so long to answer that the call's permit has expired."),
                false,
            );
        }
        if self.settings.headers {
            // Two kinds of limit, three headers each; beyond them the map grows by itself.
            head.headers.reserve(6);
            hold.each_header(dialect, now, &mut |name, value| set_one(&mut head.headers, name, value));
        }
        if self.settings.ietf_headers {
            for (name, value) in ietf_headers(&hold.standings(now)) {
                set_one(&mut head.headers, &name, &value);
            }
        }
        if head.extensions.get::<NoAnswer>().is_some() {
            let response_code = Some(head.status.as_u16());
            hold.settle_at(&Completion { response_code, ..exchange.unanswered(now) }, now);
            return Ok(Response::from_parts(head, ResponseBody::unwatched(body)));
        }
        let told = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let answer = ResponseHead {
            status: head.status.as_u16(),
            content_type: told(CONTENT_TYPE),
            content_encoding: told(CONTENT_ENCODING),
        };
        let watch = exchange.answered(answer, dialect, asks_for_usage, self.settings.estimator.clone());
        if !watch.keeps_length() {
            head.headers.remove(CONTENT_LENGTH);
        }
        Ok(Response::from_parts(head, ResponseBody::watched(body, hold, watch)))
    }

    /// Reads what an estimate needs, and decides.
    async fn admit<B: Body>(&self, head: &mut Parts, mut caller: Caller, body: B) -> Result<Passed<B>, Stopped> {
        let wants = match caller.takes {
            Takes::Tokens { api, stream } => self.wants(head, &mut caller, api, stream, body).await?,
            Takes::Stated(estimate) => {
                self.host.resolve(head, &mut caller, None)?;
                let stated = (estimate != Estimate::default()).then_some(estimate);
                Wants { body: RequestBody::untouched(body), estimate: stated, streamed: false, asks_for_usage: false }
            }
        };
        let Wants { body, estimate, streamed, asks_for_usage } = wants;
        let now = self.admission.limiter().now();
        let admitted = {
            let keys = caller.call_keys();
            self.admission.admit_at(&caller.call(&keys, estimate, streamed), now).await
        };
        let hold = match admitted {
            Ok(Admitted::Passed(hold)) => hold,
            Ok(Admitted::Refused(refusal)) => {
                let limits = matches!(refusal, Refusal::Denied(_) | Refusal::Answered(..));
                return Err(Stopped { response: refused(&refusal, caller.dialect, now).into(), limits });
            }
            Err(wrong) => return Err(undecided(caller.dialect, &wrong).into()),
        };
        let (api, charged, permit) = (caller.takes.api(), hold.charged(), hold.permit());
        let Caller { project, deployment, .. } = caller;
        head.extensions.insert(Metered { project, deployment, api, streamed, charged, permit });
        let exchange = Exchange::new(api, charged, permit, self.settings.rules(), now);
        Ok(Passed { body, hold, exchange, asks_for_usage })
    }

    /// What a request to an API of tokens wants.
    async fn wants<B: Body>(
        &self,
        head: &mut Parts,
        caller: &mut Caller,
        api: Api,
        stream: Option<bool>,
        body: B,
    ) -> Result<Wants<B>, Stopped> {
        let (settings, dialect) = (&self.settings, caller.dialect);
        if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let message = "A compressed request cannot be metered. Send it without content-encoding.";
            return Err(error(dialect, 415, message).into());
        }
        // What is compressed cannot be metered either.
        head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let (body, trailers) = match read(body, settings.max_body).await {
            Read::Whole(body, trailers) => (body, trailers),
            Read::Broken => return Err(error(dialect, 400, "The request broke off.").into()),
            Read::Longer(body) => return self.wants_by_length(head, caller, api, stream, body),
        };
        let mut reader = RequestReader::new(api, settings.input, settings.estimator.clone());
        reader.feed(&body);
        let asked = reader.finish().map_err(|wrong| error(dialect, 400, &capitalised(&wrong.to_string())))?;
        self.host.resolve(head, caller, Some(&asked))?;
        let streamed = stream.unwrap_or(asked.stream);
        let estimate = self.estimate(caller, &asked, streamed)?;
        let (body, asks_for_usage) = match settings.ask_for_usage && asked.stream && !asked.include_usage {
            true => with_usage(head, api, body),
            false => (body, false),
        };
        let body = RequestBody::read(body, trailers);
        Ok(Wants { body, estimate: Some(estimate), streamed, asks_for_usage })
    }

    /// What a request wants that is too long to be read.
    fn wants_by_length<B>(
        &self,
        head: &mut Parts,
        caller: &mut Caller,
        api: Api,
        stream: Option<bool>,
        body: RequestBody<B>,
    ) -> Result<Wants<B>, Stopped> {
        let message = format!("The request is longer than {} bytes. Send less.", self.settings.max_body);
        let too_long = |dialect| Err(error(dialect, 413, &message).into());
        let stated = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let (Oversize::ByLength, Some(length)) = (self.settings.oversize, stated) else {
            // Whatever its host would say of a request of which it knows the head only.
            return too_long(caller.dialect);
        };
        self.host.resolve(head, caller, None)?;
        if caller.deployment.is_none() {
            return too_long(caller.dialect);
        }
        let streamed = stream.unwrap_or(false);
        let estimate = self.estimate(caller, &Asked::by_length(api, length), streamed)?;
        Ok(Wants { body, estimate: Some(estimate), streamed, asks_for_usage: false })
    }

    fn estimate(&self, caller: &Caller, asked: &Asked, streamed: bool) -> Result<Estimate, Stopped> {
        let (rule, limiter) = (&self.settings.output, self.admission.limiter());
        let keys = caller.call_keys();
        let call = caller.call(&keys, None, streamed);
        let estimate = call.with_request(|request| asked.estimate(rule, limiter, request));
        estimate.map_err(|wrong| undecided(caller.dialect, &wrong).into())
    }
}

/// A request that is about to be decided on.
struct Wants<B> {
    body: RequestBody<B>,
    estimate: Option<Estimate>,
    streamed: bool,
    asks_for_usage: bool,
}

/// A request that goes no further.
struct Stopped {
    response: Box<Response<Bytes>>,
    /// Whether it is limits that refuse it.
    limits: bool,
}

impl From<Response<Bytes>> for Stopped {
    fn from(response: Response<Bytes>) -> Self {
        Box::new(response).into()
    }
}

impl From<Box<Response<Bytes>>> for Stopped {
    fn from(response: Box<Response<Bytes>>) -> Self {
        Stopped { response, limits: false }
    }
}

/// The body that asks for the usage at the end of its stream; whether it was made to.
fn with_usage(head: &mut Parts, api: Api, body: Bytes) -> (Bytes, bool) {
    // It has been read as a request already.
    let Ok(usage) = StreamUsage::of(api, &body) else { return (body, false) };
    let std::borrow::Cow::Owned(asking) = usage.ask(&body) else { return (body, false) };
    if head.headers.contains_key(CONTENT_LENGTH) {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(asking.len()));
    }
    (asking.into(), !usage.client_asked())
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

impl Takes {
    fn api(self) -> Option<Api> {
        match self {
            Takes::Tokens { api, .. } => Some(api),
            Takes::Stated(_) => None,
        }
    }
}
