//! The file of a region: a page that says what it is, then the words.

use crate::{HostClock, SharedError};
use std::fs::{File, OpenOptions};
use std::hash::BuildHasher;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokenweir::Clock;
use tokenweir::region::Layout;

/// The words of the first page.
pub(crate) const PAGE: usize = 512;

/// "tokenwei", the lowest byte first.
const MAGIC: u64 = u64::from_le_bytes(*b"tokenwei");
/// What the words mean. Another release may read it only if it means the same by every word.
const FORMAT: u64 = 2;

// The words of the page.
const AT_MAGIC: usize = 0;
const AT_FORMAT: usize = 1;
const AT_WORDS: usize = 2;
const AT_BOOT: usize = 3;
const AT_LAYOUT: usize = 5;
const AT_CHECKSUM: usize = 13;
const USED: usize = 14;

/// Which start of the machine this is.
fn boot() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    let id = u128::from_str_radix(&digits, 16).unwrap_or(0);
    [(id >> 64) as u64, id as u64]
}

fn numbers(layout: &Layout) -> [u64; AT_CHECKSUM - AT_LAYOUT] {
    let Layout { counters, callers, permits, histories, key_bytes, caller_bytes, counter_words, policy_bytes, .. } =
        *layout;
    [counters, callers, permits, histories, key_bytes, caller_bytes, counter_words, policy_bytes]
        .map(|number| number as u64)
}

/// FNV-1a of the words before it, and of the release: the layout of the words is the release's.
fn checksum(words: &[u64]) -> u64 {
    let release = env!("CARGO_PKG_VERSION").as_bytes();
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).chain(release.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn page(layout: &Layout) -> [u64; USED] {
    let mut page = [0; USED];
    page[AT_MAGIC] = MAGIC;
    page[AT_FORMAT] = FORMAT;
    page[AT_WORDS] = (PAGE + layout.words()) as u64;
    page[AT_BOOT..AT_LAYOUT].copy_from_slice(&boot());
    page[AT_LAYOUT..AT_CHECKSUM].copy_from_slice(&numbers(layout));
    page[AT_CHECKSUM] = checksum(&page[..AT_CHECKSUM]);
    page
}

pub(crate) struct Io<'a>(pub(crate) &'a Path);

impl Io<'_> {
    /// What went wrong with the file while doing this.
    pub(crate) fn failed(&self, act: &'static str) -> impl FnOnce(io::Error) -> SharedError + use<> {
        let path = self.0.to_owned();
        move |source| SharedError::Io { path, act, source }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW);
    options
}

/// Opens the file of a region once more.
pub(crate) fn reopen(path: &Path) -> Result<File, SharedError> {
    options().open(path).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            SharedError::NotARegion { path: path.to_owned(), found: "it is a directory".to_owned() }
        }
        _ => Io(path).failed("open it")(error),
    })
}

/// A name beside it that nobody else has.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.{}", std::process::id(), NEXT.fetch_add(1, Relaxed)))
}

/// Makes a region, whole before anybody sees it. `AlreadyExists` if there is something.
pub(crate) fn create(path: &Path, layout: &Layout) -> Result<(), SharedError> {
    if !layout.is_valid() {
        return Err(SharedError::LayoutInvalid { layout: Box::new(*layout) });
    }
    let new = beside(path);
    let made = write(&new, layout)
        .map_err(Io(path).failed("make it"))
        .and_then(|()| std::fs::hard_link(&new, path).map_err(Io(path).failed("make it")));
    let _ = std::fs::remove_file(&new);
    made
}

fn write(path: &Path, layout: &Layout) -> io::Result<()> {
    let file = options().create_new(true).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    let words = PAGE + layout.words();
    reserve(&file, words as u64 * 8)?;
    let random = std::hash::RandomState::new();
    let random = [1, 2, 3].map(|number| random.hash_one(number));
    let begin = |at: usize, words: &[u64]| {
        // As they lie in memory: the words are read there.
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all_at(&bytes, at as u64 * 8)
    };
    begin(PAGE, &layout.beginning(HostClock.mono(), random))?;
    begin(0, &page(layout))
}

/// Takes the room now: writing to a page that there is no room for would end the process.
#[allow(unsafe_code)]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: the file is open; no memory is concerned.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Opens a region, after everything about it has been looked at. Its layout.
pub(crate) fn open(path: &Path) -> Result<(File, Layout), SharedError> {
    let file = reopen(path)?;
    let metadata = file.metadata().map_err(Io(path).failed("look at it"))?;
    let not_a_region = |found: String| SharedError::NotARegion { path: path.to_owned(), found };
    if !metadata.is_file() {
        return Err(not_a_region("it is no file".to_owned()));
    }
    let not_private = |what: String| SharedError::NotPrivate { path: path.to_owned(), what };
    let user = user();
    if metadata.uid() != user {
        return Err(not_private(format!("it belongs to user {}, and this process is user {user}", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(not_private(format!("others may use it (mode {:04o})", metadata.mode() & 0o7777)));
    }
    if metadata.len() < (PAGE * 8) as u64 {
        return Err(not_a_region(format!("it has {} bytes", metadata.len())));
    }
    let mut bytes = [0; USED * 8];
    file.read_exact_at(&mut bytes, 0).map_err(Io(path).failed("read it"))?;
    let mut words = [0; USED];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    if words[AT_MAGIC] != MAGIC {
        return Err(not_a_region(format!("it begins with {:#018x}, and not with {MAGIC:#018x}", words[AT_MAGIC])));
    }
    if words[AT_FORMAT] != FORMAT {
        return Err(SharedError::Version { path: path.to_owned(), found: words[AT_FORMAT], expected: FORMAT });
    }
    let damaged = |what, found, expected| SharedError::Damaged { path: path.to_owned(), what, found, expected };
    let sum = checksum(&words[..AT_CHECKSUM]);
    if words[AT_CHECKSUM] != sum {
        return Err(damaged("the checksum of its layout and release", words[AT_CHECKSUM], sum));
    }
    let layout = layout(&words[AT_LAYOUT..AT_CHECKSUM]);
    let expected = (PAGE + layout.words()) as u64;
    if words[AT_WORDS] != expected {
        return Err(damaged("its number of words", words[AT_WORDS], expected));
    }
    if metadata.len() != expected * 8 {
        return Err(damaged("its length in bytes", metadata.len(), expected * 8));
    }
    if words[AT_BOOT..AT_LAYOUT] != boot() {
        return Err(SharedError::Restarted { path: path.to_owned() });
    }
    Ok((file, layout))
}

fn layout(numbers: &[u64]) -> Layout {
    let number = |at: usize| numbers.get(at).map_or(0, |number| *number as usize);
    let mut layout = Layout::of(&tokenweir::Policy::default());
    layout.counters = number(0);
    layout.callers = number(1);
    layout.permits = number(2);
    layout.histories = number(3);
    layout.key_bytes = number(4);
    layout.caller_bytes = number(5);
    layout.counter_words = number(6);
    layout.policy_bytes = number(7);
    layout
}

#[allow(unsafe_code)]
fn user() -> u32 {
    // SAFETY: the call always succeeds and concerns no memory.
    unsafe { libc::geteuid() }
}
