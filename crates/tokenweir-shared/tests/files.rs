//! What a region's file must be like, and what is said of one that is not.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use support::{ALL, Stage};
use tempfile::TempDir;
use tokenweir::region::RegionError;
use tokenweir::{Error, Estimate, Limiter, Policy, Request};
use tokenweir_shared::{Layout, SharedError, SharedRegion};

fn policy() -> Policy {
    Policy::from_toml(ALL).expect("a policy")
}

fn layout() -> Layout {
    Layout::of(&policy()).counters(8).callers(8).permits(8).histories(1)
}

/// A region's file that nobody has open.
fn made() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("region");
    SharedRegion::create(&path, &layout()).expect("a region");
    (folder, path)
}

fn open(path: &PathBuf) -> SharedError {
    SharedRegion::open(path).expect_err("not a region that can be used")
}

fn write_word(path: &PathBuf, at: u64, word: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.write_all_at(&word.to_ne_bytes(), at * 8).expect("written");
}

#[test]
fn a_new_region_is_its_users_alone_and_leaves_nothing_beside_it() {
    let (folder, path) = made();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(*SharedRegion::open(&path).unwrap().layout(), layout());
}

#[test]
fn of_two_that_make_it_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| SharedRegion::open_or_create(&path, &layout()).expect("made here or there"));
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = SharedRegion::create(&path, &layout()).expect_err("there is one");
    assert!(error.to_string().contains("region: cannot make it: "), "{error}");
    let other = layout().permits(9);
    let error = SharedRegion::open_or_create(&path, &other).expect_err("it has another layout");
    assert!(matches!(error, SharedError::OtherLayout { .. }), "{error}");
}

#[test]
fn what_is_no_region_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(open(&path), SharedError::NotARegion { .. }));
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 8192]);
    fs::write(&path, "short").unwrap();
    let error = open(&path);
    assert!(error.to_string().contains("not a region: it has 5 bytes"), "{error}");
    let (_folder, region) = made();
    let link = folder.path().join("link");
    symlink(region, &link).unwrap();
    assert!(matches!(open(&link), SharedError::Io { .. }), "a link may lead elsewhere tomorrow");
    assert!(matches!(open(&folder.path().join("none")), SharedError::Io { .. }));
}

#[test]
fn another_format_is_refused_with_both_numbers() {
    let (_folder, path) = made();
    write_word(&path, 1, 7);
    let error = open(&path);
    assert!(matches!(error, SharedError::Version { found: 7, expected: 2, .. }), "{error}");
    assert!(error.to_string().contains("remove the file"), "{error}");
}

#[test]
fn a_header_that_has_changed_is_damage() {
    for at in 2..14 {
        let (_folder, path) = made();
        let file = File::open(&path).unwrap();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at * 8).unwrap();
        write_word(&path, at, u64::from_ne_bytes(bytes) ^ 1);
        let error = open(&path);
        assert!(matches!(error, SharedError::Damaged { .. }), "word {at}: {error}");
    }
}

#[test]
fn a_file_that_was_cut_short_or_goes_on_is_damage() {
    for change in [-8i64, 8] {
        let (_folder, path) = made();
        let length = fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length.checked_add_signed(change).unwrap()).unwrap();
        let error = open(&path);
        assert!(error.to_string().contains("its length in bytes"), "{error}");
    }
}

#[test]
fn a_file_that_others_may_use_is_refused() {
    let (_folder, path) = made();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = open(&path);
    assert!(error.to_string().contains("mode 0640"), "{error}");
}

#[test]
fn a_file_that_was_replaced_is_not_attached_to() {
    let (_folder, path) = made();
    let region = SharedRegion::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    SharedRegion::create(&path, &layout()).unwrap();
    let error = region.attach().err().expect("it is another file");
    assert!(error.to_string().contains("replaced"), "{error}");
}

#[test]
fn another_policy_is_refused_and_so_is_one_whose_counters_are_too_large() {
    let (_folder, path) = made();
    let region = SharedRegion::open(&path).unwrap();
    let _first = region.build(Limiter::builder(policy())).expect("the first policy");
    region.build(Limiter::builder(policy())).expect("the same policy");
    let other = Policy::from_toml(&ALL.replace("60_000", "60_001")).unwrap();
    let error = region.build(Limiter::builder(other)).expect_err("another");
    assert!(error.to_string().contains("build the limiter with the region's own"), "{error}");
    let (_folder, path) = made();
    let region = SharedRegion::open(&path).unwrap();
    let larger = Policy::from_toml(&ALL.replace("sub_windows = 6", "sub_windows = 500")).unwrap();
    let error = region.build(Limiter::builder(larger)).expect_err("too large");
    let SharedError::Limiter { source: Error::Region(RegionError::CounterTooLarge { limit, needs, room }), .. } = error
    else {
        panic!("{error}");
    };
    assert_eq!((&*limit, needs, room), ("window", 503, 63));
}

#[test]
fn the_forty_ninth_limiter_is_refused_until_another_goes() {
    let (_folder, path) = made();
    let region = SharedRegion::open(&path).unwrap();
    let mut all: Vec<_> = (0..48).map(|_| region.build(Limiter::builder(policy())).expect("a seat")).collect();
    assert_eq!(region.status().attached.iter().filter(|attached| attached.alive).count(), 48);
    let error = region.build(Limiter::builder(policy())).expect_err("there are 48");
    assert!(error.to_string().contains("all 48 seats are taken"), "{error}");
    all.pop();
    region.build(Limiter::builder(policy())).expect("one is free");
}

#[test]
fn a_key_that_is_too_long_names_its_limit_and_the_room() {
    let stage =
        Stage::with(ALL, |layout| layout.counters(8).callers(8).permits(8).histories(1).key_bytes(16).caller_bytes(40));
    let worker = stage.worker();
    let refused = |project: &str| {
        worker.limiter.admit(&Request::new(project, "gpt-4o"), Estimate::new(1, 1)).expect_err("too long")
    };
    let error = refused("a-project-of-20-byte");
    assert_eq!(
        error.to_string(),
        "the key of limit \"bucket\" takes 21 bytes, and the region has room for 16; shorten the values, or make the region with a layout for longer ones"
    );
    assert_eq!(error.code(), 41);
    assert!(worker.admit("15-bytes-long--", Estimate::new(1, 1)).is_some());
    let deployment = "a deployment of more than 40 bytes, by itself";
    let error = worker.limiter.admit(&Request::new("p", deployment), Estimate::new(1, 1)).expect_err("too long");
    assert!(error.to_string().contains("the key of the caller"), "{error}");
    assert_eq!(worker.usage("places").expect("it is there").used, 1);
}

#[test]
fn a_full_region_gives_the_configured_answer() {
    let one = "[[limit]]\nname = 'day'\nmeter = 'total'\nalgorithm = 'quota'\namount = 1000\nperiod = 'daily'\nscope = ['project']";
    let stage = Stage::with(one, |layout| layout.counters(2).callers(8).permits(4).histories(0));
    let (worker, other) = (stage.worker(), stage.worker());
    assert!(worker.admit("a", Estimate::new(1, 0)).is_some() && other.admit("b", Estimate::new(1, 0)).is_some());
    let denied =
        other.limiter.admit(&Request::new("c", "gpt-4o"), Estimate::new(1, 0)).unwrap().denied().expect("no room");
    assert_eq!(denied.limit(), "day");
    assert_eq!(other.limiter.stats().refused_full, 1);
    let lenient = stage.worker_of(stage.builder().when_full(tokenweir::WhenFull::Admit));
    let id = lenient.admit("c", Estimate::new(1, 0)).expect("it passes uncounted");
    // Any worker can settle it.
    worker.limiter.settle(id, tokenweir::Usage::new(5, 5)).expect("it is open");
    for _ in 0..2 {
        worker.admit("a", Estimate::new(1, 0)).expect("room");
    }
    let error = worker.limiter.admit(&Request::new("a", "gpt-4o"), Estimate::new(1, 0)).expect_err("four are open");
    assert!(matches!(error, Error::PermitsExhausted { most: 4 }), "{error}");
}
