//! What a client is told.

use super::{endpoint, system_now};
use crate::clock::Now;
use crate::convert::{instant, pairs};
use crate::denial::Denial;
use crate::permit::Permit;
use crate::policy::Policy;
use crate::value::value;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokenweir_wire::{Header, Standing};

/// In whose words a client is answered: `Dialect(name)`, of `openai`, `azure_openai`, `anthropic`, `gemini` or `apim`.
#[pyclass(frozen, eq, hash, module = "tokenweir.wire")]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect(pub tokenweir_wire::Dialect);

value! {
    /// A refusal as it is sent.
    Refused as "tokenweir.wire" {
        /// The HTTP status: 429 for a rate, 403 for a quota.
        status: u16,
        /// How the limits stand, when to come back, which limit refused (`x-tokenweir-limit`), and the body's type: pairs of
        /// a name in lower case and a value.
        headers: Vec<(String, String)>,
        /// The body, JSON.
        body: Py<PyBytes>,
    }
}

#[pymethods]
impl Dialect {
    #[new]
    fn new(name: &str) -> PyResult<Self> {
        tokenweir_wire::Dialect::from_word(name).map(Dialect).ok_or_else(|| {
            let words = tokenweir_wire::Dialect::ALL.map(tokenweir_wire::Dialect::as_str).join(", ");
            PyValueError::new_err(format!("{name:?} is no dialect; give one of {words}"))
        })
    }

    /// That of the clients which use a path, or an API. ValueError for one that takes no tokens.
    #[staticmethod]
    fn of(path_or_api: &str) -> PyResult<Self> {
        endpoint(path_or_api).map(|endpoint| Dialect(endpoint.dialect()))
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &'static str {
        self.0.as_str()
    }

    /// The answer to a request that was denied. `now` is the time of the denial, for hosts that own the time.
    ///
    /// `retry-after` is in whole seconds, rounded up; where no wait helps, `x-should-retry: false` keeps the official OpenAI
    /// and Anthropic clients from trying again.
    #[pyo3(signature = (denial, *, now=None))]
    fn refused(&self, py: Python<'_>, denial: &Bound<'_, Denial>, now: Option<&Bound<'_, Now>>) -> Refused {
        let denied = &denial.get().0;
        let refused = self.0.refused(denied, denied.policy(), instant(now).unwrap_or_else(system_now));
        let body = PyBytes::new(py, refused.body.as_bytes()).unbind();
        Refused { status: refused.status, headers: owned(refused.headers), body }
    }

    /// The headers of an admitted request, while its permit is open: how its rates stand, of each kind the limit with the
    /// least left. `gemini` and `apim` have none. Pairs of a name in lower case and a value.
    #[pyo3(signature = (permit, *, now=None))]
    fn headers(&self, permit: &Bound<'_, Permit>, now: Option<&Bound<'_, Now>>) -> Vec<(String, String)> {
        let (standings, now) = standings(permit, now);
        owned(self.0.headers(&standings, now))
    }

    /// The same headers for whose permit has ended: of the limits of `policy` that are in `remaining`, what each has left by
    /// its name, as Permit.remaining, Denial.remaining and a Peek's limits have it. `now` is when that was.
    #[pyo3(signature = (policy, remaining, *, now=None))]
    fn headers_of(
        &self,
        policy: &Bound<'_, Policy>,
        remaining: &Bound<'_, PyAny>,
        now: Option<&Bound<'_, Now>>,
    ) -> PyResult<Vec<(String, String)>> {
        let now = instant(now).unwrap_or_else(system_now);
        let left = pairs("remaining", remaining)?;
        let left: Vec<(String, i64)> =
            left.iter().map(|(limit, left)| Ok((limit.extract()?, left.extract()?))).collect::<PyResult<_>>()?;
        Ok(owned(self.0.headers(&Standing::of(&policy.get().0, &left, now), now)))
    }

    /// The body of any other error, by its HTTP status: a key that is missing, a model that does not answer.
    fn error_body<'py>(&self, py: Python<'py>, status: u16, message: &str) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.error_body(status, message).as_bytes())
    }

    /// The headers of such an error besides its type: `x-should-retry: false` with every status that the official OpenAI and
    /// Anthropic clients would try again in vain. Pairs of a name in lower case and a value.
    fn error_headers(&self, status: u16) -> Vec<(String, String)> {
        owned(self.0.error_headers(status))
    }

    fn __repr__(&self) -> String {
        format!("Dialect({:?})", self.0.as_str())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, (&'static str,)) {
        (slf.get_type().into_any(), (slf.get().0.as_str(),))
    }
}

/// `ratelimit-policy` and `ratelimit` (draft-ietf-httpapi-ratelimit-headers-10) of an admitted request, while its permit is
/// open: every limit that is for a time, by name. Pairs of a name in lower case and a value.
#[pyfunction]
#[pyo3(signature = (permit, *, now=None))]
pub fn ietf_headers(permit: &Bound<'_, Permit>, now: Option<&Bound<'_, Now>>) -> Vec<(String, String)> {
    owned(tokenweir_wire::ietf_headers(&standings(permit, now).0))
}

fn standings(permit: &Bound<'_, Permit>, now: Option<&Bound<'_, Now>>) -> (Vec<Standing>, tokenweir::Now) {
    let permit = permit.get();
    let now = instant(now).unwrap_or_else(|| permit.limiter().now());
    (Standing::of(&permit.limiter().policy(), &permit.left(now), now), now)
}

fn owned(headers: Vec<Header>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect()
}
