//! Where the server is: one, a cluster, or whichever the sentinels say.

use crate::error::Error;
use crate::sentinels::{At, Sentinels};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ErrorKind, IntoConnectionInfo, RedisError, RedisFuture,
    RedisResult, TlsCertificates, Value,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The address of a server, a cluster, or its sentinels.
///
/// | address | |
/// |---|---|
/// | `redis://user:password@host:6379/0` | one server; `rediss://` for TLS, `redis+unix:///path` for a socket |
/// | `redis+cluster://user:password@host:6379,host:6380` | a cluster, by some of its nodes; `rediss+cluster://` for TLS |
/// | `redis+sentinel://user:password@host:26379,host:26380/master/0` | the master of that name, by its sentinels, with its database; `rediss+sentinel://` for TLS to the server. User and password are the server's |
///
/// `valkey` may be written for `redis` in each of them. Sentinels that ask for a login, or for TLS as the server does, are named with
/// `?sentinel-user=`, `&sentinel-password=` and `&sentinel-tls=yes`. What is special in an address (`@`, `/`, `?`, `&`) is written as
/// in any other, `%40`. Passwords are never shown.
#[derive(Clone)]
pub struct Server {
    kind: Kind,
    shown: String,
    certificates: Option<TlsCertificates>,
}

#[derive(Clone)]
enum Kind {
    Single(Client),
    Cluster(Vec<String>),
    Sentinel(Sentinels),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.shown).finish()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// TLS by ring, unless the program has chosen something else before.
fn use_ring() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Whoever was quicker has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The address without its passwords, which stand before its last `@` or behind its `?`.
fn without_password(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    let (login, hosts) = rest.rsplit_once('@').unwrap_or(("", rest));
    if login.contains('?') {
        // Either of the two is in a password.
        return format!("{scheme}...");
    }
    let (user, at) = (login.split(':').next().unwrap_or_default(), if rest.contains('@') { "@" } else { "" });
    format!("{scheme}{user}{at}{}", hosts.split('?').next().unwrap_or_default())
}

impl Server {
    /// Reads an address; nothing is connected yet. The first one with TLS makes ring the process's provider of cryptography for
    /// rustls, unless it has one already.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn parse(address: &str) -> Result<Self, Error> {
        let shown = without_password(address);
        let wrong = |reason: String| Error::Address { address: shown.clone(), reason };
        let address = match address.strip_prefix("valkey") {
            Some(rest) => format!("redis{rest}"),
            None => address.to_owned(),
        };
        let (scheme, rest) = address.split_once("://").ok_or_else(|| wrong("it has no scheme".to_owned()))?;
        let tls = scheme.starts_with("rediss");
        let plain = if tls { "rediss" } else { "redis" };
        if tls {
            use_ring();
        }
        let (login, hosts) = match rest.rsplit_once('@') {
            Some((login, hosts)) => (format!("{login}@"), hosts),
            None => (String::new(), rest),
        };
        // Of one server, or of one of several.
        if hosts.contains("#insecure") {
            return Err(wrong("#insecure is not taken; give a certificate that can be checked".to_owned()));
        }
        let kind = match scheme {
            "redis+cluster" | "rediss+cluster" => {
                let nodes: Vec<String> = hosts.split(',').map(|host| format!("{plain}://{login}{host}")).collect();
                ClusterClient::new(nodes.clone()).map_err(|error| wrong(error.to_string()))?;
                Kind::Cluster(nodes)
            }
            "redis+sentinel" | "rediss+sentinel" => {
                Kind::Sentinel(Sentinels::parse(&login, hosts, tls).map_err(wrong)?)
            }
            "redis" | "rediss" | "redis+unix" | "unix" => {
                Kind::Single(Client::open(address.as_str()).map_err(|error| wrong(error.to_string()))?)
            }
            other => return Err(wrong(format!("{other} is not a scheme that is known"))),
        };
        Ok(Server { kind, shown, certificates: None })
    }

    /// Over TLS, trusts servers by this certificate of an authority (PEM), and by no other. Otherwise those of Mozilla are trusted.
    ///
    /// # Errors
    /// [`Error::Certificate`] if it is none, or if the address is not one of TLS.
    pub fn trusting(self, root: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let client_tls = self.certificates.as_ref().and_then(|certificates| certificates.client_tls.clone());
        let root = root.into();
        // With none at all nobody would be trusted, and no connection say why.
        let none = match CertificateDer::pem_slice_iter(&root).next() {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(error.to_string()),
            None => Some("there is none in it".to_owned()),
        };
        if let Some(reason) = none {
            return Err(Error::Certificate { address: self.shown, reason });
        }
        self.with(TlsCertificates { client_tls, root_cert: Some(root) })
    }

    /// Over TLS, shows this certificate with its key (both PEM) to servers that ask for one.
    ///
    /// # Errors
    /// As [`trusting`](Server::trusting).
    pub fn shown_as(self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let root_cert = self.certificates.as_ref().and_then(|certificates| certificates.root_cert.clone());
        let client = ClientTlsConfig { client_cert: certificate.into(), client_key: key.into() };
        self.with(TlsCertificates { client_tls: Some(client), root_cert })
    }

    fn with(mut self, certificates: TlsCertificates) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Certificate { address: self.shown.clone(), reason };
        if !self.shown.starts_with("rediss") && !self.shown.starts_with("valkeys") {
            return Err(wrong("the address is not one of TLS, which begins with rediss".to_owned()));
        }
        // Whether they can be used is found out by the same means as for one server, whatever there are.
        let address = match &self.kind {
            Kind::Single(client) => client.get_connection_info().clone(),
            _ => "rediss://localhost".into_connection_info().map_err(|error| wrong(error.to_string()))?,
        };
        let client = Client::build_with_tls(address, certificates.clone()).map_err(|error| wrong(error.to_string()))?;
        if matches!(self.kind, Kind::Single(_)) {
            self.kind = Kind::Single(client);
        }
        self.certificates = Some(certificates);
        Ok(self)
    }

    /// Connects, within `patience`.
    pub(crate) async fn connect(&self, patience: Duration) -> RedisResult<Connection> {
        // Each call has a deadline of its own, so the connection needs none.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
        match &self.kind {
            Kind::Single(client) => {
                Ok(Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?, None))
            }
            Kind::Cluster(nodes) => {
                let client = ClusterClient::builder(nodes.clone()).connection_timeout(patience).retries(8);
                let mut client = client.min_retry_wait(2).max_retry_wait(20);
                if let Some(certificates) = &self.certificates {
                    client = client.certs(certificates.clone());
                }
                let client = client.build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
            Kind::Sentinel(sentinels) => {
                let failed = |why: String| RedisError::from((ErrorKind::Io, "the sentinels", why));
                let at = sentinels.master(self.certificates.as_ref(), patience / 2).await.map_err(failed)?;
                let client = sentinels.client(at.clone(), self.certificates.as_ref())?;
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                // Whom nobody has told yet that it was replaced, or that it replaces. It need not be permitted to ask.
                let role: RedisResult<Vec<Value>> = redis::cmd("ROLE").query_async(&mut connection).await;
                match role.ok().and_then(|role| role.into_iter().next()) {
                    Some(Value::BulkString(role)) if role != b"master" => {
                        Err(failed(format!("{}:{}, whom they name, is not the master", at.0, at.1)))
                    }
                    _ => Ok(Connection::Single(connection, Some(at.into()))),
                }
            }
        }
    }

    /// Whether the sentinels name another primary than the one that this connection is to. One that was replaced and goes on
    /// deciding would not say so for seconds. Takes `patience` at the longest.
    pub(crate) async fn is_replaced(&self, connection: &Connection, patience: Duration) -> bool {
        let (Kind::Sentinel(sentinels), Connection::Single(_, Some(at))) = (&self.kind, connection) else {
            return false;
        };
        let master = sentinels.master(self.certificates.as_ref(), patience).await;
        master.is_ok_and(|master| **at != master)
    }
}

/// A connection that many requests use at once.
#[derive(Clone)]
pub(crate) enum Connection {
    /// Where sentinels said that it is, with its address.
    Single(MultiplexedConnection, Option<Arc<At>>),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(crate) fn send<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        use redis::aio::ConnectionLike;
        match self {
            Connection::Single(connection, _) => connection.req_packed_command(command),
            Connection::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    /// To the node that has this key, which the command need not name.
    pub(crate) async fn send_where(&mut self, command: &Cmd, key: &[u8]) -> redis::RedisResult<Value> {
        use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
        match self {
            Connection::Single(..) => self.send(command).await,
            Connection::Cluster(connection) => {
                let node = SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master));
                connection.route_command(command.clone(), RoutingInfo::SingleNode(node)).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_kind_are_read_and_show_no_password() {
        for (address, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("valkey://user:secret@host:1/2", "valkey://user@host:1/2"),
            ("rediss://:secret@host", "rediss://@host"),
            ("redis+cluster://user:secret@a:1,b:2", "redis+cluster://user@a:1,b:2"),
            ("rediss+sentinel://user:secret@a:1,b:2/main/3", "rediss+sentinel://user@a:1,b:2/main/3"),
            ("redis+sentinel://a:1,[::1],b/main?sentinel-password=secret", "redis+sentinel://a:1,[::1],b/main"),
            ("redis+sentinel://a/main?sentinel-user=a:b&sentinel-password=secret", "redis+sentinel://a/main"),
            (
                "rediss+sentinel://u:secret@a:1/main/3?sentinel-user=w&sentinel-password=%40secret&sentinel-tls=yes",
                "rediss+sentinel://u@a:1/main/3",
            ),
            ("redis+unix:///tmp/socket?db=1&user=u&pass=secret", "redis+unix:///tmp/socket"),
            ("redis://host?protocol=resp3", "redis://host"),
        ] {
            let server = Server::parse(address).unwrap();
            assert_eq!(server.to_string(), shown);
            assert!(!format!("{server:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_no_certificate_says_so() {
        let server = || Server::parse("rediss://:secret@host").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for error in [
            server().trusting("no certificate").unwrap_err(),
            server().trusting(broken).unwrap_err(),
            server().shown_as("no certificate", "no key").unwrap_err(),
            Server::parse("redis://:secret@host").unwrap().trusting(broken).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Certificate { .. }) && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (address, reason) in [
            ("localhost:6379", "no scheme"),
            ("user:secret@localhost", "no scheme"),
            ("http://localhost", "not a scheme"),
            ("redis+sentinel://a:1,b:2", "master's name"),
            ("redis+sentinel://a:1/main?password=secret", "sentinel-password="),
            ("redis+sentinel://a:1/main?sentinel-password=ab&secret", "%26"),
            ("redis+sentinel://a:1/main?sentinel-password=ab@secret", "redis+sentinel://..."),
            ("redis://user:se?secret@host", "redis://..."),
            ("redis+sentinel://a:1/main?sentinel-user=gateway", "needs a sentinel-password"),
            ("redis+sentinel://a:1/main?sentinel-password=", "needs a sentinel-password"),
            ("redis+sentinel://a:1/main/3/4", "something more"),
            ("redis+sentinel://a:1/main?sentinel-tls=yes", "rediss+sentinel"),
            ("rediss+sentinel://a:1/main?sentinel-tls=1", "yes or no"),
            ("rediss://host/#insecure", "certificate"),
            ("rediss+cluster://a:1,b:2#insecure", "certificate"),
            ("rediss+sentinel://a:1#insecure,b:2/main?sentinel-tls=yes", "certificate"),
            ("redis://user:secret@:::", ""),
        ] {
            let error = Server::parse(address).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{address}: {error}");
        }
    }
}
