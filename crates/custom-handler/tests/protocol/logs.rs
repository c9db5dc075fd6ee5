//! What is logged, and what never is.

use custom_handler::{Functions, Invocation, MAX_LOG_LINES, ServiceBusMessage};
use serde_json::json;

use crate::wire::{exchange, invocation, invoke, logged, serving};

#[tokio::test]
async fn a_record_of_a_function_carries_the_ids_of_its_invocation() {
    let logged = logged();
    let work = |_: ServiceBusMessage, _: Invocation| async {
        tracing::info!(answer = 42, "working");
        Ok::<_, String>(())
    };
    let running = serving(Functions::new().service_bus("Worker", work)).await;
    let request = invocation(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } }));
    let traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
    let request = String::from_utf8(request).unwrap().replacen(
        "\r\n",
        &format!("\r\ntraceparent: {traceparent}\r\n"),
        1,
    );
    exchange(running.port, request.as_bytes()).await;
    let records = logged.records();
    let working = records.iter().find(|record| record["message"] == "working").unwrap();
    assert_eq!(working["level"], "INFO");
    assert_eq!(working["answer"], 42);
    for record in &records {
        assert_eq!(record["invocation_id"], "1d8d4b5e-0000-0000-0000-000000000001", "{record}");
        assert_eq!(record["traceparent"], traceparent, "{record}");
        assert_eq!(record["function"], "Worker", "{record}");
    }
    assert!(records.iter().any(|record| record["message"] == "succeeded"));
}

/// The host drops the lines of a failed invocation, and its text.
#[tokio::test]
async fn a_failure_is_one_record_after_the_lines_the_host_would_drop() {
    let logged = logged();
    let fail = |_: ServiceBusMessage, invocation: Invocation| async move {
        invocation.logs().push("step one done");
        Err::<(), _>("the store\nis away")
    };
    let running = serving(Functions::new().service_bus("Worker", fail)).await;
    invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await;
    let records = logged.records();
    let messages: Vec<_> = records.iter().map(|record| record["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["step one done", "failed"]);
    // One line, although the text has two: `records` has parsed it as one.
    assert_eq!(records[1]["error"], "the store\nis away");
    assert_eq!(records[1]["level"], "ERROR");
}

#[tokio::test]
async fn neither_headers_nor_bodies_are_logged() {
    let logged = logged();
    let work = |_: ServiceBusMessage, _: Invocation| async { Err::<(), _>("no") };
    let running = serving(Functions::new().service_bus("Worker", work)).await;
    invoke(
        running.port,
        "Worker",
        &json!({ "Data": { "msg": "\"topsecret\"" }, "Metadata": { "m": "topsecret" } }),
    )
    .await;
    // Garbage, and an attack with secrets in it.
    invoke(running.port, "Worker", &json!(["topsecret"])).await;
    let attack = "POST /Worker?code=topsecret HTTP/1.1\r\nHost: h\r\nCookie: topsecret\r\nAuthorization: topsecret\r\n\
                  x-functions-key: topsecret\r\nUser-Agent: topsecret\r\nContent-Length: 9\r\n\r\ntopsecret";
    assert_eq!(exchange(running.port, attack.as_bytes()).await.status, 404);
    let records = logged.records();
    assert_eq!(records.len(), 3);
    assert!(!format!("{records:?}").contains("topsecret"), "{records:?}");
}

#[tokio::test]
async fn fields_with_secret_names_are_redacted() {
    let logged = logged();
    let span = tracing::info_span!("request", token = "topsecret");
    span.in_scope(|| {
        tracing::info!(
            authorization = "topsecret",
            "x-functions-key" = "topsecret",
            x_ms_token_aad_id_token = "topsecret",
            kept = 1
        );
    });
    let [record] = &logged.records()[..] else { panic!("one record") };
    assert!(!record.to_string().contains("topsecret"), "{record}");
    assert_eq!(record["authorization"], "[redacted]");
    assert_eq!(record["token"], "[redacted]");
    assert_eq!(record["kept"], 1);
}

#[tokio::test]
async fn log_lines_are_bounded() {
    let chatty = |_: ServiceBusMessage, invocation: Invocation| async move {
        (0..MAX_LOG_LINES + 2).for_each(|line| invocation.logs().push(line.to_string()));
        Ok::<_, String>(())
    };
    let running = serving(Functions::new().service_bus("Worker", chatty)).await;
    let answer = invoke(running.port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await.json();
    let lines = answer["Logs"].as_array().unwrap();
    assert_eq!(lines.len(), MAX_LOG_LINES + 1);
    assert_eq!(lines[MAX_LOG_LINES], "2 more lines were dropped");
}
