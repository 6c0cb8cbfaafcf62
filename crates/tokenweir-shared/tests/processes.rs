//! Real processes on one region: they hammer the same counters, are killed at any instant, and fork.
//!
//! `TOKENWEIR_KILLS=1000 cargo test -p tokenweir-shared --test processes` kills as many. Each worker writes down what it has
//! settled, in a file of its own, after it has: that is what the counters are compared with.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokenweir::region::RegionError;
use tokenweir::{CounterUsage, Error, Estimate, Limiter, Now, Policy, Request, Usage, UsageFilter};
use tokenweir_shared::{Layout, SharedRegion};

const POLICY: &str = r#"
    [[limit]]
    name = "bucket"
    meter = "total"
    algorithm = "bucket"
    amount = 600_000_000
    per = "1m"
    burst = 50_000_000
    scope = ["project"]
    [[limit]]
    name = "window"
    meter = "total"
    algorithm = "window"
    amount = 500_000_000
    per = "10s"
    scope = ["project"]
    [[limit]]
    name = "quota"
    meter = "total"
    algorithm = "quota"
    amount = AMOUNT
    period = "never"
    scope = ["project"]
    [[limit]]
    name = "places"
    meter = "in_flight"
    algorithm = "in_flight"
    amount = 60
    scope = ["project"]
"#;

const WORKERS: usize = 8;
const ESTIMATE: Estimate = Estimate::new(60, 40);
/// The most that one request comes to.
const MOST: u64 = 100;
/// As many as a worker has open at a time.
const OPEN: usize = 3;
/// What the killed have open is held for so long.
const TTL: Duration = Duration::from_millis(500);

fn policy(amount: u64) -> Policy {
    Policy::from_toml(&POLICY.replace("AMOUNT", &amount.to_string())).expect("a policy")
}

/// The most places that any policy has.
const PLACES: u64 = 60;

/// One of the policies among which workers change: other rates and rooms for every limit, and some lack one or have one more.
fn variant(amount: u64, which: u64) -> Policy {
    let text = POLICY.replace("AMOUNT", &(amount - which).to_string());
    let text = text.replace("burst = 50_000_000", &format!("burst = {}", 50_000_000 - which * 1_000_000));
    let text = text.replace("600_000_000", &(600_000_000 + which * 1000).to_string());
    let text = text.replace("amount = 60\n", &format!("amount = {}\n", PLACES - which * 5));
    let text = text.replace("500_000_000", &(500_000_000 - which).to_string());
    let text = match which {
        3 => text.replace("\"window\"\n    meter", "\"new\"\n    meter"),
        4 => text.replace("\"places\"\n    meter", "\"new places\"\n    meter"),
        _ => text,
    };
    Policy::from_toml(&text).expect("a policy")
}

fn limiter(region: &SharedRegion, amount: u64) -> Limiter {
    let builder = Limiter::builder(policy(amount)).permit_ttl(TTL).policy_of_region(true);
    region.build(builder).expect("a limiter")
}

/// Numbers that look random (PCG's multiplier and increment).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What a worker does: `turns` requests, or for ever. Now and then it changes the policy, if it is one that does.
fn work(path: &Path, log: &Path, amount: u64, seed: u64, turns: Option<u64>, changes: bool) {
    let region = SharedRegion::open(path).expect("a region");
    let limiter = limiter(&region, amount);
    let mut log = OpenOptions::new().append(true).create(true).open(log).expect("a log");
    let mut random = Random(seed);
    let mut open = Vec::new();
    for turn in 0.. {
        if turns.is_some_and(|turns| turn >= turns) {
            break;
        }
        if changes && random.below(100) == 0 {
            match limiter.swap_policy(variant(amount, random.below(5))) {
                // Those of the killed are open until they expire.
                Ok(()) | Err(Error::Region(RegionError::PoliciesInUse { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let request = Request::new("search", "gpt-4o");
        if let Ok(decision) = limiter.admit(&request, ESTIMATE)
            && let Some(permit) = decision.admitted()
        {
            open.push(permit.into_id());
        }
        if open.len() >= OPEN || (!open.is_empty() && random.below(2) == 0) {
            settle(&limiter, &mut log, open.remove(0), &mut random);
        }
    }
    for id in open {
        settle(&limiter, &mut log, id, &mut random);
    }
}

fn settle(limiter: &Limiter, log: &mut File, id: tokenweir::PermitId, random: &mut Random) {
    let output = random.below(41);
    let settled = match random.below(4) {
        0 => limiter.cancel(id).map(|_| 0),
        1 => limiter.settle(id, Usage::UNKNOWN).map(|_| MOST),
        _ => limiter.settle(id, Usage::new(60, output)).map(|_| 60 + output),
    };
    let settled = match settled {
        Ok(settled) => settled,
        // It took so long that the permit has expired: the estimate stands.
        Err(Error::PermitSettled { .. }) => MOST,
        Err(error) => panic!("{error}"),
    };
    log.write_all(&settled.to_ne_bytes()).expect("written");
}

/// What the workers have written down.
fn logged(folder: &Path) -> u64 {
    let logs = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let words = |path: PathBuf| std::fs::read(path).expect("a log");
    let sum = |bytes: Vec<u8>| bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).sum::<u64>();
    logs.map(|path| sum(words(path))).sum()
}

fn usage(limiter: &Limiter, limit: &str, now: Now) -> Option<CounterUsage> {
    let filter = UsageFilter { limit: Some(limit.to_owned()), ..UsageFilter::default() };
    limiter.usage_at(&filter, now).into_iter().next()
}

/// What is used of it; nothing if its counter is gone, as what is at rest may be.
fn used(limiter: &Limiter, limit: &str, now: Now) -> u64 {
    usage(limiter, limit, now).map_or(0, |usage| usage.used)
}

/// Ends this process with the one that started it, at the latest now.
#[allow(unsafe_code)]
fn end_with(parent: u32) {
    // SAFETY: no memory is concerned.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    if std::os::unix::process::parent_id() != parent {
        std::process::exit(1);
    }
}

fn start(folder: &Path, amount: u64, seed: u64, turns: Option<u64>, changes: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--worker").arg(folder).arg(amount.to_string()).arg(seed.to_string());
    command.arg(turns.map_or("-".to_owned(), |turns| turns.to_string())).arg(std::process::id().to_string());
    command.args(changes.then_some("--changes"));
    command.spawn().expect("a process")
}

fn folder() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a folder")
}

fn region(folder: &Path, amount: u64) -> SharedRegion {
    let layout = Layout::of(&policy(amount)).counters(64).callers(64).permits(256).histories(4);
    SharedRegion::create(folder.join("region"), &layout).expect("a region")
}

/// Waits until a worker is at work.
fn wait_for(folder: &Path, worker: &Child) {
    let log = folder.join(format!("{}.log", worker.id()));
    let began = Instant::now();
    while std::fs::metadata(&log).map_or(0, |metadata| metadata.len()) == 0 {
        // Long, since the machine may have other things to do.
        assert!(began.elapsed() < Duration::from_secs(600), "a worker does not get to work");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Eight processes want more than there is.
fn eight_processes_share_a_limit_to_the_token() {
    share_a_limit(false);
}

/// Each of them changes the limits now and then.
fn eight_processes_that_change_the_policy_share_its_limits_to_the_token() {
    share_a_limit(true);
}

fn share_a_limit(changes: bool) {
    let (folder, amount) = (folder(), 200_000);
    let region = region(folder.path(), amount);
    let start = |seed| start(folder.path(), amount, seed, Some(2000), changes);
    let workers: Vec<Child> = (0..WORKERS as u64).map(start).collect();
    for mut worker in workers {
        assert!(worker.wait().expect("it was started").success());
    }
    let limiter = limiter(&region, amount);
    assert_eq!(region.status().policies > 1, changes);
    limiter.swap_policy(policy(amount)).expect("nobody is at it");
    let (now, logged) = (limiter.now(), logged(folder.path()));
    let quota = usage(&limiter, "quota", now).expect("it is in use");
    assert_eq!((quota.used, quota.held, quota.settled_total), (logged, 0, logged));
    assert!(quota.used <= amount && quota.used > amount - 1000, "{quota:?}");
    assert_eq!(used(&limiter, "places", now), 0);
    assert_eq!(region.status().permits_open, 0);
    assert_eq!(region.status().unsure_steps, 0);
}

/// Workers are killed at random instants, and others take their place.
fn killed_workers_leave_no_counter_wrong() {
    kill_workers(false);
}

/// The same of workers that change the policy, so that some are killed in the middle of that.
fn workers_killed_while_they_change_the_policy_leave_no_counter_wrong() {
    kill_workers(true);
}

fn kill_workers(changes: bool) {
    let kills: u64 = std::env::var("TOKENWEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40);
    let (folder, amount) = (folder(), 1 << 50);
    let region = region(folder.path(), amount);
    let observer = limiter(&region, amount);
    let mut random = Random(7);
    let start = |seed| start(folder.path(), amount, seed, None, changes);
    let mut workers: Vec<Child> = (0..WORKERS as u64).map(start).collect();
    for kill in 0..kills {
        let at = random.below(WORKERS as u64) as usize;
        wait_for(folder.path(), &workers[at]);
        std::thread::sleep(Duration::from_micros(random.below(5_000)));
        workers[at].kill().expect("it lives");
        workers[at].wait().expect("it was started");
        workers[at] = start(100 + kill);
        let filter = UsageFilter { limit: Some("places".to_owned()), ..UsageFilter::default() };
        for places in observer.usage(&filter) {
            assert!(places.used <= PLACES, "{places:?}");
        }
    }
    for worker in &mut workers {
        wait_for(folder.path(), worker);
        worker.kill().expect("it lives");
        worker.wait().expect("it was started");
    }
    let kills = kills + WORKERS as u64;
    println!("policies: {}", region.status().policies);
    assert_eq!(region.status().policies > 1, changes);
    // All that was held expires; and the window is over.
    let now = observer.now();
    let later = |by: Duration| {
        let by = by.as_nanos() as u64;
        Now::new(now.mono + by, now.wall + by as i64)
    };
    for again in 0..3 {
        observer.sweep_at(later(TTL + Duration::from_secs(60 + again)));
    }
    let then = later(TTL + Duration::from_secs(120));
    // What is in the policy of the last change, and what is not, has its counters.
    observer.swap_policy_at(policy(amount), then).expect("nobody is at it");
    let (status, logged) = (region.status(), logged(folder.path()));
    let (quota, places) = (usage(&observer, "quota", then).expect("it is in use"), used(&observer, "places", then));
    println!("{kills} kills, {} steps unsure, {logged} tokens written down, {quota:?}", status.unsure_steps);
    assert_eq!((status.permits_open, places), (0, 0), "{status:?}");
    assert_eq!(status.attached.len(), 1, "{status:?}");
    assert!(status.cleared_up >= kills, "{status:?}");
    // What was settled is what was written down, and what the killed had open or had not come to write down.
    let unwritten = kills * (OPEN as u64 + 1) * MOST;
    assert!(quota.settled_total + status.unsure_steps * MOST >= logged, "less is settled than was reported");
    assert!(quota.settled_total <= logged + unwritten, "more is settled than can be");
    // And it is what is used, but for steps of which nobody knows whether they were made.
    let unsure = status.unsure_steps * MOST;
    assert!(quota.used + unsure >= quota.settled_total && quota.used <= quota.settled_total + unsure, "{status:?}");
    assert_eq!(used(&observer, "window", then), 0, "what nobody put down does not stay");
    assert_eq!(used(&observer, "bucket", then), 0);
}

/// A worker is killed with permits open, and another sits down in its place: who started them ends those of the first.
fn what_a_killed_worker_had_open_is_ended_by_whoever_started_it() {
    let (folder, amount) = (folder(), 1 << 50);
    let region = region(folder.path(), amount);
    let own = |limiter: &Limiter| {
        let decision = limiter.admit(&Request::new("search", "gpt-4o"), ESTIMATE).expect("no error");
        decision.admitted().expect("room").into_id()
    };
    let starter = region.build(Limiter::builder(policy(amount))).expect("a limiter");
    let id = own(&starter);
    let mut worker = start_holding(folder.path(), amount);
    let began = Instant::now();
    while region.status().permits_open < 4 {
        assert!(began.elapsed() < Duration::from_secs(600), "the worker does not get to work");
        std::thread::sleep(Duration::from_millis(1));
    }
    let process = worker.id();
    worker.kill().expect("it lives");
    worker.wait().expect("it was started");
    // In its seat, and with a permit of this process.
    let next = region.build(Limiter::builder(policy(amount))).expect("a limiter");
    let other = own(&next);
    assert_eq!(starter.abandon_process(process), Ok(3));
    assert_eq!(starter.abandon_process(process), Ok(0));
    assert_eq!(starter.abandon_process(process.wrapping_add(1_000_000)), Ok(0));
    let now = starter.now();
    let quota = usage(&starter, "quota", now).expect("it is in use");
    assert_eq!((quota.used, quota.held, quota.settled_total), (500, 200, 300), "what was estimated stands");
    assert_eq!(used(&starter, "places", now), 2);
    for id in [id, other] {
        next.settle(id, Usage::new(60, 10)).expect("this process's are open still");
    }
}

/// A worker that holds three permits, and does nothing more.
fn start_holding(folder: &Path, amount: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("--holder").arg(folder).arg(amount.to_string()).arg(std::process::id().to_string());
    command.spawn().expect("a process")
}

fn hold(path: &Path, amount: u64) {
    let region = SharedRegion::open(path).expect("a region");
    let limiter = region.build(Limiter::builder(policy(amount))).expect("a limiter");
    let request = Request::new("search", "gpt-4o");
    let held = [(); 3].map(|()| limiter.admit(&request, ESTIMATE).expect("no error").admitted().expect("room"));
    std::thread::sleep(Duration::from_secs(3600));
    drop(held);
}

/// A child that is forked off must not use what its parent has, and may have its own.
#[allow(unsafe_code)]
fn a_forked_child_is_refused_and_may_open_its_own() {
    let (folder, amount) = (folder(), 1000);
    let region = region(folder.path(), amount);
    let limiter = limiter(&region, amount);
    let request = Request::new("search", "gpt-4o");
    let permit = limiter.admit(&request, ESTIMATE).expect("no error").admitted().expect("room");
    // SAFETY: this process has one thread; the child does as it likes and ends without going back.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked =
            |result: Result<(), Error>| result.is_err_and(|error| error.to_string().contains("after the fork"));
        let refused = forked(limiter.admit(&request, ESTIMATE).map(drop))
            && forked(limiter.route(&request).map(drop))
            && forked(limiter.settle(permit.id(), Usage::new(1, 1)).map(drop));
        // Its own seat, beside its parent's.
        let own = self::limiter(&SharedRegion::open(folder.path().join("region")).expect("a region"), amount);
        let served = own.settle(permit.id(), Usage::new(60, 30)).is_ok();
        let seats = region.status().attached.iter().filter(|attached| attached.alive).count();
        // SAFETY: nothing of the parent's is to be dropped here.
        unsafe { libc::_exit(if refused && served && seats == 2 { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a number of our own.
    let ended = unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!((ended, status), (child, 0), "the child was refused, and served on its own seat");
    let settled = permit.settle(Usage::new(1, 1));
    assert!(matches!(settled, Err(Error::PermitSettled { .. })), "the child has settled it");
    assert_eq!(used(&limiter, "quota", limiter.now()), 90);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--worker") {
        let number = |offset: usize| arguments[at + offset].parse::<u64>();
        let folder = Path::new(&arguments[at + 1]);
        let (amount, seed) = (number(2).expect("an amount"), number(3).expect("a seed"));
        end_with(arguments[at + 5].parse().expect("a process"));
        let log = folder.join(format!("{}.log", std::process::id()));
        let changes = arguments.iter().any(|argument| argument == "--changes");
        return work(&folder.join("region"), &log, amount, seed, number(4).ok(), changes);
    }
    if let Some(at) = arguments.iter().position(|argument| argument == "--holder") {
        end_with(arguments[at + 3].parse().expect("a process"));
        return hold(&Path::new(&arguments[at + 1]).join("region"), arguments[at + 2].parse().expect("an amount"));
    }
    let tests: [(&str, fn()); 6] = [
        (
            "what_a_killed_worker_had_open_is_ended_by_whoever_started_it",
            what_a_killed_worker_had_open_is_ended_by_whoever_started_it,
        ),
        ("a_forked_child_is_refused_and_may_open_its_own", a_forked_child_is_refused_and_may_open_its_own),
        ("eight_processes_share_a_limit_to_the_token", eight_processes_share_a_limit_to_the_token),
        (
            "eight_processes_that_change_the_policy_share_its_limits_to_the_token",
            eight_processes_that_change_the_policy_share_its_limits_to_the_token,
        ),
        ("killed_workers_leave_no_counter_wrong", killed_workers_leave_no_counter_wrong),
        (
            "workers_killed_while_they_change_the_policy_leave_no_counter_wrong",
            workers_killed_while_they_change_the_policy_leave_no_counter_wrong,
        ),
    ];
    let wanted = arguments.iter().skip(1).find(|argument| !argument.starts_with('-'));
    for (name, test) in tests {
        if wanted.is_none_or(|wanted| name.contains(&**wanted)) {
            let began = Instant::now();
            test();
            println!("test {name} ... ok ({:?})", began.elapsed());
        }
    }
}
