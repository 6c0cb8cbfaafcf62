//! S3 and S5 from several threads while everything else moves as well: time, the policy, and which counters there are.

use crate::support::random::Random;
use crate::support::trace::{MINUTE, SECOND, START};
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tokenweir::{Error, Estimate, Limiter, ManualClock, Now, PermitId, Policy, Request, Usage, UsageFilter};

const WORKERS: u64 = 3;
const STEPS: u64 = 40_000;
const PROJECTS: u64 = 6;
/// What the first project may use in all; the others more than they ask for.
const FEW: u64 = 100_000;
/// The quotas take twelve of them and never rest; the other 14 counters that are asked for do not all fit.
const COUNTERS: usize = 20;

/// Two quotas, by which the books are checked, a bucket and a window. The bucket's amount is what changes.
fn policy(amount: u64) -> Policy {
    let limits = json!([
        { "name": "requests", "meter": "requests", "algorithm": "quota", "amount": 1u64 << 40, "period": "never", "scope": ["project"] },
        { "name": "tokens", "meter": "total", "algorithm": "quota", "amount": 1u64 << 40, "period": "never", "scope": ["project"] },
        { "name": "few tokens", "overrides": "tokens", "match": { "project": "project 0" },
          "meter": "total", "algorithm": "quota", "amount": FEW, "period": "never", "scope": ["project"] },
        { "name": "bucket", "meter": "total", "algorithm": "bucket", "amount": amount, "per": "1s", "scope": ["project", "deployment"] },
        { "name": "window", "meter": "total", "algorithm": "window", "amount": 4000, "per": "1s", "sub_windows": 4, "scope": ["deployment"] },
    ]);
    Policy::from_json(&json!({ "limit": limits }).to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// Time goes on with every call, by up to 4 ms.
struct Time(AtomicU64);

impl Time {
    fn now(&self, random: &mut Random) -> Now {
        let by = random.below(SECOND / 250);
        let mono = self.0.fetch_add(by, Relaxed) + by;
        Now::new(mono, START + mono as i64)
    }
}

/// What the projects have settled: requests and tokens.
type Books = HashMap<String, (u64, u64)>;

/// Permits are settled, cancelled, abandoned, or left to expire.
fn work(limiter: &Limiter, time: &Time, seed: u64) -> (Books, u64) {
    let mut random = Random::new(seed);
    let mut open: Vec<(PermitId, String, u64)> = Vec::new();
    let (mut books, mut denied) = (Books::new(), 0);
    for step in 0..STEPS {
        let project = format!("project {}", random.below(PROJECTS));
        let deployment = format!("deployment {}", random.below(2));
        let (estimate, now) = (random.below(200), time.now(&mut random));
        let decision = limiter.admit_at(&Request::new(&project, &deployment), Estimate::new(0, estimate), now);
        let decision = match decision {
            // Open permits hold all routes there may be.
            Err(Error::TableFull { .. }) => None,
            decision => decision.expect("it resolves").admitted(),
        };
        match decision {
            Some(permit) => open.push((permit.into_id(), project, estimate)),
            None => denied += 1,
        }
        while open.len() > 6 || step + 1 == STEPS && !open.is_empty() {
            let (id, project, estimate) = open.swap_remove(random.below(open.len() as u64) as usize);
            let (used, now) = (random.below(estimate + 1), time.now(&mut random));
            let ended = match random.below(8) {
                0 => limiter.cancel_at(id, now).map(|_| (0, 0)),
                1 => limiter.abandon_at(id, now).map(|_| (1, estimate)),
                _ => limiter.settle_at(id, Usage::new(0, used), now).map(|_| (1, used)),
            };
            // Expired: the estimate stands.
            let (requests, tokens) = ended.unwrap_or((1, estimate));
            let book = books.entry(project).or_default();
            *book = (book.0 + requests, book.1 + tokens);
        }
    }
    (books, denied)
}

#[test]
fn s3_s5_the_books_are_right_while_time_policy_and_counters_change() {
    let builder = Limiter::builder(policy(3000)).clock(ManualClock::new(Now::new(0, START)));
    let ttl = Duration::from_millis(60);
    let limiter = builder.max_counters(COUNTERS).max_routes(8).max_histories(3).permit_ttl(ttl).build();
    let time = Time(AtomicU64::new(0));
    let (mut books, mut denied, mut changes) = (Books::new(), 0, 0);
    thread::scope(|scope| {
        let (limiter, time) = (&limiter, &time);
        let workers: Vec<_> = (0..WORKERS).map(|seed| scope.spawn(move || work(limiter, time, seed))).collect();
        let mut random = Random::new(WORKERS);
        while !workers.iter().all(|worker| worker.is_finished()) {
            limiter.swap_policy_at(policy(2000 + random.below(2000)), time.now(&mut random)).unwrap();
            limiter.sweep_at(time.now(&mut random));
            for counter in limiter.usage_at(&UsageFilter::default(), time.now(&mut random)) {
                assert!(counter.limit != "few tokens" || counter.used <= FEW, "{counter:?}");
            }
            let stats = limiter.stats();
            assert!(stats.counters <= COUNTERS && stats.routes <= 8 && stats.histories <= 3, "{stats:?}");
            changes += 1;
        }
        for worker in workers {
            let (booked, refused) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            denied += refused;
            for (project, (requests, tokens)) in booked {
                let book = books.entry(project).or_default();
                *book = (book.0 + requests, book.1 + tokens);
            }
        }
    });
    // A minute later what expires has expired, and buckets and windows are as good as new.
    let end = time.0.load(Relaxed) + MINUTE;
    let end = Now::new(end, START + end as i64);
    limiter.sweep_at(end);
    let stats = limiter.stats();
    println!("{changes} changes, {denied} denied, {stats:?}");
    assert!(denied > 1000 && changes > 10 && stats.evicted > 100, "{denied} denied, {changes} changes, {stats:?}");
    assert_eq!((stats.permits_open, stats.histories), (0, 0));
    let counters = limiter.usage_at(&UsageFilter::default(), end);
    assert_eq!(counters.len() as u64, 2 * PROJECTS, "only quotas do not rest: {counters:?}");
    for counter in counters {
        let project = String::from_utf8_lossy(&counter.scope[0].1).into_owned();
        let (requests, tokens) = books[&project];
        let expected = if counter.limit == "requests" { requests } else { tokens };
        let context = format!("{counter:?}");
        assert_eq!((counter.used, counter.settled_total, counter.held), (expected, expected, 0), "{context}");
        assert!(counter.used <= counter.amount, "{context}");
    }
    assert!(books["project 0"].1 > FEW - 200, "its few tokens were spent");
}
