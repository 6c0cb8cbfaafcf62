//! Why a limiter cannot be, or do, what it is asked on a region.

/// What a region cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The process was forked off the one that attached to the region.
    #[error("this process was forked off after the limiter was built on a region; build limiters after the fork")]
    Forked,
    /// The limiter is to have another policy than the one in force in the region.
    #[error(
        "the region counts for another policy; build the limiter with the region's own (policy_of_region), and swap_policy if the other one is newer"
    )]
    OtherPolicy,
    /// The policy takes more room than the region has for one.
    #[error(
        "the policy takes {bytes} bytes in the region, which has room for {room}; make the region with a layout for more (policy_bytes)"
    )]
    PolicyTooLarge {
        /// What it takes, with what is kept of limits that it does not have.
        bytes: usize,
        /// How much room there is.
        room: usize,
    },
    /// The policy cannot be changed now: permits are open that were admitted under too many others.
    #[error(
        "permits are open that were admitted under {policies} policies, and the region keeps no more; change the policy again when some of them are settled or have expired"
    )]
    PoliciesInUse {
        /// How many.
        policies: usize,
    },
    /// The policy cannot be changed now: another process is at it.
    #[error("the process on seat {seat} has been changing the region's policy for {seconds} seconds; try again")]
    PolicyBusy {
        /// Its seat.
        seat: usize,
        /// How long this one has waited.
        seconds: u64,
    },
    /// The policy in the region cannot be read.
    #[error(
        "the policy that the region keeps cannot be read; remove the region when all processes have ended, its counters begin anew"
    )]
    PolicyDamaged,
    /// A limit needs more words than the region has for a counter.
    #[error(
        "a counter of limit {limit:?} takes {needs} words, and the region has {room} for one; make the region with a layout of this policy"
    )]
    CounterTooLarge {
        /// The limit's name.
        limit: String,
        /// How many words it needs.
        needs: usize,
        /// How many there are.
        room: usize,
    },
    /// A request meets more limits than a permit in the region has room for.
    #[error(
        "the request meets {limits} limits, and the region has room for {room}; make the region with a layout for more"
    )]
    TooManyLimits {
        /// How many it meets.
        limits: usize,
        /// How many there is room for.
        room: usize,
    },
    /// The values that a limit's counter is for, or those that make up a caller, are longer than the region has room for.
    #[error(
        "the key of {what} takes {bytes} bytes, and the region has room for {room}; shorten the values, or make the region with a layout for longer ones"
    )]
    KeyTooLong {
        /// The limit's name, in quotes, or "the caller".
        what: String,
        /// Its length, the lengths of its parts included.
        bytes: usize,
        /// How much there is room for.
        room: usize,
    },
    /// The limiter is to have a store as well.
    #[error("a limiter on a region cannot have a store; give it one of the two")]
    WithStore,
    /// The words do not have the size of their layout.
    #[error("the region has {found} words, and its layout takes {expected}; it is not one that was made with it")]
    WrongSize {
        /// How many there are.
        found: usize,
        /// How many there ought to be.
        expected: usize,
    },
}
