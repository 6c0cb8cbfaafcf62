//! The gateway, put together and running.

use axum::Router;
use axum::routing::{any, get};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokenweir::gateway::{Console, Gate};
use tokenweir_records::{JsonLines, Prometheus, Rotation};
use tokenweir_tower::{Cut, MeterLayer, Settings};
use tokenweir_wire::OutputRule;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tower_layer::Layer;

use crate::admin;
use crate::config::{Config, ConfigError, Counting, Declared};
use crate::directory::{Current, Directory};
use crate::estate::{RESOURCE, builder, reconcile};
use crate::history::History;
use crate::identity::Identity;
use crate::proxy::Proxy;
use crate::reload::{self, Loaded};
use crate::sample::Sample;
use crate::serve::serve;
use crate::state;
use crate::upstream::Client;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often counters are saved, in looks: every 10 s.
const SAVE_EVERY: u32 = 20;
/// How long calls that are under way may take to end when the gateway is shut down.
const DRAIN: Duration = Duration::from_secs(30);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the file says cannot be brought about.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The saved state.
    #[error("{0}")]
    State(String),
    /// The system refuses something.
    #[error("{what}: {error}")]
    System {
        /// What.
        what: String,
        /// Why.
        error: std::io::Error,
    },
}

/// What the parts of a running gateway share.
pub(crate) struct Shared {
    pub(crate) console: Console,
    pub(crate) gate: Gate,
    pub(crate) directory: Current,
    pub(crate) history: Arc<History>,
    pub(crate) prometheus: Arc<Prometheus>,
    pub(crate) lines: Option<Arc<JsonLines>>,
    state_file: Option<PathBuf>,
    /// Held by who changes what is administered.
    changes: Mutex<Changes>,
}

/// What changes only under the lock.
pub(crate) struct Changes {
    pub(crate) declared: Declared,
    pub(crate) loaded: Loaded,
}

impl Shared {
    pub(crate) fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Saves the state, where the file says to.
    pub(crate) fn save(&self, changes: &Changes) {
        if let Some(path) = &self.state_file
            && let Err(error) = state::save(path, &self.console, &changes.declared)
        {
            eprintln!("the state cannot be saved: {}: {error}", path.display());
        }
    }
}

/// A gateway that runs. Dropped, it goes on until the runtime ends.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its gate: the counters.
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Waits until every usage record so far has been written.
    pub fn flush(&self) {
        if let Some(lines) = &self.shared.lines {
            lines.flush();
        }
    }

    /// Takes no new connections, waits for the calls that are under way, half a minute at most, and saves the counters.
    pub async fn shutdown(self) {
        let _ = self.stop.send(true);
        let abort = self.server.abort_handle();
        if tokio::time::timeout(DRAIN, self.server).await.is_err() {
            abort.abort();
        }
        let _ = self.keeper.await;
        let shared = self.shared;
        let _ = spawn_blocking(move || {
            shared.save(&shared.changes());
            if let Some(lines) = &shared.lines {
                lines.flush();
            }
        })
        .await;
    }
}

/// Starts the gateway that a file describes.
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub async fn start(path: &Path, sample: Sample) -> Result<Running, StartError> {
    let system = |what: &Path| {
        let what = what.display().to_string();
        move |error| StartError::System { what, error }
    };
    let text = std::fs::read_to_string(path).map_err(system(path))?;
    let config = Config::parse(&text, path)?;
    for file in [&config.state_file, &config.usage_log].into_iter().flatten() {
        if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(system(directory))?;
        }
    }
    let lines = match &config.usage_log {
        Some(file) => Some(Arc::new(JsonLines::open(file, Rotation::default()).map_err(system(file))?)),
        None => None,
    };
    let refused = |reason: String| StartError::Refused { path: path.into(), reason };
    let prometheus = Arc::new(Prometheus::new().map_err(|error| refused(error.to_string()))?);
    let history = Arc::new(History::default());
    let mut building = builder(config.counting).observer(history.clone()).observer(prometheus.clone());
    if let Some(lines) = &lines {
        building = building.observer(lines.clone());
    }
    let console = building.build();
    let saved = match &config.state_file {
        Some(file) => state::load(file, &console).map_err(StartError::State)?,
        None => None,
    };
    let declared = config.declared();
    reconcile(&console, &saved.unwrap_or_default(), &declared).map_err(|error| refused(error.to_string()))?;
    let directory = Current::new(Directory::new(&config, &console).map_err(refused)?);
    let gate = RESOURCE.parse().ok().and_then(|name| console.gate(&name));
    let gate = gate.ok_or_else(|| refused("the limits cannot be put in force".to_owned()))?;

    let mut settings = Settings::new(OutputRule::tokens(config.estimate.output_tokens));
    settings.max_body = config.estimate.max_body_bytes;
    settings.unanswered = config.estimate.unanswered;
    if config.counting != Counting::Native {
        // API Management lets a call go on that is under way.
        settings.cut = Cut::Never;
    }
    let idle = Duration::from_secs(config.idle_seconds);
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| StartError::System { what: format!("cannot listen on {}", config.listen), error })?;
    let address = listener.local_addr().map_err(system(path))?;
    let shared = Arc::new(Shared {
        console,
        gate: gate.clone(),
        directory: directory.clone(),
        history,
        prometheus,
        lines,
        state_file: config.state_file.clone(),
        changes: Mutex::new(Changes { declared, loaded: Loaded { config, text, error: None, times: 1 } }),
    });
    let metered =
        MeterLayer::new(gate, Identity { directory }, settings).layer(Proxy { client: Client::new(sample, idle) });
    let router = Router::new()
        .route("/", get(admin::page))
        .route("/status", get(admin::page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(admin::metrics))
        .route("/admin", any(admin::serve))
        .route("/admin/", any(admin::serve))
        .route("/admin/{*view}", any(admin::serve))
        .with_state(shared.clone())
        .fallback_service(metered);

    let (stop, mut stopped) = watch::channel(false);
    let server = tokio::spawn({
        let mut stopped = stopped.clone();
        async move { serve(listener, router, idle, async move { drop(stopped.wait_for(|stop| *stop).await) }).await }
    });
    let keeper = tokio::spawn({
        let (shared, path) = (shared.clone(), path.to_owned());
        async move {
            let mut looks = 0_u32;
            while tokio::time::timeout(LOOK_EVERY, stopped.wait_for(|stop| *stop)).await.is_err() {
                looks = looks.wrapping_add(1);
                let (shared, path) = (shared.clone(), path.clone());
                let _ = spawn_blocking(move || {
                    reload::look(&shared, &path);
                    if looks.is_multiple_of(SAVE_EVERY) {
                        shared.save(&shared.changes());
                    }
                })
                .await;
            }
        }
    });
    Ok(Running { address, shared, stop, server, keeper })
}
