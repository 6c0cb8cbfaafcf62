//! The way to the server: one connection, a deadline for each call, and what is known of whether the server is there.

use crate::script::Script;
use crate::server::{Connection, Server};
use arc_swap::ArcSwapOption;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There was no connection, or the server answered that it cannot now. Nothing was done.
    Away,
    /// The connection broke before an answer came. The server may have done it all the same.
    Broken,
    /// No answer came in time. The server may have done it all the same.
    Late,
    /// A slot of the cluster is on its way to another node, all the time there was.
    Busy(String),
    /// The server answered that it will not.
    Refused(String),
}

impl Failure {
    /// The server may have done what it was asked, or may do it yet.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Failure::Late | Failure::Broken)
    }
}

/// The time after which a request is sent again that met a slot on its way.
const AGAIN: Duration = Duration::from_millis(2);

/// One way to one server, shared by all that use the limiter.
pub(crate) struct Link {
    pub(crate) server: Server,
    pub(crate) deadline: Duration,
    connection: ArcSwapOption<Connection>,
    /// A call went unanswered: the connection is to be tried.
    pub(crate) suspect: AtomicBool,
    /// EVALSHA is not permitted: scripts are sent whole.
    whole: AtomicBool,
    began: Instant,
    /// What the server's clock showed when this one's `began` was, in microseconds since 1970, as of the last answer.
    offset: AtomicI64,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    pub(crate) late: AtomicU64,
    pub(crate) why: parking_lot::Mutex<String>,
}

impl Link {
    pub(crate) fn new(server: Server, deadline: Duration) -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Link {
            server,
            deadline,
            connection: ArcSwapOption::empty(),
            suspect: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            began: Instant::now(),
            offset: AtomicI64::new(wall.as_micros() as i64),
            wake: Notify::new(),
            late: AtomicU64::new(0),
            why: parking_lot::Mutex::new("it was never reached".to_owned()),
        }
    }

    /// What the server's clock is thought to show, microseconds since 1970. Only says which periods are told to it.
    pub(crate) fn server_now(&self) -> i64 {
        self.offset.load(Relaxed).saturating_add(self.began.elapsed().as_micros() as i64)
    }

    /// The server's clock showed `now` a moment ago.
    pub(crate) fn seen(&self, now: i64) {
        self.offset.store(now.saturating_sub(self.began.elapsed().as_micros() as i64), Relaxed);
    }

    pub(crate) fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    pub(crate) fn put_up(&self, connection: Connection) {
        self.suspect.store(false, Relaxed);
        self.connection.store(Some(Arc::new(connection)));
    }

    /// The server is away from here on, until the keeper has reached it again. True if it was thought to be there.
    pub(crate) fn put_down(&self, why: impl ToString) -> bool {
        *self.why.lock() = why.to_string();
        let was_up = self.connection.swap(None).is_some();
        self.wake.notify_one();
        was_up
    }

    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.load_full()
    }

    /// Runs a script by the present connection, until `by` at the latest.
    pub(crate) async fn run(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        by: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let Some(connection) = self.connection() else { return Err(Failure::Away) };
        let mut own = Connection::clone(&connection);
        match self.run_on(&mut own, script, keys, args, by).await {
            Err(failure @ (Failure::Away | Failure::Broken)) => {
                // Another call may have found a new connection in the meantime.
                let same = self.connection().is_some_and(|now| Arc::ptr_eq(&now, &connection));
                if same {
                    let why = self.why.lock().clone();
                    self.put_down(why);
                }
                Err(failure)
            }
            Err(Failure::Late) => {
                self.late.fetch_add(1, Relaxed);
                self.doubt();
                Err(Failure::Late)
            }
            other => other,
        }
    }

    /// Has the server asked whether it answers at all.
    pub(crate) fn doubt(&self) {
        if !self.suspect.swap(true, Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Runs a script by this connection.
    pub(crate) async fn run_on(
        &self,
        connection: &mut Connection,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        by: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let mut whole = self.whole.load(Relaxed);
        loop {
            let mut command = Cmd::new();
            if whole {
                command.arg("EVAL").arg(&script.text);
            } else {
                command.arg("EVALSHA").arg(&script.sha);
            }
            command.arg(keys.len());
            keys.iter().chain(args).for_each(|arg| {
                command.arg(*arg);
            });
            match self.send(connection, &command, by).await {
                Ok(Value::BulkString(bytes)) => return Ok(bytes),
                Ok(other) => return Err(Failure::Refused(format!("a script answered {other:?}"))),
                Err(Sent::Failed(error)) if !whole && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    // EVAL also makes it known for the next time.
                    whole = true;
                }
                Err(Sent::Failed(error)) if !whole && error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                    // Permitted or not, is for EVAL to say.
                    whole = true;
                    self.whole.store(true, Relaxed);
                }
                Err(Sent::Failed(error)) if is_moving(&error) => {
                    // A slot on its way to another node: nothing was done, and soon it is there.
                    if Instant::now() + AGAIN >= by {
                        return Err(Failure::Busy(error.to_string()));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(Sent::Failed(error)) if is_away(&error) => {
                    *self.why.lock() = error.to_string();
                    return Err(if is_answered(&error) { Failure::Away } else { Failure::Broken });
                }
                Err(Sent::Failed(error)) => return Err(Failure::Refused(said(&error))),
                Err(Sent::Late) => return Err(Failure::Late),
            }
        }
    }

    /// One command; its answer, until `by`.
    pub(crate) async fn send(&self, connection: &mut Connection, command: &Cmd, by: Instant) -> Result<Value, Sent> {
        match tokio::time::timeout_at(by.into(), connection.send(command)).await {
            Ok(Ok(Value::ServerError(error))) => Err(Sent::Failed(RedisError::from(error))),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Sent::Failed(error)),
            Err(_) => Err(Sent::Late),
        }
    }
}

/// Why a command has no answer.
#[derive(Debug)]
pub(crate) enum Sent {
    Failed(RedisError),
    Late,
}

/// Whether this means that the request met a slot that is moving, and was not carried out.
fn is_moving(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Ask | Moved | TryAgain))
}

/// Whether this means that the server cannot decide now, rather than that it will not.
pub(crate) fn is_away(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly};
    match error.kind() {
        ErrorKind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly) => true,
        ErrorKind::ClusterConnectionNotFound | ErrorKind::Io => true,
        ErrorKind::AuthenticationFailed => true,
        _ if matches!(error.code(), Some("BUSY" | "OOM" | "NOAUTH" | "NOREPLICAS" | "MISCONF" | "UNBLOCKED")) => true,
        _ => error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error(),
    }
}

/// Whether the server has said so itself, or was never asked.
fn is_answered(error: &RedisError) -> bool {
    let asked_nobody = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound);
    error.code().is_some() || asked_nobody
}

/// What the server said, as far as it helps.
fn said(error: &RedisError) -> String {
    let text = error.to_string();
    match text.find("TOKENWEIR ") {
        Some(at) => {
            let ours = &text[at + "TOKENWEIR ".len()..];
            let ours = ours.split(" script: ").next().unwrap_or(ours);
            format!(
                "{ours}; another program uses these keys, or another version of this one: give the store a prefix of its own"
            )
        }
        None => text,
    }
}
