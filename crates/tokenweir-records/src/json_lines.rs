//! Records as JSON lines.
//!
//! The request's path only puts a copy of the record into a bounded queue; a thread writes. When the queue is full the
//! newest record is dropped and counted: a slow disk never slows a request down.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokenweir::gateway::{RecordObserver, UsageRecord};

/// When a file is full, how many are kept, and how many records may wait to be written.
///
/// The file in use has the sink's path; older ones have `.1` (the newest of them), `.2` and so on appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that has a record is not written beyond so many bytes; 64 MiB unless set.
    pub max_bytes: u64,
    /// So many older files are kept beside the one in use; 8 unless set.
    pub kept_files: usize,
    /// So many records may wait; 8,192 unless set, at least 1.
    pub queue: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation { max_bytes: 64 << 20, kept_files: 8, queue: 8192 }
    }
}

/// What has become of the records so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Given to the operating system.
    pub written: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Lost because they could not be written.
    pub failed: u64,
    /// Why the last of these could not, with the file.
    pub last_error: Option<String>,
}

enum Message {
    Record(Box<UsageRecord>),
    /// Everything before this has been written when the sender is gone.
    Flush(#[allow(dead_code)] SyncSender<()>),
}

/// A file of JSON lines: one line for each record, in the order in which calls ended on each thread.
///
/// Dropping it waits until what is in the queue has been written.
#[derive(Debug)]
pub struct JsonLines {
    sender: Option<SyncSender<Message>>,
    written: Arc<Mutex<Written>>,
    thread: Option<JoinHandle<()>>,
}

impl JsonLines {
    /// Appends to the file at `path`, which is created if there is none. A line that a crash has cut short is ended, so
    /// that it spoils no other.
    ///
    /// # Errors
    /// If the file cannot be opened or the thread cannot be started. What goes wrong later, [`written`](Self::written)
    /// tells.
    pub fn open(path: impl Into<PathBuf>, rotation: Rotation) -> io::Result<Self> {
        let mut files = Files { path: path.into(), rotation, file: None };
        files.open()?;
        let (sender, receiver) = mpsc::sync_channel(rotation.queue.max(1));
        let written = Arc::new(Mutex::new(Written::default()));
        let told = written.clone();
        let thread = thread::Builder::new().name("tokenweir-records".to_owned());
        let thread = thread.spawn(move || write(&receiver, &mut files, &told))?;
        Ok(JsonLines { sender: Some(sender), written, thread: Some(thread) })
    }

    /// Waits until every record that was recorded before has been given to the operating system, or has failed.
    pub fn flush(&self) {
        let (reply, done) = mpsc::sync_channel(0);
        if let Some(sender) = &self.sender
            && sender.send(Message::Flush(reply)).is_ok()
        {
            // It answers by letting go of its end.
            let _ = done.recv();
        }
    }

    /// What has become of the records so far.
    pub fn written(&self) -> Written {
        self.written.lock().clone()
    }
}

impl RecordObserver for JsonLines {
    fn recorded(&self, record: &UsageRecord) {
        if let Some(sender) = &self.sender
            && sender.try_send(Message::Record(Box::new(record.clone()))).is_err()
        {
            self.written.lock().dropped += 1;
        }
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell that `written` does not.
            let _ = thread.join();
        }
    }
}

/// Writes until nobody can send any more. What is waiting is written together, and given to the operating system when
/// nothing is.
fn write(receiver: &Receiver<Message>, files: &mut Files, told: &Mutex<Written>) {
    let mut line = Vec::new();
    while let Ok(first) = receiver.recv() {
        let mut pending = 0;
        let mut flushes = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Record(record) => {
                    line.clear();
                    let put = serde_json::to_writer(&mut line, &record).map_err(io::Error::from).and_then(|()| {
                        line.push(b'\n');
                        files.put(&line)
                    });
                    match put {
                        Ok(rotated) => {
                            if rotated {
                                told.lock().written += std::mem::take(&mut pending);
                            }
                            pending += 1;
                        }
                        Err(error) => {
                            fail(told, &files.path, 1 + std::mem::take(&mut pending), &error);
                        }
                    }
                }
                Message::Flush(reply) => flushes.push(reply),
            }
            next = receiver.try_recv().ok();
        }
        match files.flush() {
            Ok(()) => told.lock().written += pending,
            Err(error) => fail(told, &files.path, pending, &error),
        }
        drop(flushes);
    }
}

/// Records that may not have been written: how many of those in the buffer were is not known, and all count as failed.
fn fail(told: &Mutex<Written>, path: &Path, records: u64, error: &io::Error) {
    let mut told = told.lock();
    told.failed += records;
    told.last_error = Some(format!("{}: {error}", path.display()));
}

/// The file in use and the older ones.
struct Files {
    path: PathBuf,
    rotation: Rotation,
    /// And its length. `None` after a failure: the next record tries anew.
    file: Option<(BufWriter<File>, u64)>,
}

impl Files {
    fn open(&mut self) -> io::Result<&mut (BufWriter<File>, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&self.path)?;
        let mut length = file.metadata()?.len();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok(self.file.insert((BufWriter::new(file), length)))
    }

    /// Writes a line, into a new file if the present one has no room for it; whether it is a new one.
    fn put(&mut self, line: &[u8]) -> io::Result<bool> {
        let put = self.try_put(line);
        if put.is_err() {
            self.abandon();
        }
        put
    }

    fn try_put(&mut self, line: &[u8]) -> io::Result<bool> {
        if self.file.is_none() {
            self.open()?;
        }
        let size = line.len() as u64;
        let full = |length: u64| length > 0 && length.saturating_add(size) > self.rotation.max_bytes;
        let rotated = self.file.as_ref().is_some_and(|(_, length)| full(*length));
        if rotated {
            self.rotate()?;
        }
        let (file, length) = match &mut self.file {
            Some(file) => file,
            None => self.open()?,
        };
        file.write_all(line)?;
        *length += size;
        Ok(rotated)
    }

    /// The file in use becomes the newest of the older ones, and the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some((mut file, _)) = self.file.take() {
            file.flush()?;
        }
        if self.rotation.kept_files == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.rotation.kept_files).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.older(1))
    }

    fn older(&self, number: usize) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!(".{number}"));
        path.into()
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.as_mut().map_or(Ok(()), |(file, _)| file.flush());
        if flushed.is_err() {
            self.abandon();
        }
        flushed
    }

    /// Lets go of the file without writing what its buffer holds: that has been counted as failed.
    fn abandon(&mut self) {
        if let Some((file, _)) = self.file.take() {
            drop(file.into_parts());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenweir::gateway::{Call, Gate};

    #[test]
    fn a_full_queue_drops_the_newest_and_counts_it() {
        // Nobody takes anything out of this queue.
        let (sender, receiver) = mpsc::sync_channel(2);
        let lines = Arc::new(JsonLines { sender: Some(sender), written: Arc::default(), thread: None });
        let resource = serde_json::from_str(
            r#"{"site": {"tenant": "t", "subscription": "s", "resource_group": "g", "region": "r"},
                "public_network_access": true}"#,
        );
        let name = "account".parse().expect("a name");
        let gate = Gate::builder(name, &resource.expect("a resource")).observer(lines.clone()).build().expect("a gate");
        for id in ["1", "2", "3", "4", "5"] {
            drop(gate.admit(&Call::model("p", "d").with_correlation_id(id)).expect("a decision"));
        }
        assert_eq!(lines.written().dropped, 3);
        let kept: Vec<String> = receiver
            .try_iter()
            .filter_map(|message| match message {
                Message::Record(record) => Some(record.correlation_id),
                Message::Flush(_) => None,
            })
            .collect();
        assert_eq!(kept, ["1", "2"]);
    }
}
