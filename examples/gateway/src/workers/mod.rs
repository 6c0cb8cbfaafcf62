//! Several processes that serve: `tokenweir-gateway --workers N`.
//!
//! The first process is the one that administers: it has the console, watches the file, answers operators, and writes what
//! outlives it. Each worker has the data path only. Their limiters are in one region, so a limit counts once.
//!
//! - `message`: what the two tell one another, in lines of JSON over a pair of sockets that only they have;
//! - `crew`: the workers as the first process has them: started, replaced when they end, told of changes, stopped;
//! - `worker`: a worker, as it is itself;
//! - `operator`: what is an operator's arrives at a worker, and is passed to the first process.
//!
//! A worker's standard input is the listener, its standard output its end of the pair: what it has to say goes to standard
//! error. When the other end of the pair is closed, be it because the first process was killed, a worker takes no new
//! connections and ends with its last call.

mod crew;
mod message;
mod operator;
mod worker;

pub(crate) use crew::Crew;
pub(crate) use message::Orders;
pub(crate) use operator::Brain;
pub use worker::work;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The argument that makes a worker of the program.
pub const WORKER: &str = "--worker";

/// What a worker is called in lists of processes, as the first process is.
const NAME: &str = "tokenweir-gateway";

/// The most workers: a region has room for 48 limiters, and those that end may still be there.
pub const MOST: usize = 32;

/// How long calls that are under way may take to end when the gateway is shut down.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// Has the socket that all processes share refuse whoever connects from now on: none of them accepts any more. The standard
/// library has this for a stream only; to the system it is a socket.
fn refuse(listener: &TcpListener) {
    if let Ok(listener) = listener.try_clone() {
        let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
    }
}
