//! The two limiters.

use super::answer::{Answer, RedisStats};
use super::call::Call;
use super::settings;
use crate::convert::{span, with_request};
use crate::errors::bad_redis;
use crate::limiter::filter;
use crate::permit::Number;
use crate::policy::Policy;
use crate::route::estimate;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::sync::Arc;
use std::time::Duration;
use tokenweir::{Key, Request};
use tokenweir_redis::{BlockingLimiter, Decision, Error};

/// A call that waits looks this often whether a signal has come, which the interpreter handles between two looks; and one that only
/// looks, whether anybody waits for it.
pub const SLICE: Duration = Duration::from_millis(100);

/// A limiter, and whether its calls are awaited.
#[derive(Clone)]
pub struct Source {
    pub limiter: BlockingLimiter,
    pub awaited: bool,
    /// Without its password.
    address: Arc<str>,
}

impl Source {
    /// Waits for this work, or until a signal's handler raises, and returns what came of it; or returns the coroutine that does.
    pub fn ask<'py>(
        &self,
        py: Python<'py>,
        work: impl Future<Output = Result<Answer, Error>> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, work, false)
    }

    /// The same of work that takes nothing, and may last: it ends where nobody waits for it any more.
    fn look<'py>(
        &self,
        py: Python<'py>,
        work: impl Future<Output = Result<Answer, Error>> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.call(py, work, true)
    }

    fn call<'py>(
        &self,
        py: Python<'py>,
        work: impl Future<Output = Result<Answer, Error>> + Send + 'static,
        looks: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.awaited {
            return Call::coroutine(py, self, Box::pin(work), looks);
        }
        let mut work = Box::pin(work);
        loop {
            // Looked at each time: a signal's handler may have forked.
            let (_, runtime) = self.limiter.inside().map_err(bad_redis)?;
            let some = py.detach(|| runtime.block_on(async { tokio::time::timeout(SLICE, work.as_mut()).await }));
            match some {
                Ok(answer) => return answer.map_err(bad_redis)?.for_python(py, self),
                // Who is interrupted here holds nothing: what the call may have taken is given back as it is dropped.
                Err(_) => py.check_signals()?,
            }
        }
    }

    pub fn limiter<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.awaited {
            true => Bound::new(py, AsyncRedisLimiter(self.clone()))?.into_any(),
            false => Bound::new(py, RedisLimiter(self.clone()))?.into_any(),
        })
    }

    /// Why nobody could decide just now.
    pub fn why_away(&self) -> String {
        let known = self.limiter.inside().ok().and_then(|(limiter, _)| limiter.stats().why);
        known.unwrap_or_else(|| "it did not answer within the deadline".to_owned())
    }

    /// The limiter itself, for work that lasts.
    fn own(&self) -> PyResult<tokenweir_redis::RedisLimiter> {
        Ok(self.limiter.inside().map_err(bad_redis)?.0.clone())
    }

    fn decide<'py>(
        &self,
        (project, deployment, keys): (&Bound<'py, PyAny>, &Bound<'py, PyAny>, Option<&Bound<'py, PyAny>>),
        (input, output): (Option<&Bound<'py, PyAny>>, Option<&Bound<'py, PyAny>>),
        answer: fn(Decision) -> Answer,
    ) -> PyResult<Bound<'py, PyAny>> {
        let estimate = estimate(input, output)?;
        let (asked, limiter) = (Asked::of(project, deployment, keys)?, self.own()?);
        self.ask(project.py(), async move {
            let keys = asked.keys();
            limiter.admit(&asked.request(&keys), estimate).await.map(answer)
        })
    }
}

/// A request that is kept while its call lasts.
struct Asked {
    project: Vec<u8>,
    deployment: Vec<u8>,
    keys: Vec<(String, Vec<u8>)>,
}

impl Asked {
    fn of(
        project: &Bound<'_, PyAny>,
        deployment: &Bound<'_, PyAny>,
        keys: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        with_request(project, deployment, keys, |request| {
            let keys = request.keys.iter().map(|key| (key.name.to_owned(), key.value.to_vec())).collect();
            Ok(Asked { project: request.project.to_vec(), deployment: request.deployment.to_vec(), keys })
        })
    }

    fn keys(&self) -> Vec<Key<'_>> {
        self.keys.iter().map(|(name, value)| Key { name, value }).collect()
    }

    fn request<'a>(&'a self, keys: &'a [Key<'a>]) -> Request<'a> {
        Request { project: &self.project, deployment: &self.deployment, keys }
    }
}

/// One of the two: their methods are the same, and return what they come to, or a coroutine that does.
macro_rules! limiter {
    ($(#[$meta:meta])* $name:ident, $awaited:literal) => {
        $(#[$meta])*
        #[pyclass(frozen, weakref, module = "tokenweir.redis")]
        pub struct $name(Source);

        #[pymethods]
        impl $name {
            /// A limiter for this server and policy. The first attempt to reach the server is waited for, up to a second; if it
            /// fails, the limiter decides as for a server that is away, and goes on trying.
            ///
            /// `server` is its address: `redis://user:password@host:6379/0`, `rediss://` for TLS, `redis+unix:///path` for a
            /// socket, `redis+cluster://host:6379,host:6380`, or `redis+sentinel://host:26379,host:26380/master/0` (`rediss+` for
            /// TLS to the server; what the sentinels ask for themselves: `?sentinel-user=U&sentinel-password=P&sentinel-tls=yes`);
            /// `valkey` may stand for `redis`. All else is by keyword, and None is the default:
            ///
            /// - `deadline`: the longest that a call waits for the server, in seconds or as a timedelta, 1 ms to 1 minute; 50 ms.
            /// - `permit_ttl`: after how long a permit expires that nobody ends or renews, 1 ms to 1 year; 600 seconds.
            /// - `place_ttl`: how long a permit holds its places in flight unless it is renewed, at most as long as it lives, 1 ms to
            ///   1 year; as `permit_ttl`. So the places of a process that was killed are free soon.
            /// - `prefix`: what all keys begin with, 1 to 200 bytes without braces; "tokenweir". Limiters with the same server,
            ///   prefix and policy share their counters.
            /// - `slot_by`: on a cluster, the part of every limit's scope by which counters are spread over slots: "project",
            ///   "deployment" or "key:user"; all keys are in one slot.
            /// - `when_away`: what a request gets while the server does not answer: "deny" (Unavailable), "allow", or
            ///   "local_share", as far as this process's share of every limit goes; "deny".
            /// - `per_mille`: the share, in thousandths of every amount, 1 to 1000; with "local_share".
            /// - `back_off`: the longest time between two attempts to reach a server that is away, 10 ms to 1 hour; 2 seconds.
            /// - `leases`: whether capacity is taken from the server in advance and spent in this process; false: the server decides
            ///   on every request.
            /// - `lease_life`: how long a lease may be spent, 10 ms to 1 minute; 1 second. `lease_part`: a lease takes at most one
            ///   part of so many of what its limit has left, 2 to 1000; 8.
            /// - `trusting`: over TLS, the certificate of the only authority to be trusted, PEM; those of Mozilla.
            /// - `certificate` and `key`: over TLS, what is shown to a server that asks for a certificate, PEM; nothing.
            ///
            /// Raises RedisError, ValueError for a word that is none of these, TypeError.
            #[classmethod]
            #[pyo3(signature = (server, policy, *, deadline=None, permit_ttl=None, place_ttl=None, prefix=None, slot_by=None,
                                when_away=None, per_mille=None, back_off=None, leases=false, lease_life=None, lease_part=None, trusting=None,
                                certificate=None, key=None))]
            #[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
            fn connect<'py>(
                class: &Bound<'py, PyType>,
                server: &str,
                policy: &Bound<'py, Policy>,
                deadline: Option<&Bound<'py, PyAny>>,
                permit_ttl: Option<&Bound<'py, PyAny>>,
                place_ttl: Option<&Bound<'py, PyAny>>,
                prefix: Option<&str>,
                slot_by: Option<&str>,
                when_away: Option<&str>,
                per_mille: Option<&Bound<'py, PyAny>>,
                back_off: Option<&Bound<'py, PyAny>>,
                leases: bool,
                lease_life: Option<&Bound<'py, PyAny>>,
                lease_part: Option<&Bound<'py, PyAny>>,
                trusting: Option<&Bound<'py, PyAny>>,
                certificate: Option<&Bound<'py, PyAny>>,
                key: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let server = settings::server(server, trusting, certificate, key)?;
                let address = server.to_string();
                let mut builder = tokenweir_redis::RedisLimiter::builder(server, policy.get().0.clone());
                if let Some(prefix) = prefix {
                    builder = builder.prefix(prefix);
                }
                let builder = settings::spans(builder, deadline, permit_ttl, place_ttl, back_off)?;
                let builder = settings::slots(builder, slot_by)?;
                let builder = settings::when_away(builder, when_away, per_mille)?;
                let builder = settings::leases(builder, leases, lease_life, lease_part)?;
                let limiter = builder.start().map_err(bad_redis)?;
                let source = Source { limiter, awaited: $awaited, address: address.into() };
                let limiter = source.own()?;
                source.ask(class.py(), async move {
                    limiter.tried().await;
                    Ok(Answer::Connected)
                })
            }

            /// Decides whether a request may pass, and if so holds its estimate on every limit that it meets: on all or on none.
            ///
            /// `project` calls `deployment`; `keys` are further caller keys, such as `{"user": "u-17"}`. Each value is str or
            /// bytes and not empty. `input` and `output` are the tokens it is expected to take at most, 0 (or None) where that is
            /// not known.
            ///
            /// Comes to a permit, which is truthy, or to a RedisDenial or Unavailable, which are falsy; each says who decided
            /// (`by`). Raises RequestError if the request cannot be matched with the policy, RedisError if the server refuses
            /// what is needed. Who is cancelled while waiting for it holds nothing.
            #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None),
                   text_signature = "($self, project, deployment, input=0, output=0, *, keys=None)")]
            fn admit<'py>(
                &self,
                project: &Bound<'py, PyAny>,
                deployment: &Bound<'py, PyAny>,
                input: Option<&Bound<'py, PyAny>>,
                output: Option<&Bound<'py, PyAny>>,
                keys: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                self.0.decide((project, deployment, keys), (input, output), Answer::Decided)
            }

            /// Admits as `admit` does; raises Denied where that comes to a denial, and RedisError (1036) where nobody could
            /// decide. The permit is for a `with`, which ends it with the block: settle or cancel it before, or its estimate
            /// stands.
            #[pyo3(signature = (project, deployment, input=None, output=None, *, keys=None),
                   text_signature = "($self, project, deployment, input=0, output=0, *, keys=None)")]
            fn reserve<'py>(
                &self,
                project: &Bound<'py, PyAny>,
                deployment: &Bound<'py, PyAny>,
                input: Option<&Bound<'py, PyAny>>,
                output: Option<&Bound<'py, PyAny>>,
                keys: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                self.0.decide((project, deployment, keys), (input, output), Answer::Granted)
            }

            /// An open permit by its id, whichever process of the same server and prefix admitted it; one by lease only in the
            /// process that admitted it, once it was detached there. With `slot_by` its project, deployment and keys are needed
            /// as well.
            ///
            /// Raises PermitError (21) if there is none, RedisError.
            #[pyo3(signature = (id, project=None, deployment=None, *, keys=None))]
            fn permit<'py>(
                &self,
                py: Python<'py>,
                id: Number,
                project: Option<&Bound<'py, PyAny>>,
                deployment: Option<&Bound<'py, PyAny>>,
                keys: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let limiter = self.0.own()?;
                let asked = match (project, deployment) {
                    (Some(project), Some(deployment)) => Asked::of(project, deployment, keys)?,
                    (None, None) if keys.is_none() => {
                        return self.0.ask(py, async move { limiter.permit(id.0).await.map(Answer::Found) });
                    }
                    _ => return Err(PyTypeError::new_err("give both project and deployment of the permit, or only its id")),
                };
                self.0.ask(py, async move {
                    let keys = asked.keys();
                    limiter.permit_for(id.0, &asked.request(&keys)).await.map(Answer::Found)
                })
            }

            /// What each enforced limit has left for this request, and what was charged in all, as of now: a list of Standing.
            /// Nothing is taken. Raises RequestError, RedisError.
            #[pyo3(signature = (project, deployment, *, keys=None))]
            fn remaining<'py>(
                &self,
                project: &Bound<'py, PyAny>,
                deployment: &Bound<'py, PyAny>,
                keys: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let (asked, limiter) = (Asked::of(project, deployment, keys)?, self.0.own()?);
                self.0.ask(project.py(), async move {
                    let keys = asked.keys();
                    limiter.remaining(&asked.request(&keys)).await.map(Answer::Standings)
                })
            }

            /// The counters on the server of all limits of the policy, as CounterUsage, by limit and scope: only those of the
            /// limit of this name, and whose scope has these values (`{"project": "search"}`), where given. One that nobody has
            /// charged yet, or that has been as good as new for long, is not there. `held` is 0, since the server has no sum of
            /// it, and `settled_total` is what was charged in all, the estimates of open permits included.
            ///
            /// It goes through all keys of the server (SCAN), a thousand at a time, each step within the deadline: for consoles,
            /// not for the path of a request. Raises RedisError (1033 where counters are spread over slots), and ValueError as
            /// Limiter.usage does.
            #[pyo3(signature = (limit=None, scope=None))]
            fn usage<'py>(
                &self,
                py: Python<'py>,
                limit: Option<String>,
                scope: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let limiter = self.0.own()?;
                let filter = filter(&limiter.policy(), limit, scope)?;
                self.0.look(py, async move {
                    let mut counters = limiter.usage().await?;
                    counters.retain(|counter| filter.matches(counter));
                    Ok(Answer::Counters(counters))
                })
            }

            /// Gives back what is leased, and waits until the server has been told of every permit that has ended, `patience`
            /// at the most, in seconds or as a timedelta: at a clean end. Comes to false if something is left untold; then the
            /// estimates of those permits stand.
            fn flush<'py>(&self, py: Python<'py>, patience: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let (patience, limiter) = (span("patience", patience)?, self.0.own()?);
                self.0.ask(py, async move { Ok(Answer::Told(limiter.flush(patience).await)) })
            }

            /// Puts another policy in force in this process, for the next decision; give every process the same. Permits already
            /// out settle against the counters they charged, and consumption is kept. Waits for nothing. Raises RedisError
            /// (1033), after which the old policy stays.
            fn set_policy(&self, py: Python<'_>, policy: &Bound<'_, Policy>) -> PyResult<()> {
                let (policy, limiter) = (policy.get().0.clone(), self.0.own()?);
                py.detach(|| limiter.set_policy(policy)).map_err(bad_redis)
            }

            /// The policy in force in this process.
            #[getter]
            fn policy(&self) -> PyResult<Policy> {
                Ok(Policy(self.0.own()?.policy()))
            }

            /// The server's address, without its password.
            #[getter]
            fn server(&self) -> &str {
                &self.0.address
            }

            /// The limiter's own figures. Waits for nothing.
            fn stats(&self, py: Python<'_>) -> PyResult<RedisStats> {
                RedisStats::of(py, self.0.own()?.stats())
            }

            fn __repr__(&self) -> String {
                format!("<{} {}>", stringify!($name), self.0.address)
            }

            fn __reduce__(&self) -> PyResult<()> {
                let name = stringify!($name);
                Err(PyTypeError::new_err(format!("cannot pickle {name}: connect where it is used")))
            }
        }
    };
}

limiter! {
    /// Decides which requests may pass over limits that many processes and machines share, on Redis 5 or later or Valkey, holds
    /// their tokens and settles them: `RedisLimiter.connect(server, policy)`.
    ///
    /// A decision is one call of one script on the server, for all limits of the request or none, by the server's clock; with
    /// `leases` it is made in this process, as long as what was taken in advance lasts. No call waits longer than the deadline;
    /// other threads run meanwhile. Any thread may use it. Its own thread does not survive a fork: every call in a child raises
    /// RedisError (1038); make a limiter there. In an event loop use AsyncRedisLimiter.
    RedisLimiter, false
}

limiter! {
    /// RedisLimiter for event loops: `await AsyncRedisLimiter.connect(server, policy)`. Its methods have the same names, and
    /// those that wait for the server are awaited, as are those of its permits.
    ///
    /// Works in asyncio (uvloop included) and trio, and so under anyio, on Unix. One limiter may serve several event loops. What
    /// was begun when its waiter is cancelled comes to an end all the same: a request that is admitted then is cancelled.
    AsyncRedisLimiter, true
}
