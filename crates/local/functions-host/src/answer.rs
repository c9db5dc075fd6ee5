//! What the host concludes from a handler's answer in DEFAULT mode (protocol page, sections 3.1 to 3.4).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::functions::{OutputBinding, OutputKind};
use crate::newtonsoft::{self, Json, Reading};
use crate::wire::WireAnswer;

const HTTP_OUTPUT_ERROR: &str =
    "Failed while trying to Deserialize to httpOutputBindingResponse. Output is not in expected format";

/// Limit of the host's JSON media type formatter.
const MAX_ANSWER_DEPTH: usize = 256;

/// A value for an output binding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    Json(Json),
    /// A string that was valid base64.
    Bytes(Vec<u8>),
    /// The normalised object of an `http` output.
    Http(HttpOutput),
}

/// `{statusCode, status, body, headers}`; `Missing` when `Outputs` came without the binding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HttpOutput {
    Missing,
    Given { status_code: Option<String>, status: Option<String>, body: Json, headers: Vec<(String, Json)> },
}

/// A successful invocation's result.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Converted values by binding name.
    pub(crate) outputs: Vec<(String, Output)>,
    pub(crate) return_value: Option<Output>,
}

/// The lines of `Logs`, and the result or why there is none. Logs count even when the conversion of outputs fails.
#[derive(Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) logs: Vec<String>,
    pub(crate) result: Result<Outcome, String>,
}

impl Judgement {
    fn failed(reason: String) -> Self {
        Self { logs: Vec::new(), result: Err(reason) }
    }
}

/// Judges an answer for a function with these outputs.
pub(crate) fn judge(answer: &WireAnswer, bindings: &[OutputBinding]) -> Judgement {
    if !(200..300).contains(&answer.status) {
        return Judgement::failed(format!(
            "Response status code does not indicate success: {} ({}).",
            answer.status, answer.reason
        ));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let invalid = |why: &str| {
        Judgement::failed(format!(
            "Invalid HttpResponseMessage:\nStatusCode: {}, ReasonPhrase: '{}'\n {text}\n{why}",
            answer.status, answer.reason
        ))
    };
    if answer.body.is_empty() {
        return Judgement::failed(empty_answer(answer.status));
    }
    if let Err(why) = is_json(answer) {
        return invalid(&why);
    }
    let reading = Reading { dates: true, typed: true, max_depth: MAX_ANSWER_DEPTH };
    let root = match newtonsoft::parse(&text, reading) {
        Ok(None | Some(Json::Null)) => return Judgement::failed(empty_answer(answer.status)),
        Ok(Some(root)) => root,
        Err(why) => return invalid(&why),
    };
    let envelope = match Envelope::read(&root) {
        Ok(envelope) => envelope,
        Err(why) => return invalid(&why),
    };
    Judgement { result: envelope.outcome(bindings), logs: envelope.logs }
}

/// The real host waits for its function timeout here and then kills the handler. Said at once instead.
fn empty_answer(status: u16) -> String {
    format!(
        "the handler answered {status} without a JSON object; Azure's host would hang until functionTimeout and then \
         kill the handler. Answer 200 with Content-Type application/json and at least {{}}"
    )
}

fn is_json(answer: &WireAnswer) -> Result<(), String> {
    let content_type = answer.header("Content-Type").unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if !essence.eq_ignore_ascii_case("application/json") && !essence.eq_ignore_ascii_case("text/json") {
        return Err(format!(
            "No MediaTypeFormatter is available to read an object from content with media type '{essence}'."
        ));
    }
    let is_wide = parts.any(|part| part.to_ascii_lowercase().replace('"', "").starts_with("charset=utf-16"));
    if is_wide {
        return Err("the body is not UTF-16 as its charset says".to_owned());
    }
    Ok(())
}

struct Envelope {
    /// `None` when absent or null.
    outputs: Option<Vec<(String, Json)>>,
    logs: Vec<String>,
    return_value: Json,
}

impl Envelope {
    fn read(root: &Json) -> Result<Self, String> {
        let Json::Object(members) = root else {
            return Err("the answer is not a JSON object".to_owned());
        };
        let mut envelope = Self { outputs: None, logs: Vec::new(), return_value: Json::Null };
        for (name, value) in members {
            match (name.to_ascii_lowercase().as_str(), value) {
                ("outputs" | "logs", Json::Null) => {}
                ("outputs", Json::Object(given)) => {
                    let outputs = envelope.outputs.get_or_insert_default();
                    for (name, value) in given {
                        outputs.retain(|(known, _)| known != name);
                        outputs.push((name.clone(), value.clone()));
                    }
                }
                ("outputs", _) => return Err("Outputs is not an object".to_owned()),
                ("logs", Json::Array(lines)) => {
                    for line in lines {
                        envelope.logs.push(log_line(line)?);
                    }
                }
                ("logs", _) => return Err("Logs is not an array".to_owned()),
                ("returnvalue", value) => envelope.return_value = value.clone(),
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn outcome(&self, bindings: &[OutputBinding]) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        if let Some(given) = &self.outputs {
            for binding in bindings {
                let value = given.iter().find(|(name, _)| *name == binding.name).map(|(_, value)| value);
                if binding.kind == OutputKind::Http && binding.name != "$return" {
                    let output = match value {
                        Some(value) => http_output(value)?,
                        None => HttpOutput::Missing,
                    };
                    outcome.outputs.push((binding.name.clone(), Output::Http(output)));
                } else if let Some(value) = value.filter(|value| !value.is_null()) {
                    outcome.outputs.push((binding.name.clone(), convert(value, binding.binary)));
                }
            }
        }
        if !self.return_value.is_null() {
            let binding = bindings.iter().find(|binding| binding.name == "$return");
            outcome.return_value = Some(match binding {
                Some(binding) => convert(&self.return_value, binding.binary),
                None => Output::Json(self.return_value.clone()),
            });
        }
        Ok(outcome)
    }
}

fn log_line(line: &Json) -> Result<String, String> {
    match line {
        Json::Null => Ok("[null]".to_owned()),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Float { text, .. } => Ok(text.clone()),
        Json::Date(date) => Ok(date.text.clone()),
        Json::Integer(text) | Json::Text(text) => Ok(text.clone()),
        Json::Array(_) | Json::Object(_) => Err("Logs holds something that is not a string".to_owned()),
    }
}

/// A string that is valid base64 becomes bytes, meant or not.
fn convert(value: &Json, is_binary: bool) -> Output {
    if let Json::Text(text) = value
        && !is_binary
    {
        let bare: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        if let Ok(bytes) = STANDARD.decode(bare) {
            return Output::Bytes(bytes);
        }
    }
    Output::Json(value.clone())
}

fn http_output(value: &Json) -> Result<HttpOutput, String> {
    let error = || HTTP_OUTPUT_ERROR.to_owned();
    let parsed;
    let object = match value {
        Json::Text(text) => {
            parsed = newtonsoft::parse(text, newtonsoft::STRICT_END).map_err(|_| error())?;
            parsed.as_ref().ok_or_else(error)?
        }
        other => other,
    };
    if object.as_object().is_none() {
        return Err(error());
    }
    let scalar = |name: &str| match object.path(&[name]) {
        None => Ok(None),
        Some(Json::Array(_) | Json::Object(_)) => Err(error()),
        Some(value) => Ok(Some(value.to_invariant_text())),
    };
    Ok(HttpOutput::Given {
        status_code: scalar("statusCode")?,
        status: scalar("status")?,
        body: object.path(&["body"]).cloned().unwrap_or(Json::Null),
        headers: match object.path(&["headers"]) {
            None => Vec::new(),
            Some(Json::Object(headers)) => headers.clone(),
            Some(_) => return Err(error()),
        },
    })
}

/// What a client gets from an HTTP function in DEFAULT mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl ClientAnswer {
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, content_type: None, headers: Vec::new(), body: Vec::new() }
    }

    fn json(value: &Json) -> Self {
        Self {
            content_type: Some("application/json; charset=utf-8".to_owned()),
            body: value.compact().into_bytes(),
            ..Self::empty(200)
        }
    }

    fn content(value: &Json) -> Self {
        Self {
            content_type: Some("text/plain; charset=utf-8".to_owned()),
            body: value.to_invariant_text().into_bytes(),
            ..Self::empty(200)
        }
    }
}

/// The client's answer to a successful invocation (protocol page, section 3.3).
pub(crate) fn client_answer(outcome: &Outcome, bindings: &[OutputBinding]) -> ClientAnswer {
    let http = bindings.iter().find(|binding| binding.kind == OutputKind::Http);
    let bound = http.and_then(|http| {
        if http.name == "$return" {
            return outcome.return_value.as_ref().map(raw_answer);
        }
        let from_outputs = outcome.outputs.iter().find(|(name, _)| *name == http.name);
        match (from_outputs, &outcome.return_value) {
            (Some((_, Output::Http(output))), _) => Some(http_answer(output)),
            (_, Some(Output::Json(Json::Object(members)))) => members
                .iter()
                .find(|(name, value)| *name == http.name && !value.is_null())
                .map(|(_, value)| raw_answer(&Output::Json(value.clone()))),
            _ => None,
        }
    });
    bound.unwrap_or_else(|| match &outcome.return_value {
        None => ClientAnswer::empty(204),
        Some(Output::Json(text @ (Json::Text(_) | Json::Date(_)))) => ClientAnswer::content(text),
        Some(Output::Json(value)) => ClientAnswer::json(value),
        Some(other) => raw_answer(other),
    })
}

fn http_answer(output: &HttpOutput) -> ClientAnswer {
    match output {
        HttpOutput::Missing => ClientAnswer::content(&Json::text("{}")),
        // `status` alone is ignored: the object always has a `StatusCode` member, which is found first.
        HttpOutput::Given { status_code, body, headers, .. } => {
            with_headers(status_code.as_deref(), body, headers)
        }
    }
}

/// A value bound without normalisation: `$return`, or a member of a ReturnValue object.
fn raw_answer(value: &Output) -> ClientAnswer {
    let json = match value {
        Output::Bytes(bytes) => {
            return ClientAnswer { body: bytes.clone(), ..ClientAnswer::empty(200) };
        }
        Output::Http(output) => return http_answer(output),
        Output::Json(Json::Text(text)) => match newtonsoft::parse(text, newtonsoft::STRICT_END) {
            Ok(Some(object @ Json::Object(_))) => object,
            _ => Json::text(text.as_str()),
        },
        Output::Json(json) => json.clone(),
    };
    let Some(body) = json.member("body") else {
        return ClientAnswer::content(&json);
    };
    let is_negotiated = json
        .path(&["enableContentNegotiation"])
        .is_some_and(|value| value.to_invariant_text().eq_ignore_ascii_case("true"));
    let status = json.path(&["statusCode"]).or_else(|| json.path(&["status"])).map(Json::to_invariant_text);
    if is_negotiated {
        return ClientAnswer { status: status_number(status.as_deref()), ..ClientAnswer::json(body) };
    }
    let headers = match json.path(&["headers"]) {
        Some(Json::Object(headers)) => headers.as_slice(),
        _ => &[],
    };
    with_headers(status.as_deref(), body, headers)
}

fn status_number(text: Option<&str>) -> u16 {
    text.and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn with_headers(status: Option<&str>, body: &Json, headers: &[(String, Json)]) -> ClientAnswer {
    let mut answer = ClientAnswer { status: status_number(status), ..ClientAnswer::content(body) };
    for (name, value) in headers {
        if value.is_null() {
            return ClientAnswer::empty(500);
        }
        let value = value.to_invariant_text();
        // Kestrel refuses such a value, and with it the whole answer.
        if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t') {
            return ClientAnswer::empty(500);
        }
        if name.eq_ignore_ascii_case("content-type") {
            let essence = value.split(';').next().unwrap_or_default().trim();
            answer.content_type = Some(format!("{essence}; charset=utf-8"));
        } else if !answer.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            answer.headers.push((name.clone(), value));
        }
    }
    answer
}

/// Whether a queue's collector takes text or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collector {
    /// Service Bus: bytes become the text `System.Byte[]`.
    Text,
    /// Storage queues.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "storage queues are not modelled; the rule is tested against traces")
    )]
    Bytes,
}

/// The messages an output value becomes (protocol page, section 3.4).
pub(crate) fn messages(value: &Output, collector: Collector) -> Result<Vec<Vec<u8>>, String> {
    match value {
        Output::Bytes(bytes) => Ok(vec![match collector {
            Collector::Text => b"System.Byte[]".to_vec(),
            Collector::Bytes => bytes.clone(),
        }]),
        Output::Json(Json::Text(text)) if text.trim_start().starts_with(['{', '[']) => {
            match newtonsoft::parse(text, newtonsoft::STRICT_END)? {
                Some(parsed) => Ok(split(&parsed)),
                None => Ok(Vec::new()),
            }
        }
        Output::Json(json) => Ok(split(json)),
        Output::Http(_) => Ok(Vec::new()),
    }
}

fn split(json: &Json) -> Vec<Vec<u8>> {
    match json {
        Json::Array(items) => items.iter().map(|item| item.to_invariant_text().into_bytes()).collect(),
        other => vec![other.to_invariant_text().into_bytes()],
    }
}
