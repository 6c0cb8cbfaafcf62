//! TLS with an authority of one's own, certificates of clients, and users.

use crate::stage::{MONTH, admitted, left, limits, until, up};
use crate::support::{Cluster, NODE, RedisServer, spare_port};
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
