//! A real cluster of three nodes.

use crate::stage::{admitted, ask, limits, up};
use crate::support::RedisServer;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokenweir::policy::ScopePart;
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{Decision, RedisLimiter, Server};

/// Three masters that have all slots between them.
struct Cluster(Vec<RedisServer>);

impl Cluster {
    fn start() -> Self {
        let node = || {
            RedisServer::with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-port",
                "0",
            ])
        };
        let nodes: Vec<RedisServer> = (0..3).map(|_| node()).collect();
        let cluster = Cluster(nodes);
        let mut words = vec!["--cluster".to_owned(), "create".to_owned()];
        words.extend(cluster.0.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        words.extend(["--cluster-replicas", "0", "--cluster-yes"].map(str::to_owned));
        cluster.cli(&words);
        for _ in 0..1000 {
            if cluster.0.iter().all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
                return cluster;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the cluster does not come together");
    }

    fn cli(&self, words: &[String]) -> String {
        let output = Command::new("redis-cli").args(words).stdin(Stdio::null()).output();
        let output = output
            .unwrap_or_else(|error| panic!("redis-cli cannot be run ({error}): scripts/redis-server installs it"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "redis-cli {words:?}: {said}");
        said
    }

    async fn limiter(&self, policy: tokenweir::Policy) -> tokenweir_redis::Builder {
        let hosts: Vec<String> = self.0.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let server = Server::parse(&format!("redis+cluster://{}", hosts.join(","))).unwrap();
        RedisLimiter::builder(server, policy).deadline(Duration::from_secs(20))
    }
}

const TOTAL: &str = "name = 'total'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 500\nperiod = 'never'";
const PROJECT: &str =
    "name = 'project'\nmeter = 'requests'\nalgorithm = 'window'\namount = 50\nper = '24h'\nscope = ['project']";

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_cluster_hold_in_one_slot_and_spread_over_all() {
    let cluster = Cluster::start();
    let limiter = up(cluster.limiter(limits(&[TOTAL, PROJECT])).await).await;
    let mut passed = 0;
    for number in 0..60 {
        if let Decision::Admitted(permit) = ask(&limiter, number).await {
            let id = permit.into_id();
            limiter.permit(id).await.unwrap().settle(Usage::new(number, 0)).await.unwrap();
            passed += 1;
        }
    }
    assert_eq!(passed, 50);
    let spread = cluster.limiter(limits(&[PROJECT])).await.prefix("spread").slot_by(ScopePart::Project);
    let spread = up(spread).await;
    for project in 0..40 {
        let project = format!("p{project}");
        let decided = spread.admit(&Request::new(&project, "gpt-4o"), Estimate::new(1, 0)).await.unwrap();
        decided.admitted().expect("the first of its project").settle(Usage::new(1, 0)).await.unwrap();
    }
    let keys = cluster.0.iter().map(|node| node.command(&["DBSIZE"]));
    let keys: Vec<u32> = keys.map(|size| size.trim().trim_start_matches(':').parse().unwrap()).collect();
    assert!(keys.iter().all(|keys| *keys >= 5), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_admits_exactly_the_limit() {
    let cluster = Cluster::start();
    let limiter = up(cluster.limiter(limits(&[TOTAL])).await).await;
    drop(admitted(&limiter, 1).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let mut passed = 0;
            // More than enough in all.
            for _ in 0..150 {
                match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(1, 0)).await {
                    Ok(Decision::Admitted(permit)) => {
                        passed += 1;
                        permit.into_id();
                    }
                    Ok(Decision::Denied { .. }) => break,
                    Ok(Decision::Unavailable) => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            passed
        });
    }
    // The slot of `{tokenweir}` goes around the nodes.
    let slot = cluster.0[0].command(&["CLUSTER", "KEYSLOT", "{tokenweir}"]).trim().trim_start_matches(':').to_owned();
    for turn in 0..3 {
        let ids: Vec<String> = cluster.0.iter().map(|node| node.command(&["CLUSTER", "MYID"])).collect();
        let ids: Vec<String> = ids.iter().map(|id| id.lines().nth(1).unwrap().trim().to_owned()).collect();
        let has = |node: &RedisServer| node.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) != ":0\r\n";
        let from = cluster.0.iter().position(has).expect("somebody has the slot");
        let to = (from + 1 + turn % 2) % 3;
        move_slot(&cluster, &slot, (from, to), &ids);
    }
    let passed: u32 = tasks.join_all().await.into_iter().sum();
    // One before; what the server had taken when it could not be told was given back, or stands.
    assert!(passed <= 499, "{passed}");
    assert!(passed >= 450, "{passed}: {:?}", limiter.stats());
}

/// What `redis-cli --cluster reshard` does, of one slot.
fn move_slot(cluster: &Cluster, slot: &str, (from, to): (usize, usize), ids: &[String]) {
    let ok = |node: usize, words: &[&str]| {
        let said = cluster.0[node].command(words);
        assert!(said.starts_with("+OK") || said.starts_with("+NOKEY"), "{words:?}: {said}");
    };
    ok(to, &["CLUSTER", "SETSLOT", slot, "IMPORTING", &ids[from]]);
    ok(from, &["CLUSTER", "SETSLOT", slot, "MIGRATING", &ids[to]]);
    let port = cluster.0[to].port.to_string();
    loop {
        let keys = cluster.0[from].command(&["CLUSTER", "GETKEYSINSLOT", slot, "50"]);
        let keys: Vec<&str> = keys.split("\r\n").filter(|line| line.starts_with('{')).collect();
        if keys.is_empty() {
            break;
        }
        for key in keys {
            ok(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
    }
    for node in [to, from, 3 - to - from] {
        ok(node, &["CLUSTER", "SETSLOT", slot, "NODE", &ids[to]]);
    }
}
