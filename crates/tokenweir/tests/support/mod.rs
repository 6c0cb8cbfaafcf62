//! What the integration tests share. Every test file is a program of its own and uses a part of it.
#![allow(dead_code)]

pub mod ledger;
pub mod model;
