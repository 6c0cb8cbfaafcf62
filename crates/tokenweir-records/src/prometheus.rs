//! The figures as Prometheus text.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokenweir::gateway::{RecordObserver, UsageRecord};

use crate::metrics::{DURATION, Metrics, TOKENS};

/// Buckets of token counts: powers of 4, as the conventions advise \[D\].
const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Buckets of durations in seconds: doubled from 10 ms on, as the conventions advise \[D\].
const DURATION_BUCKETS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// The figures of [`Metrics`], with a recorder of their own: nothing global is installed, and there is no listener. The
/// host serves what [`render`](Prometheus::render) writes.
pub struct Prometheus {
    metrics: Metrics,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    records: AtomicU64,
}

/// The exporter keeps each sample of a histogram until somebody gathers them. With nobody reading the figures, who brings
/// every so manieth record does, so that memory has an end.
const GATHERED_EVERY: u64 = 4096;

/// The exporter refuses its settings.
#[derive(Debug)]
pub struct PrometheusError(BuildError);

impl fmt::Display for PrometheusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Prometheus exporter cannot be set up: {}", self.0)
    }
}

impl std::error::Error for PrometheusError {}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("metrics", &self.metrics).finish_non_exhaustive()
    }
}

impl Prometheus {
    /// Figures of calls to Azure OpenAI (`azure.ai.openai`).
    ///
    /// # Errors
    /// As [`of`](Prometheus::of).
    pub fn new() -> Result<Self, PrometheusError> {
        Self::of(Metrics::new("azure.ai.openai"))
    }

    /// These figures.
    ///
    /// # Errors
    /// If the exporter refuses the buckets, which it does not.
    pub fn of(metrics: Metrics) -> Result<Self, PrometheusError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(TOKENS.to_owned()), &TOKEN_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &DURATION_BUCKETS))
            .map_err(PrometheusError)?
            .build_recorder();
        ::metrics::with_local_recorder(&recorder, || metrics.describe());
        let handle = recorder.handle();
        Ok(Prometheus { metrics, recorder, handle, records: AtomicU64::new(0) })
    }

    /// The figures in Prometheus' text format, of type `text/plain; version=0.0.4`.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

impl RecordObserver for Prometheus {
    fn recorded(&self, record: &UsageRecord) {
        ::metrics::with_local_recorder(&self.recorder, || self.metrics.recorded(record));
        if self.records.fetch_add(1, Relaxed) % GATHERED_EVERY == GATHERED_EVERY - 1 {
            self.handle.run_upkeep();
        }
    }
}
