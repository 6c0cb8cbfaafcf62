//! Takes the file up again when it changes: all of it, or nothing.

use serde_json::json;
use std::io;
use std::path::Path;
use tokenweir::gateway::{Console, ConsoleError};

use crate::config::Config;
use crate::directory::Directory;
use crate::estate::{self, builder, reconcile};
use crate::server::{Changes, Shared};
use crate::state;

/// What the file was taken up as, and what came of its newest text.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The text that was looked at last, taken up or not.
    pub(crate) text: String,
    /// The text that was taken up last.
    pub(crate) in_force: String,
    /// Why the newest text was not taken up.
    pub(crate) error: Option<String>,
    /// How often a text was taken up, the first included.
    pub(crate) times: u64,
}

/// Looks at the file, and takes it up if it is not what it was.
pub(crate) fn look(shared: &Shared, path: &Path) {
    let read = std::fs::read_to_string(path);
    let mut changes = shared.changes();
    let text = match read {
        Ok(text) => text,
        // A file that is being replaced may be away for a moment: what there was stays.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let error = format!("{}: {error}", path.display());
            if changes.loaded.error.as_ref() != Some(&error) {
                not_taken_up(&mut changes, error, path);
            }
            // Whatever can be read next is another text.
            changes.loaded.text.clear();
            return;
        }
    };
    if changes.loaded.text == text {
        return;
    }
    changes.loaded.text = text.clone();
    match take_up(shared, &mut changes, &text, path) {
        Ok(()) => {
            changes.loaded.error = None;
            changes.loaded.times += 1;
            shared.save(&changes);
            println!("{} is in force", path.display());
        }
        Err(error) => not_taken_up(&mut changes, error, path),
    }
}

fn not_taken_up(changes: &mut Changes, error: String, path: &Path) {
    eprintln!("{error}\n{} is not taken up; what was in force stays", path.display());
    changes.loaded.error = Some(error);
}

fn take_up(shared: &Shared, changes: &mut Changes, text: &str, path: &Path) -> Result<(), String> {
    let config = Config::parse(text, path).map_err(|error| error.to_string())?;
    let was = &changes.loaded.config;
    let fixed = [
        ("listen", config.listen == was.listen),
        ("state_file", config.state_file == was.state_file),
        ("usage_log", config.usage_log == was.usage_log),
        ("store", config.store == was.store),
        ("server", config.server == was.server),
        ("region", config.region == was.region),
        ("counting", config.counting == was.counting),
        ("idle_seconds", config.idle_seconds == was.idle_seconds),
        ("estimate", config.estimate == was.estimate),
    ];
    if let Some((name, _)) = fixed.iter().find(|(_, same)| !same) {
        return Err(format!("{}: {name} has changed, which needs a restart", path.display()));
    }
    let declared = config.declared();
    // On a copy, which is then taken over whole: what is refused changes nothing.
    let copy = copy(shared, &config)?;
    let refused = |error: ConsoleError| format!("{}: {error}", path.display());
    reconcile(&copy, &changes.declared, &declared).map_err(refused)?;
    let directory = |resource| Directory::new(&config, &resource);
    let directory = estate::resource(&copy).and_then(directory).map_err(|why| format!("{}: {why}", path.display()))?;

    shared.console.adopt(&state::document(&copy, false).to_string()).map_err(refused)?;
    changes.declared = declared;
    changes.loaded.config = config;
    changes.loaded.in_force = text.to_owned();
    shared.follow(changes, directory);
    Ok(())
}

fn copy(shared: &Shared, config: &Config) -> Result<Console, String> {
    let copy = builder(config.counting).build();
    let document = state::document(&shared.console, false);
    copy.execute(json!({ "load": { "document": document } })).map_err(|error| error.to_string())?;
    // Its gate follows, so that limits which cannot be put in force are found out here.
    estate::gate(&copy)?;
    Ok(copy)
}
