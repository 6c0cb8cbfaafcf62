//! The state file: a console's document, one command at a time.

use std::fs::{self, File, OpenOptions};
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
    let mut lock = RwLock::new(open.map_err(|e| Failure::write(&beside, e))?);
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

/// The console that the file keeps.
pub fn read(state: &Path, now: &str) -> Result<Console, Failure> {
    let text = fs::read_to_string(state).map_err(|error| Failure::read(state, &error))?;
    let console = console(&json!({}), now)?;
    match console.load(&text) {
        Ok(_) => Ok(console),
        Err(ConsoleError { message, next, .. }) => Err(Failure::input(state.display(), message, next)),
    }
}

/// Puts the console in the file: whole, or as it was.
pub fn write(state: &Path, console: &Console) -> Result<(), Failure> {
    let saved = console.execute(json!({ "save": {} })).map_err(|error| super::refused(&error))?;
    let mut text = serde_json::to_string_pretty(&saved["document"]).unwrap_or_default();
    text.push('\n');
    let mut out = Output::create(state, &[])?;
    out.write(&text)?;
    out.finish_durably()
}

/// Whether there is a state file: asked before a lock is left beside what is not there.
pub fn is_there(state: &Path) -> Result<(), Failure> {
    match state.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::input(
            state.display(),
            "there is no such state file",
            "begin one with `tokenweir gateway init`, or give --state",
        )),
        Err(error) => Err(Failure::read(state, &error)),
    }
}

/// Whether a state file can be begun there.
pub fn is_free(state: &Path) -> Result<(), Failure> {
    match File::open(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(Failure::input(
            state.display(),
            "there is something of that name already",
            "give another --state, or remove it first",
        )),
    }
}
