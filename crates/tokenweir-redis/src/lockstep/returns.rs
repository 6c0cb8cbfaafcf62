//! A charge that is given back in parts, as leases are, beside the model, for which each part is a charge of its own.

use super::ledger::exact;
use super::model::{End, Model};
use super::servers::RedisServer;
use super::trace::START;
use crate::answer::Status;
use crate::limiter::RedisLimiter;
use crate::permit::Ending;
use crate::script::Scripts;
use crate::server::Server;
use std::time::Duration;
use tokenweir::{Estimate, Now, Policy, Request, Usage};

/// Steele, Lea and Flood's split-mix.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A charge on the server and its parts, of which some have been given back.
struct Charge {
    id: u64,
    parts: Vec<(u64, usize)>,
}

async fn life(server: &RedisServer, policy: &Policy, seed: u64, tight: bool) -> (u64, u64) {
    server.command(&["FLUSHALL"]);
    let mut now = START as u64 / 1000;
    server.command(&["SET", "clock", &now.to_string()]);
    let mut builder = RedisLimiter::builder(Server::parse(&server.url()).unwrap(), policy.clone());
    builder.scripts = Scripts::with_clock("clock");
    let limiter = builder.deadline(Duration::from_secs(20)).connect().await.unwrap();
    let inner = &limiter.inner;
    let request = Request::new("search", "gpt-4o");
    let plan = inner.rules.load().plan(&request).unwrap();
    let mut model = Model::new(policy.clone(), exact);
    let (mut random, mut charges, mut returns, mut equal) = (Random(seed), Vec::<Charge>::new(), 0, 0);
    for _ in 0..120 {
        let at = Now::new(now * 1000 - START as u64, now as i64 * 1000);
        match random.below(4) {
            0 => {
                now += random.below(2_000_000);
                server.command(&["SET", "clock", &now.to_string()]);
                continue;
            }
            1 => {
                let sizes: Vec<u64> = (0..1 + random.below(4)).map(|_| 1 + random.below(300)).collect();
                let n = sizes.iter().sum();
                let id = inner.ids.next(true).get();
                let asked = (id, Estimate::new(n, 0));
                let ttl = inner.permit_ttl;
                let answer = inner.ask((&plan, &[n]), asked, (0.0, ttl), inner.by()).await.unwrap();
                if answer.status == Status::Done {
                    let mut part = |size| (size, model.charge(&request, Estimate::new(size, 0), at, &[]));
                    charges.push(Charge { id, parts: sizes.into_iter().map(&mut part).collect() });
                }
            }
            _ if !charges.is_empty() => {
                let which = random.below(charges.len() as u64) as usize;
                let charge = &mut charges[which];
                let (_, part) = charge.parts.swap_remove(random.below(charge.parts.len() as u64) as usize);
                model.end(part, End::Usage(Usage::new(0, 0)), at);
                let rest = charge.parts.iter().map(|(size, _)| size).sum();
                let ending = Ending { id: charge.id, plan: plan.clone(), charges: vec![rest], record: None };
                let mode = if charge.parts.is_empty() { 0.0 } else { 2.0 };
                // Told twice is told once.
                for _ in 0..if mode > 0.0 { 2 } else { 1 } {
                    let told = inner.tell(&ending, mode, (0, 0), inner.by()).await.unwrap();
                    assert_eq!(told.status, Status::Done);
                }
                returns += 1;
                if charges[which].parts.is_empty() {
                    charges.swap_remove(which);
                }
            }
            _ => continue,
        }
        let left = limiter.remaining(&request).await.unwrap()[0].remaining;
        let exact = model.judge(&request, Estimate::new(1, 0), at).standings[0].remaining;
        assert!(i128::from(left) <= exact, "{left} are left of {exact}, seed {seed}");
        assert!(!tight || i128::from(left) == exact, "{left} are left of {exact}, seed {seed}");
        equal += u64::from(i128::from(left) == exact);
    }
    (returns, equal)
}

#[test]
fn what_is_given_back_in_parts_comes_back_as_if_it_had_never_been_charged() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for (algorithm, tight) in [
        ("'bucket'\namount = 6000\nburst = 2000\nper = '1m'", false),
        ("'window'\namount = 2000\nper = '10s'\nsub_windows = 10", true),
        ("'quota'\namount = 9000\nperiod = 'hourly'", true),
    ] {
        let text = format!("[[limit]]\nname = 'l'\nmeter = 'total'\nalgorithm = {algorithm}\n");
        let policy = Policy::from_toml(&text).unwrap();
        let (mut returns, mut equal) = (0, 0);
        for seed in 0..12 {
            let (one, other) = runtime.block_on(life(&server, &policy, seed, tight));
            (returns, equal) = (returns + one, equal + other);
        }
        println!("{algorithm:?}: {returns} returns, {equal} times exactly what the model has");
        assert!(returns > 300 && equal > 300, "{algorithm:?}: {returns} returns, {equal} equal");
    }
}
