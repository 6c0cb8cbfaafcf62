//! A call that an event loop waits for, and the bell that tells it. (`tokenweir/_calls.py` waits.)

use super::answer::Answer;
use super::limiter::{SLICE, Source};
use crate::errors::bad_redis;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokenweir_redis::Error;

pub type Work = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum State {
    /// Nothing has been sent.
    New(Work),
    /// The limiter's thread is at it.
    Begun,
    Answered(Result<Answer, Error>),
    /// The answer was taken, or nobody waits for it any more.
    Over,
}

/// One call of an AsyncRedisLimiter or its permits.
#[pyclass(frozen, module = "tokenweir._native")]
pub struct Call {
    source: Source,
    state: Arc<Mutex<State>>,
    looks: bool,
}

impl Call {
    /// The coroutine of this work. One that only looks is given up where nobody waits for it any more; another comes to its end.
    pub fn coroutine<'py>(py: Python<'py>, source: &Source, work: Work, looks: bool) -> PyResult<Bound<'py, PyAny>> {
        static ANSWERED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let answered = ANSWERED
            .get_or_try_init(py, || PyResult::Ok(py.import("tokenweir._calls")?.getattr("answered")?.unbind()))?;
        let call = Call { source: source.clone(), state: Arc::new(Mutex::new(State::New(work))), looks };
        answered.bind(py).call1((call,))
    }
}

/// Whose call it is that the limiter's thread is at.
struct Begun {
    state: Arc<Mutex<State>>,
    bell: Arc<Rope>,
    number: u64,
}

impl Begun {
    async fn finish(self, mut work: Work, looks: bool) {
        let answer = loop {
            if !looks {
                break work.await;
            }
            match tokio::time::timeout(SLICE, work.as_mut()).await {
                Ok(answer) => break answer,
                Err(_) if matches!(*locked(&self.state), State::Over) => return,
                Err(_) => {}
            }
        };
        if let Some(Ok(unwanted)) = self.answered(answer) {
            unwanted.discard().await;
        }
    }

    /// Gives the answer to who waits, or back where nobody does.
    fn answered(&self, answer: Result<Answer, Error>) -> Option<Result<Answer, Error>> {
        let mut state = locked(&self.state);
        if !matches!(*state, State::Begun) {
            return Some(answer);
        }
        *state = State::Answered(answer);
        drop(state);
        self.bell.pull(self.number);
        None
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Should the library panic, nobody waits for ever.
        self.answered(Err(Error::Runtime { reason: "the call ended without an answer".to_owned() }));
    }
}

#[pymethods]
impl Call {
    /// Sends it. True if it was answered at once; otherwise the bell rings with this number when it is.
    fn begin(&self, bell: &Bell, number: u64) -> PyResult<bool> {
        let (_, runtime) = self.source.limiter.inside().map_err(bad_redis)?;
        let mut state = locked(&self.state);
        let State::New(mut work) = std::mem::replace(&mut *state, State::Begun) else {
            return Err(PyRuntimeError::new_err("this call was begun before"));
        };
        let _inside = runtime.enter();
        if let Poll::Ready(answer) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            *state = State::Answered(answer);
            return Ok(true);
        }
        let begun = Begun { state: self.state.clone(), bell: bell.0.clone(), number };
        runtime.spawn(begun.finish(work, self.looks));
        Ok(false)
    }

    /// What came of it; once.
    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = std::mem::replace(&mut *locked(&self.state), State::Over);
        match state {
            State::Answered(answer) => answer.map_err(bad_redis)?.for_python(py, &self.source),
            _ => Err(PyRuntimeError::new_err("this call has no answer")),
        }
    }

    /// Nobody waits for it any more: what it may have taken is given back.
    fn abandon(&self) {
        let state = std::mem::replace(&mut *locked(&self.state), State::Over);
        if let State::Answered(Ok(answer)) = state
            && let Ok((_, runtime)) = self.source.limiter.inside()
        {
            runtime.spawn(answer.discard());
        }
    }
}

/// Rings in an event loop, which watches its file.
#[pyclass(frozen, module = "tokenweir._native")]
pub struct Bell(Arc<Rope>);

/// What any thread pulls, without the interpreter's lock.
pub struct Rope {
    here: UnixStream,
    there: UnixStream,
    /// While there are any, there is one byte to read.
    rung: Mutex<Vec<u64>>,
}

impl Rope {
    fn new() -> io::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        there.set_nonblocking(true)?;
        Ok(Rope { here, there, rung: Mutex::default() })
    }

    fn pull(&self, number: u64) {
        let mut rung = locked(&self.rung);
        rung.push(number);
        if rung.len() == 1 {
            // There is room: nothing else is in it.
            let _ = (&self.there).write(&[0]);
        }
    }
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Bell(Arc::new(Rope::new()?)))
    }

    /// The file that can be read once it has rung.
    fn fileno(&self) -> i32 {
        self.0.here.as_raw_fd()
    }

    /// The numbers that it has rung with since the last time.
    fn rung(&self) -> Vec<u64> {
        let mut rung = locked(&self.0.rung);
        if !rung.is_empty() {
            let _ = (&self.0.here).read(&mut [0]);
        }
        std::mem::take(&mut *rung)
    }
}
