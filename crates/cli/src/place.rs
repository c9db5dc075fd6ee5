//! Places in the input, and the way from a property of an element to its place.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::elements::Element;

/// A line and column of the input, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl Place {
    pub(crate) const FIRST: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A step down into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of a key, in any case.
    Key(Cow<'static, str>),
    /// An item of a list, from 0.
    Item(usize),
}

impl Step {
    pub(crate) const fn key(key: &'static str) -> Self {
        Self::Key(Cow::Borrowed(key))
    }
}

impl Element<'_> {
    /// The place of the value that the steps lead to, as far as they lead.
    pub(crate) fn place_of(&self, steps: &[Step]) -> Place {
        let mut found = self.bytes;
        for step in steps {
            match down(found, step) {
                Some(inner) => found = inner,
                None => break,
            }
        }
        let offset = (found.as_ptr() as usize).saturating_sub(self.bytes.as_ptr() as usize);
        self.place.after(self.bytes.get(..offset).unwrap_or_default())
    }

    /// Where serde_json stopped.
    pub(crate) fn place_of_error(&self, error: &serde_json::Error) -> Place {
        match error.line() as u64 {
            0 => self.place,
            1 => Place {
                line: self.place.line,
                column: self.place.column + (error.column() as u64).saturating_sub(1),
            },
            line => Place { line: self.place.line + line - 1, column: error.column() as u64 },
        }
    }
}

/// What serde_json says, without its own line and column, which count from the element.
pub(crate) fn message_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&end).map_or(text.clone(), str::to_owned)
}

fn down<'a>(json: &'a [u8], step: &Step) -> Option<&'a [u8]> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Down(step).deserialize(&mut deserializer).ok().flatten().map(|raw: &RawValue| raw.get().as_bytes())
}

struct Down<'k>(&'k Step);

impl<'de> DeserializeSeed<'de> for Down<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Down<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match self.0 {
                Step::Key(wanted) if found.is_none() && key.0.eq_ignore_ascii_case(wanted) => {
                    found = Some(map.next_value()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Step::Item(wanted) = *self.0 else { return Ok(None) };
        let mut found = None;
        let mut index = 0;
        loop {
            if index == wanted {
                match seq.next_element()? {
                    Some(raw) => found = Some(raw),
                    None => return Ok(None),
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_found_where_it_is_written() {
        let text = "{\n  \"a\": 1,\n  \"Properties\": {\"rules\": [\n    {\"x\": \"ü\", \"y\": [7]},\n 8]}}";
        let element = Element { bytes: text.as_bytes(), place: Place { line: 10, column: 5 } };
        let place = |steps: &[Step]| {
            let Place { line, column } = element.place_of(steps);
            (line, column)
        };
        assert_eq!(place(&[]), (10, 5));
        assert_eq!(place(&[Step::key("a")]), (11, 8));
        let rules = |rest: &[Step]| [&[Step::key("properties"), Step::key("rules")], rest].concat();
        assert_eq!(place(&rules(&[Step::Item(0), Step::key("y"), Step::Item(0)])), (13, 22));
        assert_eq!(place(&rules(&[Step::Item(1)])), (14, 2));
        // As far as the steps lead: the list.
        assert_eq!(place(&rules(&[Step::Item(2), Step::key("z")])), (12, 27));
    }

    #[test]
    fn an_error_is_pointed_to_from_the_start_of_the_input() {
        let element = Element { bytes: b"{\"a\":tru}", place: Place { line: 3, column: 7 } };
        let error = serde_json::from_slice::<serde_json::Value>(element.bytes).unwrap_err();
        // serde_json stops at the byte that cannot be: the 9th of the element.
        assert_eq!(element.place_of_error(&error), Place { line: 3, column: 15 });
        assert!(!message_of(&error).contains("line"));
        let element = Element { bytes: b"{\n \"a\": tru}", ..element };
        let error = serde_json::from_slice::<serde_json::Value>(element.bytes).unwrap_err();
        assert_eq!(element.place_of_error(&error), Place { line: 4, column: 10 });
    }
}
