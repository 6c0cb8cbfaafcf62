//! Why a limiter cannot be, or do, what it is asked on a region.

/// What a region cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// The process was forked off the one that attached to the region.
    #[error("this process was forked off after the limiter was built on a region; build limiters after the fork")]
    Forked,
    /// Somebody else's policy is in force in the region.
    #[error(
        "the region counts for another policy; build on it with the policy that it was made for, or make another region for this one"
    )]
    OtherPolicy,
    /// The policy of a region does not change.
    #[error("the policy of a region cannot be changed; make another region for the new one")]
    PolicyFixed,
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
