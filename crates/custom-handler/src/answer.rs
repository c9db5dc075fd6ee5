//! What a function answers, encoded so that the host neither hangs on it nor changes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::http_output::HttpOutput;

/// The result of a function: values for its output bindings. `()` is the answer of a function without any.
///
/// The answer on the wire is always 200, `application/json`, with all three of `Outputs`, `Logs` and
/// `ReturnValue`: on 204, or 200 with an empty body, the host waits until `functionTimeout` and then kills the
/// process.
#[derive(Debug, Clone, Default)]
pub struct InvocationResponse {
    outputs: Vec<(String, Output)>,
    return_value: Option<Value>,
}

#[derive(Debug, Clone)]
enum Output {
    Checked(Value),
    AsIs(Value),
    Http(HttpOutput),
}

impl InvocationResponse {
    /// An answer without outputs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `value` to the output binding `name`, which is matched exactly; the host ignores names that
    /// `function.json` does not declare. A Service Bus or queue output writes one message per element of an
    /// array, and re-serialises objects with indentation.
    ///
    /// A string that the host would turn into bytes (anything that happens to be base64, like `test`) or into a
    /// date is refused when the answer is encoded, and the invocation fails: put it into a JSON object, declare
    /// the binding `dataType: "binary"` and use [`Self::as_is`], or say [`Self::bytes`] if bytes are meant.
    /// Strings inside objects and arrays are not refused; there the host may still write a date and time in
    /// another form.
    #[must_use]
    pub fn output(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(name, Output::Checked(value.into()))
    }

    /// Writes bytes to an output binding that takes bytes, such as a Storage queue or a blob. Not for Service
    /// Bus, whose message would be the text `System.Byte[]`.
    #[must_use]
    pub fn bytes(self, name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        self.with(name, Output::AsIs(Value::String(STANDARD.encode(bytes))))
    }

    /// Writes `value` unchecked. For output bindings with `dataType: "binary"`, whose strings the host leaves
    /// alone (except that it still rewrites dates).
    #[must_use]
    pub fn as_is(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(name, Output::AsIs(value.into()))
    }

    /// Answers the HTTP request of a function that is not forwarded, through its `http` output binding. The
    /// binding needs a name of its own: `$return` follows other rules and is refused.
    #[must_use]
    pub fn http(self, name: impl Into<String>, answer: HttpOutput) -> Self {
        self.with(name, Output::Http(answer))
    }

    /// Sets the return value: the value of the binding named `$return`, or, if there is none and it is an
    /// object, more outputs by name. Checked like [`Self::output`].
    #[must_use]
    pub fn return_value(mut self, value: impl Into<Value>) -> Self {
        self.return_value = Some(value.into());
        self
    }

    fn with(mut self, name: impl Into<String>, output: Output) -> Self {
        self.outputs.push((name.into(), output));
        self
    }

    pub(crate) fn encode(self, logs: &[String]) -> Result<Vec<u8>, EncodeError> {
        let mut outputs = Map::new();
        for (name, output) in self.outputs {
            let value = match output {
                Output::Checked(value) => checked(&name, value)?,
                Output::AsIs(value) => value,
                Output::Http(_) if name == "$return" => return Err(EncodeError::HttpReturn),
                Output::Http(answer) => answer.encode(&name)?,
            };
            outputs.insert(name, value);
        }
        let return_value = match self.return_value {
            Some(value) => checked("$return", value)?,
            None => Value::Null,
        };
        let answer = json!({ "Outputs": outputs, "Logs": logs, "ReturnValue": return_value });
        Ok(answer.to_string().into_bytes())
    }
}

/// What a function may return in `Ok`.
pub trait IntoInvocationResponse {
    /// The answer to the host.
    fn into_invocation_response(self) -> InvocationResponse;
}

impl IntoInvocationResponse for () {
    fn into_invocation_response(self) -> InvocationResponse {
        InvocationResponse::new()
    }
}

impl IntoInvocationResponse for InvocationResponse {
    fn into_invocation_response(self) -> InvocationResponse {
        self
    }
}

/// Why an answer cannot be given to the host without being changed on the way. The invocation fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The host decodes every string that is valid base64.
    #[error(
        "the host would read the text for output `{output}` as base64: wrap it in a JSON object, or use `bytes` or `as_is`"
    )]
    ReadAsBytes {
        /// The binding.
        output: String,
    },
    /// The host reads a string that is an ISO date and time as a date and writes it in another form.
    #[error("the host would rewrite the text for output `{output}` as a date: wrap it in a JSON object")]
    ReadAsDate {
        /// The binding.
        output: String,
    },
    /// A header value with other than printable ASCII characters.
    #[error("header `{header}` of output `{output}` must be printable ASCII")]
    Header {
        /// The binding.
        output: String,
        /// The header.
        header: String,
    },
    /// An HTTP answer for the binding `$return`.
    #[error("name the http output binding, for example `res`: as `$return` the host reads it by other rules")]
    HttpReturn,
}

fn checked(output: &str, value: Value) -> Result<Value, EncodeError> {
    if let Value::String(text) = &value {
        if host_reads_as_base64(text) {
            return Err(EncodeError::ReadAsBytes { output: output.to_owned() });
        }
        if host_reads_as_date(text) {
            return Err(EncodeError::ReadAsDate { output: output.to_owned() });
        }
    }
    Ok(value)
}

/// What .NET's `Convert.TryFromBase64String` accepts: the standard alphabet in groups of four once white space
/// is taken out, padded at the very end; the empty string too.
fn host_reads_as_base64(text: &str) -> bool {
    let text: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).collect();
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(&text);
    text.len().is_multiple_of(4)
        && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// What Newtonsoft's JSON reader takes for a date: an ISO date with a time, or `/Date(ticks)/`.
pub(crate) fn host_reads_as_date(text: &str) -> bool {
    (text.starts_with("/Date(") && text.ends_with(")/"))
        || (text.as_bytes().get(10) == Some(&b'T') && crate::envelope::point_in_time(text).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every string output of the recorded answers, and what the host made of it.
    #[test]
    fn strings_are_refused_exactly_where_the_recorded_host_changed_them() {
        let traces = include_str!("../../../tests/host-traces/traces.jsonl");
        let mut seen = 0;
        for line in traces.lines() {
            let trace: Value = serde_json::from_str(line).unwrap();
            let Some(body) = trace["respond"]["body"].as_str() else { continue };
            let Ok(answer) = serde_json::from_str::<Value>(body) else { continue };
            let Some(bindings) = trace["given"]["outputBindings"].as_array() else { continue };
            for binding in bindings {
                let [name, kind, data_type @ ..] =
                    &binding.as_str().unwrap().split(':').collect::<Vec<_>>()[..]
                else {
                    panic!("{binding}")
                };
                let Some(sent) = answer["Outputs"][name].as_str() else { continue };
                let Some(clr) = trace["outcome"]["outputs"][name]["clr"].as_str() else { continue };
                if *kind == "http" {
                    continue;
                }
                seen += 1;
                let refused = checked(name, Value::String(sent.to_owned())).err();
                let output = (*name).to_owned();
                let expected = match clr {
                    "System.Byte[]" => Some(EncodeError::ReadAsBytes { output }),
                    "System.DateTime" => Some(EncodeError::ReadAsDate { output }),
                    // A binding with dataType binary is left alone where another would not be: `as_is`.
                    _ if data_type.first() == Some(&"Binary") => continue,
                    _ => None,
                };
                assert_eq!(refused, expected, "{}: {name} = {sent}", trace["case"]);
            }
        }
        assert!(seen >= 30, "only {seen} recorded string outputs were looked at");
    }

    #[test]
    fn an_answer_always_has_all_three_members() {
        let body = InvocationResponse::new().encode(&[]).unwrap();
        assert_eq!(body, br#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#);
    }

    /// Response case R12: `status` is ignored by the host, `statusCode` is not.
    #[test]
    fn r12_the_status_of_an_http_output_is_called_status_code() {
        let answer = HttpOutput::text(http::StatusCode::NOT_FOUND, "x").encode("res").unwrap();
        assert_eq!(answer, json!({ "statusCode": 404, "headers": {}, "body": "x" }));
    }

    /// Response cases R13 and R14: a JSON body is written out here, with its content type.
    #[test]
    fn r14_a_json_body_is_sent_as_text_with_its_content_type() {
        let answer = HttpOutput::json(http::StatusCode::OK, &json!({ "a": 1 })).encode("res").unwrap();
        assert_eq!(
            answer,
            json!({ "statusCode": 200, "headers": { "content-type": "application/json" }, "body": r#"{"a":1}"# })
        );
    }

    /// Response case R15, and the recorded `client-header-*` cases: what the host answers with 500 is refused here.
    #[test]
    fn r15_a_header_the_host_cannot_write_is_refused() {
        let answer = HttpOutput::text(http::StatusCode::OK, "x").header("X-A", "é").encode("res");
        assert_eq!(answer, Err(EncodeError::Header { output: "res".into(), header: "x-a".into() }));
    }

    /// Response cases R3, R17 and R18: bytes are only sent as bytes on purpose.
    #[test]
    fn r17_text_that_happens_to_be_base64_is_refused_and_r18_bytes_are_not() {
        let refused = InvocationResponse::new().output("outsb", "abcd1234").encode(&[]);
        assert_eq!(refused, Err(EncodeError::ReadAsBytes { output: "outsb".into() }));
        let refused = InvocationResponse::new().return_value("abcd1234").encode(&[]);
        assert_eq!(refused, Err(EncodeError::ReadAsBytes { output: "$return".into() }));
        let bytes = InvocationResponse::new().bytes("outq", "hello").encode(&[]).unwrap();
        assert_eq!(bytes, br#"{"Outputs":{"outq":"aGVsbG8="},"Logs":[],"ReturnValue":null}"#);
    }

    /// Response case R4: with dataType binary the host changes nothing, so the text may be anything.
    #[test]
    fn r4_as_is_passes_text_that_happens_to_be_base64() {
        let body = InvocationResponse::new().as_is("outbin", "abcd1234").encode(&[]).unwrap();
        assert_eq!(body, br#"{"Outputs":{"outbin":"abcd1234"},"Logs":[],"ReturnValue":null}"#);
    }

    /// Response case R10: an http output the host cannot parse cannot be expressed, except through `$return`.
    #[test]
    fn r10_an_http_answer_for_the_return_binding_is_refused() {
        let answer = HttpOutput::text(http::StatusCode::OK, "x");
        assert_eq!(
            InvocationResponse::new().http("$return", answer).encode(&[]),
            Err(EncodeError::HttpReturn)
        );
    }
}
