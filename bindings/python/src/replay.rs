//! Recorded traffic through the engine.

use crate::convert::{count, seconds, unreadable};
use crate::errors::bad_trace;
use crate::policy::Policy;
use crate::value::value;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokenweir_replay::{Azure, Format, Jsonl, Replay, Trace, instant};

value! {
    /// One decision of a replay.
    Row {
        /// The line of the request in the trace, counted from 1.
        line: u64,
        /// When it asked, in nanoseconds since 1970.
        at_ns: i64,
        /// Whether it was admitted.
        admitted: bool,
        /// 200, 429 (a rate) or 403 (a quota).
        status: u16,
        /// The limit that decided, if it was denied.
        limit: Option<String>,
        /// Every limit that refused, in the order of the policy.
        refused_by: Vec<String>,
        /// The wait that is advised, in nanoseconds; None if admitted, or if no wait is known to help.
        retry_after_ns: Option<u64>,
        /// Whether the request is larger than a limit can ever hold.
        never_fits: bool,
        /// What every enforced limit has left after the decision, in the order of the policy; below 0 in debt.
        remaining: Py<PyDict>,
        /// The shadow limits that would have refused, in the order of the policy.
        shadow_refused: Vec<String>,
        /// The row as one line of JSON, as files of decisions hold it.
        json: String,
    }
    {
        /// The wait that is advised, in seconds; None if admitted, or if no wait is known to help.
        #[getter]
        fn retry_after(&self) -> Option<f64> {
            self.retry_after_ns.map(seconds)
        }

        fn __bool__(&self) -> bool {
            self.admitted
        }
    }
}

/// The decisions of a replay, one for each request of the trace, read as they are asked for.
#[pyclass(frozen, module = "tokenweir")]
pub struct Rows(Mutex<tokenweir_replay::Rows<Box<dyn BufRead + Send>>>);

#[pymethods]
impl Rows {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Row>> {
        // It may wait for the file, or for another thread that reads on.
        let row = py.detach(|| self.0.lock().unwrap_or_else(PoisonError::into_inner).next());
        let Some(row) = row.transpose().map_err(bad_trace)? else { return Ok(None) };
        let names = |names: &[std::sync::Arc<str>]| names.iter().map(|name| name.to_string()).collect();
        let remaining = PyDict::new(py);
        for (limit, left) in &row.remaining {
            remaining.set_item(&**limit, *left)?;
        }
        Ok(Some(Row {
            line: row.line,
            at_ns: row.at,
            admitted: row.admitted,
            status: row.status,
            limit: row.limit.as_deref().map(str::to_owned),
            refused_by: names(&row.refused_by),
            retry_after_ns: row.retry_after,
            never_fits: row.never_fits,
            remaining: remaining.unbind(),
            shadow_refused: names(&row.shadow_refused),
            json: row.to_json(),
        }))
    }

    fn __repr__(&self) -> &'static str {
        "<Rows of a replay>"
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err("cannot pickle Rows: a limiter of this process makes them; keep each row's json"))
    }
}

/// Replays recorded traffic against a policy: what would have been admitted?
///
/// `trace` is the path of a file, or its contents as bytes. `format` is `jsonl` (one request per line, sorted by time) or
/// `azure-llm` (the CSV of the public Azure LLM inference traces). With `jsonl`, `start` is the RFC 3339 instant that
/// `"at": 0` names, 1970 if left out. With `azure-llm`, `project` and `deployment` name what the trace leaves out,
/// `estimate_output` is the expected output in tokens (`"400"`) or as a factor of the real one (`"4x"`), and a request
/// takes `duration` seconds (or a timedelta) and `duration_per_token` more for each token of its output; with `jsonl` each
/// line says these itself, and giving one is an error. `max_counters` is as Limiter has it.
///
/// Returns an iterator over Row. The same policy and trace give the same rows. Raises OSError if the file cannot be read,
/// ValueError for a wrong option, and, while iterating, TraceError at the first line that is wrong.
#[pyfunction]
#[pyo3(signature = (policy, trace, *, format="jsonl", start=None, project=None, deployment=None, estimate_output=None,
                    duration=None, duration_per_token=None, max_counters=None),
       text_signature = "(policy, trace, *, format='jsonl', start=None, project='default', deployment='default', \
                         estimate_output='1x', duration=0.0, duration_per_token=0.0, max_counters=262144)")]
#[expect(clippy::too_many_arguments, reason = "each is a keyword in Python")]
pub fn replay(
    py: Python<'_>,
    policy: &Bound<'_, Policy>,
    trace: &Bound<'_, PyAny>,
    format: &str,
    start: Option<&str>,
    project: Option<&str>,
    deployment: Option<&str>,
    estimate_output: Option<&str>,
    duration: Option<&Bound<'_, PyAny>>,
    duration_per_token: Option<&Bound<'_, PyAny>>,
    max_counters: Option<&Bound<'_, PyAny>>,
) -> PyResult<Rows> {
    let wrong = |what: String| Err(PyValueError::new_err(what));
    let nanos = |what: &str, seconds: Option<&Bound<'_, PyAny>>| -> PyResult<i64> {
        let Some(seconds) = seconds else { return Ok(0) };
        let span = crate::convert::span(what, seconds)?;
        i64::try_from(span.as_nanos())
            .map_err(|_| PyValueError::new_err(format!("{what} is {seconds}; give less than 292 years")))
    };
    let of_azure = [
        ("project", project.is_some()),
        ("deployment", deployment.is_some()),
        ("estimate_output", estimate_output.is_some()),
        ("duration", duration.is_some()),
        ("duration_per_token", duration_per_token.is_some()),
    ];
    if format == "jsonl"
        && let Some((name, _)) = of_azure.iter().find(|(_, given)| *given)
    {
        return wrong(format!("{name} is of no use: each line of jsonl says it itself; leave it out"));
    }
    let (project, deployment) = (project.unwrap_or("default"), deployment.unwrap_or("default"));
    let format = match format {
        "jsonl" => Format::Jsonl(Jsonl {
            start: match start.map(|text| (text, instant::rfc3339(text))) {
                None => 0,
                Some((_, Ok(start))) => start,
                Some((text, Err(reason))) => {
                    return wrong(format!("start {text:?} {reason}; write RFC 3339, such as 2026-01-31T08:00:00Z"));
                }
            },
        }),
        "azure-llm" if start.is_some() => return wrong("start is of no use: azure-llm has dates; leave it out".into()),
        "azure-llm" => Format::Azure(Azure {
            project: project.to_owned(),
            deployment: deployment.to_owned(),
            output: estimate_output
                .unwrap_or("1x")
                .parse()
                .map_err(|reason| PyValueError::new_err(format!("estimate_output {reason}")))?,
            duration: nanos("duration", duration)?,
            duration_per_token: nanos("duration_per_token", duration_per_token)?,
        }),
        other => return wrong(format!("format is {other:?}; give \"jsonl\" or \"azure-llm\"")),
    };
    if project.is_empty() || deployment.is_empty() {
        return wrong("project or deployment is empty; give a name, or leave it out".into());
    }
    let source: Box<dyn BufRead + Send> = match trace.cast::<PyBytes>() {
        Ok(contents) => Box::new(Cursor::new(contents.as_bytes().to_vec())),
        Err(_) => {
            let path: PathBuf = trace.extract()?;
            let file = py.detach(|| File::open(&path)).map_err(|error| unreadable(&path, &error))?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        }
    };
    let most = max_counters.map(|most| count("max_counters", most, 1)).transpose()?.unwrap_or(262_144);
    let replay = Replay::with_max_counters(policy.get().0.clone(), most);
    Ok(Rows(Mutex::new(replay.rows(Trace::new(source, format)))))
}
