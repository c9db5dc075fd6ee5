//! How exposures are written: as they come, so that a file of any length needs the same memory.

use std::io;

use ajar_network::exposure::Exposure;
use ajar_network::ports::{Port, Protocol};

use crate::place::Place;
use crate::problems::Problems;

pub(crate) mod json;
pub(crate) mod sarif;
pub(crate) mod table;

/// A group and what it exposes.
pub(crate) struct Judged<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) name: &'a str,
    pub(crate) exposures: Vec<Exposure<'a>>,
    /// The places of each exposure's first rule; only for reports that show places.
    pub(crate) rule_places: Vec<Place>,
}

impl Judged<'_> {
    /// What to call it: its name, or else its id.
    pub(crate) fn title(&self) -> &str {
        match (self.id, self.name) {
            (Some(id), "") => id,
            (_, name) => name,
        }
    }
}

/// Writes groups one by one.
pub(crate) trait Report {
    /// Whether the places of rules are shown.
    fn shows_places(&self) -> bool {
        false
    }
    /// Writes what comes before the first group.
    fn begin(&mut self) -> io::Result<()>;
    /// Writes one group.
    fn nsg(&mut self, judged: &Judged<'_>) -> io::Result<()>;
    /// Writes what comes after the last group, and everything to the end.
    fn finish(&mut self, problems: &Problems) -> io::Result<()>;
}

/// `22/tcp`
pub(crate) fn flow_text(port: Port, protocol: Protocol) -> String {
    format!("{port}/{}", protocol.as_str().to_ascii_lowercase())
}
