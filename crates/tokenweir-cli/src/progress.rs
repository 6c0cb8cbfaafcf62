//! A bar on the terminal while a long trace runs.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// Traces shorter than this are done before a bar could be read: 4 MiB.
const LONG: u64 = 4 << 20;

/// The bar, if there is one: only for a long trace, and only where the standard error is a terminal.
#[derive(Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// For a trace of this many bytes; `None` where that is not known.
    pub fn new(length: Option<u64>) -> Self {
        let length = length.filter(|&length| length >= LONG && io::stderr().is_terminal());
        Progress(length.map(|length| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {eta} left");
            ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }))
    }

    /// Moves on to this line, after this many bytes.
    pub fn at(&mut self, line: u64, bytes: u64) {
        if let Some(bar) = &self.0
            && line.is_multiple_of(4096)
        {
            bar.set_position(bytes);
            bar.set_message(format!("line {}", crate::text::grouped(line)));
        }
    }

    /// Takes the bar away.
    pub fn done(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // A run that fails says why on a clean line.
        self.done();
    }
}
