//! TLS with an authority of one's own, certificates of clients, and users.

use crate::stage::{MONTH, admitted, left, limits, until, up};
use crate::support::{Cluster, NODE, RedisServer, spare_port, spawn_sentinel};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokenweir::policy::ScopePart;
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{Error, RedisLimiter, Server};

fn openssl(directory: &Path, words: &str) {
    let run = Command::new("openssl").args(words.split(' ')).current_dir(directory).stdin(Stdio::null()).output();
    let run = run.unwrap_or_else(|error| panic!("openssl cannot be run ({error}): scripts/redis-server installs it"));
    assert!(run.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&run.stderr));
}

/// An authority of this name, and what it has signed: `NAME-HOLDER.crt` and `.key`.
fn authority(directory: &Path, name: &str, holder: &str) {
    openssl(
        directory,
        &format!("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.crt"),
    );
    let file = format!("{name}-{holder}");
    openssl(directory, &format!("req -newkey rsa:2048 -nodes -subj /CN={holder} -keyout {file}.key -out {file}.csr"));
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(
        directory,
        &format!(
            "x509 -req -in {file}.csr -CA {name}.crt -CAkey {name}.key -CAcreateserial -days 2 -extfile names -out {file}.crt"
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_by_the_authority_that_is_given_and_may_ask_for_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    authority(at, "ours", "server");
    authority(at, "other", "client");
    let read = |name: &str| std::fs::read(at.join(name)).unwrap();
    let path = |name: &str| at.join(name).to_string_lossy().into_owned();
    for asks in ["no", "yes"] {
        let port = spare_port().to_string();
        let server = RedisServer::with(&[
            "--tls-port",
            &port,
            "--tls-cert-file",
            &path("ours-server.crt"),
            "--tls-key-file",
            &path("ours-server.key"),
            "--tls-ca-cert-file",
            &path("other.crt"),
            "--tls-auth-clients",
            asks,
        ]);
        assert!(server.command(&["ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all"]).starts_with("+OK"));
        let address = || Server::parse(&format!("rediss://gateway:secret@127.0.0.1:{port}")).unwrap();
        let ours = address().trusting(read("ours.crt")).unwrap();
        let builder = |server: Server| RedisLimiter::builder(server, limits(&[MONTH])).deadline(Duration::from_secs(5));
        // Neither an unknown authority nor, where one is asked for, a missing certificate gets anywhere.
        let mut refused = vec![address(), address().trusting(read("other.crt")).unwrap()];
        let trusted = if asks == "yes" {
            refused.push(ours.clone());
            ours.shown_as(read("other-client.crt"), read("other-client.key")).unwrap()
        } else {
            ours
        };
        for server in refused {
            let limiter = builder(server).connect().await.unwrap();
            until("it is known to be away", async || limiter.stats().outages > 0).await;
            assert!(!limiter.stats().up);
        }
        let limiter = up(builder(trusted)).await;
        admitted(&limiter, 100).await.settle(Usage::new(40, 0)).await.unwrap();
        assert_eq!(left(&limiter).await, 960);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_speaks_tls_between_its_nodes_and_to_clients() {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path(), "ours", "server");
    let [ca, certificate, key] = ["ours.crt", "ours-server.crt", "ours-server.key"]
        .map(|name| directory.path().join(name).display().to_string());
    // The nodes speak to each other 10000 ports above.
    let below = || (0..100).map(|_| spare_port()).find(|port| *port < 55_000).expect("a port");
    let ports = [below(), below(), below()];
    let node = |port: &u16| {
        let port = port.to_string();
        let tls = ["--tls-port", &port, "--tls-cluster", "yes", "--tls-auth-clients", "no"];
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        RedisServer::with(&[&NODE[..], &tls, &files].concat())
    };
    let nodes = ports.iter().map(node).collect();
    let cluster = Cluster::of(nodes, &ports, 0, &["--tls", "--cacert", &ca, "--cert", &certificate, "--key", &key]);
    let hosts = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let address = || Server::parse(&format!("rediss+cluster://{hosts}")).unwrap();
    let builder = |server: Server| {
        let builder = RedisLimiter::builder(server, limits(&[MONTH])).slot_by(ScopePart::Project);
        builder.deadline(Duration::from_secs(5))
    };
    let limiter = builder(address()).connect().await.unwrap();
    until("an unknown authority is not trusted", async || limiter.stats().outages > 0).await;
    let trusted = address().trusting(std::fs::read(&ca).unwrap()).unwrap();
    let limiter = up(builder(trusted)).await;
    for project in 0..40 {
        let project = format!("p{project}");
        let decided = limiter.admit(&Request::new(&project, "gpt-4o"), Estimate::new(10, 0)).await.unwrap();
        decided.admitted().expect("the first of its project").settle(Usage::new(4, 0)).await.unwrap();
    }
    let keys = cluster.0.iter().map(|node| node.command(&["DBSIZE"]));
    let keys: Vec<u32> = keys.map(|size| size.trim().trim_start_matches(':').parse().unwrap()).collect();
    assert!(keys.iter().sum::<u32>() == 40 && keys.iter().all(|keys| *keys >= 5), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_have_tls_and_a_login_as_their_primary_has() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    authority(at, "ours", "server");
    let path = |name: &str| at.join(name).to_string_lossy().into_owned();
    let (port, sentinel_port) = (spare_port().to_string(), spare_port().to_string());
    let files = [
        ("tls-cert-file", path("ours-server.crt")),
        ("tls-key-file", path("ours-server.key")),
        ("tls-ca-cert-file", path("ours.crt")),
        ("tls-auth-clients", "no".to_owned()),
    ];
    let mut words = vec![("tls-port", port.clone()), ("requirepass", "of the server".to_owned())];
    words.extend(files.clone());
    let words: Vec<String> = words.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
    let _primary = RedisServer::with(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lines = vec![
        "tls-replication yes".to_owned(),
        format!("tls-port {sentinel_port}"),
        "requirepass secret&more".to_owned(),
        format!("sentinel monitor main 127.0.0.1 {port} 1"),
        "sentinel auth-pass main \"of the server\"".to_owned(),
    ];
    lines.extend(files.map(|(name, value)| format!("{name} {value}")));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let _sentinel = RedisServer::spawned(&lines, spawn_sentinel);
    let address = format!("rediss+sentinel://:of%20the%20server@127.0.0.1:{sentinel_port}/main");
    let builder = |words: &str| {
        let server = Server::parse(&format!("{address}{words}")).unwrap();
        let server = server.trusting(std::fs::read(path("ours.crt")).unwrap()).unwrap();
        RedisLimiter::builder(server, limits(&[MONTH])).deadline(Duration::from_secs(5))
    };
    let limiter = up(builder("?sentinel-tls=yes&sentinel-password=secret%26more")).await;
    admitted(&limiter, 100).await.settle(Usage::new(40, 0)).await.unwrap();
    assert_eq!(left(&limiter).await, 960);
    let without = builder("?sentinel-password=secret%26more").connect().await.unwrap();
    until("it is known to be away", async || without.stats().outages > 0).await;
    assert!(!without.stats().up);
}

#[test]
fn a_certificate_that_is_none_and_one_without_tls_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    authority(directory.path(), "ours", "server");
    let good = std::fs::read(directory.path().join("ours.crt")).unwrap();
    for address in ["redis://host", "redis+cluster://host:1", "redis+sentinel://host:1/main"] {
        let plain = Server::parse(address).unwrap().trusting(good.clone());
        assert!(matches!(&plain, Err(Error::Certificate { reason, .. }) if reason.contains("TLS")), "{plain:?}");
        let tls = Server::parse(&address.replacen("redis", "rediss", 1)).unwrap();
        assert!(tls.clone().trusting(good.clone()).is_ok(), "{address}");
        let bad = "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n";
        assert!(matches!(tls.clone().trusting(bad), Err(Error::Certificate { .. })), "{address}");
        assert!(matches!(tls.shown_as(good.clone(), "no key"), Err(Error::Certificate { .. })), "{address}");
    }
}
