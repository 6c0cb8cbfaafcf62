//! A ring of records tells what the limiter did: each decision and each settlement, once, in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokenweir::{
    Decision, Estimate, Event, Limiter, ManualClock, Now, Outcome, PermitId, Policy, RecordRing, Request, Usage,
};

const POLICY: &str = r#"
    [[limit]]
    name = "day"
    meter = "total"
    algorithm = "quota"
    amount = 100
    period = "daily"
    scope = ["project"]

    [[limit]]
    name = "tpm"
    meter = "total"
    algorithm = "bucket"
    amount = 60
    per = "1m"

    [[limit]]
    name = "watched"
    meter = "requests"
    algorithm = "quota"
    amount = 1
    period = "never"
    mode = "shadow"
"#;

fn limiter(policy: &str, ring: &Arc<RecordRing>) -> Limiter {
    let policy = Policy::from_toml(policy).unwrap_or_else(|error| panic!("{error}"));
    Limiter::builder(policy).clock(Arc::new(ManualClock::default())).observer(ring.clone()).build()
}

#[test]
fn every_field_of_a_decision_and_a_settlement_is_recorded() {
    let ring = Arc::new(RecordRing::new(16));
    let limiter = limiter(POLICY, &ring);
    let request = Request::new("search", "gpt-4o");
    let now = Now::new(5, 7);
    let admit = |input, output, now| limiter.admit_at(&request, Estimate::new(input, output), now).expect("no error");

    let first = admit(20, 30, now).admitted().expect("room").into_id();
    let usage = Usage::new(21, 9).with_cached(3);
    limiter.settle_at(first, usage, Now::new(6, 8)).expect("open");
    let second = admit(1, 0, now).admitted().expect("room").into_id();
    let denied = admit(90, 0, Now::new(9, 9)).denied().expect("no room");
    limiter.abandon_at(second, now).expect("open");

    let records: Vec<_> = std::iter::from_fn(|| ring.poll()).collect();
    assert_eq!(records.len(), 5);
    assert!(records.iter().all(|record| (record.project(), record.deployment()) == (b"search", b"gpt-4o")));
    let seen: Vec<_> = records.iter().map(|record| (record.at, record.estimate, record.permit())).collect();
    assert_eq!(
        seen,
        [
            (now, Estimate::new(20, 30), Some(first)),
            (Now::new(6, 8), Estimate::new(20, 30), Some(first)),
            (now, Estimate::new(1, 0), Some(second)),
            (Now::new(9, 9), Estimate::new(90, 0), None),
            (now, Estimate::new(1, 0), Some(second)),
        ]
    );
    assert!(matches!(records[0].event, Event::Admitted { shadow_refused: false, .. }));
    assert!(matches!(records[2].event, Event::Admitted { shadow_refused: true, .. }));
    let Event::Settled { settlement, usage: reported } = &records[1].event else { panic!("{:?}", records[1]) };
    assert_eq!((settlement.id, settlement.outcome, *reported), (first, Outcome::Settled, usage));
    assert_eq!((settlement.input, settlement.cached_input, settlement.output), (21, 3, 9));
    assert!(!settlement.estimated);
    let Event::Denied(recorded) = &records[3].event else { panic!("{:?}", records[3]) };
    let shown = |denied: &tokenweir::Denied| {
        let refused: Vec<String> = denied.refusals().map(|refusal| refusal.limit.to_owned()).collect();
        (denied.status(), denied.limit().to_owned(), denied.retry_after(), denied.never_fits(), refused)
    };
    assert_eq!(shown(recorded), shown(&denied));
    assert_eq!(recorded.remaining(), denied.remaining());
    let Event::Settled { settlement, usage: reported } = &records[4].event else { panic!("{:?}", records[4]) };
    assert_eq!((settlement.outcome, settlement.estimated, *reported), (Outcome::Dropped, true, Usage::UNKNOWN));
}

#[test]
fn a_denial_outlives_its_policy_and_its_limiter() {
    let ring = Arc::new(RecordRing::new(2));
    let limiter = limiter(POLICY, &ring);
    let denied = limiter.admit_at(&Request::new("p", "d"), Estimate::new(1000, 0), Now::default());
    assert!(!denied.expect("no error").is_admitted());
    drop(limiter);
    let record = ring.poll().expect("the denial");
    assert!(matches!(&record.event, Event::Denied(denied) if denied.never_fits() && denied.limit() == "day"));
}

#[test]
fn threads_that_write_and_poll_lose_nothing_uncounted() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 5_000;
    const ROOMY: &str =
        "[[limit]]\nname = 'q'\nmeter = 'total'\nalgorithm = 'quota'\namount = 40_000\nperiod = 'never'";
    let ring = Arc::new(RecordRing::new(256));
    let limiter = limiter(ROOMY, &ring);
    let over = AtomicBool::new(false);
    let poll_until_over = || {
        let mut read = Vec::new();
        loop {
            let ended = over.load(Ordering::Acquire);
            match ring.poll() {
                Some(record) => read.push(record),
                None if ended => return read,
                None => thread::yield_now(),
            }
        }
    };
    let (written, read) = thread::scope(|scope| {
        let readers = [scope.spawn(poll_until_over), scope.spawn(poll_until_over)];
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let limiter = &limiter;
                scope.spawn(move || {
                    let project = format!("project {writer}");
                    let mut written = 0;
                    for _ in 0..ROUNDS {
                        written += 1;
                        let decision = limiter.admit(&Request::new(&project, "d"), Estimate::new(2, 1));
                        if let Ok(Decision::Admitted(permit)) = decision {
                            permit.settle(Usage::new(2, 1)).expect("open");
                            written += 1;
                        }
                    }
                    written
                })
            })
            .collect();
        let written: u64 = writers.into_iter().map(|writer| writer.join().expect("no panic")).sum();
        over.store(true, Ordering::Release);
        (written, readers.map(|reader| reader.join().expect("no panic")))
    });
    assert_eq!(read.iter().map(Vec::len).sum::<usize>() as u64 + ring.lost(), written);
    let mut decided: HashMap<PermitId, u32> = HashMap::new();
    let mut settled: HashMap<PermitId, u32> = HashMap::new();
    for records in &read {
        let mut ended_here = std::collections::HashSet::new();
        for record in records {
            match &record.event {
                Event::Admitted { permit, .. } => {
                    *decided.entry(*permit).or_default() += 1;
                    assert!(!ended_here.contains(permit), "a reader saw the end before the beginning");
                }
                Event::Settled { settlement, .. } => {
                    *settled.entry(settlement.id).or_default() += 1;
                    ended_here.insert(settlement.id);
                }
                _ => {}
            }
        }
    }
    assert!(decided.values().chain(settled.values()).all(|times| *times == 1), "each is read once");
    assert!(!decided.is_empty() && !settled.is_empty());
}

#[test]
fn the_number_of_an_outcome_is_its_place_among_all() {
    for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, place, "{}", outcome.as_str());
    }
}
