//! The file itself: made, refused, copied, tidied.

#[allow(dead_code)]
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use support::{AMOUNT, LEASE, limiter, used};
use tokenweir::{Decision, Estimate, Limiter, ManualClock, Now, Request, StoreOptions, Usage};
use tokenweir_redb::{QuotaFile, QuotaFileError, Renewer};

fn spend(limiter: &Limiter, project: &str, tokens: u64) -> bool {
    match limiter.admit(&Request::new(project, "gpt-4o"), Estimate::new(tokens, 0)).expect("no error") {
        Decision::Admitted(permit) => permit.settle(Usage::new(tokens, 0)).is_ok(),
        Decision::Denied(_) => false,
    }
}

/// What a limiter finds used in a file that nobody has open.
fn found(path: &Path) -> u64 {
    let store = Arc::new(QuotaFile::open(path).expect("a file").store("gateway").expect("nobody else has it"));
    used(&limiter(&store)).expect("no error")[0]
}

#[test]
fn a_clean_end_is_exact_and_before_it_the_file_is_within_a_lease() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    let mut expected = 0;
    for life in 0..3 {
        let file = QuotaFile::open(&path).expect("a file");
        let store = Arc::new(file.store("gateway").expect("nobody else has it"));
        let limiter = limiter(&store);
        let renewer = Renewer::start(&limiter, &store).expect("a thread");
        assert_eq!(used(&limiter).expect("no error")[0], expected);
        for _ in 0..300 {
            assert!(spend(&limiter, "search", 123));
            expected += 123;
        }
        let copy = directory.path().join(format!("copy-{life}"));
        file.backup(&copy).expect("a copy");
        let recorded = found(&copy);
        assert!((expected..=expected + LEASE).contains(&recorded), "{recorded} recorded of {expected}");
        assert_eq!(renewer.last_failure(), None);
        renewer.stop().expect("recorded");
    }
    assert_eq!(found(&path), expected);
}

#[test]
fn leases_are_renewed_before_a_request_has_to_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = QuotaFile::open(directory.path().join("quotas")).expect("a file");
    let store = Arc::new(file.store("gateway").expect("nobody else has it"));
    let limiter = limiter(&store);
    let renewer = Renewer::start(&limiter, &store).expect("a thread");
    let recorded = || file.records().expect("no error").first().map_or(0, |record| record.used);
    spend(&limiter, "search", 1);
    let first = recorded();
    // To the edge of the lease, then nothing: the thread has renewed it by and by.
    spend(&limiter, "search", first - 10);
    for _ in 0..5_000 {
        if recorded() > first {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(recorded() > first, "nobody has renewed it");
    drop(renewer);
    assert_eq!(recorded(), first - 9, "dropped, it has given back what was left");
}

#[test]
fn only_the_owner_may_read_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    drop(QuotaFile::open(&path).expect("a file"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing is left beside it");
}

#[test]
fn one_has_it_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    let first = QuotaFile::open(&path).expect("a file");
    assert!(matches!(QuotaFile::open(&path), Err(QuotaFileError::InUse { .. })));
    let store = first.store("gateway").expect("nobody else has it");
    assert!(matches!(first.store("gateway"), Err(QuotaFileError::NameInUse { .. })));
    drop(first.store("another").expect("another limiter's"));
    drop((first, store));
    drop(QuotaFile::open(&path).expect("nobody has it any more").store("gateway").expect("nobody else has it"));
}

#[test]
fn two_limiters_in_one_file_do_not_meet() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = QuotaFile::open(directory.path().join("quotas")).expect("a file");
    let [one, two] = ["one", "two"].map(|name| Arc::new(file.store(name).expect("nobody else has it")));
    let [first, second] = [limiter(&one), limiter(&two)];
    assert!(spend(&first, "search", AMOUNT));
    assert!(!spend(&first, "search", 1));
    assert!(spend(&second, "search", AMOUNT));
}

#[test]
fn what_is_no_quota_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    for content in [&b""[..], b"# a policy\n", &[0; 8192], &[0xff; 8192]] {
        fs::write(&path, content).expect("written");
        match QuotaFile::open(&path) {
            Err(QuotaFileError::Damaged { .. }) => {}
            other => panic!("{} bytes: {other:?}", content.len()),
        }
        assert_eq!(fs::read(&path).expect("there"), content);
    }
    assert!(matches!(
        QuotaFile::open(directory.path()),
        Err(QuotaFileError::Io { .. } | QuotaFileError::Damaged { .. })
    ));
    assert!(matches!(QuotaFile::open(directory.path().join("no/such")), Err(QuotaFileError::Io { .. })));
}

#[test]
fn another_format_is_refused() {
    use redb::{Database, TableDefinition};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    let about = TableDefinition::<'_, &str, u64>::new("tokenweir");
    let write = |version: Option<u64>| {
        let database = Database::create(&path).expect("a database");
        let write = database.begin_write().expect("begun");
        if let Some(version) = version {
            write.open_table(about).expect("a table").insert("version", version).expect("inserted");
        }
        write.commit().expect("written");
    };
    write(None);
    assert!(matches!(QuotaFile::open(&path), Err(QuotaFileError::Damaged { .. })), "somebody else's database");
    write(Some(2));
    match QuotaFile::open(&path) {
        Err(error @ QuotaFileError::Version { found: 2, known: 1, .. }) => {
            assert!(error.to_string().contains("use the release that wrote it"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// Whatever byte is wrong: an error, or the use that was recorded. Never less, and never a panic.
#[test]
fn damage_is_told_and_never_forgives() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("quotas");
    {
        let store = Arc::new(QuotaFile::open(&path).expect("a file").store("gateway").expect("nobody else has it"));
        let limiter = limiter(&store);
        for project in support::PROJECTS {
            assert!(spend(&limiter, project, 777_777));
        }
        limiter.give_back_leases().expect("recorded");
    }
    let sound = fs::read(&path).expect("there");
    let mut random = support::Random(5);
    let (mut told, mut unharmed) = (0, 0);
    // Most of the file is room for more: half of the damage is done to the pages that have the records.
    let records =
        |page: &&[u8]| support::PROJECTS.iter().all(|name| page.windows(name.len()).any(|at| at == name.as_bytes()));
    let pages: Vec<usize> = (0..sound.len()).step_by(4096).filter(|at| records(&&sound[*at..at + 4096])).collect();
    assert!(!pages.is_empty());
    let written: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    for round in 0..300 {
        let mut damaged = sound.clone();
        let at = if round % 2 == 0 {
            written[random.below(written.len() as u64) as usize]
        } else {
            pages[random.below(pages.len() as u64) as usize] + random.below(600) as usize
        };
        damaged[at] ^= 1 << random.below(8);
        fs::write(&path, &damaged).expect("written");
        let read = QuotaFile::open(&path).and_then(|file| {
            let store = Arc::new(file.store("gateway")?);
            let limiter = limiter(&store);
            Ok(support::used(&limiter))
        });
        match read {
            Ok(Ok(recovered)) => {
                assert_eq!(recovered, [777_777; 3], "byte {at}");
                unharmed += 1;
            }
            Ok(Err(_)) | Err(_) => told += 1,
        }
    }
    assert!(told > 20 && unharmed > 20, "{told} told, {unharmed} unharmed");
}

#[test]
fn old_periods_are_removed_and_those_that_count_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = QuotaFile::open(directory.path().join("quotas")).expect("a file");
    let store = Arc::new(file.store("gateway").expect("nobody else has it"));
    let other = Arc::new(file.store("other").expect("nobody else has it"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
    let hourly = "[[limit]]\nname = 'hour'\nmeter = 'total'\nalgorithm = 'quota'\namount = 100\nperiod = 'hourly'\nscope = ['project']\n";
    let at = |store: &Arc<tokenweir_redb::QuotaStore>, wall: i64| {
        Limiter::builder(tokenweir::Policy::from_toml(hourly).expect("a policy"))
            .clock(ManualClock::new(Now::new(0, wall)))
            .store(store.clone(), StoreOptions::new())
            .build()
    };
    let day = 86_400_000_000_000;
    for n in 0..1_500 {
        assert!(spend(&at(&store, now - 3 * day), &format!("old-{n}"), 50));
        if n == 0 {
            assert!(spend(&at(&other, now - 3 * day), "old", 50));
        }
    }
    assert!(spend(&at(&store, now), "new", 50));
    assert!(spend(&at(&store, now - day / 2), "recent", 50));
    assert_eq!(file.records().expect("no error").len(), 1_503);
    assert_eq!(store.tidy(now).expect("no error"), 1_000);
    assert_eq!(store.tidy(now).expect("no error"), 500);
    assert_eq!(store.tidy(now).expect("no error"), 0);
    let left: Vec<String> = file.records().expect("no error").into_iter().map(|record| record.store).collect();
    assert_eq!(left, ["gateway", "gateway", "other"]);
    assert!(!spend(&at(&store, now), "new", 60));
}

#[test]
fn a_copy_goes_on_where_it_was_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, copy) = (directory.path().join("quotas"), directory.path().join("copy"));
    let file = QuotaFile::open(&path).expect("a file");
    let store = Arc::new(file.store("gateway").expect("nobody else has it"));
    let limiter = limiter(&store);
    assert!(spend(&limiter, "search", 5_000));
    file.backup(&copy).expect("a copy");
    assert!(spend(&limiter, "search", 90_000));
    assert!((5_000..=5_000 + LEASE).contains(&found(&copy)));
    match file.backup(&copy) {
        Err(error @ QuotaFileError::Io { .. }) => {
            assert!(error.to_string().contains("name one that does not"), "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_file_has_is_in_views_before_the_first_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = QuotaFile::open(directory.path().join("quotas")).expect("a file");
    let of = |name: &str| {
        let store = Arc::new(file.store(name).expect("nobody else has it"));
        (limiter(&store), store)
    };
    let (other, _other) = of("another");
    assert!(spend(&other, "support", 5));
    {
        let (first, _first) = of("gateway");
        assert!(spend(&first, "search", 123));
        first.give_back_leases().expect("recorded");
    }
    let (second, store) = of("gateway");
    let seen = || second.usage(&Default::default()).iter().map(|counter| counter.used).collect::<Vec<_>>();
    assert!(seen().is_empty());
    let recalled = store.recall(&second).expect("read");
    assert!(recalled > 0 && seen().len() == recalled && seen().contains(&123), "{:?}", seen());
}
