//! Result files that appear whole or not at all, and the standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A result on its way to its file.
///
/// A regular file is written under a temporary name in the same folder and renamed by [`finish`](Output::finish);
/// dropped before that, the temporary file is removed and what stood at the name stays. Pipes and devices are written
/// directly: a rename would replace them.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Renamed { file: BufWriter<File>, temporary: Temporary, path: PathBuf },
    Direct(BufWriter<File>),
    Stdout(BufWriter<Stdout>),
}

/// Removes the file when dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename it is no longer there, and that is as it should be.
        let _ = fs::remove_file(&self.0);
    }
}

impl Output {
    /// Begins the file at `path`; `-` is the standard output.
    ///
    /// # Errors
    /// The file cannot be created, or is one of `inputs`, which it would destroy.
    pub fn create(path: &Path, inputs: &[&Path]) -> Result<Self, Failure> {
        let failed = |e| Failure::write(path, e);
        if path == Path::new("-") {
            return Ok(Output { path: path.into(), target: Target::Stdout(BufWriter::new(io::stdout())) });
        }
        let target = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::input(path.display(), "is a folder", "give the name of a file"));
            }
            Ok(found) if !found.is_file() => {
                Target::Direct(BufWriter::new(OpenOptions::new().write(true).open(path).map_err(failed)?))
            }
            found => {
                // A link is followed, so that the rename replaces the file and not the link.
                let given = path;
                let path = if found.is_ok() { path.canonicalize().map_err(failed)? } else { path.to_path_buf() };
                if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == path)) {
                    return Err(Failure::input(given.display(), "is read by this run", "write to another file"));
                }
                let name = path
                    .file_name()
                    .ok_or_else(|| Failure::input(path.display(), "names no file", "give the name of a file"))?;
                let mut hidden = std::ffi::OsString::from(".");
                hidden.push(name);
                hidden.push(format!(".{}.tmp", std::process::id()));
                let temporary = path.with_file_name(hidden);
                let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
                Target::Renamed { file: BufWriter::new(file), temporary: Temporary(temporary), path }
            }
        };
        Ok(Output { path: path.into(), target })
    }

    /// Writes text.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = match &mut self.target {
            Target::Renamed { file, .. } | Target::Direct(file) => file.write_all(text.as_bytes()),
            Target::Stdout(out) => return out.write_all(text.as_bytes()).map_err(Failure::stdout),
        };
        written.map_err(|e| Failure::write(&self.path, e))
    }

    /// As [`finish`](Output::finish), so that it is there after a loss of power too, with the permissions of the file that it
    /// replaces.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish_durably(mut self) -> Result<(), Failure> {
        if let Target::Renamed { file, path, .. } = &mut self.target {
            let kept = |path: &Path| fs::metadata(path).map(|found| found.permissions());
            let written = file.flush().and_then(|()| match kept(path) {
                Ok(permissions) => file.get_ref().set_permissions(permissions),
                Err(_) => Ok(()),
            });
            written.and_then(|()| file.get_ref().sync_all()).map_err(|e| Failure::write(&self.path, e))?;
        }
        let folder = match &self.target {
            Target::Renamed { path, .. } => path.parent().map(Path::to_path_buf),
            Target::Direct(_) | Target::Stdout(_) => None,
        };
        self.finish()?;
        // The name is in the folder. Not every system lets a folder be opened; the file itself is safe.
        if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), Failure> {
        match self.target {
            Target::Renamed { mut file, temporary, path } => {
                file.flush().and_then(|()| fs::rename(&temporary.0, path)).map_err(|e| Failure::write(&self.path, e))
            }
            Target::Direct(mut file) => file.flush().map_err(|e| Failure::write(&self.path, e)),
            Target::Stdout(mut out) => out.flush().map_err(Failure::stdout),
        }
    }
}

/// Prints to the standard output.
///
/// # Errors
/// It cannot be written; [`Failure::ReaderGone`] where nobody reads it.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)
}
