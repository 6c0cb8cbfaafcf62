//! Where workers have their counters: a region in a file that is this user's alone.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use tokenweir::gateway::{ConsoleBuilder, GateError};
use tokenweir::{Limiter, LimiterBuilder, Policy};
use tokenweir_shared::{Layout, SharedError, SharedRegion};

use crate::config::Config;
use crate::keys::Digest;

/// In memory, and gone when the machine is restarted.
const SHM: &str = "/dev/shm";

/// A region takes its room at once, and containers have 64 MiB of such memory unless told otherwise.
const COUNTERS: usize = 32_768;
const CALLERS: usize = 32_768;
const PERMITS: usize = 32_768;

fn layout(policy: &Policy) -> Layout {
    Layout::of(policy).counters(COUNTERS).callers(CALLERS).permits(PERMITS)
}

/// The file: what the configuration says, or one that belongs to the configuration's path.
pub(crate) fn path(config: &Config, file: &Path) -> Result<PathBuf, String> {
    if let Some(path) = &config.region {
        // Workers may look at it from elsewhere.
        let path = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let parent = path.parent().filter(|parent| !parent.is_dir());
        return parent.map_or(Ok(()), private).map(|()| path);
    }
    let file = std::fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let beside = config.state_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let home = if Path::new(SHM).is_dir() { Path::new(SHM) } else { beside };
    let folder = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    let folder = folder.join(format!("tokenweir-gateway-{}", user()?));
    private(&folder)?;
    let name = Digest::of(file.as_os_str().as_encoded_bytes()).to_string();
    Ok(folder.join(format!("{}.region", &name[..32])))
}

fn user() -> Result<u32, String> {
    Ok(std::fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?.uid())
}

/// Makes a directory that nobody else can look into, or finds that there is one.
pub(crate) fn private(folder: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{}: {error}", folder.display());
    if let Some(above) = folder.parent() {
        std::fs::create_dir_all(above).map_err(|error| format!("{}: {error}", above.display()))?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(error)),
        _ => {}
    }
    // Not what a link leads to: somebody else may have made it.
    let found = std::fs::symlink_metadata(folder).map_err(wrong)?;
    if !found.is_dir() || found.uid() != user()? || found.mode() & 0o077 != 0 {
        return Err(format!(
            "{}: it must be a directory of this user's alone (mode 0700); move it away, or give another region",
            folder.display()
        ));
    }
    Ok(())
}

/// The console's limiter is in this region, on the clock that its processes have in common.
pub(crate) fn under(region: &Path, console: ConsoleBuilder) -> ConsoleBuilder {
    let path = region.to_owned();
    #[cfg(target_os = "linux")]
    let console = console.clock(tokenweir_shared::HostClock);
    console.limiters_built_by(move |limiter| build(&path, limiter))
}

/// A limiter in this region, by the limits given or none.
fn build(region: &Path, limiter: LimiterBuilder) -> Result<Limiter, GateError> {
    SharedRegion::open(region).and_then(|region| region.build(limiter)).map_err(refused)
}

/// A limiter in this region, by the limits that are in force there.
pub(crate) fn follow(region: &Path, limiter: LimiterBuilder) -> Result<Limiter, GateError> {
    build(region, limiter.policy_of_region(true))
}

fn refused(error: SharedError) -> GateError {
    match error {
        SharedError::Limiter { source, .. } => source.into(),
        other => GateError::NotBuilt { reason: other.to_string() },
    }
}

/// What tells a region from any other that has been or will be at its path.
pub(crate) fn mark(region: &Path) -> Option<String> {
    let file = std::fs::metadata(region).ok()?;
    let made = file.created().ok().and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
    Some(format!("{}:{}:{}", file.dev(), file.ino(), made.map_or(0, |made| made.as_nanos())))
}

/// Ends what processes had open in this region that are there no more: nobody settles it.
pub(crate) fn abandon(region: &Path, limiter: &Limiter) -> Result<usize, String> {
    let region = SharedRegion::open(region).map_err(|error| error.to_string())?;
    let attached = region.status().attached.into_iter().filter(|attached| attached.alive);
    let there: Vec<u32> = attached.map(|attached| attached.process).collect();
    limiter.abandon_processes(|process| !there.contains(&process)).map_err(|error| error.to_string())
}

/// Makes room for a new region, and says why.
pub(crate) fn begin_anew(region: &Path, why: &str) -> Result<(), String> {
    if !region.exists() {
        return Ok(());
    }
    eprintln!("{}: {why}; a new region takes its place", region.display());
    remove(region)
}

/// Whether there is a region that counts for this policy.
pub(crate) fn counts_for(region: &Path, policy: &Policy) -> bool {
    let opened = SharedRegion::open(region).ok().filter(|region| region.layout().has_room_for(&layout(policy)));
    opened.is_some_and(|region| region.build(Limiter::builder(policy.clone())).is_ok())
}

/// Sees to it that there is a region for this policy: the one there is, if it counts for it, or a new one in its place.
pub(crate) fn prepare(region: &Path, policy: &Policy) -> Result<(), String> {
    if counts_for(region, policy) {
        return Ok(());
    }
    match SharedRegion::open(region) {
        Ok(old) => {
            let processes = old.status().attached.into_iter().filter(|attached| attached.alive);
            let processes: Vec<String> = processes.map(|attached| attached.process.to_string()).collect();
            if !processes.is_empty() {
                let (file, processes) = (region.display(), processes.join(", "));
                eprintln!("{file}: processes {processes} go on with the limits from before, on counters of their own");
            }
            remove(region)?;
        }
        // What it had counted is gone, or another release's.
        Err(error @ (SharedError::Restarted { .. } | SharedError::Version { .. })) => {
            begin_anew(region, &error.to_string())?;
        }
        Err(SharedError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(other) => return Err(other.to_string()),
    }
    SharedRegion::open_or_create(region, &layout(policy)).map(drop).map_err(|error| error.to_string())
}

fn remove(region: &Path) -> Result<(), String> {
    std::fs::remove_file(region).map_err(|error| format!("{}: {error}", region.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_others_may_look_into_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let folder = home.path().join("own");
        private(&folder).expect("it is made");
        private(&folder).expect("it is there");
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).expect("made");
        assert!(private(&link).expect_err("a link").contains("mode 0700"));
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o750)).expect("set");
        assert!(private(&folder).expect_err("others may look").contains("mode 0700"));
    }

    #[test]
    fn a_region_of_other_limits_makes_room_for_a_new_one() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("region");
        let limit = "[[limit]]\nname = 'a'\nmeter = 'total'\nalgorithm = 'quota'\namount = 10\nperiod = 'daily'\n";
        let (one, other) = (Policy::from_toml(limit).expect("a policy"), Policy::default());
        let inode = || std::fs::metadata(&path).expect("there").ino();
        prepare(&path, &one).expect("made");
        let first = inode();
        prepare(&path, &one).expect("there");
        assert!(inode() == first && counts_for(&path, &one) && !counts_for(&path, &other));
        prepare(&path, &other).expect("made anew");
        assert!(inode() != first && counts_for(&path, &other));
        std::fs::write(&path, "a letter to a friend, and not for a gateway").expect("written");
        assert!(prepare(&path, &one).expect_err("no region").contains("region"));
        assert!(path.exists(), "what is no region is left alone");
    }
}
