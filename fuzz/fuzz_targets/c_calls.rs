//! Any sequence of calls of the C interface, with hostile arguments: a code each time, nothing left open at the end.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../bindings/c/tests/sequence/mod.rs"]
mod sequence;

fuzz_target!(|bytes: &[u8]| {
    sequence::run(bytes);
});
