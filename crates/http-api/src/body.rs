//! JSON bodies, read so that an error names the place.

use crate::error::{ApiError, echo};
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

/// The largest body, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// How much of a body that is too large is read and thrown away. Without that the connection breaks while the
/// client still sends, and it never sees why.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// A JSON body of the right type.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonBody<T>, ApiError> {
        let (parts, body) = request.into_parts();
        let is_json = is_json(&parts.headers);
        let bytes = read(&parts.headers, body).await?;
        if !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                "send the body as JSON in UTF-8, with the header `Content-Type: application/json`",
            ));
        }
        parse(&bytes).map(JsonBody)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let mut parts = value.split(';').map(|part| part.trim().to_ascii_lowercase());
    let is_json_type = parts.next().is_some_and(|kind| {
        kind == "application/json"
            || kind == "text/json"
            || (kind.starts_with("application/") && kind.ends_with("+json"))
    });
    is_json_type
        && parts.all(|parameter| match parameter.split_once('=') {
            Some(("charset", charset)) => matches!(charset.trim_matches('"'), "utf-8" | "utf8"),
            _ => true,
        })
}

async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, ApiError> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
    let mut bytes = Vec::with_capacity(announced.min(MAX_BODY));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request("InvalidRequestContent", format!("the body broke off: {error}"))
        })?;
        let Some(data) = frame.data_ref() else { continue };
        seen += data.len();
        if seen <= MAX_BODY {
            bytes.extend_from_slice(data);
        } else if seen > MAX_DISCARDED || announced > MAX_DISCARDED {
            break;
        }
    }
    if seen > MAX_BODY {
        let message = format!("the body is larger than {MAX_BODY} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestContentTooLarge", message));
    }
    Ok(bytes)
}

/// Reads JSON text.
///
/// # Errors
/// 400 with line and column, and with the field in `target` where there is one.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let wrong = |message: String| ApiError::bad_request("InvalidRequestContent", message);
    if bytes.is_empty() {
        return Err(wrong("the body is missing: send JSON".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        wrong(format!("the body is not UTF-8 at line {line} column {column}"))
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                let message = echo(&inner.to_string());
                if path == "." { wrong(message) } else { wrong(format!("{path}: {message}")).at(echo(&path)) }
            }
            _ => wrong(format!("the body is not JSON: {}", echo(&inner.to_string()))),
        }
    })?;
    deserializer.end().map_err(|error| wrong(format!("the body is not one JSON value: {error}")))?;
    Ok(value)
}
