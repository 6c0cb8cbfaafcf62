//! Processes that are killed at any instant, one after the other on one file: `TOKENWEIR_KILLS` of them (100).
//!
//! Each goes on with what the last one left. Before every step it writes between which bounds its real use will be, into a
//! file that outlives it as the operating system's memory does.

#[allow(dead_code)]
mod support;

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::{Bounds, Random, limiter, one_request, used};
use tokenweir_redb::{QuotaFile, Renewer};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [word, file, bounds, seed] if word == "child" => {
            child(Path::new(file), Path::new(bounds), seed.parse().expect("a seed"));
        }
        // What the test runner passes means nothing here.
        _ => parent(),
    }
}

/// The bounds as bytes: written by one call, so that they are whole or not there.
fn bytes(bounds: Bounds) -> Vec<u8> {
    bounds.least.iter().chain(&bounds.most).flat_map(|number| number.to_le_bytes()).collect()
}

fn bounds_in(path: &Path) -> Bounds {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the bounds");
    let number = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    Bounds { least: std::array::from_fn(number), most: std::array::from_fn(|at| number(3 + at)) }
}

fn child(file: &Path, bounds: &Path, seed: u64) {
    let mut out = OpenOptions::new().write(true).open(bounds).expect("the bounds");
    let mut tell = |bounds: Bounds| {
        out.seek(SeekFrom::Start(0)).expect("sought");
        out.write_all(&bytes(bounds)).expect("written");
    };
    let file = QuotaFile::open(file).expect("a sound file");
    let store = Arc::new(file.store("gateway").expect("nobody else has it"));
    let limiter = limiter(&store);
    let recovered = used(&limiter).expect("no error");
    bounds_in(bounds).check(recovered);
    tell(Bounds::exactly(recovered));
    let renewer = Renewer::start(&limiter, &store).expect("a thread");
    let (mut random, mut real) = (Random(seed), recovered);
    for _ in 0..1_000_000 {
        one_request(&limiter, &mut random, &mut real, &mut tell).expect("no error");
    }
    // Nobody lives as long.
    renewer.stop().expect("recorded");
}

fn parent() {
    let kills: u64 = env::var("TOKENWEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(100);
    let directory = tempfile::tempdir().expect("a directory");
    let (file, bounds) = (directory.path().join("quotas"), directory.path().join("bounds"));
    std::fs::write(&bounds, bytes(Bounds::exactly([0; 3]))).expect("written");
    let mut random = Random(13);
    let mut lives = 0;
    for kill in 0..kills {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .arg("child")
            .args([&file, &bounds])
            .arg(kill.to_string())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        // Every fourth while it may still be opening the file, the others once they are at work.
        let before = bounds_in(&bounds);
        for _ in 0..5_000 {
            if kill % 4 == 0 || bounds_in(&bounds) != before {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_micros(random.below(30_000)));
        child.kill().expect("killed");
        let ended = child.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code().is_none(), "process {kill} ended by itself: {said}");
        lives += u64::from(bounds_in(&bounds) != Bounds::exactly([0; 3]));
    }
    let store = Arc::new(QuotaFile::open(&file).expect("a file").store("gateway").expect("nobody else has it"));
    let recovered = used(&limiter(&store)).expect("no error");
    let last = bounds_in(&bounds);
    last.check(recovered);
    assert!(lives > kills / 2 && last.most.iter().all(|used| *used > 1_000), "they have done something: {last:?}");
    println!("{kills} processes killed; {recovered:?} recovered, between {:?} and {:?} used", last.least, last.most);
}
