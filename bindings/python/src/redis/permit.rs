//! Permits of the two limiters.

use super::answer::{Answer, by_name};
use super::limiter::Source;
use crate::convert::{known, span};
use crate::errors::{detached, raise};
use crate::permit::usage;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokenweir::PermitId;
use tokenweir_redis::{By, Error, Permit};
use tokio::sync::RwLock;

/// A permit that calls may be at: the last of them lets go of it.
struct Held {
    permit: RwLock<Option<Permit>>,
    detached: AtomicBool,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.get_mut().take()
            && *self.detached.get_mut()
        {
            permit.into_id();
        }
    }
}

/// What a permit's object is to it.
enum Hold {
    /// Ends it.
    Own(Arc<Held>),
    Detached,
    LetGo,
}

/// What both kinds of permits are.
struct Handle {
    source: Source,
    id: PermitId,
    by: By,
    hold: Mutex<Hold>,
}

/// The permit's object.
pub fn of<'py>(py: Python<'py>, source: &Source, permit: Permit) -> PyResult<Bound<'py, PyAny>> {
    let (id, by) = (permit.id(), permit.by());
    let held = Held { permit: RwLock::new(Some(permit)), detached: AtomicBool::new(false) };
    let handle = Handle { source: source.clone(), id, by, hold: Mutex::new(Hold::Own(Arc::new(held))) };
    Ok(match source.awaited {
        true => Bound::new(py, AsyncRedisPermit(handle))?.into_any(),
        false => Bound::new(py, RedisPermit(handle))?.into_any(),
    })
}

impl Handle {
    fn held(&self) -> PyResult<Arc<Held>> {
        match &*self.hold.lock().unwrap_or_else(PoisonError::into_inner) {
            Hold::Own(held) => Ok(held.clone()),
            Hold::Detached => Err(detached(self.id)),
            Hold::LetGo => Err(raise(tokenweir::Error::PermitSettled { id: self.id })),
        }
    }

    /// This object does not end it any more; who did.
    fn let_go(&self, now: Hold) -> Hold {
        std::mem::replace(&mut *self.hold.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// What is known of it here; nothing if it has ended.
    fn look<T>(&self, look: impl FnOnce(&Permit) -> T) -> Option<T> {
        let held = self.held().ok()?;
        let permit = held.permit.try_read().ok()?;
        permit.as_ref().map(look)
    }

    fn ended(&self) -> Error {
        tokenweir::Error::PermitSettled { id: self.id }.into()
    }

    fn state(&self) -> &'static str {
        match &*self.hold.lock().unwrap_or_else(PoisonError::into_inner) {
            Hold::Own(held) if held.permit.try_read().is_ok_and(|permit| permit.is_some()) => "open",
            Hold::Detached => "detached",
            _ => "ended",
        }
    }
}

macro_rules! permit {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[pyclass(frozen, module = "tokenweir.redis")]
        pub struct $name(Handle);

        #[pymethods]
        impl $name {
            /// True.
            #[getter]
            fn admitted(&self) -> bool {
                true
            }

            fn __bool__(&self) -> bool {
                true
            }

            /// The permit's id, for any process of the same server and prefix.
            #[getter]
            fn id(&self) -> u64 {
                self.0.id.get()
            }

            /// Who admitted it: `server`; `lease`, this process by what it has leased; `no_limit`, nobody, since no limit counts
            /// the request; `outage_allowed` or `local_share`, because the server was away.
            #[getter]
            fn by(&self) -> &'static str {
                self.0.by.as_str()
            }

            /// Reports `input` and `output` tokens more that a stream has brought. What goes beyond the estimate, and beyond what
            /// leases have, is charged at once; within it nobody is asked.
            ///
            /// Comes to whether a limit of the request had nothing left or was in debt when the server last said: a runaway
            /// stream may be cut short then. Raises PermitError if the permit has ended, UsageError if the sum is beyond 2**53,
            /// RedisError.
            #[pyo3(signature = (input=None, output=None), text_signature = "($self, input=0, output=0)")]
            fn observe<'py>(
                &self,
                py: Python<'py>,
                input: Option<&Bound<'py, PyAny>>,
                output: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let (input, output) = (known("input", input)?.unwrap_or(0), known("output", output)?.unwrap_or(0));
                let (held, ended) = (self.0.held()?, self.0.ended());
                self.0.source.ask(py, async move {
                    let permit = held.permit.read().await;
                    let observed = permit.as_ref().ok_or(ended)?.observe(input, output).await?;
                    Ok(Answer::Spent(observed.spent))
                })
            }

            /// Settles the permit with what the provider reported, in whole tokens; `cached_input` are those of the input that
            /// came from the provider's cache. What is None or left out is unknown, and its estimate stands; it is not 0.
            ///
            /// What was held beyond the usage is given back, what was used beyond the estimate is charged. Comes to Ended. Raises
            /// PermitError if it has ended before, RedisError; and UsageError, after which the estimate stands.
            #[pyo3(signature = (input=None, output=None, *, cached_input=None))]
            fn settle<'py>(
                &self,
                py: Python<'py>,
                input: Option<&Bound<'py, PyAny>>,
                output: Option<&Bound<'py, PyAny>>,
                cached_input: Option<&Bound<'py, PyAny>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let usage = usage(input, output, cached_input)?;
                let (held, ended) = (self.0.held()?, self.0.ended());
                self.0.source.ask(py, async move {
                    let permit = held.permit.write().await.take().ok_or(ended)?;
                    permit.settle(usage).await.map(Answer::Ended)
                })
            }

            /// Ends the permit of a request that never reached the provider: all of it is given back, and it does not count as a
            /// request. Comes to Ended. Raises PermitError if it has ended before, RedisError.
            fn cancel<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                let (held, ended) = (self.0.held()?, self.0.ended());
                self.0.source.ask(py, async move {
                    let permit = held.permit.write().await.take().ok_or(ended)?;
                    permit.cancel().await.map(Answer::Ended)
                })
            }

            /// Lets the permit live for `ttl` from now on, in seconds or as a timedelta, for streams longer than the limiter's
            /// `permit_ttl`. Raises PermitError if it has ended, RedisError, ValueError if `ttl` is below 0.
            fn renew<'py>(&self, py: Python<'py>, ttl: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let ttl = span("ttl", ttl)?;
                let (held, ended) = (self.0.held()?, self.0.ended());
                self.0.source.ask(py, async move {
                    held.permit.read().await.as_ref().ok_or(ended)?.renew(ttl).await.map(|()| Answer::Renewed)
                })
            }

            /// Hands the permit over to whoever finds it by its id (the limiter's `permit`): this object is done with it. Returns
            /// the id. Waits for nothing.
            fn detach(&self) -> u64 {
                match self.0.let_go(Hold::Detached) {
                    Hold::Own(held) => held.detached.store(true, Relaxed),
                    Hold::Detached => {}
                    Hold::LetGo => {
                        self.0.let_go(Hold::LetGo);
                    }
                }
                self.id()
            }

            /// What each enforced limit had left when the server last said, by limit name, this permit's charge taken; by leases,
            /// when it was last leased from, with what is left of that. Below 0 is debt. Empty if the server was not asked, or the
            /// permit has ended. Waits for nothing.
            fn remaining<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                by_name(py, self.0.look(Permit::remaining).unwrap_or_default())
            }

            /// The shadow limits that would have refused the request. They were not charged for it. Empty if the permit has
            /// ended. Waits for nothing.
            fn shadow_refused(&self) -> Vec<String> {
                self.0.look(Permit::shadow_refused).unwrap_or_default()
            }

            fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
                slf
            }

            /// Ends the permit without a word, unless it has ended or was detached. Waits for nothing.
            fn __exit__(
                &self,
                _kind: &Bound<'_, PyAny>,
                _value: &Bound<'_, PyAny>,
                _traceback: &Bound<'_, PyAny>,
            ) {
                if let Hold::Detached = self.0.let_go(Hold::LetGo) {
                    self.0.let_go(Hold::Detached);
                }
            }

            fn __repr__(&self) -> String {
                format!("<{} {} by {}: {}>", stringify!($name), self.0.id.get(), self.by(), self.0.state())
            }

            fn __reduce__(&self) -> PyResult<()> {
                let reason = "cannot pickle a permit: detach() it, and find it by its id with the limiter's permit()";
                Err(PyTypeError::new_err(reason))
            }
        }
    };
}

permit! {
    /// What an admitted request holds until it is settled, exactly once. It is truthy.
    ///
    /// Settle it with what the provider reported, or cancel it if the request never got there. As a context manager, or when it
    /// is collected, a permit that is still open ends without a word: its estimate counts as used, and its in-flight places are
    /// free, both told to the server in the background. `detach()` hands it over to whoever finds it by its id. Any thread may
    /// use it.
    RedisPermit
}

permit! {
    /// RedisPermit for event loops: `observe`, `settle`, `cancel` and `renew` are awaited. `with` it is used as any permit.
    AsyncRedisPermit
}
