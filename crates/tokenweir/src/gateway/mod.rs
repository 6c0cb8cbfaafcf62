//! The AI Gateway of Microsoft Foundry: what its Admin console offers, as a model in memory, and the traffic through it.
//!
//! This room knows resources, API Management instances, gateways, projects, limits, agents, tools and roles, and which
//! step from where is allowed. The limits of a gateway become a policy of the engine, by which its traffic is decided. It
//! does no I/O; time is an argument. The limiter knows nothing of it.
//!
//! - [`model`]: what there is, and what each thing is made of;
//! - [`Estate`]: all of it, changed by an [`Operation`] of somebody, a [`Declaration`] of what the cloud around says, or by time;
//! - [`rules`]: the requirements V-01 to V-23, as a table;
//! - [`InstanceProvider`]: who makes and takes down instances;
//! - [`diagnose`]: why something does not work, D-01 to D-12;
//! - [`Estate::save`], [`Estate::load`]: all of it as a document;
//! - [`AuditTrail`]: who did what, when, and how it ended;
//! - `compile`: a gateway's limits as one policy of the engine;
//! - [`Console`]: all of it behind commands in JSON, for other languages and the command line;
//! - [`Gate`]: calls that arrive at a gateway, decided on, counted ([`Figures`]) and recorded ([`UsageRecord`]).
//!
//! Facts about the service are marked where they stand: \[S\] from the vendor's page on enabling the AI Gateway, \[D\]
//! from other pages of the vendor, \[M\] measured by others, \[G\] read from a policy that the portal generates, \[I\]
//! inferred, \[U\] not confirmed: chosen here, and a setting where it matters.

mod audit;
mod code;
mod compile;
mod console;
mod diagnosis;
mod document;
mod estate;
mod figures;
mod finding;
pub mod model;
mod operation;
mod provider;
mod record;
mod rules;
mod settings;
mod traffic;

pub use audit::{AuditEntry, AuditOutcome, AuditTrail};
pub use code::Code;
pub use compile::{CompileError, Rates, Terms};
pub use console::{Console, ConsoleBuilder, ConsoleError, ConsoleOptions, ConsoleSettings, ConsoleTime};
pub use diagnosis::{
    Cause, Certainty, Diagnosis, Direct, Listing, Observation, ObservedCall, Spent, diagnose, diagnoses,
};
pub use document::{Counters, DocumentError};
pub use estate::Estate;
pub use figures::Figures;
pub use finding::{Applied, Finding, Refused, Severity};
pub use operation::{AgentRegistration, Declaration, Event, Grant, Operation};
pub use provider::{InProcessProvider, InstanceProvider, Progress, Task, TaskKind};
pub use record::{CallOutcome, LastError, RecordObserver, UsageRecord};
pub use rules::{Rule, rules};
pub use settings::Settings;
pub use traffic::{Call, Completion, Gate, GateBuilder, GateError, Passage, RefusedCall, SavedGate, Verdict};
