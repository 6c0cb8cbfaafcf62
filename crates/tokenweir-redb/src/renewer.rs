//! The thread that renews leases before they run out.

use crate::store::QuotaStore;
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokenweir::{Error, Limiter};

/// After a failure the first pause, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// With nothing to renew it looks for old records so often.
const IDLE: Duration = Duration::from_secs(3_600);

/// Renews a limiter's leases in a thread of its own, until it is stopped or dropped. Then what is leased and not used is
/// given back, but by a process that was forked from the one that has the file.
pub struct Renewer {
    limiter: Limiter,
    store: Arc<QuotaStore>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    failed: Mutex<Option<String>>,
}

impl fmt::Debug for Renewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewer").field("last_failure", &self.last_failure()).finish_non_exhaustive()
    }
}

impl Renewer {
    /// Starts the thread. `store` is the one that the limiter was built with; one thread for each.
    ///
    /// # Errors
    /// That of the operating system, if there can be no thread.
    pub fn start(limiter: &Limiter, store: &Arc<QuotaStore>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let run = {
            let (limiter, store, shared) = (limiter.clone(), store.clone(), shared.clone());
            move || run(&limiter, &store, &shared)
        };
        let thread = thread::Builder::new().name("tokenweir-leases".to_owned()).spawn(run)?;
        store.set_renewer(Some(thread.thread().clone()));
        // It may have looked before anybody could wake it.
        thread.thread().unpark();
        Ok(Renewer { limiter: limiter.clone(), store: store.clone(), shared, thread: Some(thread), ended: false })
    }

    /// One that has no thread, for a host that renews leases itself: it only gives them back at the end.
    pub fn without_thread(limiter: &Limiter, store: &Arc<QuotaStore>) -> Self {
        let (limiter, store) = (limiter.clone(), store.clone());
        Renewer { limiter, store, shared: Arc::default(), thread: None, ended: false }
    }

    /// Why the last attempt to renew failed; `None` if it did not.
    pub fn last_failure(&self) -> Option<String> {
        self.shared.failed.lock().clone()
    }

    /// Stops the thread and gives back what is leased and not used, so that the file has exactly what is used.
    ///
    /// # Errors
    /// [`Error::Store`] if that could not be recorded: then the file has at least what is used.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let thread = self.thread.take();
        if !self.store.is_owned() {
            // A forked process has neither the thread nor the file, and may find locks taken for ever.
            std::mem::forget(thread);
            return Ok(());
        }
        if let Some(thread) = thread {
            self.shared.stop.store(true, SeqCst);
            self.store.set_renewer(None);
            thread.thread().unpark();
            // It does not panic: whatever the file does is an error.
            let _ = thread.join();
        }
        self.limiter.give_back_leases()
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        // There is nobody to tell: the file has at least what is used.
        let _ = self.end();
    }
}

fn run(limiter: &Limiter, store: &QuotaStore, shared: &Shared) {
    let mut pause = PAUSE;
    while !shared.stop.load(SeqCst) {
        let renewed = limiter.renew_leases().map_err(|error| error.to_string());
        let tidied = renewed.and_then(|_| store.tidy_when_due(limiter.now().wall).map_err(|error| error.to_string()));
        let failed = tidied.err();
        let wait = match failed {
            Some(_) => {
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
            None => {
                pause = PAUSE;
                IDLE
            }
        };
        *shared.failed.lock() = failed;
        // Woken meanwhile, it does not wait at all.
        thread::park_timeout(wait);
    }
}
