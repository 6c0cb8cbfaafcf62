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
    /// Only the server can answer this, and it cannot be asked: it is away, it did not answer within the deadline, or it lets
    /// nobody in with this password or database.
    #[error("the server cannot be asked: {reason}; correct the address if that is why, or try again when it is back")]
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
    /// The limiter's thread is in the process that made the limiter, and this one was forked from it.
    #[error("this process was forked from the one that made the limiter, whose thread it lacks; make a limiter here")]
    Forked,
}

impl Error {
    /// The stable number of this kind of error, the same in every language; the engine's errors keep theirs.
    pub fn code(&self) -> u16 {
        match self {
            Error::Engine(error) => error.code(),
            Error::Address { .. } => 1030,
            Error::Certificate { .. } => 1031,
            Error::Setting { .. } => 1032,
            Error::AcrossSlots { .. } => 1033,
            Error::TooManyLimits { .. } => 1034,
            Error::Refused { .. } => 1035,
            Error::Away { .. } => 1036,
            Error::Runtime { .. } => 1037,
            Error::Forked => 1038,
        }
    }

    /// The stable name that goes with [`code`](Error::code).
    pub fn name(&self) -> &'static str {
        match self {
            Error::Engine(error) => error.name(),
            Error::Address { .. } => "REDIS_ADDRESS",
            Error::Certificate { .. } => "REDIS_CERTIFICATE",
            Error::Setting { .. } => "REDIS_SETTING",
            Error::AcrossSlots { .. } => "REDIS_ACROSS_SLOTS",
            Error::TooManyLimits { .. } => "REDIS_TOO_MANY_LIMITS",
            Error::Refused { .. } => "REDIS_REFUSED",
            Error::Away { .. } => "REDIS_AWAY",
            Error::Runtime { .. } => "REDIS_RUNTIME",
            Error::Forked => "REDIS_FORKED",
        }
    }
}

impl From<tokenweir::policy::ResolveError> for Error {
    fn from(error: tokenweir::policy::ResolveError) -> Self {
        Error::Engine(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_what_they_always_were() {
        let (address, reason) = (String::new, String::new);
        let engine = tokenweir::Error::UsageInvalid { reason: reason() };
        let table = [
            (Error::Engine(engine), 20, "USAGE_INVALID"),
            (Error::Address { address: address(), reason: reason() }, 1030, "REDIS_ADDRESS"),
            (Error::Certificate { address: address(), reason: reason() }, 1031, "REDIS_CERTIFICATE"),
            (Error::Setting { setting: "s", value: reason(), remedy: "r" }, 1032, "REDIS_SETTING"),
            (Error::AcrossSlots { limit: reason(), part: reason() }, 1033, "REDIS_ACROSS_SLOTS"),
            (Error::TooManyLimits { limits: 2, most: 1 }, 1034, "REDIS_TOO_MANY_LIMITS"),
            (Error::Refused { reason: reason() }, 1035, "REDIS_REFUSED"),
            (Error::Away { reason: reason() }, 1036, "REDIS_AWAY"),
            (Error::Runtime { reason: reason() }, 1037, "REDIS_RUNTIME"),
            (Error::Forked, 1038, "REDIS_FORKED"),
        ];
        for (error, code, name) in table {
            assert_eq!((error.code(), error.name()), (code, name), "{error}");
        }
    }
}
