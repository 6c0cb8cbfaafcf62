//! Where a counter's words are: in the counter itself, or in a region that several processes share.
//!
//! An algorithm is written once, over either. What is in a region stays where it is for as long as the process runs.

use super::floors::{Floors, Histories, Keeps};
use crate::sync::Word;
use once_cell::race::OnceBox;
use std::fmt::Debug;
use std::sync::Arc;

/// A place for words.
pub(crate) trait Home: Debug + Sized + 'static {
    /// A number of words that the algorithm knows.
    type Few<const N: usize>: Debug + Send + Sync;
    /// A number that is known when the counter is made.
    type Many: Debug + Send + Sync;
    /// How a bucket finds the floors that another process made.
    type Kept: Debug + Send + Sync;

    fn few<const N: usize>(words: &Self::Few<N>) -> &[Word; N];
    fn many(words: &Self::Many) -> &[Word];
    /// The floors of a bucket that takes `filling` nanoseconds from empty to full, from `now` on unless it has some. None
    /// if there is no room.
    fn floors(kept: &Self::Kept, histories: &Arc<Histories>, filling: u64, now: u64) -> Option<Floors<Self>>;
    /// The floors that a bucket has.
    fn kept<'a>(cell: &'a OnceBox<Floors<Self>>, kept: &Self::Kept) -> Option<&'a Floors<Self>>;
}

/// In the counter.
#[derive(Debug)]
pub(crate) struct Own;

impl Home for Own {
    type Few<const N: usize> = [Word; N];
    type Many = Box<[Word]>;
    type Kept = ();

    #[inline(always)]
    fn few<const N: usize>(words: &[Word; N]) -> &[Word; N] {
        words
    }

    #[inline(always)]
    fn many(words: &Box<[Word]>) -> &[Word] {
        words
    }

    fn floors(_: &(), histories: &Arc<Histories>, filling: u64, now: u64) -> Option<Floors> {
        Some(Floors::new(filling, now, histories.place()?))
    }

    #[inline(always)]
    fn kept<'a>(cell: &'a OnceBox<Floors>, _: &()) -> Option<&'a Floors> {
        cell.get()
    }
}

/// In a region.
#[derive(Debug)]
pub(crate) struct Shared;

impl Home for Shared {
    type Few<const N: usize> = &'static [Word; N];
    type Many = &'static [Word];
    type Kept = Keeps;

    #[inline(always)]
    fn few<'a, const N: usize>(words: &'a &'static [Word; N]) -> &'a [Word; N] {
        words
    }

    #[inline(always)]
    fn many<'a>(words: &'a &'static [Word]) -> &'a [Word] {
        words
    }

    fn floors(kept: &Keeps, _: &Arc<Histories>, filling: u64, now: u64) -> Option<Floors<Shared>> {
        kept.floors(filling, now)
    }

    fn kept<'a>(cell: &'a OnceBox<Floors<Shared>>, kept: &Keeps) -> Option<&'a Floors<Shared>> {
        match cell.get() {
            Some(floors) => Some(floors),
            None => kept.existing().map(|floors| cell.get_or_init(|| Box::new(floors))),
        }
    }
}

/// So many words of this value.
pub(crate) fn filled(words: usize, value: u64) -> Box<[Word]> {
    (0..words).map(|_| Word::new(value)).collect()
}
