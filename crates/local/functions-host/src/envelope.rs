//! The DEFAULT-mode request body: `{"Data":{...},"Metadata":{...}}` (protocol page, section 2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::newtonsoft::{self, Json, STRICT_END, iso_seconds_and_fraction, quoted};

/// A value as the host's .NET code holds it before it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A string, a JSON scalar or array given by its JSON text: travels as text inside a JSON string.
    Text(String),
    /// Bytes: one level of base64.
    Bytes(Vec<u8>),
    Number(i64),
    /// `DateTime`: second precision, no zone.
    DateTime(Timestamp),
    /// `DateTimeOffset` in UTC: second precision with offset.
    DateTimeOffset(Timestamp),
    /// Objects travel as they are; anything else as JSON text inside a string.
    Json(Json),
    Null,
}

/// Binding data: names compare case-insensitively and keep the spelling they were first given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BindingData(Vec<(String, Value)>);

impl BindingData {
    /// Sets `name`, overwriting an entry that differs only in letter case.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets `name` unless it is there already.
    pub(crate) fn set_absent(&mut self, name: &str, value: Value) {
        if !self.contains(name) {
            self.0.push((name.to_owned(), value));
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Adds the `sys` entry every invocation carries; `$sys` if something took the name before.
    pub(crate) fn set_system(&mut self, function: &str, now: Timestamp, random: uuid::Uuid) {
        let system = Json::object([
            ("MethodName", Json::text(function)),
            ("UtcNow", Json::Text(utc(now))),
            ("RandGuid", Json::Text(random.to_string())),
        ]);
        let name = if self.contains("sys") { "$sys" } else { "sys" };
        self.set(name, Value::Json(system));
    }

    /// The host's `ApplyBindingData`: a trigger string that is a JSON object overwrites binding data. This is why
    /// Metadata of a string-typed trigger proves nothing.
    pub(crate) fn overlay(&mut self, trigger_text: &str) {
        if let Ok(Some(Json::Object(members))) = newtonsoft::parse(trigger_text, STRICT_END) {
            self.overlay_members(&members);
        }
    }

    fn overlay_members(&mut self, members: &[(String, Json)]) {
        for (name, value) in members {
            match value {
                Json::Null | Json::Array(_) => {}
                Json::Object(_) => self.set(name, Value::Json(value.clone())),
                scalar => self.set(name, Value::Text(scalar.to_invariant_text())),
            }
        }
    }
}

/// ISO with fraction and `Z`, as `sys.UtcNow` and nested dates are written.
fn utc(at: Timestamp) -> String {
    let civil = at.to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime();
    format!("{}Z", iso_seconds_and_fraction(civil))
}

/// ISO with fraction and `+00:00`, as timer status times are written.
pub(crate) fn utc_offset(at: Timestamp) -> String {
    let civil = at.to_zoned_datetime(jiff::tz::TimeZone::UTC).datetime();
    format!("{}+00:00", iso_seconds_and_fraction(civil))
}

fn encode(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::Text(quoted(text)),
        Value::Bytes(bytes) => Json::Text(STANDARD.encode(bytes)),
        Value::Number(number) => Json::Text(number.to_string()),
        Value::DateTime(at) => Json::Text(at.strftime("%Y-%m-%dT%H:%M:%S").to_string()),
        Value::DateTimeOffset(at) => Json::Text(format!("{}+00:00", at.strftime("%Y-%m-%dT%H:%M:%S"))),
        Value::Json(object @ Json::Object(_)) => object.clone(),
        Value::Json(other) => Json::Text(other.compact()),
        Value::Null => Json::text("null"),
    }
}

/// The body for one invocation. `data` is the input bindings by name, trigger first.
pub(crate) fn body(data: &[(String, Value)], metadata: &BindingData) -> String {
    let data = data.iter().map(|(name, value)| (name.clone(), encode(value))).collect();
    let metadata = metadata
        .0
        .iter()
        .filter(|(name, value)| *value != Value::Null && !name.to_ascii_lowercase().ends_with("trigger"))
        .map(|(name, value)| (name.clone(), encode(value)))
        .collect();
    Json::object([("Data", Json::Object(data)), ("Metadata", Json::Object(metadata))]).compact()
}
