//! What is an operator's, between a worker and the first process.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{Request, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};

use crate::proxy::hop_by_hop;
use crate::region::private;

/// An operator waits no longer for the first process.
const LONGEST: Duration = Duration::from_secs(60);

/// The socket of the first process: in a directory that is its user's alone. Dropped, it is gone.
pub(crate) struct Brain {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Brain {
    /// Listens beside the region, which is for one gateway at a time.
    pub(crate) fn listen(region: &Path) -> Result<Self, String> {
        let mut folder = region.as_os_str().to_owned();
        folder.push(".d");
        let folder = PathBuf::from(folder);
        private(&folder)?;
        let wrong = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| format!("{path}: {error}")
        };
        let path = folder.join(format!("{}.socket", std::process::id()));
        // This process's number was another's, that was killed.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| match error.kind() {
            // The system's limit: 107 bytes on Linux.
            std::io::ErrorKind::InvalidInput => format!(
                "{}: the path is too long for a socket, which stands beside the region; give a region with a shorter path",
                path.display()
            ),
            _ => wrong(&path)(error),
        })?;
        let brain = Brain { path, listener: Some(listener) };
        std::fs::set_permissions(&brain.path, PermissionsExt::from_mode(0o600)).map_err(wrong(&brain.path))?;
        // Of two that start at once each sees the other.
        for entry in std::fs::read_dir(&folder).map_err(wrong(&folder))?.flatten() {
            let other = entry.path();
            if other == brain.path {
                continue;
            }
            if std::os::unix::net::UnixStream::connect(&other).is_ok() {
                let process = other.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                return Err(format!(
                    "{}: the gateway of process {process} runs on this region; stop it, or give another region",
                    region.display()
                ));
            }
            // It was killed.
            let _ = std::fs::remove_file(&other);
        }
        Ok(brain)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until `stopped`.
    pub(crate) async fn serve(mut self, router: Router, stopped: impl Future<Output = ()> + Send + 'static) {
        if let Some(listener) = self.listener.take() {
            // It accepts again after any error.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        }
    }
}

impl Drop for Brain {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Passes an operator's request to the first process.
pub(crate) async fn serve(State(brain): State<Arc<Path>>, request: Request<Body>) -> Response<Body> {
    match tokio::time::timeout(LONGEST, pass(&brain, request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            eprintln!("the gateway's first process does not answer: {error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

async fn pass(brain: &Path, request: Request<Body>) -> Result<Response<Body>, axum::BoxError> {
    let stream = UnixStream::connect(brain).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response's body.
    tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    hop_by_hop(&mut head.headers);
    let mut response = sender.send_request(Request::from_parts(head, body)).await?;
    hop_by_hop(response.headers_mut());
    Ok(response.map(Body::new))
}
