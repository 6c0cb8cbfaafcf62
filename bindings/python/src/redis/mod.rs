//! `tokenweir.redis`: limits on a Redis or Valkey server, for who waits and for who awaits.
//!
//! - `limiter`: the two limiters, `permit`: their permits; each pair has the same methods, written once;
//! - `settings`: what a limiter is told when it is made;
//! - `answer`: what comes of a call, for Python;
//! - `call`: a call that an event loop waits for, and the bell that tells it.
//!
//! The limiter's thread never takes the interpreter's lock: a loop that is busy does not hold up the server's answers to others.

mod answer;
mod call;
mod limiter;
mod permit;
mod settings;

pub use answer::{Ended, OutageUse, RedisDenial, RedisStats, Standing, Unavailable};
pub use call::{Bell, Call};
pub use limiter::{AsyncRedisLimiter, RedisLimiter};
pub use permit::{AsyncRedisPermit, RedisPermit};
