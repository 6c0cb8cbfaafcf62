//! Calls through the layer, however they end.

#[path = "../../../tokenweir/tests/support/elsewhere.rs"]
mod away;
mod bodies;
mod cut;
mod ends;
mod gate;
mod grpc;
mod malformed;
mod on_server;
mod random;
mod refusals;
mod requests;
mod scene;
