//! Memory stays within the bound that is stated, whatever comes.

// The one thing that a counting allocator cannot do without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::size_of;
use tokenweir_wire::{Api, Characters, Framing, InputRules, RequestReader, ResponseMeter, UsageChunkFilter};

struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let _ = NOW.try_with(|now| {
        now.set(now.get().wrapping_add_signed(change));
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `act` held at any time beyond what it began with.
fn most(act: impl FnOnce()) -> usize {
    let before = NOW.with(Cell::get);
    MOST.with(|most| most.set(before));
    act();
    MOST.with(Cell::get) - before
}

/// Beginnings and what then goes on without end: 16 MiB of it.
const HOSTILE: &[(&str, &[u8])] = &[
    ("data: {\"choices\":[{\"delta\":{\"content\":\"", "long text, é, 你 and \\u00e9 ".as_bytes()),
    ("data: {\"choices\":[{\"delta\":{\"content\":\"", b"\x80"),
    ("data: {\"", b"key"),
    ("data: {\"model\":\"", b"word"),
    ("data: ", b"["),
    ("data: ", b"{\"a\":"),
    ("data: {\"usage\":{\"prompt_tokens\":", b"9"),
    ("", b"data"),
    ("", b"data: {}\n"),
    ("", b"data: {}\n\n"),
    (":", b"comment"),
    ("{\"messages\":[{\"content\":[", b"{\"type\":\"text\",\"text\":\"x\"},"),
    ("{\"messages\":[", b"{\"content\":[{\"image_url\":{\"url\":\"a\"}}]},"),
    ("{\"messages\":[{\"content\":[{\"input_audio\":{\"data\":\"", b"AAAA"),
    ("{\"prompt\":[", b"1,"),
    ("{\"", b"\\u0061"),
    ("{\"a\":[", b"\"\\ud83d\","),
];

#[test]
fn whatever_comes_memory_stays_below_eight_kibibytes() {
    const BOUND: usize = 8 << 10;
    for (begin, again) in HOSTILE {
        let chunk: Vec<u8> = again.iter().copied().cycle().take(again.len() * 4000).collect();
        let times = (16 << 20) / chunk.len();
        for framing in [Framing::Events, Framing::Json] {
            let held = most(|| {
                let mut meter = ResponseMeter::new(Api::ChatCompletions, framing);
                meter.feed(begin.as_bytes());
                for _ in 0..times {
                    meter.feed(&chunk);
                }
                meter.measured();
            });
            let held = held + size_of::<ResponseMeter>();
            assert!(held < BOUND, "{held} bytes for {begin:?} and {:?} without end", String::from_utf8_lossy(again));
        }
        for api in [Api::ChatCompletions, Api::Completions] {
            let held = most(|| {
                let mut reader = RequestReader::new(api, InputRules::default(), Characters::default());
                reader.feed(begin.as_bytes());
                (0..times).for_each(|_| reader.feed(&chunk));
                drop(reader.finish());
            });
            let held = held + size_of::<RequestReader>();
            assert!(held < BOUND, "{held} bytes for {begin:?} and {:?} without end", String::from_utf8_lossy(again));
        }
        let mut out = Vec::with_capacity(2 * chunk.len() + (16 << 10));
        let held = most(|| {
            let mut filter = UsageChunkFilter::new();
            for _ in 0..times {
                filter.feed(&chunk, &mut out);
                out.clear();
            }
        });
        // What is held back of an event, in a vector that grows by doubling.
        let held = held + size_of::<UsageChunkFilter>();
        assert!(held < 2 * BOUND, "{held} bytes for {begin:?} and {:?} without end", String::from_utf8_lossy(again));
    }
}
