//! What an operator sees and does, by keys of its own.
//!
//! | | |
//! |---|---|
//! | `GET /admin/status` | projects with limits and their use, agents, tools, deployments |
//! | `GET /admin/usage` | every counter; calls by what came of them |
//! | `GET /admin/limits` | the limits as one policy of the engine |
//! | `GET /admin/refusals` | the refused calls, newest first, with their reasons |
//! | `GET /admin/chart` | tokens, calls and refusals by project, over the last half hour |
//! | `GET /admin/audit` | who did what, when, and how it ended |
//! | `GET /admin/configuration` | how often the file was taken up, and why its newest text was not |
//! | `POST /admin/operations` | does something: `{"set_limit": {"project": ..., "deployment": ..., "limit": {...}}}` |
//!
//! Without a key each of them, and whatever else is asked for below `/admin`, is 401 and nothing else.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use axum::routing::{any, get};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use std::sync::Arc;
use tokenweir::gateway::model::Timestamp;
use tokenweir::gateway::{ConsoleError, Operation};
use tokio::task::spawn_blocking;

use crate::directory::{Directory, May};
use crate::estate::{self, ADMINISTRATOR, RESOURCE};
use crate::on_server::OnServer;
use crate::server::Shared;

/// The paths that are an operator's.
pub(crate) const PATHS: [&str; 6] = ["/", "/status", "/metrics", "/admin", "/admin/", "/admin/{*view}"];

/// The longest operation that is read.
const LONGEST: usize = 1 << 20;

/// Does what may wait for a lock, or a disk, where nobody else waits for it.
async fn aside(work: impl FnOnce() -> Response<Body> + Send + 'static) -> Response<Body> {
    // Only a panic keeps it from its answer.
    spawn_blocking(work).await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

pub(crate) async fn serve(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    // Found out without a lock that anybody could hold for long: who has no key waits for nothing, and keeps nobody waiting.
    let Some(may) = shared.directory.get().operator(request.headers()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let path = request.uri().path().trim_start_matches("/admin").trim_matches('/').to_owned();
    if path == "operations" {
        return match (request.method(), may) {
            (&Method::POST, May::Change) => operate(shared, request).await,
            (&Method::POST, May::Look) => {
                problem(StatusCode::FORBIDDEN, "this key may look, and not change anything; use the admin key")
            }
            _ => problem(StatusCode::METHOD_NOT_ALLOWED, "operations are posted"),
        };
    }
    if request.method() != Method::GET {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "this can only be looked at");
    }
    if let (Some(server), "status" | "usage" | "configuration") = (&shared.on_server, &*path) {
        server.look().await;
    }
    aside(move || view(&shared, &path)).await
}

fn view(shared: &Shared, path: &str) -> Response<Body> {
    let command = match path {
        "status" => json!({ "status": { "resource": RESOURCE } }),
        "audit" => json!({ "audit": {} }),
        "limits" => json!({ "policy": { "resource": RESOURCE } }),
        "usage" => return answer(&usage(shared)),
        "refusals" => return answer(&shared.history.refusals()),
        "chart" => return answer(&shared.history.chart()),
        "configuration" => return answer(&configuration(shared)),
        _ => return problem(StatusCode::NOT_FOUND, "there is no such view; see the README of the gateway"),
    };
    answered(shared.console.execute(command))
}

/// The figures, for Prometheus.
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response<Body> {
    match shared.directory.get().operator(&headers) {
        Some(_) => ([("content-type", "text/plain; version=0.0.4")], shared.prometheus.render()).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// The page that shows all this. It has nothing in it that is anybody's: it asks for a key.
pub(crate) async fn page() -> Response<Body> {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([("content-security-policy", policy), ("cache-control", "no-store")], Html(include_str!("status.html")))
        .into_response()
}

fn usage(shared: &Shared) -> Value {
    let gate = &shared.gate;
    let counters = gate.usage_at(&Default::default(), gate.now()).into_iter().map(|counter| {
        let scope = counter.scope.iter().map(|(part, value)| (part.clone(), String::from_utf8_lossy(value).into()));
        json!({
            "limit": counter.limit, "meter": counter.meter.to_string(), "scope": Value::Object(scope.collect()),
            "amount": counter.amount, "used": counter.used, "held": counter.held, "remaining": counter.remaining,
            "resets_at": counter.resets_at.map(Timestamp::from), "settled_total": counter.settled_total,
        })
    });
    let open = match (&shared.on_server, &shared.workers) {
        // Each worker knows its own.
        (Some(_), Some(_)) => None,
        (Some(server), None) => Some(server.open()),
        (None, _) => Some(gate.limiter().stats().permits_open),
    };
    json!({
        "counters": counters.collect::<Vec<_>>(),
        "calls": gate.figures(),
        "open": open,
    })
}

fn configuration(shared: &Shared) -> Value {
    let changes = shared.changes();
    let log = shared.lines.as_ref().map(|lines| {
        let written = lines.written();
        json!({ "written": written.written, "dropped": written.dropped, "failed": written.failed, "error": written.last_error })
    });
    let workers = shared.workers.as_ref().map(|workers| workers.told());
    let store = shared
        .quotas
        .as_ref()
        .map(|quotas| json!({ "failures": shared.gate.limiter().stats().store_failures, "error": quotas.failure() }));
    let server = shared.on_server.as_ref().map(OnServer::told);
    let loaded = &changes.loaded;
    json!({
        "taken_up": loaded.times, "error": loaded.error, "usage_log": log, "store": store, "server": server,
        "workers": workers,
    })
}

async fn operate(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let body = match Limited::new(request.into_body(), LONGEST).collect().await {
        Ok(body) => body,
        Err(error) if error.is::<LengthLimitError>() => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "the operation is longer than 1 MiB");
        }
        Err(_) => return problem(StatusCode::BAD_REQUEST, "the operation broke off; send it again"),
    };
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return problem(
            StatusCode::BAD_REQUEST,
            "send one JSON object, like {\"block_agent\": {\"project\": ..., \"agent\": ...}}",
        );
    };
    for operation in fields.values_mut() {
        if let Some(operation) = operation.as_object_mut() {
            operation.entry("resource").or_insert_with(|| RESOURCE.into());
        }
    }
    let operation: Operation = match serde_json::from_value(Value::Object(fields)) {
        Ok(operation) => operation,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("the operation cannot be read: {error}")),
    };
    if !is_for_here(&operation) {
        return problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the gateway itself, its instance and its projects are what the configuration file says; change the file",
        );
    }
    aside(move || apply(&shared, &operation)).await
}

fn apply(shared: &Shared, operation: &Operation) -> Response<Body> {
    let changes = shared.changes();
    let applied = shared.console.execute(json!({ "apply": { "by": ADMINISTRATOR, "operation": operation } }));
    if applied.is_ok() {
        // An address that is none has been refused by now.
        let directory = estate::resource(&shared.console);
        match directory.and_then(|resource| Directory::new(&changes.loaded.config, &resource)) {
            Ok(directory) => shared.follow(&changes, directory),
            Err(error) => eprintln!("the directory stays as it was: {error}"),
        }
    }
    shared.save(&changes);
    answered(applied)
}

/// Whether an operation is about limits, agents, tools, and which projects are governed.
fn is_for_here(operation: &Operation) -> bool {
    !matches!(
        operation,
        Operation::CreateGateway { .. }
            | Operation::UseExisting { .. }
            | Operation::RetryGateway { .. }
            | Operation::DeleteGateway { .. }
            | Operation::DisableGateway { .. }
            | Operation::DeleteInstance { .. }
            | Operation::KeepInstance { .. }
            | Operation::CreateProject { .. }
    )
}

fn answered(done: Result<Value, ConsoleError>) -> Response<Body> {
    match done {
        Ok(value) => answer(&value),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, answer(&json!({ "error": error }))).into_response(),
    }
}

fn answer(value: &Value) -> Response<Body> {
    ([("content-type", "application/json"), ("cache-control", "no-store")], value.to_string()).into_response()
}

fn problem(status: StatusCode, message: &str) -> Response<Body> {
    (status, answer(&json!({ "error": { "message": message } }))).into_response()
}

/// What an operator sees and does, as paths.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let paths = PATHS.iter().fold(Router::new(), |router, path| match *path {
        "/" | "/status" => router.route(path, get(page)),
        "/metrics" => router.route(path, get(metrics)),
        admin => router.route(admin, any(serve)),
    });
    paths.with_state(shared)
}
