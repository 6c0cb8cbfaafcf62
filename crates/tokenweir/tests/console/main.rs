//! The console, driven by commands in JSON as C, Python and the command line drive it.
//!
//! - `walkthrough`: the first steps of the vendor's page, and every wrong order;
//! - `calls`: calls that are decided on and ended by command;
//! - `random`: whatever was done before, a document brings it back;
//! - `refused`: commands that cannot be read, and what they leave behind;
//! - `saved`: a console in another process goes on where this one was.

mod calls;
mod random;
mod refused;
mod saved;
mod support;
mod walkthrough;
