//! A hash index without locks over entries that stay where they are, made of words only.
//!
//! Michael's lock-free hash table (SPAA 2002), in the form for memory that is reused in place. Each head leads a chain
//! of entries, joined by one link word each; new entries come first. A removed entry may at once begin another life, in
//! any chain, under the eyes of those who still walk over it. Three rules keep that safe:
//! - every change of a head or link moves its tag on, also from one life of an entry to the next, so that a word that
//!   reads the same is the same;
//! - what a walk reads of an entry counts only if the word that led there has not changed meanwhile: the entry was then
//!   in the chain all the while;
//! - an entry leaves in two steps, a mark on its link, which freezes it, and the turning of the word before it, which
//!   anyone who passes does. The remover returns after both.
//!
//! Whoever fails at a step does so because another has made one: nobody waits. A tag returns after 2^38 changes, and
//! only a thread that sleeps between two steps through exactly so many changes of one word is deceived.

use crate::counter::words::{Home, Own, Shared, filled};
use crate::sync::{
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    Word,
};

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(test)]
mod stage;
#[cfg(all(test, not(loom)))]
mod tests;

/// Where a head or link leads: the entry's index from 1, or 0 at the end of the chain.
const TARGET: u64 = (1 << 25) - 1;
/// On the link of an entry that is leaving.
const MARK: u64 = 1 << 25;
/// One step of the tag, which takes the rest of the word.
const TAG: u64 = 1 << 26;

/// The most entries that an index is made for.
const MOST: usize = 1 << 24;
/// Heads for each entry: with more than half of them empty, few entries share a chain.
const SPREAD: usize = 2;
/// The most heads, 32 MiB: 2^24 entries then stand four to a chain.
const HEADS: usize = 1 << 22;
/// Where a look-up gives up: no chain grows so long, but a walk may be led on by entries that move.
const STEPS: usize = 256;

/// The entries that an index joins. A link word begins as 0 and is the index's own from then on.
pub(crate) trait Links {
    /// The link word of the entry at `index`.
    fn link(&self, index: usize) -> &Word;
}

/// The heads of the chains.
pub(crate) struct Index<H: Home = Own> {
    heads: H::Many,
}

/// A place in a chain where an entry that is not leaving stood while it was looked at.
struct Member<'a> {
    index: usize,
    /// The word before it, and the value with which that leads to it.
    before: &'a Word,
    leading: u64,
    /// Its own link, and the value with which that leads on.
    link: &'a Word,
    onward: u64,
}

enum Walked<'a> {
    /// As far as this member.
    To(Member<'a>),
    /// To the end of the chain, from a head of this value: while it has it, nobody has come in since. (Nor has it if the
    /// walk itself turned it.)
    Through(u64),
}

impl Index {
    /// An index of up to `entries` entries, at most 2^24. Its size is fixed: 16 to 32 bytes for each of them, at most 32
    /// MiB.
    pub(crate) fn new(entries: usize) -> Self {
        Index { heads: filled(Self::heads_for(entries), 0) }
    }

    /// How many heads an index of so many entries has: a power of two.
    pub(crate) fn heads_for(entries: usize) -> usize {
        (entries.clamp(1, MOST) * SPREAD).next_power_of_two().min(HEADS)
    }
}

impl Index<Shared> {
    /// The index with these heads, of which there are as many as [`heads_for`](Index::heads_for) says. Zeros are an empty
    /// one.
    pub(crate) fn shared(heads: &'static [Word]) -> Self {
        Index { heads }
    }
}

impl<H: Home> Index<H> {
    /// Passes the entries in the chain of `hash` to `see` until it returns something. Quick, and writes nothing, but
    /// while entries are removed it may miss one, or pass one that has left, with another key by now: `see` takes hold
    /// of the entry before it believes what it reads, and who finds nothing goes on to [`insert`](Index::insert).
    #[inline]
    pub(crate) fn find<T>(&self, links: &impl Links, hash: u64, mut see: impl FnMut(usize) -> Option<T>) -> Option<T> {
        // Acquire: an entry is seen after what was written to it before it came in.
        let mut word = self.head(hash).load(Acquire);
        for _ in 0..STEPS {
            let index = target(word)?;
            let found = see(index);
            if found.is_some() {
                return found;
            }
            word = links.link(index).load(Acquire);
        }
        None
    }

    /// Puts the entry at `index`, which is the caller's own and in no chain, into the chain of `hash`, unless an entry
    /// there is the `same`: then `Err` with that one's index. Misses nobody: of two inserts of one key into a chain
    /// without it, one succeeds. `same` may be asked again about an entry, and about one that leaves meanwhile, whose
    /// answer then does not count; for that it must read with Acquire what the next owner writes with Release.
    pub(crate) fn insert(
        &self,
        links: &impl Links,
        hash: u64,
        index: usize,
        mut same: impl FnMut(usize) -> bool,
    ) -> Result<(), usize> {
        debug_assert!(index < MOST, "a word has room for 2^24 entries");
        let link = links.link(index);
        loop {
            let first = match self.walk(links, hash, &mut same) {
                Walked::To(member) => return Err(member.index),
                Walked::Through(first) => first,
            };
            // Release: who still looks at an earlier life and reads this also sees that the word before it has changed.
            link.store(turned(link.load(Relaxed), first), Release);
            // AcqRel: the entry's words are seen by all whom this word leads to it.
            if self.head(hash).compare_exchange(first, turned(first, index as u64 + 1), AcqRel, Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// Takes the entry at `index` out of the chain of `hash`. True for one caller in each life of the entry: it is then
    /// out, and that caller's own to use again at once. False if it is not in the chain, or is not the one `meant`: a
    /// caller who may come so late that the entry has begun another life tells them apart there.
    pub(crate) fn remove(&self, links: &impl Links, hash: u64, index: usize, mut meant: impl FnMut() -> bool) -> bool {
        loop {
            let Walked::To(at) = self.walk(links, hash, |member| member == index) else { return false };
            // Asked after the link was read: if the mark can be set, that was the life which is meant.
            if !meant() {
                return false;
            }
            // AcqRel: a link's changes are seen in their order, and all of them by the next owner.
            if at.link.compare_exchange(at.onward, marked(at.onward), AcqRel, Relaxed).is_err() {
                continue;
            }
            if at.before.compare_exchange(at.leading, turned(at.leading, at.onward), AcqRel, Relaxed).is_err() {
                // A walk to the end turns the word before it, or finds it gone by another's hand.
                self.walk(links, hash, |_| false);
            }
            return true;
        }
    }

    /// Walks the chain of `hash` to the first member that `stop` picks, and takes those that are leaving out of it.
    fn walk<'a>(&'a self, links: &'a impl Links, hash: u64, mut stop: impl FnMut(usize) -> bool) -> Walked<'a> {
        let head = self.head(hash);
        'anew: loop {
            // Acquire, here and below: an entry is seen as it was when it came in, or later.
            let first = head.load(Acquire);
            let (mut before, mut leading) = (head, first);
            while let Some(index) = target(leading) {
                let link = links.link(index);
                let onward = link.load(Acquire);
                if before.load(Relaxed) != leading {
                    continue 'anew;
                }
                if onward & MARK != 0 {
                    let past = turned(leading, onward);
                    // AcqRel: who comes by here later, its remover above all, sees that it is out.
                    if before.compare_exchange(leading, past, AcqRel, Relaxed).is_err() {
                        continue 'anew;
                    }
                    leading = past;
                    continue;
                }
                // A wrong no about an entry that leaves meanwhile does no harm: the next step fails on its link, and
                // at the end of the chain it does not matter what it was.
                if stop(index) {
                    if before.load(Relaxed) != leading {
                        continue 'anew;
                    }
                    return Walked::To(Member { index, before, leading, link, onward });
                }
                (before, leading) = (link, onward);
            }
            return Walked::Through(first);
        }
    }

    #[inline]
    fn head(&self, hash: u64) -> &Word {
        {
            let heads = H::many(&self.heads);
            &heads[hash as usize & (heads.len() - 1)]
        }
    }
}

/// The index of the entry that a word leads to.
#[inline]
fn target(word: u64) -> Option<usize> {
    ((word & TARGET) as usize).checked_sub(1)
}

/// The next value of `word`, which then leads where `to` does.
fn turned(word: u64, to: u64) -> u64 {
    (word & !(TARGET | MARK)).wrapping_add(TAG) | (to & TARGET)
}

/// The next value of an unmarked `word`, with the mark.
fn marked(word: u64) -> u64 {
    word.wrapping_add(TAG) | MARK
}
