//! What is in a region, for operators.

/// Who sits on a seat, and whether it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The seat's number.
    pub seat: usize,
    /// The process, as its own name space numbers it.
    pub process: u32,
    /// When it attached, in wall nanoseconds.
    pub since: i64,
    /// False if it has ended and nobody has cleared up after it yet.
    pub alive: bool,
}

/// What is in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Who is attached.
    pub attached: Vec<Attached>,
    /// Counters.
    pub counters: usize,
    /// Callers that are known.
    pub callers: usize,
    /// Open permits.
    pub permits_open: usize,
    /// Buckets that keep a history.
    pub histories: usize,
    /// How many attachments have ended and been cleared up after.
    pub cleared_up: u64,
    /// How many steps that a process was at when it was killed may or may not have been made. Each may have left the charge
    /// of one request on one limit too much counted, never too little.
    pub unsure_steps: u64,
    /// How many policies have been in force, the present one included; 0: no limiter has been built yet.
    pub policies: u64,
}
