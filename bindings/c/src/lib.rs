//! The C library: `tokenweir.h` and `libtokenweir`.
//!
//! Thin: every entry point converts, calls the engine and converts back. What C has to know stands in the comments of
//! the items below, from which the header is made (`tests/header.rs`); they are written for its reader.
//!
//! - `border`: the one mechanism that every entry point goes through, and how pointers are read;
//! - `code`, `error`, `text`: what comes back beside results;
//! - `values`: the plain structs that go in; `decision`: what comes of admitting and settling;
//! - `clock`, `policy`, `ring`, `limiter`, `route`: one handle each; `request`, `view`: what is done with a limiter;
//! - `store`: files of quotas, and how a limiter keeps its own in one;
//! - `region`: what the workers of a host share, and how a limiter is on it;
//! - `wire`: requests of providers' clients; `response`: what comes back, as it passes; `answer`: what clients are told;
//! - `console`: the gateway model; `gate`, `passage`: calls through one of its gateways;
//! - `json`: the form of what is not hot.

// C's own names, and pointers are what this room is about: each block says which fact it relies on. What a pointer has
// to be is said in the header, for each type.
#![allow(non_camel_case_types, unsafe_code, clippy::missing_safety_doc)]

mod answer;
mod border;
mod clock;
mod code;
mod console;
mod decision;
mod error;
mod exchange;
mod gate;
mod json;
mod limiter;
mod passage;
mod policy;
mod region;
mod request;
mod response;
mod ring;
mod route;
mod store;
#[cfg(feature = "test-panic")]
mod test_panic;
mod text;
mod values;
mod view;
mod wire;

pub use answer::*;
pub use clock::*;
pub use code::*;
pub use console::*;
pub use decision::*;
pub use error::*;
pub use exchange::*;
pub use gate::*;
pub use limiter::*;
pub use passage::*;
pub use policy::*;
pub use region::*;
pub use request::*;
pub use response::*;
pub use ring::*;
pub use route::*;
pub use store::*;
#[cfg(feature = "test-panic")]
pub use test_panic::*;
pub use text::*;
pub use values::*;
pub use view::*;
pub use wire::*;
