//! What a permit's record on the server says to whoever settles it: the estimate, and what each limit charges.

use crate::numbers::unpacked;
use crate::plan::{MOST_LEGS, Plan, Rules};
use crate::together::Queues;
use tokenweir::Estimate;
use tokenweir::policy::ChargeRule;

/// A permit as it stands on the server.
pub(crate) struct Record {
    pub(crate) plan: Plan,
    pub(crate) estimate: Estimate,
    pub(crate) observed: (u64, u64),
}

/// The part that the scripts only keep.
pub(crate) fn write(plan: &Plan, estimate: Estimate) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + plan.legs.len() * 160);
    let mut put = |bytes_of: &[u8]| bytes.extend_from_slice(bytes_of);
    put(&estimate.input.to_le_bytes());
    put(&estimate.output.to_le_bytes());
    for leg in &plan.legs {
        leg.charge.to_words().iter().for_each(|word| put(&word.to_le_bytes()));
        for length in [leg.identity.start, leg.identity.end, leg.key.len()] {
            put(&(length as u32).to_le_bytes());
        }
        put(&leg.key);
    }
    bytes
}

/// Reads a whole record; `None` if it is none.
pub(crate) fn read(bytes: &[u8], rules: &Rules, tag: Vec<u8>) -> Option<Record> {
    let mut head = unpacked(bytes.get(..48)?);
    let (kind, _deadline, legs) = (head.next()?, head.next()?, head.next()?);
    let observed = (head.next()? as u64, head.next()? as u64);
    let count = legs as usize;
    if kind != 2005.0 || count > MOST_LEGS {
        return None;
    }
    // After this come the limits' parts, which only the scripts read.
    let mut rest = bytes.get(48..)?;
    let estimate = Estimate::new(word(&mut rest)?, word(&mut rest)?);
    let mut legs = Vec::with_capacity(count);
    for _ in 0..count {
        let mut words = [0; 5];
        for place in &mut words {
            *place = word(&mut rest)?;
        }
        let charge = ChargeRule::from_words(words)?;
        let (from, to, length) = (length(&mut rest)?, length(&mut rest)?, length(&mut rest)?);
        let (key, more) = rest.split_at_checked(length)?;
        rest = more;
        if from > to || to > length || !key.starts_with(&tag) {
            return None;
        }
        legs.push(rules.leg(key.to_vec(), from..to, charge)?);
    }
    Some(Record { plan: Plan { legs, tag, allowances: Vec::new(), queues: Queues::default() }, estimate, observed })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, more) = rest.split_first_chunk::<N>()?;
    *rest = more;
    Some(*first)
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    take(rest).map(|bytes| u32::from_le_bytes(bytes) as usize)
}
