//! A real cluster of three nodes.

use crate::stage::{admitted, ask, has_it_all, limits, until, up};
use crate::support::{Cluster, RedisServer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokenweir::policy::ScopePart;
use tokenweir::{Estimate, Request, Usage};
use tokenweir_redis::{Decision, Leases, RedisLimiter, Server};

impl Cluster {
    /// Which node decides on the slot of `{tokenweir}`, and its replica, once that has what the master has. A fail-over that is
    /// asked for may come late on a busy machine, so both are looked for each time.
    async fn pair(&self) -> (usize, usize) {
        let slot = self.0[0].command(&["CLUSTER", "KEYSLOT", "{tokenweir}"]);
        let slot = slot.trim().trim_start_matches(':').to_owned();
        let look = || {
            let roles: Vec<String> = self.0.iter().map(|node| node.command(&["ROLE"])).collect();
            let decides = |node: usize| {
                roles[node].contains("master")
                    && self.0[node].command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) != ":0\r\n"
            };
            let master = (0..self.0.len()).find(|node| decides(*node))?;
            let port = format!(":{}\r\n", self.0[master].port);
            let follows = |role: &String| role.contains("slave") && role.contains(&port) && role.contains("connected");
            Some((master, roles.iter().position(follows)?))
        };
        let mut found = None;
        until("a master has the slot, and a replica", async || {
            found = look();
            found.is_some()
        })
        .await;
        found.expect("it was just found")
    }

    async fn limiter(&self, policy: tokenweir::Policy) -> tokenweir_redis::Builder {
        let server = Server::parse(&self.url()).unwrap();
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
    let mut seen = limiter.usage().await.unwrap();
    seen.sort_by(|a, b| a.limit.cmp(&b.limit));
    let seen: Vec<_> = seen.iter().map(|one| (one.limit.as_str(), one.used)).collect();
    assert_eq!(seen, [("project", 50), ("total", 50)], "on whichever node they are");
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
    let race = race(&limiter);
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
    let passed = race.end().await;
    // One before; what the server had taken when it could not be told was given back, or stands.
    assert!(passed <= 499, "{passed}");
    assert!(passed >= 450, "{passed}: {:?}", limiter.stats());
}

/// Eight that ask until nothing is left; how many requests were admitted.
struct Race(tokio::task::JoinSet<()>, Arc<AtomicU64>);

impl Race {
    fn passed(&self) -> u64 {
        self.1.load(Relaxed)
    }

    async fn end(self) -> u64 {
        self.0.join_all().await;
        self.1.load(Relaxed)
    }
}

fn race(limiter: &RedisLimiter) -> Race {
    let (mut tasks, all) = (tokio::task::JoinSet::new(), Arc::<AtomicU64>::default());
    for _ in 0..8 {
        let (limiter, passed) = (limiter.clone(), all.clone());
        tasks.spawn(async move {
            let began = Instant::now();
            // A minute, should nobody decide any more.
            while began.elapsed() < Duration::from_secs(60) {
                match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(1, 0)).await {
                    Ok(Decision::Admitted(permit)) => {
                        passed.fetch_add(1, Relaxed);
                        permit.into_id();
                    }
                    Ok(Decision::Denied { .. }) => break,
                    Ok(Decision::Unavailable) => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    Race(tasks, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_under_load_admits_no_more_than_the_limit() {
    let cluster = Cluster::with(1);
    for leases in [None, Some(Leases::new().life(Duration::from_millis(100)))] {
        let builder = cluster.limiter(limits(&[TOTAL])).await.deadline(Duration::from_secs(5));
        let builder = builder.back_off(Duration::from_millis(50));
        let limiter = up(if let Some(leases) = leases { builder.leases(leases) } else { builder }).await;
        drop(admitted(&limiter, 1).await);
        let (_, replica) = cluster.pair().await;
        let race = race(&limiter);
        // The master stops deciding until the replica has all that it has decided.
        until("a fail-over begins", async || cluster.0[replica].command(&["CLUSTER", "FAILOVER"]).starts_with("+OK"))
            .await;
        let passed = race.end().await;
        // On a busy machine it may take more than one attempt, after the load then.
        let mut asked = Instant::now();
        until("the replica is the master", async || {
            if asked.elapsed() > Duration::from_secs(3) {
                asked = Instant::now();
                cluster.0[replica].command(&["CLUSTER", "FAILOVER"]);
            }
            cluster.0[replica].command(&["ROLE"]).contains("master")
        })
        .await;
        assert!((450..=499).contains(&passed), "{leases:?}: {passed}, {:?}", limiter.stats());
        assert!(limiter.flush(Duration::from_secs(10)).await);
        drop(limiter);
        until("the limit is there once more", async || {
            let (master, _) = cluster.pair().await;
            cluster.0[master].command(&["FLUSHALL"]).starts_with("+OK")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_killed_under_load_is_replaced_without_help() {
    let mut cluster = Cluster::with(1);
    let total = "name = 'total'\nmeter = 'requests'\nalgorithm = 'quota'\namount = 3000\nperiod = 'never'";
    let builder = cluster.limiter(limits(&[total])).await.deadline(Duration::from_millis(500));
    let limiter = up(builder.back_off(Duration::from_millis(50))).await;
    drop(admitted(&limiter, 1).await);
    let (master, replica) = cluster.pair().await;
    for node in &cluster.0 {
        assert!(node.command(&["CONFIG", "SET", "cluster-node-timeout", "1000"]).starts_with("+OK"));
    }
    let race = race(&limiter);
    until("there is load", async || race.passed() > 300).await;
    let kept = race.passed();
    has_it_all(&cluster.0[master], &cluster.0[replica]).await;
    cluster.0[master].kill();
    // Eight may have been decided and not be counted yet.
    let at_kill = race.passed() + 8;
    until("its replica decides", async || {
        cluster.0[replica].command(&["ROLE"]).contains("master")
            && limiter.remaining(&Request::new("search", "gpt-4o")).await.is_ok()
    })
    .await;
    let passed = race.end().await;
    // What the replica had not been sent yet is missing there: some of the moments before the kill, no more.
    println!("{passed} passed, {kept} of {at_kill} known to the replica at the kill");
    assert!((2900..=2999 + at_kill - kept).contains(&passed), "{passed}, {kept} of {at_kill}");
    let standing = limiter.remaining(&Request::new("search", "gpt-4o")).await.unwrap();
    assert!(standing[0].charged_total.is_some_and(|total| total > 0), "{standing:?}");
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
