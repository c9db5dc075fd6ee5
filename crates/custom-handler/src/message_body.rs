//! The payload of a message, which the host writes in one of two ways that cannot be confused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use crate::trigger::DecodeError;

/// Payload bytes from the value of a message trigger.
///
/// Without `dataType` (or with `"string"`) the host writes the text as a JSON string inside the JSON string, so
/// the value begins with a quote, which base64 never does. With `dataType: "binary"` it writes base64 and
/// nothing else, so base64 is decoded as such and never read as JSON: `1234` and `true` are base64, too. Text
/// that is neither comes from hosts that encode once.
pub(crate) fn decode(value: &Value) -> Result<Bytes, DecodeError> {
    let Value::String(text) = value else { return Err(DecodeError::NotAMessage) };
    if text.starts_with('"') {
        return Ok(match serde_json::from_str::<String>(text) {
            Ok(inner) => inner.into(),
            Err(_) => text.clone().into(),
        });
    }
    if text.starts_with('[') {
        return Err(DecodeError::Batch);
    }
    Ok(match STANDARD.decode(text) {
        Ok(bytes) => bytes.into(),
        Err(_) => text.clone().into(),
    })
}

/// A message payload that is not the JSON that was expected. Says where and not what: the payload may be
/// secret, and errors are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is not the expected JSON ({kind}, line {line}, column {column})")]
pub struct UnexpectedJson {
    kind: &'static str,
    line: usize,
    column: usize,
}

/// Reads a payload as JSON.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, UnexpectedJson> {
    serde_json::from_slice(body).map_err(|error| UnexpectedJson {
        kind: match error.classify() {
            Category::Data => "other members or types",
            Category::Syntax => "no JSON",
            Category::Eof | Category::Io => "cut off",
        },
        line: error.line(),
        column: error.column(),
    })
}
