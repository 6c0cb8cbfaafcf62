//! Random sequences of calls with hostile arguments, the same each time; the fuzzer (`fuzz/fuzz_targets/c_calls.rs`) goes
//! on where these end.

// It calls the entry points as C does.
#![allow(unsafe_code)]

mod sequence;

#[test]
fn any_sequence_of_calls_comes_back_with_codes() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut admitted = 0;
    for _ in 0..3_000 {
        let length = next() as usize % 1500;
        let bytes: Vec<u8> = (0..length).map(|_| (next() >> 33) as u8).collect();
        admitted += sequence::run(&bytes);
    }
    println!("{admitted} admitted");
    assert!(admitted > 2_000, "{admitted}: hostile arguments must leave enough calls that get somewhere");
}
