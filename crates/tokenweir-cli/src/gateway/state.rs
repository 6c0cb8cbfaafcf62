//! The state file: a console's document, one command at a time.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fd_lock::RwLock;
use serde_json::{Value, json};
use tokenweir::gateway::{Console, ConsoleError, ConsoleOptions};

use crate::failure::Failure;
use crate::output::Output;

/// How long a command waits for another one on the same file.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `act` while no other command uses the state file.
///
/// The lock is on a file beside it, since the state file itself is replaced. It goes with the process.
pub fn locked<T>(state: &Path, act: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let beside = lock_of(state)?;
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&beside);
    let open = open.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::input(state.display(), "there is no such folder", "make the folder, or give another --state")
        }
        _ => Failure::write(&beside, error),
    });
    let mut lock = RwLock::new(open?);
    let began = Instant::now();
    loop {
        match lock.try_write() {
            Ok(_guard) => return act(),
            Err(busy) if busy.kind() == io::ErrorKind::WouldBlock && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(busy) if busy.kind() == io::ErrorKind::WouldBlock => {
                let reason = format!("another command has used it for {} s", PATIENCE.as_secs());
                return Err(Failure::input(state.display(), reason, "let that one end, and try again"));
            }
            Err(error) => return Err(Failure::write(&beside, error)),
        }
    }
}

/// The lock beside a state file: of the file itself, whichever link leads to it.
fn lock_of(state: &Path) -> Result<PathBuf, Failure> {
    let path = state.canonicalize().unwrap_or_else(|_| state.to_path_buf());
    let name =
        path.file_name().ok_or_else(|| Failure::input(state.display(), "names no file", "give the name of a file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".lock");
    Ok(path.with_file_name(hidden))
}

/// A console that is told the time, as it is at `now`.
pub fn console(options: &Value, now: &str) -> Result<Console, Failure> {
    let mut options = options.clone();
    if let Some(fields) = options.as_object_mut() {
        fields.insert("time".into(), "given".into());
        // Each command ends its own calls, and nobody polls its records.
        fields.insert("records".into(), 0.into());
    }
    let options: ConsoleOptions =
        serde_json::from_value(options).map_err(|e| Failure::input("options", e, "correct them"))?;
    let console = Console::new(&options);
    console
        .execute(json!({ "now": now, "refresh": {} }))
        .map_err(|error| Failure::input("--now", error.message, error.next))?;
    Ok(console)
}

/// The console that the file keeps, and the file's text.
pub fn read(state: &Path, now: &str) -> Result<(Console, String), Failure> {
    let text = fs::read_to_string(state).map_err(|error| Failure::read(state, &error))?;
    let console = console(&json!({}), now)?;
    match console.load(&text) {
        Ok(_) => Ok((console, text)),
        Err(ConsoleError { message, next, .. }) => Err(Failure::input(state.display(), message, next)),
    }
}

/// Puts the console in the file in place of the text that it was read from: whole, or as it was.
///
/// The lock keeps other commands away, and no editor. What one has written meanwhile is not written over, as far as that
/// can be seen.
pub fn write(state: &Path, console: &Console, before: Option<&str>) -> Result<(), Failure> {
    if let Some(before) = before
        && fs::read_to_string(state).ok().as_deref() != Some(before)
    {
        let reason = "it was changed by something else while this command ran, and nothing that was said was kept";
        return Err(Failure::input(state.display(), reason, "run the command again"));
    }
    let saved = console.execute(json!({ "save": {} })).map_err(|error| super::refused(&error))?;
    let mut text = serde_json::to_string_pretty(&saved["document"]).unwrap_or_default();
    text.push('\n');
    let mut out = Output::create(state, &[])?;
    out.write(&text)?;
    out.finish_durably()
}

/// Whether there is a state file: asked before a lock is left beside what is not there.
pub fn is_there(state: &Path) -> Result<(), Failure> {
    match fs::metadata(state) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(Failure::input(state.display(), "is no file", "give the name of a state file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::input(
            state.display(),
            "there is no such state file",
            "begin one with `tokenweir gateway init`, or give --state",
        )),
        Err(error) => Err(Failure::read(state, &error)),
    }
}

/// Whether a state file can be begun there.
pub fn is_free(state: &Path) -> Result<(), Failure> {
    if state == Path::new("-") {
        let reason = "a state is kept between commands, which the standard output does not do";
        return Err(Failure::input("--state", reason, "give the name of a file"));
    }
    // Not opened: who opens a pipe waits for its other end.
    match fs::symlink_metadata(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(Failure::input(
            state.display(),
            "there is something of that name already",
            "give another --state, or remove it first",
        )),
    }
}
