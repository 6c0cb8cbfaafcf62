//! The workers as the first process has them.
//!
//! A thread keeps one worker: starts it, reads what it tells, starts another when it has ended. A second thread tells it
//! what is in force, the newest only: a worker that stands still keeps nobody waiting.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokenweir::gateway::Gate;

use super::message::{Orders, Report};
use super::{DRAIN, NAME, WORKER, refuse};

/// What this process was started from, also when there is another file at its path by now: a region is for one release.
const PROGRAM: &str = "/proc/self/exe";
/// After a worker has ended the first pause, which doubles up to the longest while workers do not last.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So long workers may take to serve when the gateway starts.
const START: Duration = Duration::from_secs(30);
/// If none has served for so long, none will.
const LOST: Duration = Duration::from_secs(10);
/// So long whoever changes something waits until it is in force in every worker.
const IN_FORCE: Duration = Duration::from_secs(2);
/// A worker that has not ended by then, after its calls had their time, is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The workers of a gateway.
pub(crate) struct Crew {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Inner {
    state: Mutex<State>,
    /// Whatever of the state.
    changed: Condvar,
    listener: TcpListener,
    /// Where what workers tell is counted, on the region that theirs are on.
    gate: Gate,
}

struct State {
    orders: Orders,
    stopping: bool,
    places: Vec<Place>,
    /// Why a worker ended that never served, the last one.
    failed: Option<String>,
    /// When a worker was last known to serve.
    served: Instant,
    /// No worker has served for too long, and none will.
    lost: bool,
    replaced: u64,
    /// Records that were lost, with workers that have ended.
    dropped: u64,
}

/// Where one worker is, after the other.
#[derive(Default)]
struct Place {
    child: Option<Arc<Mutex<Child>>>,
    /// The version that is in force there; 0: none yet.
    in_force: u64,
    dropped: u64,
    /// Nobody comes any more.
    over: bool,
}

impl Crew {
    /// Starts so many workers, and waits until all of them serve.
    ///
    /// # Errors
    /// Why one of them does not; then none is left.
    pub(crate) fn start(count: usize, listener: TcpListener, gate: Gate, orders: Orders) -> Result<Crew, String> {
        let places = (0..count).map(|_| Place::default()).collect();
        let state = State {
            orders,
            stopping: false,
            places,
            failed: None,
            served: Instant::now(),
            lost: false,
            replaced: 0,
            dropped: 0,
        };
        let inner = Arc::new(Inner { state: Mutex::new(state), changed: Condvar::new(), listener, gate });
        let crew = Crew { inner: inner.clone(), threads: Mutex::default() };
        for place in 0..count {
            let inner = inner.clone();
            let thread = thread::Builder::new().name(format!("worker-{place}"));
            let thread = thread.spawn(move || inner.keep(place)).map_err(|error| {
                crew.inner.change(|state| state.places[place..].iter_mut().for_each(|place| place.over = true));
                crew.stop();
                error.to_string()
            })?;
            crew.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        let served = |state: &State| state.failed.is_some() || state.places.iter().all(|place| place.in_force > 0);
        let state = inner.wait(START, |state| !served(state));
        let failed = match (&state.failed, served(&state)) {
            (None, true) => return Ok(crew),
            (Some(how), _) => format!("a worker {how}, and never served"),
            (None, false) => format!("not all workers serve within {} seconds", START.as_secs()),
        };
        drop(state);
        crew.stop();
        Err(failed)
    }

    /// Tells every worker what is in force now, and waits until it is there, unless one of them stands still.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Orders)) {
        let version = {
            let mut state = self.inner.lock();
            change(&mut state.orders);
            state.orders.version += 1;
            state.orders.version
        };
        self.inner.changed.notify_all();
        let late = |state: &State| {
            let late = state.places.iter().filter(|place| place.child.is_some() && place.in_force < version);
            late.count()
        };
        let state = self.inner.wait(IN_FORCE, |state| late(state) > 0);
        let late = late(&state);
        if late > 0 {
            eprintln!("{late} workers have not taken up yet what has changed");
        }
    }

    /// How the workers are.
    pub(crate) fn told(&self) -> Value {
        let state = self.inner.lock();
        let processes = state.places.iter().filter_map(|place| place.child.as_ref());
        let processes: Vec<u32> =
            processes.map(|child| child.lock().unwrap_or_else(PoisonError::into_inner).id()).collect();
        let dropped: u64 = state.places.iter().map(|place| place.dropped).sum();
        let failed = &state.failed;
        json!({ "processes": processes, "replaced": state.replaced, "failed": failed, "records_dropped": state.dropped + dropped })
    }

    /// Waits until no worker serves, and none can be brought to, or until the gateway stops. Why that is, if it is so.
    pub(crate) fn lost(&self) -> Option<String> {
        let waited = self.inner.changed.wait_while(self.inner.lock(), |state| !state.lost && !state.stopping);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        state.failed.clone().filter(|_| state.lost && !state.stopping)
    }

    /// Takes no new connections, and waits for the calls that are under way, half a minute at most.
    pub(crate) fn stop(&self) {
        refuse(&self.inner.listener);
        self.inner.lock().stopping = true;
        self.inner.changed.notify_all();
        let working = |state: &State| state.places.iter().any(|place| !place.over);
        let children = {
            let state = self.inner.wait(DRAIN + GRACE, working);
            let left = state.places.iter().filter_map(|place| place.child.clone());
            left.collect::<Vec<_>>()
        };
        for child in children {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("worker {} has not ended in time, and is killed", child.id());
            let _ = child.kill();
        }
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is so, for so long at most.
    fn wait(&self, most: Duration, is_so: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), most, |state| is_so(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Changes the state, and says so.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_all();
        changed
    }

    /// Keeps a worker in a place, until the gateway stops.
    fn keep(self: &Arc<Self>, place: usize) {
        let mut pause = PAUSE;
        while !self.lock().stopping {
            let began = Instant::now();
            let how = match self.run(place) {
                Ok(how) => how,
                Err(error) => format!("cannot be started: {error}"),
            };
            let stopping = self.change(|state| {
                let gone = std::mem::take(&mut state.places[place]);
                state.dropped += gone.dropped;
                if gone.in_force == 0 {
                    state.failed = Some(how.clone());
                    let serves = state.places.iter().any(|place| place.in_force > 0);
                    state.lost |= !serves && state.served.elapsed() > LOST;
                } else {
                    state.served = Instant::now();
                }
                state.replaced += u64::from(!state.stopping);
                state.stopping
            });
            if stopping {
                break;
            }
            eprintln!("a worker {how}; another takes its place");
            pause = if began.elapsed() > LONGEST_PAUSE { PAUSE } else { pause };
            drop(self.wait(pause, |state| !state.stopping));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.change(|state| state.places[place].over = true);
    }

    /// One worker's life. How it ended.
    fn run(self: &Arc<Self>, place: usize) -> io::Result<String> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = {
            // Its end of the pair is closed here with the command.
            let mut command = Command::new(PROGRAM);
            command.arg0(NAME).arg(WORKER);
            command.stdin(OwnedFd::from(self.listener.try_clone()?)).stdout(OwnedFd::from(theirs));
            // What a terminal sends to all is for the first process to pass on.
            command.process_group(0).spawn()?
        };
        let process = child.id();
        let child = Arc::new(Mutex::new(child));
        self.change(|state| state.places[place].child = Some(child.clone()));
        let telling = ours.try_clone().and_then(|stream| {
            let (inner, child) = (self.clone(), child.clone());
            thread::Builder::new().name(format!("telling-{place}")).spawn(move || inner.tell(place, &child, &stream))
        });
        if telling.is_ok() {
            self.listen(place, process, &ours);
        }
        // Whatever it is at: nobody hears it any more.
        let _ = ours.shutdown(Shutdown::Both);
        let status = {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            if telling.is_err() {
                let _ = child.kill();
            }
            child.wait()
        };
        self.change(|state| state.places[place].child = None);
        if let Ok(telling) = telling {
            let _ = telling.join();
        }
        let open = self.gate.limiter().abandon_process(process).unwrap_or(0);
        let calls = if open > 0 { format!(", and the estimates of its {open} calls stand") } else { String::new() };
        status.map(|status| format!("(process {process}) has ended: {status}{calls}"))
    }

    /// Tells a worker what is in force, whenever that changes; that the gateway stops, by closing this end.
    fn tell(&self, place: usize, child: &Arc<Mutex<Child>>, mut stream: &UnixStream) {
        let mut told = None;
        loop {
            let line = {
                let is_there =
                    |state: &State| state.places[place].child.as_ref().is_some_and(|now| Arc::ptr_eq(now, child));
                let nothing =
                    |state: &mut State| told == Some(state.orders.version) && !state.stopping && is_there(state);
                let waited = self.changed.wait_while(self.lock(), nothing);
                let state = waited.unwrap_or_else(PoisonError::into_inner);
                if !is_there(&state) {
                    return;
                }
                let news = told != Some(state.orders.version);
                told = Some(state.orders.version);
                news.then(|| serde_json::to_vec(&state.orders))
            };
            let sent = match line {
                Some(Ok(mut line)) => {
                    line.push(b'\n');
                    stream.write_all(&line)
                }
                Some(Err(error)) => Err(error.into()),
                None => {
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
            };
            if sent.is_err() {
                // Then it has ended, or is of no use: whoever listens to it finds out.
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Hears what a worker tells, until it has ended.
    fn listen(&self, place: usize, process: u32, stream: &UnixStream) {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            match serde_json::from_slice(&line) {
                Ok(Report::Record(record)) => self.gate.take_over(&record),
                Ok(Report::InForce(version)) => self.change(|state| {
                    state.places[place].in_force = version;
                    state.served = Instant::now();
                }),
                Ok(Report::Dropped(dropped)) => {
                    eprintln!("worker {process} has dropped {dropped} records by now, for they were not taken in time");
                    self.change(|state| state.places[place].dropped = dropped);
                }
                // It was killed while it wrote.
                Err(_) if !line.ends_with(b"\n") => {}
                Err(error) => eprintln!("worker {process} says what cannot be read: {error}"),
            }
            line.clear();
        }
    }
}
