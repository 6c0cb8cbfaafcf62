//! Calls through the layer, however they end.

mod bodies;
mod cut;
mod ends;
mod gate;
mod grpc;
mod malformed;
mod random;
mod refusals;
mod requests;
mod scene;
