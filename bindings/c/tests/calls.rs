//! Random sequences of calls with hostile arguments, the same each time; the fuzzer (`fuzz/fuzz_targets/c_calls.rs`) goes
//! on where these end, and what it has kept is run again.

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

#[test]
fn what_the_fuzzer_has_kept_comes_back_with_codes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/c_calls");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.sort();
    assert!(files.len() > 50, "only {} inputs in {}", files.len(), folder.display());
    let admitted: usize = files.iter().map(|file| sequence::run(&std::fs::read(file).expect("it can be read"))).sum();
    assert!(admitted > 0, "none of them gets as far as an admission");
}
