//! The one place that names atomics: std's, or loom's when the crate is model-checked (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};

pub(crate) use std::sync::atomic::Ordering;

/// One plain 64-bit word of a counter. Counters are nothing but words, so that they may live anywhere.
pub(crate) type Word = AtomicU64;
