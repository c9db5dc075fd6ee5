//! The file that is read, or standard input, and how far it has been read.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::outcome::Failure;

/// Shorter runs need no progress.
const PATIENCE: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(100);

/// An open input.
pub(crate) struct Input {
    /// What to call it.
    pub(crate) name: PathBuf,
    reader: Box<dyn Read>,
    progress: Option<Progress>,
}

struct Progress {
    length: u64,
    read: u64,
    next: Instant,
    shown: bool,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(file: &Path) -> Result<Self, Failure> {
        if file == Path::new("-") {
            let reader = Box::new(std::io::stdin().lock());
            return Ok(Self { name: PathBuf::from("<stdin>"), reader, progress: None });
        }
        let failure = |error| Failure::Input { file: file.to_owned(), error };
        let opened = File::open(file).map_err(failure)?;
        let length = opened.metadata().map_err(failure)?.len();
        // On a terminal that shows the results too, the bar would be in their way.
        let shows = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let progress =
            shows.then(|| Progress { length, read: 0, next: Instant::now() + PATIENCE, shown: false });
        Ok(Self { name: file.to_owned(), reader: Box::new(opened), progress })
    }

    /// Whether a progress bar may be on the last line of the terminal.
    pub(crate) const fn has_progress(&self) -> bool {
        self.progress.is_some()
    }
}

impl Read for &mut Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if let Some(progress) = &mut self.progress {
            progress.advance(read);
        }
        Ok(read)
    }
}

impl Progress {
    fn advance(&mut self, read: usize) {
        self.read += read as u64;
        // Progress that cannot be shown is no reason to stop.
        if read == 0 && self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        } else if read > 0 && self.length > 0 && Instant::now() >= self.next {
            self.next = Instant::now() + BETWEEN;
            self.shown = true;
            let percent = (self.read * 100 / self.length).min(100);
            let bar = "#".repeat(usize::try_from(percent / 4).unwrap_or(25));
            let _ = write!(std::io::stderr(), "\r[{bar:<25}] {percent}%");
        }
    }
}
