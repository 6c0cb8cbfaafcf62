//! Where usage records go. Each sink is a [`RecordObserver`](tokenweir::gateway::RecordObserver), for
//! [`GateBuilder::observer`](tokenweir::gateway::GateBuilder::observer).
//!
//! - [`JsonLines`]: a file of JSON lines with rotation, written by a thread of its own;
//! - [`Metrics`]: the `metrics` facade, with the names of OpenTelemetry's conventions for generative AI;
//! - [`Prometheus`]: the same figures as Prometheus text, to be served by the host.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use tokenweir::gateway::{Call, Completion, Gate};
//! use tokenweir::Usage;
//! use tokenweir_records::{JsonLines, Prometheus, Rotation};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("usage.jsonl");
//! # let resource = serde_json::from_str(r#"{
//! #     "site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "eastus2"},
//! #     "public_network_access": true
//! # }"#)?;
//! let lines = Arc::new(JsonLines::open(&path, Rotation::default())?);
//! let prometheus = Arc::new(Prometheus::new()?);
//! let gate = Gate::builder("account".parse()?, &resource).observer(lines.clone()).observer(prometheus.clone()).build()?;
//!
//! let passage = gate.admit(&Call::model("search", "gpt-4o"))?.passed().ok_or("refused")?;
//! passage.settle(&Completion::of(Usage::new(900, 77)))?;
//!
//! lines.flush();
//! assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 1);
//! assert!(prometheus.render().contains("tokenweir_gateway_requests"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod json_lines;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "prometheus")]
mod prometheus;

pub use json_lines::{JsonLines, Rotation, Written};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
#[cfg(feature = "prometheus")]
pub use prometheus::{Prometheus, PrometheusError};
