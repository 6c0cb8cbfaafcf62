//! An agent's card, which says where the agent is: clients of the gateway are to come to the gateway.

use axum::body::Body;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::upstream::Backend;

/// A longer one passes as it is.
const LONGEST: usize = 1 << 20;

/// Whether a request is for an agent's card.
pub(crate) fn asked_for(head: &Parts, backend: &Backend, path: &str) -> bool {
    head.method == Method::GET && backend.card_path.as_deref() == Some(path)
}

/// The card with the gateway's address in place of the agent's, wherever it names one.
pub(crate) async fn rewritten(response: Response<Body>, agent: &str, gateway: &str) -> Response<Body> {
    if !response.status().is_success() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = Limited::new(body, LONGEST).collect().await else {
        // It is too long, or broke off.
        return Response::builder().status(502).body(Body::empty()).unwrap_or_default();
    };
    let body = body.to_bytes();
    let Ok(mut card) = serde_json::from_slice::<Value>(&body) else {
        return Response::from_parts(head, Body::from(body));
    };
    readdress(&mut card, agent, gateway);
    let text = card.to_string();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    Response::from_parts(head, Body::from(text))
}

/// Replaces the addresses in the card's fields named `url`, its interfaces' included.
fn readdress(card: &mut Value, agent: &str, gateway: &str) {
    match card {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(url) if name == "url" => {
                        let rest = url.strip_prefix(agent).filter(|rest| rest.is_empty() || rest.starts_with('/'));
                        if let Some(rest) = rest {
                            *url = format!("{gateway}{rest}");
                        }
                    }
                    other => readdress(other, agent, gateway),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| readdress(item, agent, gateway)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_card_names_the_gateway_where_it_named_the_agent() {
        let mut card = json!({ "url": "http://agent/a", "name": "http://agent/a", "additionalInterfaces": [
            { "url": "http://agent/a/rpc" }, { "url": "http://agent/another" }] });
        readdress(&mut card, "http://agent/a", "https://gateway/agents/p/a");
        let expected = json!({ "url": "https://gateway/agents/p/a", "name": "http://agent/a", "additionalInterfaces": [
            { "url": "https://gateway/agents/p/a/rpc" }, { "url": "http://agent/another" }] });
        assert_eq!(card, expected);
    }
}
