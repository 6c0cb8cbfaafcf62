//! Recorded traffic through the very engine that the library exports: one decision for each request.
//!
//! A [`Trace`] reads requests in order of time from any [`BufRead`](std::io::BufRead), as [`JSON lines`](Jsonl) or the
//! [CSV of the public Azure LLM traces](Azure). A [`Replay`] drives a limiter with them at the times of the trace: it
//! admits each request, settles what was admitted when it is due, and yields one [`Row`] for each request. The same
//! policy and trace give the same rows, to the byte.
//!
//! Nothing is skipped and nothing is guessed: the first line that is wrong ends the run, with an [`Error`] that names
//! the line, the reason and the remedy. There is no clock, no thread and no terminal here.
//!
//! # Example
//! ```
//! use tokenweir::Policy;
//! use tokenweir_replay::{Format, Jsonl, Replay, Trace};
//!
//! let policy = Policy::from_toml(r#"
//!     [[limit]]
//!     name = "tpm"
//!     meter = "total"
//!     algorithm = "bucket"
//!     amount = 1000
//!     per = "1m"
//! "#)?;
//! let lines = r#"{"at": 0, "project": "search", "deployment": "gpt-4o", "estimate": {"input": 900}, "duration": 2}
//! {"at": 1.5, "project": "search", "deployment": "gpt-4o", "estimate": {"input": 400}}"#;
//!
//! let trace = Trace::new(lines.as_bytes(), Format::Jsonl(Jsonl::default()));
//! let rows: Vec<_> = Replay::new(policy).rows(trace).collect::<Result<_, _>>()?;
//! assert!(rows[0].admitted && !rows[1].admitted);
//! assert_eq!(rows[1].retry_after, Some(16_500_000_000)); // 275 tokens more, 60 ms each
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod error;
pub mod instant;
mod replay;
mod row;
pub mod text;
mod trace;
mod verdict;

pub use error::Error;
pub use replay::{Replay, Rows};
pub use row::Row;
pub use trace::{Azure, Ending, Entry, Format, Jsonl, OutputRule, Trace, last_instant, tokens};
pub use verdict::{Counter, Ended, Left, Meet, Refused, Settled, Verdict};
