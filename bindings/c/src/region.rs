//! Shared regions: what the workers of one host have in common, in a memory-mapped file.

use crate::border::{Failure, free, guarded, handle, input, plain_struct, shared};
use crate::code::tokenweir_code;
use crate::error::tokenweir_error;
use crate::json;
use crate::policy::tokenweir_policy;
use crate::store::path;
use crate::text::{guarded_json, tokenweir_text};
use std::ffi::c_char;
use tokenweir::region::Layout;
use tokenweir::{Limiter, LimiterBuilder};
use tokenweir_shared::SharedRegion;

/// Counters and permits that the worker processes of a host share, in a memory-mapped file. Linux only.
///
/// On a region a limit counts once, not once for each worker; a permit that one worker was given is settled by its id in
/// another. The words are lock-free: a worker may be killed at any instruction, and what it was at is finished or undone by the
/// others. The counters outlive the workers, but not a restart of the machine. All processes run the same release, as the
/// same user, with the same policy, which any of them may change: tokenweir_limiter_swap_policy(). At most 48 limiters are on a
/// region.
///
/// Ownership: the caller's, until tokenweir_shared_region_free(). It may be freed before the limiters that were made with it,
/// and opened before a fork. Limiters are not taken along by a fork: make them in the process that uses them, where others are
/// REGION_FAILED. Threads: any number may use it at once.
pub struct tokenweir_shared_region(SharedRegion);

impl tokenweir_shared_region {
    pub(crate) fn build(&self, builder: LimiterBuilder) -> Result<Limiter, Failure> {
        Ok(self.0.build(builder)?)
    }
}

/// How much a shared region has room for; zero is the default for each field. See tokenweir_region_layout_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct tokenweir_region_layout {
    /// sizeof(tokenweir_region_layout).
    pub size: u32,
    /// Zero.
    pub reserved0: u32,
    /// The most counters; 0: 16,384; at most 2^24.
    pub counters: u64,
    /// The most callers (project, deployment and caller keys) that are known at once; 0: 16,384; at most 2^24.
    pub callers: u64,
    /// The most permits that may be open at once, 384 bytes each; 0: 16,384; at most 2^20.
    pub permits: u64,
    /// The most buckets that may keep a history, 12 KiB each; 0: 1,000.
    pub histories: u64,
    /// The longest key of a counter in bytes: its values, and one or two bytes for each; 0: 128; at most 4,096.
    pub key_bytes: u64,
    /// The longest caller in bytes: project, deployment and caller keys, and one or two bytes for each; 0: 256; at most 16,384.
    pub caller_bytes: u64,
    /// The room for a policy in bytes, which is taken eight times; 0: twice what this one takes, and at least 65,536; at least
    /// 4,096, at most 2^26.
    pub policy_bytes: u64,
    /// Zero.
    pub reserved: [u64; 1],
}

plain_struct!(tokenweir_region_layout, reserved0 = 0, reserved = [0; 1]);

impl tokenweir_region_layout {
    fn read(&self, layout: Layout) -> Layout {
        let most = |given: u64| (given > 0).then(|| usize::try_from(given).unwrap_or(usize::MAX));
        let set = |layout, given, set: fn(Layout, usize) -> Layout| match most(given) {
            Some(most) => set(layout, most),
            None => layout,
        };
        let layout = set(layout, self.counters, Layout::counters);
        let layout = set(layout, self.callers, Layout::callers);
        let layout = set(layout, self.permits, Layout::permits);
        let layout = set(layout, self.histories, Layout::histories);
        let layout = set(layout, self.key_bytes, Layout::key_bytes);
        let layout = set(layout, self.caller_bytes, Layout::caller_bytes);
        set(layout, self.policy_bytes, Layout::policy_bytes)
    }
}

/// Opens the shared region in the file at `path`, of `length` bytes, which is made if there is none: of several processes that
/// do so at once one makes it, with mode 0600, and takes its room. The file belongs in /dev/shm or /run. `policy` says how large
/// counters and policies are; `layout` may be NULL: every default. Limiters are put on it by `region` of tokenweir_options. A file that is
/// refused is left as it is.
///
/// Codes: REGION_IO, REGION_DAMAGED, REGION_VERSION, REGION_LAYOUT, REGION_NOT_PRIVATE, REGION_RESTARTED, NULL_ARGUMENT,
/// ARGUMENT_INVALID, STRUCT_SIZE, RESERVED_NOT_ZERO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_shared_region_open(
    path: *const c_char,
    length: usize,
    policy: *const tokenweir_policy,
    layout: *const tokenweir_region_layout,
    region: *mut *mut tokenweir_shared_region,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let (region, path) = (handle(region, "region")?, self::path(path, length)?);
            let usual = Layout::of(&shared(policy, "policy")?.0);
            let layout = if layout.is_null() { usual } else { input(layout)?.read(usual) };
            region.give(tokenweir_shared_region(SharedRegion::open_or_create(path, &layout)?));
            Ok(())
        })
    }
}

/// The policy that the region counts for, for limiters of this process; NULL, and OK, if none was made on it yet.
///
/// Codes: NULL_ARGUMENT, REGION_FAILED if it cannot be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_shared_region_policy(
    region: *const tokenweir_shared_region,
    policy: *mut *mut tokenweir_policy,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe {
        guarded(error, || {
            let policy = handle(policy, "policy")?;
            if let Some(in_force) = shared(region, "region")?.0.policy()? {
                policy.give(tokenweir_policy(in_force));
            }
            Ok(())
        })
    }
}

/// What is in the region. In JSON: counters, callers, permits_open, histories; policies, how many have been in force, the
/// present one included; cleared_up, how many limiters have ended and been cleared up after; unsure_steps, how many steps that a process was at when it was killed may or may not have been made, each
/// of which may have left the charge of one request on one limit too much counted; and under `attached` for each limiter its
/// seat, the process, since when (wall time in nanoseconds since 1970-01-01T00:00:00Z) and whether it is alive. Reads the whole
/// region.
///
/// Codes: NULL_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_shared_region_status(
    region: *const tokenweir_shared_region,
    json: *mut *mut tokenweir_text,
    error: *mut *mut tokenweir_error,
) -> tokenweir_code {
    // SAFETY: the pointers are as the header asks.
    unsafe { guarded_json(json, error, || Ok(json::region_status(&shared(region, "region")?.0.status()))) }
}

/// Frees a region. NULL is fine. The file stays, and so do the limiters that were made with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tokenweir_shared_region_free(region: *mut tokenweir_shared_region) {
    // SAFETY: NULL or a region of ours that nobody uses any more, as the header asks.
    unsafe { free(region) }
}
