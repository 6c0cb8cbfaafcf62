//! The gateway, put together and running.

use axum::Router;
use axum::routing::get;
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokenweir::gateway::{Console, ConsoleBuilder, Gate};
use tokenweir_records::{JsonLines, Prometheus, Rotation};
use tokenweir_tower::{Cut, MeterLayer, Settings};
use tokenweir_wire::OutputRule;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tower_layer::Layer;

use crate::admin;
use crate::config::{Config, ConfigError, Counting, Declared, StoreUrl};
use crate::directory::{Current, Directory};
use crate::estate::{self, builder, reconcile};
use crate::history::History;
use crate::identity::Identity;
use crate::on_server::OnServer;
use crate::proxy::Proxy;
use crate::quotas::Quotas;
use crate::region;
use crate::reload::{self, Loaded};
use crate::sample::Sample;
use crate::serve::{cannot_listen, serve};
use crate::state::{self, Elsewhere, Saved};
use crate::upstream::Client;
use crate::workers::{Brain, Crew, DRAIN, MOST, Orders};

/// How often the file is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often counters are saved, in looks: every 10 s.
const SAVE_EVERY: u32 = 20;

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
    /// The processes that serve, if not this one does.
    pub(crate) workers: Option<Crew>,
    /// The file of quotas, if there is one.
    pub(crate) quotas: Option<Quotas>,
    /// The server that has the counters, if they are on one.
    pub(crate) on_server: Option<OnServer>,
    state_file: Option<PathBuf>,
    /// Where counters are besides.
    elsewhere: Elsewhere,
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

    /// Has the data path follow what has changed, in every worker.
    pub(crate) fn follow(&self, changes: &Changes, directory: Directory) {
        self.directory.set(directory);
        if let Some(workers) = &self.workers
            && let Ok(resource) = estate::resource(&self.console)
        {
            workers.tell(|orders| {
                orders.text.clone_from(&changes.loaded.in_force);
                orders.resource = resource;
            });
        }
    }

    /// Saves the state, where the file says to.
    pub(crate) fn save(&self, changes: &Changes) {
        if let Some(path) = &self.state_file
            && let Err(error) = state::save(path, &self.console, &changes.declared, &self.elsewhere)
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

    /// Waits until nothing can be served any more: no worker serves, and none that is started comes to it. Why.
    pub async fn lost(&self) -> String {
        let shared = self.shared.clone();
        let lost = spawn_blocking(move || shared.workers.as_ref().and_then(Crew::lost)).await;
        match lost {
            Ok(Some(why)) => format!("no worker serves: the last one {why}"),
            _ => std::future::pending().await,
        }
    }

    /// Takes no new connections, waits for the calls that are under way, half a minute at most, and saves the counters.
    pub async fn shutdown(self) {
        let shared = self.shared;
        if shared.workers.is_some() {
            let shared = shared.clone();
            let _ = spawn_blocking(move || shared.workers.as_ref().map(Crew::stop)).await;
        }
        let _ = self.stop.send(true);
        let abort = self.server.abort_handle();
        if tokio::time::timeout(DRAIN, self.server).await.is_err() {
            abort.abort();
        }
        let _ = self.keeper.await;
        if let Some(server) = &shared.on_server {
            server.stop().await;
        }
        let _ = spawn_blocking(move || {
            shared.save(&shared.changes());
            if let Some(Err(error)) = shared.quotas.as_ref().map(Quotas::stop) {
                eprintln!("what was leased of quotas and not used cannot be given back: {error}");
            }
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
    begin(path, How::Alone(sample)).await
}

/// Starts it with so many processes of this program that serve. The program must call [`work`](crate::work) when it is given
/// [`WORKER`](crate::WORKER).
///
/// # Errors
/// [`StartError`]; then nothing runs.
pub async fn start_workers(path: &Path, workers: usize) -> Result<Running, StartError> {
    begin(path, How::Workers(workers)).await
}

/// Who serves.
enum How {
    Alone(Sample),
    Workers(usize),
}

async fn begin(path: &Path, how: How) -> Result<Running, StartError> {
    let system = |what: &Path| {
        let what = what.display().to_string();
        move |error| StartError::System { what, error }
    };
    let refused = |reason: String| StartError::Refused { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(system(path))?;
    let config = Config::parse(&text, path)?;
    if let (How::Workers(count), store) = (&how, &config.store) {
        let reason = match store {
            _ if !(1..=MOST).contains(count) => format!("there can be 1 to {MOST} workers, and not {count}"),
            Some(StoreUrl::Redb(_)) => {
                "store is set, and with --workers counters are in a region, which has no store beside it; leave \
                        one of the two out"
                    .to_owned()
            }
            Some(StoreUrl::Server(_)) | None => String::new(),
        };
        if !reason.is_empty() {
            return Err(refused(reason));
        }
    }
    let store = match &config.store {
        Some(StoreUrl::Redb(file)) => Some(file),
        _ => None,
    };
    for file in [config.state_file.as_ref(), config.usage_log.as_ref(), store].into_iter().flatten() {
        if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(system(directory))?;
        }
    }
    // Before anything is touched that a gateway which runs already may be using.
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| refused(cannot_listen(config.listen, &error)))?;
    let address = listener.local_addr().map_err(system(path))?;
    let lines = match &config.usage_log {
        Some(file) => Some(Arc::new(JsonLines::open(file, Rotation::default()).map_err(system(file))?)),
        None => None,
    };
    let prometheus = Arc::new(Prometheus::new().map_err(|error| refused(error.to_string()))?);
    let history = Arc::new(History::default());
    let building = || {
        let building = builder(config.counting).observer(history.clone()).observer(prometheus.clone());
        match &lines {
            Some(lines) => building.observer(lines.clone()),
            None => building,
        }
    };
    let declared = config.declared();
    let (region, quotas) = match &how {
        How::Workers(_) => (Some(region::path(&config, path).map_err(refused)?), None),
        How::Alone(_) => {
            (None, store.map(|file| Quotas::open(file)).transpose().map_err(|error| refused(error.to_string()))?)
        }
    };
    let on_server = OnServer::of(&config).await.map_err(refused)?;
    let brain = region.as_deref().map(Brain::listen).transpose().map_err(refused)?;
    // With a server it is only where workers find this process.
    let region = region.filter(|_| on_server.is_none());
    let saved = read(&config)?;
    // A store that the state was not saved beside knows less than the state, or nothing.
    let take_up = saved.as_ref().is_some_and(|saved| saved.store() != store.map(PathBuf::as_path));
    let console = match (&region, &quotas, &on_server) {
        (Some(region), ..) => console_in(region, building, &config, path)?,
        (None, Some(quotas), _) => quotas.under(building(), take_up).build(),
        (None, None, Some(server)) => server.under(building()).build(),
        (None, None, None) => building().build(),
    };
    let elsewhere = Elsewhere { region: region.as_deref().and_then(region::mark), store: store.cloned() };
    if region.is_none() {
        let saved = load(saved, &config, &console)?;
        if let Some(saved) = &saved
            && on_server.is_some()
            && saved.left_out > 0
        {
            eprintln!(
                "{}: {} counters that the state file has are not taken up: all are on the server now",
                path.display(),
                saved.left_out
            );
            keep_aside(config.state_file.as_deref()).map_err(system(path))?;
        }
        let was = saved.map(|saved| saved.declared).unwrap_or_default();
        reconcile(&console, &was, &declared).map_err(|error| refused(error.to_string()))?;
    }
    let gate = estate::gate(&console).map_err(refused)?;
    if let Some(quotas) = &quotas {
        quotas.settle_in(&gate).map_err(|error| refused(error.to_string()))?;
    }
    if (region.is_some() || (quotas.is_some() && take_up))
        && let Some(file) = &config.state_file
    {
        // From now on what is in this region or this store is the newest.
        state::save(file, &console, &declared, &elsewhere).map_err(system(file))?;
    }
    let resource = estate::resource(&console).map_err(refused)?;
    let directory = Current::new(Directory::new(&config, &resource).map_err(refused)?);
    if let Some(quotas) = &quotas {
        quotas.renew(&gate).map_err(system(path))?;
    }

    let idle = Duration::from_secs(config.idle_seconds);
    let (serves, workers) = match (how, brain) {
        (How::Workers(count), Some(brain)) => {
            let (file, text, brain_at) = (path.to_owned(), text.clone(), brain.path().to_owned());
            let orders = Orders { version: 1, file, text, resource, region, brain: brain_at };
            let listener = listener.into_std().map_err(system(path))?;
            let gate = gate.clone();
            let crew = spawn_blocking(move || Crew::start(count, listener, gate, orders)).await;
            let crew = crew.unwrap_or_else(|error| Err(error.to_string())).map_err(refused)?;
            (Serves::Operators(brain), Some(crew))
        }
        (How::Alone(sample), _) => {
            (Serves::All(listener, calls(gate.clone(), directory.clone(), &config, sample)), None)
        }
        (How::Workers(_), None) => return Err(refused("there is no socket for the workers".to_owned())),
    };
    let shared = Arc::new(Shared {
        console,
        gate,
        directory,
        history,
        prometheus,
        lines,
        workers,
        quotas,
        on_server,
        state_file: config.state_file.clone(),
        elsewhere,
        changes: Mutex::new(Changes {
            declared,
            loaded: Loaded { config, in_force: text.clone(), text, error: None, times: 1 },
        }),
    });
    let (stop, mut stopped) = watch::channel(false);
    let server = tokio::spawn({
        let (mut stopped, operators) = (stopped.clone(), admin::router(shared.clone()));
        let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
        async move {
            match serves {
                Serves::All(listener, calls) => serve(listener, operators.merge(calls), idle, stopped).await,
                Serves::Operators(brain) => brain.serve(operators, stopped).await,
            }
        }
    });
    let keeper = tokio::spawn({
        let (shared, path) = (shared.clone(), path.to_owned());
        async move {
            let mut looks = 0_u32;
            while tokio::time::timeout(LOOK_EVERY, stopped.wait_for(|stop| *stop)).await.is_err() {
                looks = looks.wrapping_add(1);
                if let Some(server) = &shared.on_server {
                    server.say();
                }
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

/// Keeps a copy of a state file whose counters the next one will not have.
fn keep_aside(state_file: Option<&Path>) -> std::io::Result<()> {
    let Some(file) = state_file else { return Ok(()) };
    let mut aside = file.as_os_str().to_owned();
    aside.push(".before-server");
    std::fs::copy(file, &aside)?;
    eprintln!("they stay in {}", Path::new(&aside).display());
    Ok(())
}

/// What this process serves, and where.
enum Serves {
    All(TcpListener, Router),
    Operators(Brain),
}

/// The data path.
pub(crate) fn calls(gate: Gate, directory: Current, config: &Config, sample: Sample) -> Router {
    let mut settings = Settings::new(OutputRule::tokens(config.estimate.output_tokens));
    settings.max_body = config.estimate.max_body_bytes;
    settings.unanswered = config.estimate.unanswered;
    if config.counting != Counting::Native {
        // API Management lets a call go on that is under way.
        settings.cut = Cut::Never;
    }
    let client = Client::new(sample, Duration::from_secs(config.idle_seconds));
    let metered = MeterLayer::new(gate, Identity { directory }, settings).layer(Proxy { client });
    Router::new().route("/healthz", get(|| async { "ok\n" })).fallback_service(metered)
}

fn read(config: &Config) -> Result<Option<Saved>, StartError> {
    config.state_file.as_deref().map_or(Ok(None), state::read).map_err(StartError::State)
}

fn load(saved: Option<Saved>, config: &Config, console: &Console) -> Result<Option<state::Loaded>, StartError> {
    let saved = saved.zip(config.state_file.as_deref());
    saved.map(|(saved, file)| saved.load(file, console)).transpose().map_err(StartError::State)
}

/// A console on a region. What is saved and what the file says are put together in memory first: the policy of the region
/// is at no time a part of one.
fn console_in(
    region: &Path,
    building: impl Fn() -> ConsoleBuilder,
    config: &Config,
    path: &Path,
) -> Result<Console, StartError> {
    let refused = |reason: String| StartError::Refused { path: path.into(), reason };
    let become_as = |console: &Console, other: &Console| {
        let done = console.execute(json!({ "load": { "document": state::document(other, true) } }));
        done.map_err(|error| refused(error.to_string()))
    };
    let drafted = builder(config.counting).build();
    let saved = load(read(config)?, config, &drafted)?;
    if let Some(saved) = &saved
        && saved.elsewhere.region != region::mark(region)
    {
        region::begin_anew(region, "what the state file has was counted elsewhere since").map_err(refused)?;
    }
    let mut counted = None;
    if saved.is_some() && region::counts_for(region, &estate::policy(&drafted).map_err(refused)?) {
        // What is in the region is newer: its gateway may have been killed.
        let console = region::under(region, building()).build();
        become_as(&console, &drafted)?;
        become_as(&drafted, &console)?;
        counted = Some(console);
    }
    let declared = config.declared();
    let was = saved.map(|saved| saved.declared).unwrap_or_default();
    reconcile(&drafted, &was, &declared).map_err(|error| refused(error.to_string()))?;
    // All that served it may have been killed at once.
    let taken_over = |console: Console| {
        let gate = estate::gate(&console).map_err(refused)?;
        let open = region::abandon(region, gate.limiter()).map_err(refused)?;
        if open > 0 {
            eprintln!("{}: the estimates of {open} calls stand, whose processes are gone", region.display());
        }
        Ok(console)
    };
    if let Some(console) = counted
        && console.adopt(&state::document(&drafted, false).to_string()).is_ok()
    {
        return taken_over(console);
    }
    // Limits that this region does not take up have another, which begins with what was counted.
    region::prepare(region, &estate::policy(&drafted).map_err(refused)?).map_err(refused)?;
    let console = region::under(region, building()).build();
    become_as(&console, &drafted)?;
    taken_over(console)
}
