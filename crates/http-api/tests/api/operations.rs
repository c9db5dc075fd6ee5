//! Readiness, and the id that joins a request to what it causes.

use crate::client::{ADA, Server, ask};
use ajar_access::ports::store::Table;
use axum::body::Body;
use http::Request;
use jiff::SignedDuration;
use serde_json::json;
use std::sync::atomic::Ordering;

fn plain(uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn anybody_learns_which_dependency_failed_and_not_why() {
    let server = Server::new();
    let ready = || server.send(plain("/api/ready", &[]));
    let all = json!({ "azure": "ok", "bus": "ok", "signingKeys": "ok", "store": "ok" });
    assert_eq!(ready().await.expect(200), json!({ "status": "ok", "dependencies": all }));

    server.world.bus.is_down.store(true, Ordering::SeqCst);
    server.world.clock.advance(SignedDuration::from_secs(6));
    let down = ready().await;
    assert!(!down.text.contains("made to fail"), "{}", down.text);
    assert_eq!(down.header("cache-control"), Some("no-store"));
    let body = down.expect(503);
    assert_eq!((&body["status"], &body["dependencies"]["bus"]), (&json!("failed"), &json!("failed")));
    assert_eq!(body["dependencies"]["store"], "ok");
    assert_eq!(server.send(plain("/api/health", &[])).await.status, 200, "liveness asks nobody");
}

#[tokio::test]
async fn a_thousand_questions_are_one_for_the_dependencies() {
    let server = Server::new();
    // One look asks the tables, the blobs, the bus and Azure once each; one call more would fail it.
    server.world.budget.limit(4, false);
    for _ in 0..1000 {
        assert_eq!(server.send(plain("/api/ready", &[])).await.status, 200);
    }
    server.world.clock.advance(SignedDuration::from_secs(6));
    assert_eq!(server.send(plain("/api/ready", &[])).await.status, 503, "an old answer is not given again");
}

#[tokio::test]
async fn a_request_is_answered_with_the_id_that_its_client_or_its_trace_gave_it() {
    let server = Server::protected().await;
    let id = "0af76519-16cd-43dd-8448-eb211c80319c";
    let trace = "00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answered = async |headers: &[(&str, &str)]| {
        let answer = server.send(plain("/api/requests", headers)).await;
        answer.header("x-ms-correlation-request-id").unwrap().to_owned()
    };
    assert_eq!(answered(&[("x-ms-client-request-id", id), ("traceparent", trace)]).await, id);
    let of_trace = "1bf76519-16cd-43dd-8448-eb211c80319c";
    assert_eq!(answered(&[("traceparent", trace)]).await, of_trace);
    // What is no id is not repeated: it would go into logs and on to Azure.
    assert_eq!(answered(&[("x-ms-client-request-id", "x\" forged"), ("traceparent", trace)]).await, of_trace);
    assert_ne!(answered(&[]).await, answered(&[]).await);

    let stored = async |headers: &[(&str, &str)]| {
        let mut call = http::Request::post("/api/requests").header("authorization", "Bearer bob");
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let body = ask("web-1", ADA).to_string();
        let call = call.header("content-type", "application/json").body(Body::from(body)).unwrap();
        let answer = server.send(call).await.expect(202);
        let rows = server.world.store.contents();
        let id = answer["id"].as_str().unwrap();
        let is_it =
            |table: Table, row: &str| table == Table::Requests && row.starts_with('r') && row.contains(id);
        rows.into_iter()
            .find(|((table, _, row), _)| is_it(*table, row))
            .map(|(_, document)| document)
            .unwrap()
    };
    assert!(stored(&[("x-ms-client-request-id", id)]).await.contains(id), "the row keeps it for the sweep");
}
