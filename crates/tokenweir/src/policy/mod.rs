//! What operators write: limits, meters, weights, scopes, periods and prices.
//!
//! This room parses and validates, says which limits a request meets, and computes what a request is charged. It
//! keeps no counters and reads no clock.
//!
//! - [`limit`](self::Limit): the model;
//! - `document`: TOML and JSON read into one tree that remembers its lines;
//! - `decode`: that tree checked and turned into limits, every error with its line and remedy; with `fields` (words,
//!   numbers, durations), `terms` (algorithms) and `overrides` (how limits stand to one another);
//! - `encode`: limits and prices written as JSON again;
//! - `pattern`: exact words and `*`;
//! - `charge`: meters, weights and prices: the whole number that a request takes from a limit;
//! - `period`: calendar periods, zones and anchors;
//! - `identity`: what makes a counter the same counter under another policy;
//! - `share`: a part of every amount, for one of several processes;
//! - `resolve`: which limits apply to a request, and why the others do not.

mod charge;
mod decode;
mod document;
mod encode;
mod error;
mod fields;
mod identity;
mod limit;
mod overrides;
mod pattern;
mod period;
mod resolve;
mod share;
mod terms;

pub use charge::{ChargeRule, MAX_TOKENS, Tokens};
pub use error::{PolicyError, Problem, ResolveError};
pub use limit::{Algorithm, Limit, Meter, Mode, Policy, Price, ScopePart, Until, Weights};
pub use pattern::Pattern;
pub use period::{Period, PeriodBounds};
pub use resolve::{Applied, MatchField, Resolution, SkipReason, Skipped};
pub(crate) use resolve::{decode_key, encode_key};
