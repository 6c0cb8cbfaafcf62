//! What a shared limiter says: decisions, how its limits stand, and its own figures.

use crate::outage::OutageUse;
use crate::permit::Permit;
use tokenweir::Denied;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// The server, over all limits in one step.
    Server,
    /// This process, by what it has leased from the server of every limit of the request.
    Lease,
    /// No limit of the policy applies to the request.
    NoLimit,
    /// Nobody: the server is away, and the limiter was built to deny then.
    OutageDenied,
    /// Nobody: the server is away, and the limiter was built to allow then.
    OutageAllowed,
    /// This process, by its share of every limit, because the server is away.
    LocalShare,
}

impl By {
    /// All of them, in the order of their declaration.
    pub const ALL: [By; 6] = [By::Server, By::Lease, By::NoLimit, By::OutageDenied, By::OutageAllowed, By::LocalShare];

    /// The word for it, in every language and log.
    pub const fn as_str(self) -> &'static str {
        match self {
            By::Server => "server",
            By::Lease => "lease",
            By::NoLimit => "no_limit",
            By::OutageDenied => "outage_denied",
            By::OutageAllowed => "outage_allowed",
            By::LocalShare => "local_share",
        }
    }
}

/// Whether a request may pass, and who says so.
#[must_use = "an admitted request holds its tokens until its permit is settled"]
#[derive(Debug)]
pub enum Decision {
    /// It may, and this holds its estimated tokens. [`Permit::by`] says who decided.
    Admitted(Permit),
    /// It may not, because of its limits; nothing was taken.
    Denied {
        /// What every limit says, as the engine says it.
        denied: Box<Denied>,
        /// [`By::Server`] or [`By::LocalShare`].
        by: By,
    },
    /// It may not, because nobody could decide ([`By::OutageDenied`]). Answer with 503, not 429: the caller is not at fault.
    Unavailable,
}

impl Decision {
    /// The permit, if it was admitted.
    pub fn admitted(self) -> Option<Permit> {
        match self {
            Decision::Admitted(permit) => Some(permit),
            Decision::Denied { .. } | Decision::Unavailable => None,
        }
    }

    /// Whether it was admitted.
    pub fn is_admitted(&self) -> bool {
        matches!(self, Decision::Admitted(_))
    }

    /// Who decided.
    pub fn by(&self) -> By {
        match self {
            Decision::Admitted(permit) => permit.by(),
            Decision::Denied { by, .. } => *by,
            Decision::Unavailable => By::OutageDenied,
        }
    }
}

/// How one limit stands, as the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The limit's name.
    pub limit: String,
    /// What it has left; below 0 is debt.
    pub remaining: i64,
    /// What its counter was charged in all, since it was last at rest for long: what ended permits came to, and the estimates of
    /// open ones. `None` where the server was not asked for it, and of in-flight limits, which have no such sum.
    pub charged_total: Option<u64>,
}

/// The limiter's own figures.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Whether the server is thought to be there.
    pub up: bool,
    /// Why not: what came of the last attempt to reach it, such as a refused connection or a wrong password. `None` while it is
    /// up.
    pub why: Option<String>,
    /// How often it was found to be away, and how often reached again.
    pub outages: u64,
    /// See `outages`.
    pub recoveries: u64,
    /// Calls that had no answer within the deadline.
    pub late: u64,
    /// Requests denied because the server was away.
    pub denied_by_outage: u64,
    /// Leases taken from the server.
    pub leases: u64,
    /// Ends of permits that are still to be told to the server.
    pub untold: usize,
    /// Ends of permits that were given up because too many were waiting: their estimates stand.
    pub given_up: u64,
    /// What was admitted without the server, by limit.
    pub without_server: Vec<OutageUse>,
}
