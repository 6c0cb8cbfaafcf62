//! The AI Gateway of Microsoft Foundry: what its Admin console offers, as a model in memory.
//!
//! This room knows resources, API Management instances, gateways, projects, limits, agents, tools and roles, and which
//! step from where is allowed. It keeps no counters: its limits become a policy of the engine. It does no I/O and reads
//! no clock; time is an argument. The limiter knows nothing of it.
//!
//! - [`model`]: what there is, and what each thing is made of.
//! - `compile`: a gateway's limits as one policy of the engine;
//! - `traffic`: calls that arrive at a gateway, decided on, counted and recorded; `figures`, `record`: what is kept of them.
//!
//! Facts about the service are marked where they stand: \[S\] from the vendor's page on enabling the AI Gateway, \[D\]
//! from other pages of the vendor, \[M\] measured by others, \[G\] read from a policy that the portal generates, \[I\]
//! inferred, \[U\] not confirmed: chosen here, and a setting where it matters.

mod compile;
mod figures;
pub mod model;
mod record;
mod traffic;

pub use compile::{CompileError, Rates, Terms};
pub use figures::Figures;
pub use record::{CallOutcome, LastError, RecordObserver, UsageRecord};
pub use traffic::{Call, Completion, Gate, GateBuilder, GateError, Passage, Refused, Verdict};
