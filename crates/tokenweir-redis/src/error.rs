//! What can go wrong with a call. A refusal is not among it, and neither is a server that is away: both are decisions.

/// An error of the shared limiter. No counter has moved, unless it says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the engine itself says: a request that the policy cannot be asked about, an estimate or a usage that cannot be, a
    /// permit that has ended.
    #[error(transparent)]
    Engine(#[from] tokenweir::Error),
    /// The address is none.
    #[error(
        "{address:?} is no address of a server: {reason}; write redis://host:6379, rediss:// for TLS, redis+cluster://host,host or redis+sentinel://host,host/master"
    )]
    Address {
        /// What was given, without its password.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be used.
    #[error(
        "the certificate for {address:?} cannot be used: {reason}; give PEM, and an address that begins with rediss"
    )]
    Certificate {
        /// The server's address, without its password.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("the setting {setting} is {value}; {remedy}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What may be.
        remedy: &'static str,
    },
    /// Counters are to be spread over slots by a part that a limit's scope does not have.
    #[error(
        "limit {limit:?} has no {part} in its scope, so its counter cannot be in one slot with each {part}'s; add it, or leave slot_by out"
    )]
    AcrossSlots {
        /// The limit.
        limit: String,
        /// The part.
        part: String,
    },
    /// A request meets more limits than a script takes.
    #[error("the request meets {limits} limits, and at most {most} can be decided in one call; narrow their matches")]
    TooManyLimits {
        /// How many.
        limits: usize,
        /// How many there may be.
        most: usize,
    },
    /// The server answered, and not with a decision: it does not permit what is needed, or something else is under a key.
    #[error("the server refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Only the server can answer this, and it did not within the deadline.
    #[error("the server did not answer in time: {reason}; try again when it is back")]
    Away {
        /// What is known of it.
        reason: String,
    },
    /// The asynchronous runtime that the limiter works in is missing.
    #[error("no tokio runtime: {reason}")]
    Runtime {
        /// What is wrong.
        reason: String,
    },
}

impl From<tokenweir::policy::ResolveError> for Error {
    fn from(error: tokenweir::policy::ResolveError) -> Self {
        Error::Engine(error.into())
    }
}
