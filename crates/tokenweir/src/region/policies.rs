//! The policies that a region keeps: each a document in a place of its own, named by the permits that were admitted under it.
//!
//! A place is written while nobody is to read it, then named by the one word that says which policy is in force. So a process
//! that is killed meanwhile leaves a place that nobody reads.

use super::layout::{
    Head, POLICIES, POLICY_BITS, POLICY_GENERATION, POLICY_HEADER, POLICY_LENGTH, POLICY_SUM, Sections,
};
use super::{Layout, RegionError, step};
use crate::sync::{
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    Word,
};

/// A word that names a policy has its generation above its place; one that names a permit's has the caller's record below
/// both.
const RECORD_BITS: u32 = 24;
const RECORD: u64 = (1 << RECORD_BITS) - 1;
const PLACE: u64 = (1 << POLICY_BITS) - 1;

/// A policy of a region: policies are counted from 1, and each is in one of the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) generation: u64,
    pub(crate) place: usize,
}

impl Name {
    /// As one word; never 0.
    pub(crate) fn word(self) -> u64 {
        self.generation << POLICY_BITS | self.place as u64
    }

    pub(crate) fn of(word: u64) -> Self {
        Name { generation: word >> POLICY_BITS, place: (word & PLACE) as usize }
    }

    /// What a permit of this policy names its route by: with the record of its caller.
    pub(crate) fn with(self, record: usize) -> u64 {
        self.word() << RECORD_BITS | record as u64 & RECORD
    }

    /// The policy and the caller's record of such a word.
    pub(crate) fn and_record(word: u64) -> (Self, usize) {
        (Self::of(word >> RECORD_BITS), (word & RECORD) as usize)
    }
}

/// The policies of a region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policies {
    in_force: &'static Word,
    places: &'static [Word],
    words: usize,
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Policies {
    pub(crate) fn new(sections: &Sections, layout: &Layout) -> Self {
        Policies { in_force: sections.head(Head::InForce), places: sections.policies, words: layout.policy_words() }
    }

    /// The word that says which policy is in force.
    pub(crate) fn word(&self) -> &'static Word {
        self.in_force
    }

    /// Which policy is in force; none before the first.
    #[inline]
    pub(crate) fn name(&self) -> Option<Name> {
        // SeqCst: see `publish`.
        let word = self.in_force.load(SeqCst);
        (word != 0).then(|| Name::of(word))
    }

    fn place(&self, place: usize) -> &'static [Word] {
        &self.places[place.min(POLICIES - 1) * self.words..][..self.words]
    }

    /// The bytes that a document may have.
    pub(crate) fn room(&self) -> usize {
        (self.words - POLICY_HEADER) * 8
    }

    /// The policy that a place has; 0: none that is whole.
    pub(crate) fn generation(&self, place: usize) -> u64 {
        self.place(place)[POLICY_GENERATION].load(Acquire)
    }

    /// The document of a policy; none if its place is another's by now.
    pub(crate) fn document(&self, name: Name) -> Result<Option<Vec<u8>>, RegionError> {
        let words = self.place(name.place);
        let is_there = || words[POLICY_GENERATION].load(Acquire) == name.generation;
        if !is_there() {
            return Ok(None);
        }
        let length = words[POLICY_LENGTH].load(Acquire) as usize;
        let sum = words[POLICY_SUM].load(Acquire);
        let taken = words[POLICY_HEADER..].iter().take(length.div_ceil(8));
        // Acquire: who has read a word of the next document sees that the place is another's.
        let mut bytes: Vec<u8> = taken.flat_map(|word| word.load(Acquire).to_le_bytes()).collect();
        bytes.truncate(length);
        match is_there() {
            false => Ok(None),
            true if bytes.len() == length && checksum(&bytes) == sum => Ok(Some(bytes)),
            true => Err(RegionError::PolicyDamaged),
        }
    }

    /// The document of the policy in force, and which it is; none before the first.
    pub(crate) fn in_force(&self) -> Result<Option<(Vec<u8>, Name)>, RegionError> {
        while let Some(name) = self.name() {
            if let Some(document) = self.document(name)? {
                return Ok(Some((document, name)));
            }
            if self.name() == Some(name) {
                return Err(RegionError::PolicyDamaged);
            }
        }
        Ok(None)
    }

    /// Writes a policy into a place that nobody reads. For the one who changes the policy.
    pub(crate) fn write(&self, name: Name, document: &[u8]) {
        let words = self.place(name.place);
        words[POLICY_GENERATION].store(0, Relaxed);
        step("policy to be written");
        // Release: as `document` has it.
        words[POLICY_LENGTH].store(document.len() as u64, Release);
        words[POLICY_SUM].store(checksum(document), Release);
        for (bytes, word) in document.chunks(8).zip(&words[POLICY_HEADER..]) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Release);
        }
        step("policy written");
        words[POLICY_GENERATION].store(name.generation, Release);
        step("policy whole");
    }

    /// Puts a policy in force that is whole. For the one who changes the policy.
    pub(crate) fn publish(&self, name: Name) {
        // SeqCst, as is what a request does that names its policy and then looks whether it is in force: it sees the change,
        // or whoever looks for permits of the policy before sees its permit.
        self.in_force.swap(name.word(), SeqCst);
    }
}

#[cfg(all(test, not(loom), not(shuttle)))]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn policies() -> Policies {
        let layout = Layout::of(&Policy::default()).policy_bytes(4096);
        let words: Vec<Word> = (0..layout.words()).map(|_| Word::new(0)).collect();
        Policies::new(&Sections::new(words.leak(), &layout).unwrap(), &layout)
    }

    #[test]
    fn a_policy_is_read_as_it_was_written_and_not_once_its_place_is_anothers() {
        let policies = policies();
        assert_eq!(policies.in_force(), Ok(None));
        for length in [0, 1, 8, 4095, 4096] {
            let (document, name) = (vec![7; length], Name { generation: length as u64 + 1, place: 3 });
            policies.write(name, &document);
            policies.publish(name);
            assert_eq!(policies.in_force(), Ok(Some((document, name))));
        }
        assert_eq!(policies.document(Name { generation: 9, place: 3 }), Ok(None));
        assert_eq!(policies.document(Name { generation: 4097, place: 2 }), Ok(None));
        policies.place(3)[POLICY_HEADER].fetch_add(1, Relaxed);
        assert_eq!(policies.in_force(), Err(RegionError::PolicyDamaged));
    }

    #[test]
    fn a_permit_names_its_policy_and_its_caller() {
        let name = Name { generation: (1 << 36) - 1, place: 7 };
        for record in [0, 1, (1 << 24) - 1] {
            assert_eq!(Name::and_record(name.with(record)), (name, record));
        }
        assert_eq!(Name::of(name.word()), name);
    }
}
