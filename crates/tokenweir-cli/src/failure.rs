//! Why a run ended early: what the user reads, and the exit code.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why a command stopped. Printed as `error: FILE:LINE: reason; remedy`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Something that was read is wrong: the policy, the trace, an option. Exit code 2.
    #[error("{place}: {reason}; {remedy}")]
    Input {
        /// `FILE`, `FILE:LINE` or the option.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// Several things are wrong, each line with its own place, reason and remedy. Exit code 2.
    #[error("{}", .0.join("\n"))]
    Problems(Vec<String>),
    /// A result could not be written. Exit code 1.
    #[error("{place}: cannot write: {source}; nothing was left at that name")]
    Write {
        /// The file that was to be written.
        place: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// What the gateway refused, or what does not work: each line is printed as it is. Exit code 3.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The same as JSON, for the standard output. Exit code 3.
    #[error("{0}")]
    Told(String),
    /// Whoever read the standard output has gone; there is nobody to tell.
    #[error("the reader of the standard output has gone")]
    ReaderGone,
}

impl Failure {
    /// Wrong input at `place`.
    pub fn input(place: impl Display, reason: impl Display, remedy: impl Display) -> Self {
        Failure::Input { place: place.to_string(), reason: reason.to_string(), remedy: remedy.to_string() }
    }

    /// A replay of the trace `file` that ended early.
    pub fn replay(file: &str, error: tokenweir_replay::Error) -> Self {
        use tokenweir_replay::Error;
        match error {
            Error::Line { line, reason, remedy } => Failure::input(format_args!("{file}:{line}"), reason, remedy),
            // The engine's messages carry their own remedy.
            Error::Request { line, source } => Failure::Problems(vec![format!("{file}:{line}: {source}")]),
            other => Failure::Problems(vec![format!("{file}: {other}")]),
        }
    }

    /// A file that could not be opened or read.
    pub fn read(path: &Path, source: &io::Error) -> Self {
        let remedy = match source.kind() {
            io::ErrorKind::NotFound => "give the path of an existing file",
            io::ErrorKind::PermissionDenied => "make it readable",
            io::ErrorKind::InvalidData => "save it as UTF-8 text",
            _ => "check that it is a readable file",
        };
        Failure::input(path.display(), format_args!("cannot read: {source}"), remedy)
    }

    /// A file that could not be written.
    pub fn write(path: &Path, source: io::Error) -> Self {
        Failure::Write { place: path.display().to_string(), source }
    }

    /// The standard output could not be written.
    pub fn stdout(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Write { place: "standard output".into(), source },
        }
    }

    /// Says it on the standard error and returns the exit code.
    pub fn report(&self) -> ExitCode {
        // The standard error may be closed as well; `eprintln!` would panic.
        let say = |line: &str| {
            use io::Write;
            let _ = writeln!(io::stderr(), "error: {line}");
        };
        match self {
            // Like `head`'s other friends: the reader had enough, and that is no failure.
            Failure::ReaderGone => return ExitCode::SUCCESS,
            Failure::Told(answer) => {
                use io::Write;
                let _ = writeln!(io::stdout(), "{answer}");
            }
            Failure::Problems(lines) | Failure::Refused(lines) => lines.iter().for_each(|line| say(line)),
            other => say(&other.to_string()),
        }
        match self {
            Failure::Write { .. } => ExitCode::from(1),
            Failure::Refused(_) | Failure::Told(_) => ExitCode::from(3),
            _ => ExitCode::from(2),
        }
    }
}
