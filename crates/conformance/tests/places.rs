//! Every place where tokenweir counts, through the same scenes.

#[path = "../../tokenweir-redis/tests/support/mod.rs"]
mod servers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use servers::RedisServer;
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, StoreOptions, Usage};
use tokenweir_conformance::{Answer, Counting, Place, run_all};
use tokenweir_redb::QuotaFile;
use tokenweir_redis::{BlockingDecision, BlockingLimiter, BlockingPermit, RedisLimiter, Server};

const START: Now = Now::at(1_800_000_000_000_000_000);

/// The engine's own limiter, on whatever it counts.
struct Engine(Limiter);

impl Counting for Engine {
    fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Answer {
        match self.0.admit(request, estimate).expect("the request is valid and there is room") {
            Decision::Admitted(permit) => Answer::Admitted(permit.into_id()),
            Decision::Denied(denied) => Answer::Denied(Box::new(denied)),
        }
    }

    fn observe(&self, permit: PermitId, input: u64, output: u64) -> bool {
        self.0.observe(permit, input, output).expect("the permit is open").spent
    }

    fn settle(&self, permit: PermitId, usage: Usage) -> Option<(u64, u64)> {
        self.0.settle(permit, usage).ok().map(|settled| (settled.input, settled.output))
    }

    fn cancel(&self, permit: PermitId) -> bool {
        self.0.cancel(permit).is_ok()
    }

    fn abandon(&self, permit: PermitId) {
        self.0.abandon(permit).expect("the permit is open");
    }

    fn change(&self, policy: &Policy) -> bool {
        self.0.swap_policy(policy.clone()).expect("there is room for it");
        true
    }
}

/// The memory of one process.
struct Heap(Arc<ManualClock>);

impl Place for Heap {
    fn begin(&self, policy: &Policy) -> Vec<Box<dyn Counting>> {
        vec![Box::new(Engine(Limiter::builder(policy.clone()).clock(self.0.clone()).build()))]
    }

    fn pass(&self, time: Duration) {
        self.0.advance(time.as_nanos() as u64);
    }
}

#[test]
fn the_memory_of_one_process() {
    run_all(&Heap(Arc::new(ManualClock::new(START))));
}

/// A file of quotas, with one limiter at a time, a new file for each.
struct File {
    clock: Arc<ManualClock>,
    directory: tempfile::TempDir,
    number: std::cell::Cell<u32>,
}

impl Place for File {
    fn begin(&self, policy: &Policy) -> Vec<Box<dyn Counting>> {
        self.number.set(self.number.get() + 1);
        let file =
            QuotaFile::open(self.directory.path().join(format!("{}.redb", self.number.get()))).expect("a new file");
        let store = Arc::new(file.store("conformance").expect("a new store"));
        let limiter = Limiter::builder(policy.clone()).clock(self.clock.clone());
        vec![Box::new(Engine(limiter.store(store, StoreOptions::new()).build()))]
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time.as_nanos() as u64);
    }
}

#[test]
fn a_file_of_quotas() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    run_all(&File { clock: Arc::new(ManualClock::new(START)), directory, number: std::cell::Cell::new(0) });
}

#[cfg(target_os = "linux")]
mod region {
    use super::*;
    use tokenweir_shared::{Layout, SharedRegion};

    /// A region with three limiters on it, a new one for each scene.
    struct Region {
        clock: Arc<ManualClock>,
        directory: tempfile::TempDir,
        number: std::cell::Cell<u32>,
    }

    impl Place for Region {
        fn begin(&self, policy: &Policy) -> Vec<Box<dyn Counting>> {
            self.number.set(self.number.get() + 1);
            let path = self.directory.path().join(self.number.get().to_string());
            let layout = Layout::of(policy).counters(64).callers(64).permits(256).histories(4);
            let region = SharedRegion::create(path, &layout).expect("a new region");
            let limiter = || -> Box<dyn Counting> {
                let limiter = Limiter::builder(policy.clone()).clock(self.clock.clone());
                let memory = region.attach().expect("a free seat");
                Box::new(Engine(limiter.build_in_region(memory, &layout).expect("the policy fits")))
            };
            vec![limiter(), limiter(), limiter()]
        }

        fn pass(&self, time: Duration) {
            self.clock.advance(time.as_nanos() as u64);
        }
    }

    #[test]
    fn a_region_with_several_limiters() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        run_all(&Region { clock: Arc::new(ManualClock::new(START)), directory, number: std::cell::Cell::new(0) });
    }
}

/// A server with three limiters on it, other keys for each scene.
struct Remote {
    server: Server,
    number: std::cell::Cell<u32>,
}

/// What a stream brings within its estimate is known to the permit that observed it, and not to the server: it is kept.
struct OnServer(BlockingLimiter, Mutex<HashMap<PermitId, BlockingPermit>>);

impl Counting for OnServer {
    fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Answer {
        match self.0.admit(request, estimate).expect("the request is valid") {
            BlockingDecision::Admitted(permit) => Answer::Admitted(permit.into_id()),
            BlockingDecision::Denied { denied, .. } => Answer::Denied(denied),
            BlockingDecision::Unavailable => panic!("the server is away"),
        }
    }

    fn observe(&self, permit: PermitId, input: u64, output: u64) -> bool {
        let mut observed = self.1.lock().expect("nobody has panicked");
        let found = || self.0.permit(permit).expect("the permit is open");
        observed.entry(permit).or_insert_with(found).observe(input, output).expect("the permit is open").spent
    }

    fn settle(&self, permit: PermitId, usage: Usage) -> Option<(u64, u64)> {
        let ended = self.0.permit(permit).ok()?.settle(usage).ok()?;
        Some((ended.settlement.input, ended.settlement.output))
    }

    fn cancel(&self, permit: PermitId) -> bool {
        self.0.permit(permit).is_ok_and(|permit| permit.cancel().is_ok())
    }

    fn abandon(&self, permit: PermitId) {
        drop(self.0.permit(permit).expect("the permit is open"));
        assert!(self.0.flush(Duration::from_secs(10)), "the server is told");
    }

    fn change(&self, policy: &Policy) -> bool {
        self.0.set_policy(policy.clone()).expect("it is of one slot");
        false
    }
}

impl Place for Remote {
    fn begin(&self, policy: &Policy) -> Vec<Box<dyn Counting>> {
        self.number.set(self.number.get() + 1);
        let limiter = || -> Box<dyn Counting> {
            let limiter = RedisLimiter::builder(self.server.clone(), policy.clone());
            let limiter = limiter.prefix(format!("scene{}", self.number.get())).deadline(Duration::from_secs(10));
            Box::new(OnServer(limiter.connect_blocking().expect("the server is there"), Mutex::default()))
        };
        vec![limiter(), limiter(), limiter()]
    }

    fn slack(&self) -> u64 {
        2
    }

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

#[test]
fn a_server_with_several_limiters() {
    let server = RedisServer::start();
    let address = Server::parse(&server.url()).expect("an address");
    run_all(&Remote { server: address, number: std::cell::Cell::new(0) });
}

#[test]
fn a_cluster_with_several_limiters() {
    let cluster = servers::Cluster::start();
    let address = Server::parse(&cluster.url()).expect("an address");
    run_all(&Remote { server: address, number: std::cell::Cell::new(0) });
}
