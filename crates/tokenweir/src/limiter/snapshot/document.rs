//! The snapshot as it is written.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The counters of a limiter at one instant, in terms that any process can take up.
///
/// It is written and read with serde; in JSON it looks like this:
///
/// ```json
/// {
///   "version": 1,
///   "taken_at": 1774699200000000000,
///   "limits": [{
///     "name": "project tpm", "meter": "total", "scope": ["project"],
///     "algorithm": {"bucket": {
///       "per": 60000000000, "amount": 100000, "burst": 20000, "unit": 16,
///       "counters": [{"key": ["search"], "settled": 989, "state": {"balance": 1245904896}}]
///     }}
///   }]
/// }
/// ```
///
/// | algorithm | of the limit | `state` of each counter |
/// |---|---|---|
/// | `bucket` | `per`, `amount`, `burst`, `unit` | `balance` in 2^-`unit` tokens; below 0 is debt |
/// | `window` | `per`, `sub_windows` | `counted`: pairs of when it leaves and how much, oldest first |
/// | `quota` | `period` in words | `period_start`, `used`: the newest period in which anything was charged |
/// | `in_flight` | | `until`: when each permit that holds a place expires |
///
/// Instants are wall time in nanoseconds since 1970-01-01T00:00:00Z, lengths of time are nanoseconds. `key` has a value for
/// each part of the scope: text where it is UTF-8, else `{"hex": "ff00"}`. `settled` is the lifetime total, with what open
/// permits held counted as spent.
///
/// `version` comes first. A version that this library does not know, an unknown field and a key that does not go with its scope are errors of
/// reading; amounts and instants are taken as they come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Snapshot(pub(super) Written);

impl Snapshot {
    /// The version that this library writes, and the only one that it reads.
    pub const VERSION: u32 = 1;

    /// When it was taken: wall time in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn taken_at(&self) -> i64 {
        self.0.taken_at
    }

    /// How many counters it has.
    pub fn counters(&self) -> usize {
        self.0.limits.iter().map(|limit| limit.algorithm.counters()).sum()
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from)?;
        for limit in &written.limits {
            limit.check().map_err(D::Error::custom)?;
        }
        Ok(Snapshot(written))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// Before everything else: what follows it is another version's own.
    pub(super) version: Version,
    pub(super) taken_at: i64,
    pub(super) limits: Vec<SavedLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Version(pub(super) u32);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let version = u32::deserialize(from)?;
        if version == Snapshot::VERSION {
            return Ok(Version(version));
        }
        let known = Snapshot::VERSION;
        Err(D::Error::custom(format!(
            "the snapshot is of version {version}, and this library reads version {known}: read it with the release that \
             wrote it, or begin without it"
        )))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedLimit {
    pub(super) name: String,
    pub(super) meter: String,
    pub(super) scope: Vec<String>,
    pub(super) algorithm: SavedAlgorithm,
}

/// What a limit was, as far as its counters depend on it, and the counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SavedAlgorithm {
    Bucket { per: u64, amount: u64, burst: u64, unit: u32, counters: Vec<SavedCounter<Balance>> },
    Window { per: u64, sub_windows: u32, counters: Vec<SavedCounter<Counted>> },
    Quota { period: String, counters: Vec<SavedCounter<Used>> },
    InFlight { counters: Vec<SavedCounter<Open>> },
}

impl SavedAlgorithm {
    /// How many counters there are.
    pub(super) fn counters(&self) -> usize {
        match self {
            SavedAlgorithm::Bucket { counters, .. } => counters.len(),
            SavedAlgorithm::Window { counters, .. } => counters.len(),
            SavedAlgorithm::Quota { counters, .. } => counters.len(),
            SavedAlgorithm::InFlight { counters } => counters.len(),
        }
    }

    fn keys(&self) -> Vec<&[KeyPart]> {
        fn of<S>(counters: &[SavedCounter<S>]) -> Vec<&[KeyPart]> {
            counters.iter().map(|counter| &*counter.key).collect()
        }
        match self {
            SavedAlgorithm::Bucket { counters, .. } => of(counters),
            SavedAlgorithm::Window { counters, .. } => of(counters),
            SavedAlgorithm::Quota { counters, .. } => of(counters),
            SavedAlgorithm::InFlight { counters } => of(counters),
        }
    }
}

impl SavedLimit {
    fn check(&self) -> Result<(), String> {
        for (at, key) in self.algorithm.keys().into_iter().enumerate() {
            let (parts, scope) = (key.len(), self.scope.len());
            if parts != scope || key.iter().any(|part| part.0.is_empty()) {
                return Err(format!(
                    "limit {:?}, counter {at}: its key has {parts} parts and its scope {scope}, or a part is empty; give \
                     one value for each part of the scope",
                    self.name
                ));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedCounter<S> {
    pub(super) key: Vec<KeyPart>,
    pub(super) settled: u64,
    pub(super) state: S,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Balance {
    pub(super) balance: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counted {
    pub(super) counted: Vec<(i64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Used {
    pub(super) period_start: i64,
    pub(super) used: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    pub(super) until: Vec<i64>,
}

/// One value of a scope: any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPart(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrHex {
    Text(String),
    Hex(Hex),
}

impl Serialize for KeyPart {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(to),
            Err(_) => Hex { hex: self.0.iter().map(|byte| format!("{byte:02x}")).collect() }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for KeyPart {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match TextOrHex::deserialize(from)? {
            TextOrHex::Text(text) => Ok(KeyPart(text.into_bytes())),
            TextOrHex::Hex(Hex { hex }) => match unhex(&hex) {
                Some(bytes) => Ok(KeyPart(bytes)),
                None => Err(D::Error::custom(format!("{hex:?} is not pairs of hexadecimal digits"))),
            },
        }
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        })
        .collect()
}
