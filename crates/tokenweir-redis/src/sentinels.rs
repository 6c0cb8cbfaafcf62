//! Sentinels, who say where the server is.

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, TlsCertificates,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Once one of them has answered, the others have so long: who knows of a later fail-over knows better.
const OTHERS: Duration = Duration::from_millis(50);

/// One of them. Its connection is kept as long as it answers.
#[derive(Clone)]
struct Node {
    info: ConnectionInfo,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

/// Sentinels, the name of the master whom they know, and what the server asks for.
#[derive(Clone)]
pub(crate) struct Sentinels {
    nodes: Vec<Node>,
    master: Arc<str>,
    tls: bool,
    server: RedisConnectionInfo,
}

/// What the sentinels ask for, by the words of an address after its `?`.
#[derive(Debug, Default)]
struct Asked<'a> {
    user: &'a str,
    password: Option<&'a str>,
    tls: bool,
}

impl<'a> Asked<'a> {
    fn parse(words: &'a str) -> Result<Self, String> {
        let mut asked = Asked::default();
        for word in words.split('&').filter(|word| !word.is_empty()) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("sentinel-user", user) => asked.user = user,
                ("sentinel-password", password) => asked.password = Some(password),
                ("sentinel-tls", "yes") => asked.tls = true,
                ("sentinel-tls", "no") => asked.tls = false,
                ("sentinel-tls", _) => return Err("sentinel-tls is yes or no".to_owned()),
                // It may be a part of a password.
                _ => {
                    return Err(
                        "behind its ? is something other than sentinel-user=, sentinel-password= and sentinel-tls=, \
                                between which & stands (in a password write %26)"
                            .to_owned(),
                    );
                }
            }
        }
        if asked.password.map_or(!asked.user.is_empty(), str::is_empty) {
            return Err("a login of sentinels needs a sentinel-password that is not empty".to_owned());
        }
        Ok(asked)
    }
}

/// Where the master is: host and port.
pub(crate) type At = (String, u16);

/// The way to this address; by TLS as by these certificates.
fn client(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
    match (info.addr(), certificates) {
        (ConnectionAddr::TcpTls { .. }, Some(certificates)) => Client::build_with_tls(info, certificates.clone()),
        _ => Client::open(info),
    }
}

impl Node {
    async fn connected(
        &self,
        certificates: Option<&TlsCertificates>,
        patience: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.connection.lock().take() {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
        client(self.info.clone(), certificates)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// By which fail-over it knows the master, and where that is.
    async fn ask(
        self,
        master: Arc<str>,
        certificates: Option<TlsCertificates>,
        patience: Duration,
    ) -> Result<(u64, At), String> {
        let sentinel = self.connected(certificates.as_ref(), patience).await;
        let mut sentinel = sentinel.map_err(|error| error.to_string())?;
        let asks = |what| {
            let mut command = redis::cmd("SENTINEL");
            command.arg(what).arg(&*master);
            command
        };
        // Before the address, so that an old one never goes with a new fail-over. It may not be permitted.
        let known: HashMap<String, String> = asks("MASTER").query_async(&mut sentinel).await.unwrap_or_default();
        let epoch = known.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        let at: Result<Option<At>, _> = asks("GET-MASTER-ADDR-BY-NAME").query_async(&mut sentinel).await;
        let at = at.map_err(|error| error.to_string())?;
        *self.connection.lock() = Some(sentinel);
        at.map(|at| (epoch, at)).ok_or_else(|| format!("its sentinels know no master {master:?}"))
    }
}

impl Sentinels {
    /// Reads what follows the scheme and the login.
    pub(crate) fn parse(login: &str, rest: &str, tls: bool) -> Result<Self, String> {
        let (hosts, words) = rest.split_once('?').unwrap_or((rest, ""));
        let asked = Asked::parse(words)?;
        if asked.tls && !tls {
            return Err("sentinel-tls is for rediss+sentinel, where the server has TLS too".to_owned());
        }
        let mut parts = hosts.split('/');
        let hosts = parts.next().unwrap_or_default();
        let master = parts.next().filter(|name| !name.is_empty());
        let master = master.ok_or_else(|| "the master's name is missing".to_owned())?.into();
        let database = parts.next().unwrap_or("0");
        if parts.next().is_some() {
            return Err("behind the master's name and its database is something more".to_owned());
        }
        let read = |address: String| address.into_connection_info().map_err(|error| error.to_string());
        let server = read(format!("redis://{login}server/{database}"))?.redis_settings().clone();
        let scheme = if asked.tls { "rediss" } else { "redis" };
        let user = asked.user.replace(':', "%3A");
        let own = asked.password.map(|password| format!("{user}:{password}@")).unwrap_or_default();
        let node = |host: &str| {
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if has_port { "" } else { ":26379" };
            let info = read(format!("{scheme}://{own}{host}{port}"))?;
            Ok(Node { info, connection: Arc::default() })
        };
        let nodes: Result<Vec<Node>, String> = hosts.split(',').map(node).collect();
        Ok(Sentinels { nodes: nodes?, master, tls, server })
    }

    /// Where the master is. All are asked at once, so that none that hangs keeps the others from being heard; of several answers
    /// that one counts which knows of the latest fail-over. Takes `patience` at the longest.
    pub(crate) async fn master(
        &self,
        certificates: Option<&TlsCertificates>,
        patience: Duration,
    ) -> Result<At, String> {
        let mut until = Instant::now() + patience;
        let mut asked = JoinSet::new();
        for node in &self.nodes {
            asked.spawn(node.clone().ask(self.master.clone(), certificates.cloned(), patience));
        }
        let (mut best, mut why) = (None, format!("none of its sentinels answers within {patience:?}"));
        while let Ok(Some(answer)) = tokio::time::timeout_at(until.into(), asked.join_next()).await {
            match answer {
                Ok(Ok(answer)) => {
                    best = best.max(Some(answer));
                    until = until.min(Instant::now() + OTHERS);
                }
                Ok(Err(reason)) => why = reason,
                Err(_) => {}
            }
        }
        best.map(|(_, at)| at).ok_or(why)
    }

    /// The way to the master there.
    pub(crate) fn client(&self, (host, port): At, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
        let at = match self.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        client(at.into_connection_info()?.set_redis_settings(self.server.clone()), certificates)
    }
}
