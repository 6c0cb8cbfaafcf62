//! Where several processes count.

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use tokenweir::policy::Tokens;
use tokenweir::{Decision, Denied, Estimate, Limiter, PermitId, Policy, Request, Settlement};
use tokenweir_redis::{BlockingDecision, BlockingLimiter, BlockingPermit, RedisLimiter, Server};
use tokenweir_replay::Ending;

use crate::failure::Failure;
use crate::quota_file;

/// Where the counters are.
#[derive(Debug)]
pub enum Store {
    /// Each process has its own.
    Alone,
    /// In a region that they share, on this host.
    Shared,
    /// On a server of Redis or Valkey.
    Redis(Box<Server>),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Alone => f.write_str("each with counters of its own"),
            Store::Shared => f.write_str("in a region that they share"),
            Store::Redis(server) => write!(f, "on {server}"),
        }
    }
}

/// Where the counters of one run are, which begins with none.
#[derive(Debug)]
pub struct Place {
    /// What the processes are told: the region's path, or what the keys on the server begin with.
    pub name: String,
    /// Taken away when the run is over.
    region: Option<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.region {
            // Nobody else knows of it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Store {
    /// What `--store` names.
    ///
    /// # Errors
    /// It names nothing that is known.
    pub fn of(text: Option<&str>) -> Result<Store, Failure> {
        let Some(text) = text else { return Ok(Store::Alone) };
        if text == "shared" {
            return Ok(Store::Shared);
        }
        if quota_file::path(text).is_some() {
            let reason = "a file of quotas is for one process";
            let remedy = "leave --processes out, or count in a region (shared) or on a server (redis://HOST:PORT)";
            return Err(Failure::input("--store", reason, remedy));
        }
        // It says itself what to write.
        let server = Server::parse(text).map_err(|wrong| Failure::Problems(vec![format!("--store: {wrong}")]))?;
        Ok(Store::Redis(Box::new(server)))
    }

    /// A place of its own for one run. Keys on a server expire by themselves once they are at rest.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self, policy: &Policy, max_counters: usize) -> Result<Place, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("tokenweir-replay-{}-{}", std::process::id(), now.as_nanos());
        match self {
            Store::Shared => region::create(&name, policy, max_counters),
            Store::Alone | Store::Redis(_) => Ok(Place { name, region: None }),
        }
    }
}

#[cfg(target_os = "linux")]
mod region {
    use super::*;
    use std::path::Path;
    use tokenweir_shared::{Layout, SharedError, SharedRegion};

    /// A region has room for so many counters at most: each takes its room from the beginning.
    const COUNTERS: usize = 1 << 14;

    fn failed(error: &SharedError) -> Failure {
        // It says itself what to do.
        Failure::Problems(vec![format!("--store: {error}")])
    }

    pub fn create(name: &str, policy: &Policy, max_counters: usize) -> Result<Place, Failure> {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = directory.join(name);
        let layout = Layout::of(policy).counters(max_counters.min(COUNTERS));
        SharedRegion::create(&path, &layout).map_err(|error| failed(&error))?;
        Ok(Place { name: path.display().to_string(), region: Some(path) })
    }

    pub fn open(place: &str, policy: Policy) -> Result<Limiter, Failure> {
        let region = SharedRegion::open(place).map_err(|error| failed(&error))?;
        region.build(Limiter::builder(policy)).map_err(|error| failed(&error))
    }
}

#[cfg(not(target_os = "linux"))]
mod region {
    use super::*;

    fn absent() -> Failure {
        Failure::input("--store", "a shared region needs Linux", "count on a server: redis://HOST:PORT")
    }

    pub fn create(_: &str, _: &Policy, _: usize) -> Result<Place, Failure> {
        Err(absent())
    }

    pub fn open(_: &str, _: Policy) -> Result<Limiter, Failure> {
        Err(absent())
    }
}

/// How one process counts.
pub enum Counting {
    Here(Limiter),
    Redis(BlockingLimiter),
}

/// What came of a request.
pub enum Answer {
    Admitted(Held),
    Denied(Box<Denied>),
    /// The store could not be asked.
    Undecided,
}

/// What an admitted request holds.
pub enum Held {
    Here(PermitId),
    Redis(Box<BlockingPermit>),
}

impl Counting {
    /// Connects to the place.
    ///
    /// # Errors
    /// The store is not there, or does not take the policy.
    pub fn at(store: &Store, place: &str, policy: Policy, max_counters: usize) -> Result<Self, Failure> {
        match store {
            Store::Alone => Ok(Counting::Here(Limiter::builder(policy).max_counters(max_counters).build())),
            Store::Shared => region::open(place, policy).map(Counting::Here),
            Store::Redis(server) => {
                let builder = RedisLimiter::builder(Server::clone(server), policy).prefix(place);
                let wrong = |wrong: &dyn fmt::Display| {
                    Failure::input("--store", wrong, "start the server, or give another address")
                };
                let limiter = builder.connect_blocking().map_err(|error| wrong(&error))?;
                // A limiter waits for its server to come; a run that begins without it shows nothing.
                let stats = limiter.stats().map_err(|error| wrong(&error))?;
                match stats.why {
                    None => Ok(Counting::Redis(limiter)),
                    Some(why) => Err(wrong(&format_args!("{server} does not answer ({why})"))),
                }
            }
        }
    }

    /// Decides on a request.
    ///
    /// # Errors
    /// Why it cannot be decided on, whatever the limits have left.
    pub fn admit(&self, request: &Request<'_>, estimate: Estimate) -> Result<Answer, String> {
        match self {
            Counting::Here(limiter) => match limiter.admit(request, estimate).map_err(|wrong| wrong.to_string())? {
                Decision::Admitted(permit) => Ok(Answer::Admitted(Held::Here(permit.into_id()))),
                Decision::Denied(denied) => Ok(Answer::Denied(Box::new(denied))),
            },
            Counting::Redis(limiter) => match limiter.admit(request, estimate).map_err(|wrong| wrong.to_string())? {
                BlockingDecision::Admitted(permit) => Ok(Answer::Admitted(Held::Redis(Box::new(permit)))),
                BlockingDecision::Denied { denied, .. } => Ok(Answer::Denied(denied)),
                BlockingDecision::Unavailable => Ok(Answer::Undecided),
            },
        }
    }

    /// Ends what was admitted, as the trace says; what it came to, of which nothing if it was cancelled.
    ///
    /// # Errors
    /// Its usage is not accepted, or the permit had expired.
    pub fn end(&self, held: Held, ending: Ending, estimate: Estimate) -> Result<Option<Tokens>, String> {
        let settled = match (self, held, ending) {
            (Counting::Here(limiter), Held::Here(permit), Ending::Usage(usage)) => limiter.settle(permit, usage),
            (Counting::Here(limiter), Held::Here(permit), Ending::Cancel) => limiter.cancel(permit),
            (Counting::Here(limiter), Held::Here(permit), Ending::Silence) => limiter.abandon(permit),
            (_, Held::Redis(permit), Ending::Usage(usage)) => {
                return permit
                    .settle(usage)
                    .map(|ended| Some(tokens(ended.settlement)))
                    .map_err(|wrong| wrong.to_string());
            }
            (_, Held::Redis(permit), Ending::Cancel) => {
                return permit.cancel().map(|_| None).map_err(|wrong| wrong.to_string());
            }
            (_, Held::Redis(permit), Ending::Silence) => {
                drop(permit);
                return Ok(Some(Tokens { input: estimate.input, cached_input: 0, output: estimate.output }));
            }
            (Counting::Redis(_), Held::Here(_), _) => return Ok(None),
        };
        let settled = settled.map_err(|wrong| wrong.to_string())?;
        Ok(Some(tokens(settled)).filter(|_| ending != Ending::Cancel))
    }
}

fn tokens(settled: Settlement) -> Tokens {
    Tokens { input: settled.input, cached_input: settled.cached_input, output: settled.output }
}
