//! Entries to try an index on: each has a key and counts its lives.

use super::{Index, Links, MARK, target};
use crate::sync::{
    Ordering::{Acquire, Release},
    Word,
};

pub(super) struct Entry {
    link: Word,
    key: Word,
    life: Word,
}

pub(super) struct Entries {
    all: Vec<Entry>,
    /// Called as an act begins, wherever a walk comes to an entry, and before its key is read: other threads may come
    /// in there.
    pause: fn(&Word),
    /// For `pause`, shared by all threads.
    turns: Word,
}

impl Links for Entries {
    fn link(&self, index: usize) -> &Word {
        self.pause();
        &self.all[index].link
    }
}

impl Entries {
    fn pause(&self) {
        (self.pause)(&self.turns);
    }
}

/// An index of two chains at least (a hash is a chain's number), and its entries.
pub(super) struct Stage {
    pub(super) index: Index,
    pub(super) entries: Entries,
}

impl Stage {
    pub(super) fn new(entries: usize, pause: fn(&Word)) -> Self {
        let entry = |_| Entry { link: Word::new(0), key: Word::new(0), life: Word::new(0) };
        let all = (0..entries).map(entry).collect();
        Stage { index: Index::new(1), entries: Entries { all, pause, turns: Word::new(0) } }
    }

    pub(super) fn key(&self, entry: usize) -> u64 {
        self.entries.pause();
        self.entries.all[entry].key.load(Acquire)
    }

    pub(super) fn life(&self, entry: usize) -> u64 {
        self.entries.all[entry].life.load(Acquire)
    }

    /// Begins another life of an entry that the caller owns.
    pub(super) fn insert(&self, chain: u64, entry: usize, key: u64) -> Result<(), usize> {
        self.entries.pause();
        self.entries.all[entry].life.store(self.life(entry) + 1, Release);
        self.entries.all[entry].key.store(key, Release);
        self.index.insert(&self.entries, chain, entry, |other| self.key(other) == key)
    }

    /// Ends this life of an entry.
    pub(super) fn remove(&self, chain: u64, entry: usize, life: u64) -> bool {
        self.entries.pause();
        self.index.remove(&self.entries, chain, entry, || self.life(entry) == life)
    }

    pub(super) fn find(&self, chain: u64, key: u64) -> Option<usize> {
        self.entries.pause();
        self.index.find(&self.entries, chain, |entry| (self.key(entry) == key).then_some(entry))
    }

    /// Whether a chain from which entries go, but never to come again, has `entry` in it, leaving or not.
    #[cfg(loom)]
    pub(super) fn meets(&self, chain: u64, entry: usize) -> bool {
        let mut word = self.index.head(chain).load(Acquire);
        while let Some(at) = target(word) {
            if at == entry {
                return true;
            }
            word = self.entries.all[at].link.load(Acquire);
        }
        false
    }

    /// The entries of a chain in which nobody changes anything, first to last.
    pub(super) fn chain(&self, chain: u64) -> Vec<usize> {
        let mut entries = Vec::new();
        let mut word = self.index.head(chain).load(Acquire);
        while let Some(entry) = target(word) {
            assert!(!entries.contains(&entry), "the chain is a ring");
            entries.push(entry);
            word = self.entries.all[entry].link.load(Acquire);
            assert_eq!(word & MARK, 0, "left in the chain with its mark");
        }
        entries
    }

    /// The keys of such a chain in ascending order.
    pub(super) fn keys(&self, chain: u64) -> Vec<u64> {
        let mut keys: Vec<_> = self.chain(chain).into_iter().map(|entry| self.key(entry)).collect();
        keys.sort_unstable();
        keys
    }
}
