//! Sentinels, who say where the server is.

use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode};

/// Sentinels, the name of the master whom they know, and what the two ask for.
#[derive(Clone)]
pub(crate) struct Sentinels {
    nodes: Vec<ConnectionAddr>,
    login: RedisConnectionInfo,
    master: String,
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
        if !asked.user.is_empty() && asked.password.is_none() {
            return Err("sentinel-user needs a sentinel-password".to_owned());
        }
        Ok(asked)
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
        let master = master.ok_or_else(|| "the master's name is missing".to_owned())?.to_owned();
        let database = parts.next().unwrap_or("0");
        let read = |address: String| address.into_connection_info().map_err(|error| error.to_string());
        let server = read(format!("redis://{login}server/{database}"))?.redis_settings().clone();
        let (scheme, user) = (if asked.tls { "rediss" } else { "redis" }, asked.user);
        let own = asked.password.map(|password| format!("{user}:{password}@")).unwrap_or_default();
        let login = read(format!("redis://{own}sentinel"))?.redis_settings().clone();
        let address = |host| Ok(read(format!("{scheme}://{host}"))?.addr().clone());
        let nodes: Result<Vec<ConnectionAddr>, String> = hosts.split(',').map(address).collect();
        Ok(Sentinels { nodes: nodes?, login, master, tls, server })
    }

    fn have_tls(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node, ConnectionAddr::TcpTls { .. }))
    }

    /// The way to the master, as they say.
    pub(crate) async fn client(&self, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
        let master = SentinelServerType::Master;
        let mut builder = SentinelClientBuilder::new(self.nodes.clone(), &self.master, master)?;
        builder = builder.set_client_to_redis_db(self.server.db());
        if let Some(user) = self.server.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = self.server.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = self.login.username() {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = self.login.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if self.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder.set_client_to_redis_certificates(certificates.clone());
            if self.have_tls() {
                builder = builder.set_client_to_sentinel_certificates(certificates.clone());
            }
        }
        builder.build()?.async_get_client().await
    }

    /// Where the first one that answers says that the master is.
    pub(crate) async fn master(&self, certificates: Option<&TlsCertificates>) -> Option<ConnectionAddr> {
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        for node in &self.nodes {
            let Ok(info) = node.clone().into_connection_info() else { continue };
            let info = info.set_redis_settings(self.login.clone());
            let client = match certificates.filter(|_| self.have_tls()) {
                Some(certificates) => Client::build_with_tls(info, certificates.clone()),
                None => Client::open(info),
            };
            let Ok(client) = client else { continue };
            let Ok(mut sentinel) = client.get_multiplexed_async_connection().await else { continue };
            if let Ok((host, port)) = ask.query_async::<(String, u16)>(&mut sentinel).await {
                return Some(ConnectionAddr::Tcp(host, port));
            }
        }
        None
    }
}
