//! Traffic: calls that arrive at a gateway, the decision on each, and its record.
//!
//! A [`Gate`] is the data path of one gateway. It has a limiter of its own, so that two gateways cannot share a counter
//! whatever their projects are called, and the memory for counters of one cannot be used up by another.
//!
//! - `call`: what a host says of a call, and of its end;
//! - `standing`: who is governed just now, out of the model;
//! - `gate`: the decision;
//! - `passage`: a call that passes, until it has ended; a refusal;
//! - `saved`: what it counted, for another process.

mod call;
mod gate;
mod passage;
mod saved;
mod standing;

pub use call::{Call, Completion};
pub use gate::{Gate, GateBuilder, GateError};
pub(in crate::gateway) use passage::Ended;
pub use passage::{Passage, RefusedCall, Verdict};
pub use saved::SavedGate;
