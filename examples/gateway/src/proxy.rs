//! Passes on what was admitted.

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokenweir_tower::{NoAnswer, NotReached, RequestBody, error};
use tokenweir_wire::{Api, Dialect};
use tower_service::Service;

use crate::card;
use crate::directory::{Directory, KEY_HEADERS, bearer, presented};
use crate::identity::{Arrived, Destination};
use crate::stall::Stall;
use crate::upstream::{Backend, Client, SendError};

/// The service behind the layer.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) client: Client,
}

impl Service<Request<RequestBody<Body>>> for Proxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody<Body>>) -> Self::Future {
        let client = self.client.clone();
        Box::pin(async move { Ok(serve(&client, request).await) })
    }
}

async fn serve(client: &Client, request: Request<RequestBody<Body>>) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    let (destination, arrived) = (head.extensions.remove::<Destination>(), head.extensions.remove::<Arrived>());
    let Some(arrived) = arrived else { return own(error(Dialect::OpenAi, 404, "There is nothing at this path.")) };
    let dialect = arrived.dialect;
    match destination {
        Some(Destination::Models) => own(models(&arrived.directory, dialect)),
        Some(Destination::Peer { backend, path, mount }) => {
            let card = card::asked_for(&head, &backend, &path);
            let own_url = card.then(|| own_url(&head, &arrived, &mount));
            let Some(uri) = backend.uri(&path, head.uri.query()) else { return not_reached(dialect, "its address") };
            // Who calls proves itself to the peer as before; the gateway's key is not the peer's business.
            without_key(&mut head.headers);
            hop_by_hop(&mut head.headers);
            if card {
                head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            head.uri = uri;
            let response = send(client, Request::from_parts(head, Body::new(body)), &backend, dialect).await;
            match own_url {
                Some(own_url) => card::rewritten(response, &backend.base(), &own_url).await,
                None => response,
            }
        }
        Some(Destination::Model { target, path, query, named, api }) => {
            let backend = &target.backend;
            let Some(uri) = backend.uri(&path, query.as_deref()) else { return not_reached(dialect, "its address") };
            KEY_HEADERS.iter().for_each(|name| drop(head.headers.remove(*name)));
            hop_by_hop(&mut head.headers);
            backend.authorise(&mut head.headers);
            head.uri = uri;
            let is_in_body = api != Api::GenerateContent;
            let body = match body.whole().filter(|_| is_in_body && named.as_deref() != Some(&*target.model)) {
                Some(whole) => {
                    // What only a lenient reader takes could name another model to the upstream than to the meter.
                    let Some(renamed) = with_model(&whole, &target.model) else {
                        let mut response =
                            own(error(dialect, 400, "The body is not valid JSON. Send one JSON object in UTF-8."));
                        response.extensions_mut().insert(NotReached);
                        return response;
                    };
                    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(renamed.len()));
                    Body::from(renamed)
                }
                None => Body::new(body),
            };
            let mut response = send(client, Request::from_parts(head, body), backend, dialect).await;
            without_operators_limits(response.headers_mut());
            response
        }
        None => not_reached(dialect, "the deployment, which is not there"),
    }
}

async fn send(client: &Client, request: Request<Body>, backend: &Backend, dialect: Dialect) -> Response<Body> {
    let answered = within(backend.timeout, client.send(request)).await;
    match answered {
        // No client asks for another protocol by now, and what it speaks could not be metered.
        Some(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            eprintln!("{} changes to another protocol unasked", backend.base());
            no_answer(dialect, 502, "The upstream broke off before it answered.")
        }
        Some(Ok(mut response)) => {
            hop_by_hop(response.headers_mut());
            response.map(|body| Stall::within(body, backend.timeout, "the upstream's answer"))
        }
        Some(Err(SendError { not_reached: true, reason })) => {
            eprintln!("{} cannot be reached: {reason}", backend.base());
            not_reached(dialect, "the upstream")
        }
        Some(Err(SendError { reason, .. })) => {
            eprintln!("{} did not answer: {reason}", backend.base());
            no_answer(dialect, 502, "The upstream broke off before it answered.")
        }
        None => no_answer(dialect, 504, "The upstream did not answer in time."),
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(time, future).await.ok()
}

/// An answer to a call that was sent, and that nobody answered: what it is charged is the operator's to say.
fn no_answer(dialect: Dialect, status: u16, message: &str) -> Response<Body> {
    let mut response = own(error(dialect, status, message));
    response.extensions_mut().insert(NoAnswer);
    response
}

/// An answer to a call that reached nobody: it is cancelled.
fn not_reached(dialect: Dialect, what: &str) -> Response<Body> {
    let mut response = own(error(dialect, 502, &format!("The gateway cannot reach {what}.")));
    response.extensions_mut().insert(NotReached);
    response
}

fn own(response: Response<Bytes>) -> Response<Body> {
    response.map(Body::from)
}

/// The list of models, as OpenAI's and Anthropic's clients read it.
fn models(directory: &Directory, dialect: Dialect) -> Response<Bytes> {
    let names = directory.deployments();
    let body = if dialect == Dialect::Anthropic {
        let each = names.iter().map(
            |name| json!({ "type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z" }),
        );
        let (first, last) = (names.first(), names.last());
        json!({ "data": each.collect::<Vec<_>>(), "has_more": false, "first_id": first, "last_id": last })
    } else {
        let each =
            names.iter().map(|name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "gateway" }));
        json!({ "object": "list", "data": each.collect::<Vec<_>>() })
    };
    let response = Response::builder().header("content-type", "application/json");
    response.body(Bytes::from(body.to_string())).unwrap_or_default()
}

/// The request with another model. The values of all other fields stay as they are, to the byte.
fn with_model(body: &[u8], model: &str) -> Option<Bytes> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    let model = serde_json::value::to_raw_value(model).ok()?;
    // It has been read in any case: a lenient upstream would as well.
    fields.retain(|name, _| !name.eq_ignore_ascii_case("model"));
    fields.insert("model".to_owned(), &model);
    Some(serde_json::to_vec(&fields).ok()?.into())
}

/// Takes the gateway's key away, in whichever headers it came.
fn without_key(headers: &mut HeaderMap) {
    let Some(key) = presented(headers).map(|(key, _)| key.to_vec()) else { return };
    for name in KEY_HEADERS {
        let has_it = |value: &HeaderValue| {
            let value = value.as_bytes();
            value == key || bearer(value).is_some_and(|token| token == key)
        };
        if headers.get_all(name).iter().any(has_it) {
            headers.remove(name);
        }
    }
}

/// Takes away what is between two hops only, and what names this host.
pub(crate) fn hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // A client that names this one would have the answer compressed, which cannot be metered.
    named.iter().filter(|name| *name != ACCEPT_ENCODING).for_each(|name| drop(headers.remove(name)));
    let fixed = [CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    fixed.iter().for_each(|name| drop(headers.remove(name)));
    headers.remove("keep-alive");
}

/// What an upstream says of the operator's own limits is not its clients' business.
fn without_operators_limits(headers: &mut HeaderMap) {
    let told = |name: &&HeaderName| {
        name.as_str().starts_with("x-ratelimit-") || name.as_str().starts_with("anthropic-ratelimit-")
    };
    let names: Vec<HeaderName> = headers.keys().filter(told).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

/// The gateway's own address of an agent.
fn own_url(head: &http::request::Parts, arrived: &Arrived, mount: &str) -> String {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let base = arrived.directory.public_url.clone().unwrap_or_else(|| format!("http://{host}"));
    format!("{}{mount}", base.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_leaves_everything_else_as_it_was() {
        let body = br#"{"temperature":1.0,"seed":12345678901234567890123,"model":"a","messages":[ {"x" : 1e3} ]}"#;
        let renamed = with_model(body, "b").expect("an object");
        assert_eq!(
            &renamed[..],
            br#"{"messages":[ {"x" : 1e3} ],"model":"b","seed":12345678901234567890123,"temperature":1.0}"#
        );
        assert_eq!(&with_model(br#"{"Model":"a"}"#, "b").expect("an object")[..], br#"{"model":"b"}"#);
        assert_eq!(&with_model(b"{}", "b").expect("an object")[..], br#"{"model":"b"}"#);
        assert!(with_model(b"[]", "b").is_none());
    }

    #[test]
    fn what_is_between_two_hops_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "close, x-mine"), ("x-mine", "1"), ("te", "trailers"), ("accept", "*/*")] {
            headers.append(name, value.parse().expect("a value"));
        }
        hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
