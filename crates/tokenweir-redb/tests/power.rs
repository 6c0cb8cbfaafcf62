//! Power cuts: a disk that forgets what was not synced, and keeps torn halves of it.

mod support;

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex};
use support::{Bounds, Random, limiter, one_request, used};
use tokenweir_redb::QuotaFile;

/// What is on the platter, and what is not yet.
#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    /// What a reader sees: with what has not been synced.
    current: Vec<u8>,
    pending: Vec<Pending>,
    /// Operations until the power goes.
    left: u64,
}

enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
struct Cut(Arc<Mutex<Disk>>);

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a disk")
    }
}

impl Cut {
    fn new(image: Vec<u8>, operations: u64) -> Self {
        let disk = Disk { current: image.clone(), synced: image, pending: Vec::new(), left: operations };
        Cut(Arc::new(Mutex::new(disk)))
    }

    fn operate<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> io::Result<T> {
        let mut disk = self.0.lock().expect("not poisoned");
        let Some(left) = disk.left.checked_sub(1) else { return Err(io::Error::other("no power")) };
        disk.left = left;
        Ok(act(&mut disk))
    }

    /// What is found when the power is back: of what was not synced any part, in any order, a write perhaps torn.
    fn image(&self, random: &mut Random) -> Vec<u8> {
        let mut disk = self.0.lock().expect("not poisoned");
        let mut image = disk.synced.clone();
        let mut pending: Vec<Pending> = disk.pending.drain(..).collect();
        while !pending.is_empty() {
            match pending.swap_remove(random.below(pending.len() as u64) as usize) {
                _ if random.below(3) == 0 => {}
                Pending::Length(length) => image.resize(length.max(image.len()), 0),
                Pending::Write { offset, mut data } => {
                    if random.below(3) == 0 {
                        // Sectors are whole, a page of several need not be.
                        data.truncate(random.below(1 + data.len() as u64 / 512) as usize * 512);
                    }
                    if image.len() < offset + data.len() {
                        image.resize(offset + data.len(), 0);
                    }
                    image[offset..offset + data.len()].copy_from_slice(&data);
                }
            }
        }
        image
    }
}

impl StorageBackend for Cut {
    fn len(&self) -> io::Result<u64> {
        self.operate(|disk| disk.current.len() as u64)
    }

    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.operate(|disk| disk.current[offset as usize..offset as usize + len].to_vec())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(|disk| {
            disk.current.resize(len as usize, 0);
            disk.pending.push(Pending::Length(len as usize));
        })
    }

    fn sync_data(&self, _: bool) -> io::Result<()> {
        self.operate(|disk| {
            disk.synced = disk.current.clone();
            disk.pending.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(|disk| {
            let offset = offset as usize;
            disk.current[offset..offset + data.len()].copy_from_slice(data);
            disk.pending.push(Pending::Write { offset, data: data.to_vec() });
        })
    }
}

/// An image of a file that nobody has used yet.
fn fresh() -> Vec<u8> {
    let disk = Cut::new(Vec::new(), u64::MAX);
    drop(QuotaFile::on(disk.clone()).expect("a new file"));
    disk.0.lock().expect("not poisoned").synced.clone()
}

/// Lives until the power goes; between which bounds the real use is then. Each life goes on with what the last one left.
fn live(image: Vec<u8>, random: &mut Random, before: Bounds) -> (Vec<u8>, Bounds) {
    let operations = 1 + random.below(600);
    let disk = Cut::new(image, operations);
    let mut bounds = before;
    // If the power goes while it is opened, nothing has been used.
    if let Ok(file) = QuotaFile::on(disk.clone()) {
        let store = Arc::new(file.store("gateway").expect("nobody else has it"));
        let limiter = limiter(&store);
        if let Ok(recovered) = used(&limiter) {
            before.check(recovered);
            bounds = Bounds::exactly(recovered);
            let mut real = recovered;
            while one_request(&limiter, random, &mut real, &mut |now| bounds = now).is_ok() {
                if limiter.stats().store_failures > 0 {
                    break;
                }
            }
        }
    }
    (disk.image(random), bounds)
}

#[test]
fn whatever_the_disk_forgets_the_use_is_not_forgotten() {
    let cuts: u32 = std::env::var("TOKENWEIR_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(1_000);
    let seed = std::env::var("TOKENWEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let mut random = Random(seed);
    let (mut image, mut bounds) = (fresh(), Bounds::exactly([0; 3]));
    for _ in 0..cuts {
        (image, bounds) = live(image, &mut random, bounds);
        // With the power back it can be opened, whatever was left of it.
        let file = QuotaFile::on(Cut::new(image.clone(), u64::MAX)).expect("a sound file");
        let store = Arc::new(file.store("gateway").expect("nobody else has it"));
        bounds.check(used(&limiter(&store)).expect("no error"));
    }
    assert!(bounds.most.iter().all(|used| *used > 10_000), "they have done something: {bounds:?}");
}
