//! JSON as Newtonsoft.Json reads and writes it, which is what the host does to every body it touches.
//!
//! It differs from strict JSON where a handler can see it: comments, single quotes, unquoted names and trailing
//! commas are read; text that looks like an ISO date-time becomes a date and is written back differently;
//! a later duplicate name wins.

mod dates;
mod reader;
mod writer;

pub(crate) use dates::{Date, iso_seconds_and_fraction};
pub(crate) use reader::{Reading, STRICT_END, parse, parse_file};
use writer::float_text;
pub(crate) use writer::quoted;

/// A parsed value. Object members keep their order, because it is visible on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Integer(String),
    Float { value: f64, text: String },
    Text(String),
    Date(Date),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    pub(crate) fn integer(value: i64) -> Self {
        Self::Integer(value.to_string())
    }

    pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(crate) fn as_object(&self) -> Option<&[(String, Json)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Date(date) => Some(&date.text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// A member by name, letter case ignored, as the host reads its configuration.
    pub(crate) fn member(&self, name: &str) -> Option<&Json> {
        self.as_object()?.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// A member by path; null counts as absent.
    pub(crate) fn path(&self, names: &[&str]) -> Option<&Json> {
        let found = names.iter().try_fold(self, |value, name| value.member(name))?;
        (!found.is_null()).then_some(found)
    }

    /// `JToken.ToString()`: what a scalar or structure becomes when .NET makes text of it.
    pub(crate) fn to_invariant_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Integer(text) | Self::Text(text) => text.clone(),
            Self::Float { value, .. } => float_text(*value),
            Self::Date(date) => date.invariant(),
            Self::Array(_) | Self::Object(_) => self.indented(),
        }
    }

    /// `Formatting.None`.
    pub(crate) fn compact(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// `Formatting.Indented`.
    pub(crate) fn indented(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        out
    }
}
