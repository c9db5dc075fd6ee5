//! The `{"Data":{...},"Metadata":{...}}` body of an invocation, and the rule for reading its values.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The body of an invocation as the host sent it. Typed triggers are read from it; a function registered
/// with [`crate::Functions::other`] gets it whole.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct InvocationRequest {
    /// One entry per input binding, keyed by binding name, the trigger first. Values are as on the wire,
    /// which mostly means JSON inside a JSON string: [`InvocationRequest::input`] takes that off.
    #[serde(rename = "Data", default, deserialize_with = "null_is_empty")]
    pub data: Map<String, Value>,
    /// What the host says about the event.
    #[serde(rename = "Metadata", default)]
    pub metadata: Metadata,
}

impl InvocationRequest {
    /// The value of the trigger as on the wire: the host writes it before every other input.
    #[must_use]
    pub fn trigger(&self) -> Option<&Value> {
        self.data.values().next()
    }

    /// The decoded value of the input binding `name`: one level of JSON-in-a-string is taken off. Not for a
    /// binding with `dataType: "binary"`, whose base64 text could happen to be JSON: see [`Self::bytes`].
    #[must_use]
    pub fn input(&self, name: &str) -> Option<Value> {
        self.data.get(name).map(decoded)
    }

    /// The bytes of the input binding `name`: text as the host encodes it, or base64 as it writes for
    /// `dataType: "binary"`. None when there is no such input or it holds neither.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<bytes::Bytes> {
        crate::message_body::decode(self.data.get(name)?).ok()
    }
}

/// What the host says about the event: **hints, never facts**. When a trigger's payload is a string holding a
/// JSON object, the host writes the object's members over the entries of the same name, so whoever wrote the
/// payload can forge any of them. Take nothing from here that decides about security or identity; put your own
/// ids into the body. `dataType: "binary"` on the trigger switches the overwriting off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The decoded value of an entry; names are matched exactly.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.get(name).map(decoded)
    }

    /// An entry that is text. A number or truth value gives its text: a host may have lost the difference.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// An entry that is a whole number, or text that reads as one.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// An entry that is a point in time. Without an offset it is taken as UTC, the zone of every host on Linux.
    #[must_use]
    pub fn timestamp(&self, name: &str) -> Option<Timestamp> {
        point_in_time(&self.text(name)?)
    }

    /// An entry that is an object, such as `sys` or `ApplicationProperties`.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&Map<String, Value>> {
        self.0.get(name)?.as_object()
    }

    /// Every entry as on the wire.
    #[must_use]
    pub fn entries(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Map<String, Value>> for Metadata {
    fn from(entries: Map<String, Value>) -> Self {
        Self(entries)
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        null_is_empty(deserializer).map(Self)
    }
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The value behind one level of JSON-in-a-string. An object in a string stays the string: the host writes
/// objects natively, so such a text is the payload itself. Anything that is not JSON stays as it is, because
/// older hosts encode once where newer ones encode twice.
pub(crate) fn decoded(value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    match serde_json::from_str(text) {
        Ok(Value::Object(_)) | Err(_) => value.clone(),
        Ok(inner) => inner,
    }
}

/// Reads `2026-06-15T10:00:00+00:00` and, as UTC, `2026-06-15T10:00:00`.
pub(crate) fn point_in_time(text: &str) -> Option<Timestamp> {
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }
    let civil: DateTime = text.parse().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}
