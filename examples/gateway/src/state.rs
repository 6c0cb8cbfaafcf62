//! What outlives the process: the console's document with its counters, and what the file said when it was last taken up.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokenweir::gateway::Console;

use crate::config::Declared;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    format: String,
    declared: Declared,
    document: Value,
    /// Which region the counters were in, and which file quotas are in: what is there is newer, what is elsewhere older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<PathBuf>,
}

/// Where counters are besides the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// The region's mark.
    pub(crate) region: Option<String>,
    /// The file of quotas.
    pub(crate) store: Option<PathBuf>,
}

/// What was saved.
pub(crate) struct Loaded {
    pub(crate) declared: Declared,
    pub(crate) elsewhere: Elsewhere,
    /// Counters that were not taken up.
    pub(crate) left_out: u64,
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
pub(crate) fn save(path: &Path, console: &Console, declared: &Declared, elsewhere: &Elsewhere) -> io::Result<()> {
    let Elsewhere { region, store } = elsewhere.clone();
    let (declared, document) = (declared.clone(), document(console, true));
    let saved = Saved { format: FORMAT.to_owned(), declared, document, region, store };
    let text = serde_json::to_vec(&saved)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = File::create(&name)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&name, path)
}

/// What is wrong with a state file, and what to do.
fn wrong(path: &Path, reason: impl Display) -> String {
    format!("{}: {reason}; correct it, or move it away to begin with fresh counters", path.display())
}

/// What was saved, before it is taken up; nothing if there is no file.
///
/// # Errors
/// A file that cannot be read, with what to do.
pub(crate) fn read(path: &Path) -> Result<Option<Saved>, String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(path, error)),
    };
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| wrong(path, error))?;
    if saved.format != FORMAT {
        return Err(wrong(path, format_args!("its format is {:?}, and this program reads {FORMAT:?}", saved.format)));
    }
    Ok(Some(saved))
}

impl Saved {
    /// The file of quotas that it was saved beside.
    pub(crate) fn store(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    /// Has a console take it up.
    ///
    /// # Errors
    /// It is refused, with what to do.
    pub(crate) fn load(self, path: &Path, console: &Console) -> Result<Loaded, String> {
        let loaded = json!({ "load": { "document": self.document } });
        let loaded = console.execute(loaded).map_err(|error| wrong(path, error))?;
        let counters = loaded["counters"].as_object().into_iter().flat_map(|by_resource| by_resource.values());
        let left_out = counters.filter_map(|restored| restored["left_out"].as_array()).flatten();
        let left_out = left_out.filter_map(|left_out| left_out["counters"].as_u64()).sum();
        let elsewhere = Elsewhere { region: self.region, store: self.store };
        Ok(Loaded { declared: self.declared, elsewhere, left_out })
    }
}
