//! What could not be read: told at once on standard error, counted, and the first of them kept for the report.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::elements::Element;
use crate::place::{Place, message_of};
use crate::shown::printable;

/// More than these help nobody; they are counted.
const MOST_TOLD: usize = 100;

/// After so many the input is hardly what Azure returns, and the rest of it is not read.
const MOST: usize = 100_000;

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where, when it is at one place of the input.
    pub(crate) place: Option<Place>,
    /// The group, rule and property, as far as known; may be empty.
    pub(crate) subject: String,
    /// What is wrong and what to do.
    pub(crate) explanation: String,
}

/// The problems of one input.
pub(crate) struct Problems {
    file: PathBuf,
    clear_line: bool,
    pub(crate) kept: Vec<Problem>,
    pub(crate) count: usize,
}

impl Problems {
    pub(crate) fn of(file: &Path, clear_line: bool) -> Self {
        Self { file: file.to_owned(), clear_line, kept: Vec::new(), count: 0 }
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.count > MOST_TOLD {
            return;
        }
        self.tell(&format!("{}", Located { file: &self.file, problem: &problem }));
        self.kept.push(problem);
    }

    /// Something at one place that belongs to nothing with a name.
    pub(crate) fn add_at(&mut self, place: Place, explanation: String) {
        self.add(Problem { place: Some(place), subject: String::new(), explanation });
    }

    /// An element that is no JSON.
    pub(crate) fn add_unread(&mut self, element: &Element<'_>, error: &serde_json::Error) {
        self.add(Problem {
            place: Some(element.place_of_error(error)),
            subject: format!("the element at {}", element.place),
            explanation: message_of(error),
        });
    }

    /// Whether there are so many that reading on makes no sense.
    pub(crate) const fn too_many(&self) -> bool {
        self.count >= MOST
    }

    /// Says how many were not told one by one.
    pub(crate) fn finish(&self) {
        if self.too_many() {
            self.tell(&format!("{}: the rest was not read after {MOST} problems", self.file.display()));
        }
        if self.count > MOST_TOLD {
            let more = self.count - MOST_TOLD;
            self.tell(&format!("{}: and {more} more problems", self.file.display()));
        }
    }

    pub(crate) const fn any(&self) -> bool {
        self.count > 0
    }

    fn tell(&self, text: &str) {
        let clear = if self.clear_line { "\r\x1b[K" } else { "" };
        // The report and the exit code say it too, when standard error is closed.
        let _ = writeln!(std::io::stderr(), "{clear}{}", printable(text));
    }
}

struct Located<'a> {
    file: &'a Path,
    problem: &'a Problem,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = self.problem.place {
            write!(f, "{place}:")?;
        }
        if !self.problem.subject.is_empty() {
            write!(f, " {}:", self.problem.subject)?;
        }
        write!(f, " {}", self.problem.explanation)
    }
}
