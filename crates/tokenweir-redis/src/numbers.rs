//! Numbers as the scripts take and give them: doubles of eight bytes, the lowest first.

/// What a whole number is in a script: exact up to 2^53. More than that is more than any limit holds.
pub(crate) fn number(value: u64) -> f64 {
    const MOST: u64 = 1 << 53;
    if value > MOST { (2 * MOST) as f64 } else { value as f64 }
}

/// A list being packed.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Vec<u8>);

impl Numbers {
    pub(crate) fn with_capacity(numbers: usize) -> Self {
        Numbers(Vec::with_capacity(8 * numbers))
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn extend(&mut self, values: &[f64]) {
        values.iter().for_each(|value| self.push(*value));
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The numbers of a packed list; what does not fill one is left out.
pub(crate) fn unpacked(bytes: &[u8]) -> impl Iterator<Item = f64> + '_ {
    let (numbers, _) = bytes.as_chunks::<8>();
    numbers.iter().map(|number| f64::from_le_bytes(*number))
}
