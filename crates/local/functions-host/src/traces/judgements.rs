//! What the host concludes from recorded answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Recorded, json};

use super::front::{compare_request, custom_handler, functions, invoker};
use super::replay::{Replay, answer, answers};
use super::{Check, Differences, TRACES, cases};
use crate::answer::{self as judge, Collector, HttpOutput, Outcome, Output};
use crate::functions::{Function, OutputBinding, OutputKind};
use crate::invocation::bound_value;
use crate::log::Log;
use crate::newtonsoft::Json;
use crate::outgoing::default_request;

fn bindings(given: &Recorded) -> Vec<OutputBinding> {
    given["outputBindings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| {
            let mut parts = text.as_str().unwrap().split(':');
            let name = parts.next().unwrap().to_owned();
            let kind = parts.next().unwrap();
            OutputBinding {
                name,
                kind: if kind == "http" { OutputKind::Http } else { OutputKind::Other(kind.to_owned()) },
                binary: parts.next() == Some("Binary"),
            }
        })
        .collect()
}

/// A value in the words of the recording.
fn described(value: &Output) -> Recorded {
    match value {
        Output::Bytes(bytes) => json!({ "clr": "System.Byte[]", "base64": STANDARD.encode(bytes) }),
        Output::Json(json) => described_json(json),
        Output::Http(HttpOutput::Missing) => json!({ "clr": "System.Dynamic.ExpandoObject", "members": {} }),
        Output::Http(HttpOutput::Given { status_code, status, body, headers }) => {
            let text = |text: &Option<String>| {
                text.as_ref().map_or(Recorded::Null, |text| json!({ "clr": "System.String", "text": text }))
            };
            let body = if body.is_null() { Recorded::Null } else { described_json(body) };
            let headers: Recorded = if headers.is_empty() {
                Recorded::Null
            } else {
                serde_json::from_str(&Json::Object(headers.clone()).compact()).unwrap()
            };
            json!({ "clr": "System.Dynamic.ExpandoObject", "members": {
                "StatusCode": text(status_code), "Status": text(status), "Body": body, "Headers": headers
            } })
        }
    }
}

fn described_json(json: &Json) -> Recorded {
    let text = json.to_invariant_text();
    match json {
        Json::Null => Recorded::Null,
        Json::Bool(_) => json!({ "clr": "System.Boolean", "text": text }),
        Json::Integer(digits) if digits.parse::<i64>().is_err() => {
            json!({ "clr": "System.Numerics.BigInteger", "text": text })
        }
        Json::Integer(_) => json!({ "clr": "System.Int64", "text": text }),
        Json::Float { .. } => json!({ "clr": "System.Double", "text": text }),
        Json::Text(_) => json!({ "clr": "System.String", "text": text }),
        Json::Date(_) => json!({ "clr": "System.DateTime", "text": text }),
        Json::Array(_) => json!({ "clr": "Newtonsoft.Json.Linq.JArray", "json": json.compact() }),
        Json::Object(_) => json!({ "clr": "Newtonsoft.Json.Linq.JObject", "json": json.compact() }),
    }
}

/// The recording describes bytes twice; once is enough.
fn without_utf8(mut value: Recorded) -> Recorded {
    if value["base64"].is_string()
        && let Some(object) = value.as_object_mut()
    {
        object.remove("utf8");
    }
    value
}

fn function_named(name: &str) -> Function {
    let all = functions(&custom_handler(false), "api");
    let mut function = Function::clone(all.iter().find(|function| function.name == "Retry").unwrap());
    function.name = name.to_owned();
    function.retry = None;
    function
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_judged_as_recorded() {
    let mut differences = Differences::default();
    let mut replayed = 0;
    for (case, trace) in cases(&Check::Judgement) {
        if case.starts_with("out-host-")
            || !trace["outcome"]["result"].is_string()
            || ["resp-connection-refused", "cookie-not-stored"].contains(&case)
        {
            continue;
        }
        replayed += 1;
        let mut function = function_named("Fn");
        function.outputs = match &trace["given"] {
            Recorded::Null => bindings(&json!({ "outputBindings": ["outq:queue"] })),
            given => bindings(given),
        };
        function.follows_redirects = !case.contains("while-forwarding-enabled");
        let replay = Replay::start(answers(&trace["respond"])).await;
        let request = default_request(replay.port, "Fn", "id", "{}".to_owned());
        let invoker = invoker(replay.port, Log::new(None));
        let judgement = match invoker.send_following_redirects(&request, &function).await {
            Ok(answer) => judge::judge(&answer, &function.outputs),
            Err(error) => judge::Judgement { logs: Vec::new(), result: Err(error) },
        };
        let outcome = &trace["outcome"];
        let result = match &judgement.result {
            Ok(_) => "success",
            Err(reason) if reason.contains("would hang until functionTimeout") => {
                "never-completed (InvokeAsync returned, the result source is neither set nor faulted)"
            }
            Err(_) => "failed",
        };
        differences.same(case, "result", outcome["result"].as_str().unwrap(), result);
        let logs: Vec<&str> = outcome["functionLogs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| line[1].as_str().unwrap())
            .collect();
        differences.same(case, "logs", logs, judgement.logs.iter().map(String::as_str).collect());
        if let Ok(ours) = &judgement.result
            && let Some(recorded) = outcome["outputs"].as_object()
        {
            let recorded: serde_json::Map<String, Recorded> =
                recorded.iter().map(|(name, value)| (name.clone(), without_utf8(value.clone()))).collect();
            let outputs = ours.outputs.iter().map(|(name, value)| (name.clone(), described(value))).collect();
            differences.same(case, "outputs", recorded, outputs);
            let returned = ours.return_value.as_ref().map_or(Recorded::Null, described);
            differences.same(case, "return", without_utf8(outcome["return"].clone()), returned);
        }
        if let Some(length) = outcome["outqLength"].as_u64() {
            let ours = match judgement.result.as_ref().map(|outcome| outcome.outputs.as_slice()) {
                Ok([(_, Output::Json(Json::Text(text)))]) => text.len() as u64,
                _ => 0,
            };
            differences.same(case, "length", length, ours);
        }
    }
    differences.none();
    assert_eq!(replayed, 157);
}

#[tokio::test]
async fn a_refused_connection_fails_the_invocation() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(TRACES["resp-connection-refused"]["outcome"]["result"], "failed");
    let request = default_request(port, "Fn", "id", "{}".to_owned());
    let error = invoker(port, Log::new(None))
        .send_following_redirects(&request, &function_named("Fn"))
        .await
        .unwrap_err();
    assert!(error.starts_with("Connection refused"), "{error}");
}

#[tokio::test]
async fn redirects_end_after_fifty_and_a_closed_connection_is_not_tried_again_with_a_body() {
    for (case, script) in [
        ("redirect-loop-count", answer(307, &[("Location", "/other")], b"")),
        ("resp-close-without-answer-count", Vec::new()),
    ] {
        let replay = Replay::start(vec![script]).await;
        let request = default_request(replay.port, "Fn", "id", "{}".to_owned());
        // Only the number of requests matters.
        let _ = invoker(replay.port, Log::new(None))
            .send_following_redirects(&request, &function_named("Fn"))
            .await;
        let recorded = &TRACES[case]["outcome"];
        let count = recorded["requestsSeen"].as_u64().or(recorded["handlerRequests"].as_u64()).unwrap();
        assert_eq!(replay.seen().len() as u64, count, "{case}");
    }
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let trace = &TRACES["cookie-not-stored"];
    let ok = answer(200, &[("Content-Type", "application/json"), ("Set-Cookie", "a=1")], b"{}");
    let replay = Replay::start(vec![ok]).await;
    let function = function_named("Fn");
    let body = trace["request"]["body"].as_str().unwrap();
    let invoker = invoker(replay.port, Log::new(None));
    for _ in 0..2 {
        let id = uuid::Uuid::new_v4().to_string();
        let request = default_request(replay.port, "Fn", &id, body.to_owned());
        invoker.send_following_redirects(&request, &function).await.unwrap();
    }
    let mut differences = Differences::default();
    compare_request(&mut differences, "cookie-not-stored", &trace["request"], &replay.seen()[1], replay.port);
    differences.none();
}

#[test]
fn outputs_become_the_recorded_messages() {
    let mut differences = Differences::default();
    let mut replayed = 0;
    for (case, trace) in cases(&Check::Judgement) {
        if !case.starts_with("out-host-") {
            continue;
        }
        replayed += 1;
        let is_return = case.starts_with("out-host-return-");
        let binary = case.starts_with("out-host-binary-");
        let names: &[&str] = if is_return { &["$return"] } else { &["outsb", "outq"] };
        let outputs: Vec<OutputBinding> = names
            .iter()
            .map(|name| OutputBinding {
                name: (*name).to_owned(),
                kind: OutputKind::Other("queue".to_owned()),
                binary,
            })
            .collect();
        let answer = crate::wire::WireAnswer {
            status: 200,
            reason: "X".to_owned(),
            headers: vec![("Content-Type".to_owned(), b"application/json".to_vec())],
            body: trace["respond"]["body"].as_str().unwrap().to_owned().into(),
        };
        let outcome: Outcome = judge::judge(&answer, &outputs).result.unwrap();
        let sent: Result<Vec<(&str, Vec<u8>)>, String> =
            names.iter().try_fold(Vec::new(), |mut sent, name| {
                let collector = if *name == "outq" { Collector::Bytes } else { Collector::Text };
                let queue = if is_return { "outsb" } else { name };
                if let Some(value) = bound_value(name, &outcome) {
                    sent.extend(judge::messages(&value, collector)?.into_iter().map(|body| (queue, body)));
                }
                Ok(sent)
            });
        let recorded = &trace["outcome"];
        differences.same(
            case,
            "succeeded",
            recorded["triggerResultSucceeded"].as_bool().unwrap(),
            sent.is_ok(),
        );
        if let Ok(sent) = sent {
            let recorded: Vec<(&str, Vec<u8>)> = recorded["sent"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|message| {
                    let body = STANDARD.decode(message["base64"].as_str().unwrap()).unwrap();
                    (message["queue"].as_str().unwrap(), body)
                })
                .collect();
            differences.same(case, "sent", recorded, sent);
        }
    }
    differences.none();
    assert_eq!(replayed, 37);
}
