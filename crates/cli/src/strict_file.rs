//! Files that people write: read strictly, with errors that point into them.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::elements::Element;
use crate::outcome::Failure;
use crate::place::{Place, Step, message_of};

/// Longer than any policy or grant that people write.
const LONGEST: u64 = 4 << 20;

/// A file of one value or a list of them.
pub(crate) struct StrictFile<T> {
    pub(crate) values: Vec<T>,
    text: Vec<u8>,
    is_list: bool,
}

impl<T: DeserializeOwned> StrictFile<T> {
    /// Reads a file.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let failure = |error| Failure::Input { file: file.to_owned(), error };
        let mut text = Vec::new();
        File::open(file).map_err(failure)?.take(LONGEST + 1).read_to_end(&mut text).map_err(failure)?;
        if text.len() as u64 > LONGEST {
            return Err(Failure::Asked(format!(
                "{}: longer than {} MiB; name fewer policies or grants at a time",
                file.display(),
                LONGEST >> 20
            )));
        }
        if text.starts_with(b"\xEF\xBB\xBF") {
            text.drain(..3);
        }
        let is_list = text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
        let values = if is_list {
            serde_json::from_slice(&text)
        } else {
            serde_json::from_slice(&text).map(|one| vec![one])
        };
        match values {
            Ok(values) => Ok(Self { values, text, is_list }),
            Err(error) => {
                let place = Element { bytes: &text, place: Place::FIRST }.place_of_error(&error);
                Err(Failure::Asked(format!("{}:{place}: {}", file.display(), message_of(&error))))
            }
        }
    }

    /// The place of a field such as `ports[0].sources[1]` of a value.
    pub(crate) fn place_of(&self, index: usize, field: &str) -> Place {
        let mut steps = Vec::new();
        if self.is_list {
            steps.push(Step::Item(index));
        }
        for part in field.split(['.', '[']) {
            steps.push(match part.strip_suffix(']').and_then(|n| n.parse().ok()) {
                Some(item) => Step::Item(item),
                None => Step::Key(Cow::Owned(part.to_owned())),
            });
        }
        Element { bytes: &self.text, place: Place::FIRST }.place_of(&steps)
    }
}
