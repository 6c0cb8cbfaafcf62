//! The codes, in one table.

use crate::border::guarded_or;
use std::ffi::{CStr, c_char};
use std::ptr;

/// What a call came to. 0 is OK; that a request is denied is a result, not an error, so it is OK, too.
///
/// Codes are stable and never used again for something else; those below 1000, and those of quota files, shared regions and servers,
/// are the same in every language. A later
/// library may return codes that this header does not have: treat them as errors.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum tokenweir_code {
    /// Done.
    TOKENWEIR_OK = 0,
    /// The policy is not valid; the message has a line for each problem.
    TOKENWEIR_POLICY_INVALID = 1,
    /// The project, the deployment or a caller key that the policy names is empty.
    TOKENWEIR_EMPTY_KEY = 10,
    /// A limit requires a caller key that the request lacks.
    TOKENWEIR_KEY_MISSING = 11,
    /// A limit counts cost and no price fits the deployment.
    TOKENWEIR_NO_PRICE = 12,
    /// The request gives the same caller key twice.
    TOKENWEIR_KEY_TWICE = 13,
    /// An estimate is above 2^53 tokens.
    TOKENWEIR_ESTIMATE_TOO_LARGE = 14,
    /// The reported usage cannot be.
    TOKENWEIR_USAGE_INVALID = 20,
    /// The permit was settled, cancelled or abandoned before, or it expired.
    TOKENWEIR_PERMIT_SETTLED = 21,
    /// This limiter never issued the permit.
    TOKENWEIR_PERMIT_UNKNOWN = 22,
    /// There are as many open permits as the limiter was made for.
    TOKENWEIR_PERMITS_EXHAUSTED = 30,
    /// A route cannot be held: the table of counters or routes is full of entries in use.
    TOKENWEIR_TABLE_FULL = 31,
    /// The store that keeps quotas failed.
    TOKENWEIR_STORE_FAILED = 40,
    /// The limiter is on a shared region, and that cannot do what was asked: this process was forked off the one that made the
    /// limiter, the region counts for another policy or cannot change it now, or something is larger than it has room for.
    TOKENWEIR_REGION_FAILED = 41,
    /// A pointer that must not be NULL is NULL.
    TOKENWEIR_NULL_ARGUMENT = 1000,
    /// A text is not UTF-8.
    TOKENWEIR_UTF8_INVALID = 1001,
    /// A struct's size field is not the size that this library knows.
    TOKENWEIR_STRUCT_SIZE = 1002,
    /// A reserved field of a struct is not zero.
    TOKENWEIR_RESERVED_NOT_ZERO = 1003,
    /// Another argument is out of its range.
    TOKENWEIR_ARGUMENT_INVALID = 1004,
    /// The clock is of another kind: only a coarse one ticks, only a manual one is set.
    TOKENWEIR_CLOCK_KIND = 1005,
    /// The text is no snapshot, or one of another version.
    TOKENWEIR_SNAPSHOT_INVALID = 1006,
    /// The body of a request is not one JSON object.
    TOKENWEIR_BODY_INVALID = 1007,
    /// The options of a console cannot be taken.
    TOKENWEIR_OPTIONS_INVALID = 1008,
    /// The console has no resource of this name.
    TOKENWEIR_RESOURCE_UNKNOWN = 1009,
    /// Another process has the quota file open, or this one has; or this one was forked from the one that opened it.
    TOKENWEIR_QUOTA_FILE_IN_USE = 1010,
    /// The quota file is damaged, or none. It is as it was.
    TOKENWEIR_QUOTA_FILE_DAMAGED = 1011,
    /// A release of another format has written the quota file. It is as it was.
    TOKENWEIR_QUOTA_FILE_VERSION = 1012,
    /// The operating system refused to open, read or write a quota file.
    TOKENWEIR_QUOTA_FILE_IO = 1013,
    /// Another limiter keeps its quotas in this file under this name.
    TOKENWEIR_STORE_NAME_IN_USE = 1014,
    /// The head of a response comes before its pieces, and once.
    TOKENWEIR_CALL_ORDER = 1015,
    /// The operating system refused to make, open, map or lock a shared region; or it has none.
    TOKENWEIR_REGION_IO = 1020,
    /// The file is no shared region, or a damaged one. It is as it was.
    TOKENWEIR_REGION_DAMAGED = 1021,
    /// A release of another format has made the shared region. It is as it was.
    TOKENWEIR_REGION_VERSION = 1022,
    /// The shared region was made with another layout.
    TOKENWEIR_REGION_LAYOUT = 1023,
    /// Others may use the shared region's file, or it is somebody else's.
    TOKENWEIR_REGION_NOT_PRIVATE = 1024,
    /// The shared region is from before the machine was restarted.
    TOKENWEIR_REGION_RESTARTED = 1025,
    /// As many limiters are on the shared region as there may be.
    TOKENWEIR_REGION_CROWDED = 1026,
    /// The address of a server is none.
    TOKENWEIR_REDIS_ADDRESS = 1030,
    /// A certificate for a server cannot be used.
    TOKENWEIR_REDIS_CERTIFICATE = 1031,
    /// A setting of a limiter on a server is out of its range.
    TOKENWEIR_REDIS_SETTING = 1032,
    /// Counters are to be spread over slots by a part that a limit's scope does not have; or a permit is asked for without its request
    /// where they are.
    TOKENWEIR_REDIS_ACROSS_SLOTS = 1033,
    /// A request meets more limits than one script decides on.
    TOKENWEIR_REDIS_TOO_MANY_LIMITS = 1034,
    /// The server answered, and not with a decision: it does not permit what is needed, or something else is under a key.
    TOKENWEIR_REDIS_REFUSED = 1035,
    /// Only the server can answer this, and it cannot be asked: it is away or late, or lets nobody in with this password.
    TOKENWEIR_REDIS_AWAY = 1036,
    /// The thread of a limiter on a server cannot be started.
    TOKENWEIR_REDIS_RUNTIME = 1037,
    /// This process was forked from the one that made the limiter on a server, whose thread it lacks.
    TOKENWEIR_REDIS_FORKED = 1038,
    /// The library panicked, which is a fault of its own. The limiter goes on.
    TOKENWEIR_PANIC = 1099,
}

use tokenweir_code::*;

/// All of them, ascending.
pub(crate) const CODES: [tokenweir_code; 47] = [
    TOKENWEIR_OK,
    TOKENWEIR_POLICY_INVALID,
    TOKENWEIR_EMPTY_KEY,
    TOKENWEIR_KEY_MISSING,
    TOKENWEIR_NO_PRICE,
    TOKENWEIR_KEY_TWICE,
    TOKENWEIR_ESTIMATE_TOO_LARGE,
    TOKENWEIR_USAGE_INVALID,
    TOKENWEIR_PERMIT_SETTLED,
    TOKENWEIR_PERMIT_UNKNOWN,
    TOKENWEIR_PERMITS_EXHAUSTED,
    TOKENWEIR_TABLE_FULL,
    TOKENWEIR_STORE_FAILED,
    TOKENWEIR_REGION_FAILED,
    TOKENWEIR_NULL_ARGUMENT,
    TOKENWEIR_UTF8_INVALID,
    TOKENWEIR_STRUCT_SIZE,
    TOKENWEIR_RESERVED_NOT_ZERO,
    TOKENWEIR_ARGUMENT_INVALID,
    TOKENWEIR_CLOCK_KIND,
    TOKENWEIR_SNAPSHOT_INVALID,
    TOKENWEIR_BODY_INVALID,
    TOKENWEIR_OPTIONS_INVALID,
    TOKENWEIR_RESOURCE_UNKNOWN,
    TOKENWEIR_QUOTA_FILE_IN_USE,
    TOKENWEIR_QUOTA_FILE_DAMAGED,
    TOKENWEIR_QUOTA_FILE_VERSION,
    TOKENWEIR_QUOTA_FILE_IO,
    TOKENWEIR_STORE_NAME_IN_USE,
    TOKENWEIR_CALL_ORDER,
    TOKENWEIR_REGION_IO,
    TOKENWEIR_REGION_DAMAGED,
    TOKENWEIR_REGION_VERSION,
    TOKENWEIR_REGION_LAYOUT,
    TOKENWEIR_REGION_NOT_PRIVATE,
    TOKENWEIR_REGION_RESTARTED,
    TOKENWEIR_REGION_CROWDED,
    TOKENWEIR_REDIS_ADDRESS,
    TOKENWEIR_REDIS_CERTIFICATE,
    TOKENWEIR_REDIS_SETTING,
    TOKENWEIR_REDIS_ACROSS_SLOTS,
    TOKENWEIR_REDIS_TOO_MANY_LIMITS,
    TOKENWEIR_REDIS_REFUSED,
    TOKENWEIR_REDIS_AWAY,
    TOKENWEIR_REDIS_RUNTIME,
    TOKENWEIR_REDIS_FORKED,
    TOKENWEIR_PANIC,
];

impl tokenweir_code {
    pub(crate) const fn name(self) -> &'static CStr {
        match self {
            TOKENWEIR_OK => c"OK",
            TOKENWEIR_POLICY_INVALID => c"POLICY_INVALID",
            TOKENWEIR_EMPTY_KEY => c"EMPTY_KEY",
            TOKENWEIR_KEY_MISSING => c"KEY_MISSING",
            TOKENWEIR_NO_PRICE => c"NO_PRICE",
            TOKENWEIR_KEY_TWICE => c"KEY_TWICE",
            TOKENWEIR_ESTIMATE_TOO_LARGE => c"ESTIMATE_TOO_LARGE",
            TOKENWEIR_USAGE_INVALID => c"USAGE_INVALID",
            TOKENWEIR_PERMIT_SETTLED => c"PERMIT_SETTLED",
            TOKENWEIR_PERMIT_UNKNOWN => c"PERMIT_UNKNOWN",
            TOKENWEIR_PERMITS_EXHAUSTED => c"PERMITS_EXHAUSTED",
            TOKENWEIR_TABLE_FULL => c"TABLE_FULL",
            TOKENWEIR_STORE_FAILED => c"STORE_FAILED",
            TOKENWEIR_REGION_FAILED => c"REGION_FAILED",
            TOKENWEIR_NULL_ARGUMENT => c"NULL_ARGUMENT",
            TOKENWEIR_UTF8_INVALID => c"UTF8_INVALID",
            TOKENWEIR_STRUCT_SIZE => c"STRUCT_SIZE",
            TOKENWEIR_RESERVED_NOT_ZERO => c"RESERVED_NOT_ZERO",
            TOKENWEIR_ARGUMENT_INVALID => c"ARGUMENT_INVALID",
            TOKENWEIR_CLOCK_KIND => c"CLOCK_KIND",
            TOKENWEIR_SNAPSHOT_INVALID => c"SNAPSHOT_INVALID",
            TOKENWEIR_BODY_INVALID => c"BODY_INVALID",
            TOKENWEIR_OPTIONS_INVALID => c"OPTIONS_INVALID",
            TOKENWEIR_RESOURCE_UNKNOWN => c"RESOURCE_UNKNOWN",
            TOKENWEIR_QUOTA_FILE_IN_USE => c"QUOTA_FILE_IN_USE",
            TOKENWEIR_QUOTA_FILE_DAMAGED => c"QUOTA_FILE_DAMAGED",
            TOKENWEIR_QUOTA_FILE_VERSION => c"QUOTA_FILE_VERSION",
            TOKENWEIR_QUOTA_FILE_IO => c"QUOTA_FILE_IO",
            TOKENWEIR_STORE_NAME_IN_USE => c"STORE_NAME_IN_USE",
            TOKENWEIR_CALL_ORDER => c"CALL_ORDER",
            TOKENWEIR_REGION_IO => c"REGION_IO",
            TOKENWEIR_REGION_DAMAGED => c"REGION_DAMAGED",
            TOKENWEIR_REGION_VERSION => c"REGION_VERSION",
            TOKENWEIR_REGION_LAYOUT => c"REGION_LAYOUT",
            TOKENWEIR_REGION_NOT_PRIVATE => c"REGION_NOT_PRIVATE",
            TOKENWEIR_REGION_RESTARTED => c"REGION_RESTARTED",
            TOKENWEIR_REGION_CROWDED => c"REGION_CROWDED",
            TOKENWEIR_REDIS_ADDRESS => c"REDIS_ADDRESS",
            TOKENWEIR_REDIS_CERTIFICATE => c"REDIS_CERTIFICATE",
            TOKENWEIR_REDIS_SETTING => c"REDIS_SETTING",
            TOKENWEIR_REDIS_ACROSS_SLOTS => c"REDIS_ACROSS_SLOTS",
            TOKENWEIR_REDIS_TOO_MANY_LIMITS => c"REDIS_TOO_MANY_LIMITS",
            TOKENWEIR_REDIS_REFUSED => c"REDIS_REFUSED",
            TOKENWEIR_REDIS_AWAY => c"REDIS_AWAY",
            TOKENWEIR_REDIS_RUNTIME => c"REDIS_RUNTIME",
            TOKENWEIR_REDIS_FORKED => c"REDIS_FORKED",
            TOKENWEIR_PANIC => c"PANIC",
        }
    }
}

/// The code of an error of the engine's, of a quota file's, of a shared region's or of a limiter's on a server.
///
/// # Panics
/// If the table above lacks it, which the test below excludes.
pub(crate) fn of_engine(number: u16) -> tokenweir_code {
    let known = CODES.into_iter().find(|code| *code as i32 == i32::from(number));
    known.unwrap_or_else(|| panic!("code {number} of the engine is not in the C table"))
}

/// The stable name of a code, without the prefix: "PERMIT_SETTLED". Static text; NULL for a number that is no code.
#[unsafe(no_mangle)]
pub extern "C" fn tokenweir_code_name(code: i32) -> *const c_char {
    guarded_or(ptr::null(), || {
        CODES.into_iter().find(|known| *known as i32 == code).map_or(ptr::null(), |known| known.name().as_ptr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenweir::policy::ResolveError;
    use tokenweir::{Error, PermitId, Policy};

    /// Every error of the engine has the number and the name here that it has there. A new one is added to this list
    /// by whoever adds it: the count beside it is that of the engine's own table.
    #[test]
    fn codes_are_the_engines() {
        let id = PermitId::new(7).expect("not 0");
        let limit = || "l".to_owned();
        let errors: [Error; 13] = [
            Policy::from_toml("limit = 1").expect_err("not a policy").into(),
            ResolveError::EmptyKey { part: "project".into() }.into(),
            ResolveError::KeyMissing { limit: limit(), key: "user".into() }.into(),
            ResolveError::NoPrice { limit: limit(), deployment: "d".into() }.into(),
            ResolveError::KeyTwice { key: "user".into() }.into(),
            Error::EstimateTooLarge { what: "input", tokens: 1 << 54 },
            Error::UsageInvalid { reason: "r".into() },
            Error::PermitSettled { id },
            Error::PermitUnknown { id },
            Error::PermitsExhausted { most: 1 },
            Error::TableFull { limit: limit(), budget: 1 },
            tokenweir::store::StoreError::new("r").into(),
            tokenweir::region::RegionError::Forked.into(),
        ];
        for error in &errors {
            let code = of_engine(error.code());
            assert_eq!(code.name().to_str(), Ok(error.name()), "{error}");
        }
        let shared: Vec<i32> = CODES.iter().map(|code| *code as i32).filter(|code| (1..1000).contains(code)).collect();
        let engine: Vec<i32> = errors.iter().map(|error| error.code().into()).collect();
        assert_eq!(shared, engine, "the numbers below 1000 are the engine's, and all of them");
    }

    #[test]
    fn codes_of_quota_files_are_the_stores() {
        use tokenweir_redb::QuotaFileError;
        let (path, reason) = (std::path::PathBuf::new, String::new);
        let errors = [
            QuotaFileError::InUse { path: path() },
            QuotaFileError::Damaged { path: path(), reason: reason() },
            QuotaFileError::Version { path: path(), found: 2, known: 1 },
            QuotaFileError::Io { path: path(), source: std::io::Error::other("r") },
            QuotaFileError::NameInUse { name: reason() },
        ];
        let codes = errors.map(|error| {
            let code = of_engine(error.code());
            assert_eq!(code.name().to_str(), Ok(error.name()), "{error}");
            code as i32
        });
        assert_eq!(codes, [1010, 1011, 1012, 1013, 1014]);
    }

    #[test]
    fn codes_of_shared_regions_are_their_own() {
        use tokenweir_shared::{Layout, SharedError};
        let path = std::path::PathBuf::new;
        let layout = || Box::new(Layout::of(&Policy::default()));
        let errors = [
            SharedError::Io { path: path(), act: "open it", source: std::io::Error::other("r") },
            SharedError::Damaged { path: path(), what: "w", found: 1, expected: 2 },
            SharedError::Version { path: path(), found: 2, expected: 1 },
            SharedError::OtherLayout { path: path(), found: layout(), expected: layout() },
            SharedError::NotPrivate { path: path(), what: "w".to_owned() },
            SharedError::Restarted { path: path() },
            SharedError::Crowded { path: path(), most: 48 },
        ];
        let codes = errors.map(|error| {
            let code = of_engine(error.code());
            assert_eq!(code.name().to_str(), Ok(error.name()), "{error}");
            code as i32
        });
        assert_eq!(codes, [1020, 1021, 1022, 1023, 1024, 1025, 1026]);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn codes_of_servers_are_their_own() {
        use tokenweir_redis::Error;
        let text = String::new;
        let errors = [
            Error::Address { address: text(), reason: text() },
            Error::Certificate { address: text(), reason: text() },
            Error::Setting { setting: "s", value: text(), remedy: "r" },
            Error::AcrossSlots { limit: text(), part: text() },
            Error::TooManyLimits { limits: 2, most: 1 },
            Error::Refused { reason: text() },
            Error::Away { reason: text() },
            Error::Runtime { reason: text() },
            Error::Forked,
        ];
        let codes = errors.map(|error| {
            let code = of_engine(error.code());
            assert_eq!(code.name().to_str(), Ok(error.name()), "{error}");
            code as i32
        });
        assert_eq!(codes, [1030, 1031, 1032, 1033, 1034, 1035, 1036, 1037, 1038]);
    }

    #[test]
    fn codes_ascend() {
        assert!(CODES.windows(2).all(|pair| (pair[0] as i32) < pair[1] as i32));
    }
}
