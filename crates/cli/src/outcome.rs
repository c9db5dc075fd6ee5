//! How a command ends.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::elements::Stopped;

/// What a command found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Everything was read, and nothing is exposed.
    Clean,
    /// Everything was read, and something is exposed or may be.
    Exposed,
    /// Some of the input could not be read; the rest was judged.
    BadInput,
}

/// Why a command found out nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The reader of the output has gone.
    #[error("the output was closed")]
    OutputClosed,
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", .file.display())]
    Input {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The input is hardly what Azure returns. Reading ends, and what was judged is reported.
    #[error("too many problems")]
    TooManyProblems,
    /// What was asked makes no sense with what was given.
    #[error("{0}")]
    Asked(String),
}

impl From<std::io::Error> for Failure {
    /// Of an error on writing.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::Output(error) }
    }
}

/// How reading ended: as it should, at too many problems, or not at all.
pub(crate) fn read_all(split: Result<(), Stopped<Failure>>, file: &std::path::Path) -> Result<(), Failure> {
    match split {
        Ok(()) | Err(Stopped::Visitor(Failure::TooManyProblems)) => Ok(()),
        Err(Stopped::Visitor(failure)) => Err(failure),
        Err(Stopped::Unreadable(error)) => Err(Failure::Input { file: file.to_owned(), error }),
    }
}
