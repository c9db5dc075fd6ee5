//! What the recorded host makes of answers, against the answers this crate gives.

use serde_json::Value;

use crate::recorded::{Kind, of_kind};

/// Answers of the shape this crate gives that the recorded host nevertheless failed: what they say about the
/// `http` output cannot be said with `HttpOutput`.
const UNPARSEABLE_HTTP_OUTPUT: [&str; 10] = [
    "http-out-array",
    "http-out-base64-string",
    "http-out-empty-string",
    "http-out-headers-array",
    "http-out-null",
    "http-out-number",
    "http-out-plain-string",
    "http-out-statuscode-object",
    "http-out-true",
    "resp-logs-before-bad-output",
];

/// 200, JSON by that very content type, an object with `Outputs` an object and `Logs` a list of strings.
/// Leaving a member out, as many recorded answers do, is read by the host as leaving it empty.
fn as_this_crate_answers(respond: &Value) -> bool {
    let content_type = match respond["headers"].as_array().map(Vec::as_slice) {
        Some([Value::String(name), Value::String(value)]) => (name.as_str(), value.as_str()),
        Some([Value::Array(pair)]) => (pair[0].as_str().unwrap(), pair[1].as_str().unwrap_or_default()),
        Some(_) | None => return false,
    };
    let Some(Ok(body)) = respond["body"].as_str().map(serde_json::from_str::<Value>) else { return false };
    let texts = |logs: &Value| logs.as_array().is_some_and(|lines| lines.iter().all(Value::is_string));
    respond["status"] == 200
        && content_type.0.eq_ignore_ascii_case("content-type")
        && content_type.1 == "application/json"
        && body.is_object()
        && body.get("Outputs").is_none_or(Value::is_object)
        && body.get("Logs").is_none_or(texts)
}

#[test]
fn the_recorded_host_completes_every_answer_of_the_shape_this_crate_gives() {
    let (mut ours, mut failed) = (0, Vec::new());
    for case in of_kind(Kind::Answer) {
        if !as_this_crate_answers(&case.respond) {
            continue;
        }
        ours += 1;
        match case.outcome["result"].as_str().unwrap() {
            "success" => {}
            "failed" => failed.push(case.name),
            other => panic!("{}: {other}", case.name),
        }
    }
    failed.sort();
    assert_eq!(failed, UNPARSEABLE_HTTP_OUTPUT);
    assert!(ours >= 70, "{ours}");
}

/// Response case R22 and the recorded hangs: no answer of this crate is one of these.
#[test]
fn r22_every_answer_the_recorded_host_hangs_on_is_of_another_shape() {
    let hangs = of_kind(Kind::Answer)
        .into_iter()
        .filter(|case| case.outcome["result"].as_str().unwrap().starts_with("never-completed"))
        .map(|case| {
            assert!(!as_this_crate_answers(&case.respond), "{}", case.name);
        });
    assert_eq!(hangs.count(), 9);
}
