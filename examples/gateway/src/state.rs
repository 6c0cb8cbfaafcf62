//! What outlives the process: the console's document with its counters, and what the file said when it was last taken up.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use tokenweir::gateway::Console;

use crate::config::Declared;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: String,
    declared: Declared,
    document: Value,
}

const FORMAT: &str = "tokenweir-gateway state 1";

/// The console's document.
pub(crate) fn document(console: &Console, counters: bool) -> Value {
    let saved = console.execute(json!({ "save": { "counters": counters } })).unwrap_or_default();
    let mut document = saved.get("document").cloned().unwrap_or_default();
    // How it counts is for the configuration to say.
    if let Some(fields) = document.as_object_mut() {
        fields.remove("console");
    }
    document
}

/// Writes the state beside the file and puts it in its place, so that a crash leaves the old one or the new one.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn save(path: &Path, console: &Console, declared: &Declared) -> io::Result<()> {
    let saved = Saved { format: FORMAT.to_owned(), declared: declared.clone(), document: document(console, true) };
    let text = serde_json::to_vec(&saved)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&name, path)
}

/// What was saved; nothing if there is no file.
///
/// # Errors
/// A file that cannot be read, with what to do.
pub(crate) fn load(path: &Path, console: &Console) -> Result<Option<Declared>, String> {
    let wrong = |reason: String| {
        format!("{}: {reason}; correct it, or move it away to begin with fresh counters", path.display())
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if saved.format != FORMAT {
        return Err(wrong(format!("its format is {:?}, and this program reads {FORMAT:?}", saved.format)));
    }
    console.execute(json!({ "load": { "document": saved.document } })).map_err(|error| wrong(error.to_string()))?;
    Ok(Some(saved.declared))
}
